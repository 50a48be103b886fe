"""What the certification needs of an ORCA, at the sandbox."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count as counting
from typing import Any
from uuid import uuid4

from partners.certification.bench import Bench, Sizes
from partners.contract import Command, Entity, Verb, Visit
from partners.orca.appointments import mark_of
from partners.orca.partner import ORCA
from partners.orca.reading import AT_ONCE
from partners.orca.sandbox.answers import Rules
from partners.orca.sandbox.server import OrcaConfig
from partners.orca.sandbox.testing import RunningOrca, running_orca

_DOCTOR = "10001"
_WIDE = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
_MOST_LISTED = AT_ONCE + 2


class OrcaBench(Bench):
    """A clinic with one doctor who takes every visit."""

    partner = ORCA
    secret: Mapping[str, str] = {"user": "zest", "password": "a-word"}
    wrong_secret: Mapping[str, str] = {"user": "zest", "password": "another"}
    settings: Mapping[str, str] = {
        "department": "01",
        "default_doctor": _DOCTOR,
        "patient_numbers": f"1-{2 * AT_ONCE}",  # untold, a reading goes on through a thousand that are nobody's
    }
    sizes = {  # noqa: RUF012  # nobody changes it
        Entity.CLIENT: Sizes(page=AT_ONCE, cap=_MOST_LISTED - 1),
        # No clinic is without a doctor, and its lists have no pages.
        Entity.STAFF: Sizes(page=10, cap=30, least=1),
    }

    def __init__(self, orca: RunningOrca) -> None:
        self._orca, self.url = orca, orca.url
        self._minutes = counting(1)

    def visit(self) -> Command:
        """At a time that nobody has."""
        patient = next(iter(self._orca.state()["patients"]), None) or next(iter(self.hold(Entity.CLIENT, 1)))
        starts = datetime(2026, 12, 1, 0, 30, tzinfo=UTC) + timedelta(minutes=next(self._minutes))
        fields = Visit(starts, starts + timedelta(hours=1), "112345", "玄関は開いています")
        links = {Entity.CLIENT: patient, Entity.STAFF: _DOCTOR}
        return Command(Entity.VISIT, Verb.CREATE, uuid4(), 1, str(uuid4()), fields, links)

    def refused_visit(self) -> Command:
        """Of nobody's."""
        return replace(self.visit(), links={Entity.CLIENT: "99999", Entity.STAFF: _DOCTOR})

    def copies(self, command: Command) -> Sequence[object]:
        """As Bench."""
        mark = mark_of(command.record_id).translate(_WIDE)
        return [each for each in self._orca.state()["appointments"] if mark in each["note"]]

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """As Bench."""
        ids = [self._id(entity, number) for number in range(1, count + 1)]
        rows: dict[str, Any] = self._orca.state()["patients" if entity is Entity.CLIENT else "staff"]
        for left in set(rows) - set(ids):
            self.remove(entity, left)
        sound = (_patient() if entity is Entity.CLIENT else _staff()).items()
        self._save(entity, [each for each in ids if not sound <= rows.get(each, {}).items()])
        return ids

    def change(self, entity: Entity, ids: Collection[str]) -> None:
        """On one day: it knows no finer time."""
        self._save(entity, ids)

    def remove(self, entity: Entity, partner_id: str) -> None:
        """As Bench."""
        if entity is Entity.CLIENT:
            self._orca.delete_patient(int(partner_id))
        else:
            self._orca.put_staff(partner_id, **_staff() | {"until": "2020-03-31"})

    def spoil(self, entity: Entity, partner_id: str) -> None:
        """As Bench."""
        if entity is Entity.CLIENT:
            dirt: dict[str, Any] = {"WholeName": "　", "WholeName_inKana": "??", "BirthDate": "1925-13-45", "Sex": "7"}
            self._orca.put_patient(int(partner_id), **dirt, Home_Address_Information={"Address_ZipCode": "<&>"})
        else:
            self._orca.put_staff(partner_id, **_staff() | {"name": "　", "kana": "<&>"})

    def throttle(self) -> None:
        """A terminal that is busy: it has no other word for too much at once."""
        self._orca.set_faults({"kind": "code", "code": "90"})

    def heal(self) -> None:
        """As Bench."""
        self._orca.set_faults()

    def _save(self, entity: Entity, ids: Collection[str]) -> None:
        for each in ids:
            if entity is Entity.CLIENT:
                self._orca.put_patient(int(each), **_patient())
            else:
                self._orca.put_staff(each, **_staff())

    def _id(self, entity: Entity, number: int) -> str:
        return str(number) if entity is Entity.CLIENT else f"{10_000 + number}"


def _patient() -> dict[str, Any]:
    address = {"Address_ZipCode": "9990001", "WholeAddress1": "東京都", "WholeAddress2": "１－１"}
    said = {"WholeName": "森　梅", "WholeName_inKana": "モリ　ウメ", "BirthDate": "1950-01-01", "Sex": "2"}
    return said | {"Home_Address_Information": address}


def _staff() -> dict[str, str]:
    return {"name": "林　桜", "kana": "ハヤシ　サクラ", "since": "2015-04-01", "until": "9999-12-31"}


@contextmanager
def running_bench() -> Iterator[Bench]:
    """A bench at a sandbox of its own."""
    rules = Rules(most_listed=_MOST_LISTED, most_appointments=500)
    config = OrcaConfig(user="zest", password="a-word", clients=3, staff=1, rules=rules)  # noqa: S106  # made up
    with running_orca(config) as orca:
        yield OrcaBench(orca)
