"""Numbers of patients and codes of staff, and what ORCA's groups of staff are called. Pure.

ORCA shows a patient's number padded with zeros to a width that each site sets ("12" is "00012"), and takes it back with
or without. Numbers are the same if they are the same as numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DOCTOR = "1"
"""The group (職員区分) whose members alone can be given appointments."""
GROUPS: Mapping[str, str] = {DOCTOR: "医師", "2": "看護師", "3": "技師", "4": "事務", "5": "管理職"}
"""What members of a group are, by its number. 0 is the system's own user and no person."""


_NUMBER = re.compile(r"\d{1,20}", re.ASCII)


def as_number(shown: str) -> int | None:
    """A number, of at most twenty digits, padding counted: ORCA has none that is longer. None: it is another text."""
    return int(shown) if _NUMBER.fullmatch(shown) else None


def plain_number(shown: str) -> str:
    """A number or code without its padding; of other text, the text."""
    number = as_number(shown)
    return shown if number is None else str(number)


def group_of(code: str) -> str:
    """The group of a member of staff: the first of the five digits of the code; empty if it has no such form."""
    return code[0] if len(code) == 5 and code.isascii() and code.isdecimal() else ""


def is_doctor(code: str) -> bool:
    """Whether the code is a doctor's."""
    return group_of(code) == DOCTOR


def user_code(group: str, number: str) -> str:
    """The code of the member `number` of a group, as the list of doctors and staff spells it."""
    return f"{group}{number.zfill(4)}"
