"""Under which doctor and in which department a record is written. Pure.

ORCA gives appointments and acceptances to doctors alone: nurses and helpers cannot be named there. So what becomes of a
visit of theirs is the clinic's to say, by two settings: a doctor (and department) for a member of staff, and one for
all others. Without either the visit is not written, and its record says so; nothing is written under a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from partners.orca.people import is_doctor

_ENTRY = re.compile(r"([A-Za-z0-9]{1,10})=([A-Za-z0-9]{1,10})(?:/([A-Za-z0-9]{1,4}))?")
_CODE = re.compile(r"[A-Za-z0-9]{1,10}")


class AssignmentError(ValueError):
    """The text is no list of assignments."""


@dataclass(frozen=True)
class Place:
    """A doctor's code in a department."""

    doctor: str
    department: str


@dataclass(frozen=True)
class Assignments:
    """What a connection is set to."""

    department: str
    """Of all that are not given another one."""
    default_doctor: str = ""
    """Of visits by other staff than doctors, or by nobody yet; empty: these are not written."""
    by_staff: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Doctor and department (empty: the common one), by the code of a member of staff."""

    def place(self, staff: str | None) -> Place | None:
        """Where what this member of staff (None: nobody yet) does is written; None: nowhere."""
        doctor, department = self.by_staff.get(staff or "", ("", ""))
        if not doctor:
            doctor = staff if staff and is_doctor(staff) else self.default_doctor
        return Place(doctor, department or self.department) if doctor else None


def parse_assignments(department: str, default_doctor: str, by_staff: str) -> Assignments:
    """`by_staff`: `20001=10001, 20002=10002/02`. Raises AssignmentError with the setting that is wrong."""
    if not _CODE.fullmatch(department):
        raise AssignmentError("department")
    if default_doctor and not _CODE.fullmatch(default_doctor):
        raise AssignmentError("default_doctor")
    found: dict[str, tuple[str, str]] = {}
    for entry in filter(None, (part.strip() for part in by_staff.split(","))):
        match = _ENTRY.fullmatch(entry)
        if match is None or match[1] in found:
            raise AssignmentError("doctors")
        found[match[1]] = match[2], match[3] or ""
    return Assignments(department, default_doctor, found)
