"""What the certification needs of an ORCA, at the sandbox."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count as counting
from typing import Any
from uuid import UUID, uuid4

from partners.certification.bench import Bench, Sizes
from partners.contract import Client, Command, Entity, Master, Staff, Verb, Visit
from partners.orca.appointments import mark_of
from partners.orca.partner import ORCA
from partners.orca.reading import AT_ONCE
from partners.orca.sandbox.answers import Rules
from partners.orca.sandbox.server import OrcaConfig
from partners.orca.sandbox.testing import RunningOrca, running_orca
from partners.windows import JAPAN

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

    tells_gate = False  # a terminal that is busy: it has no other word for too much at once

    def __init__(self, orca: RunningOrca) -> None:
        self._orca, self.url = orca, orca.url
        self._days = counting()
        self._day_of: dict[UUID, str] = {}

    def visit(self) -> Command:
        """On a day that no other has: a patient is accepted once a day."""
        patient = next(iter(self._orca.state()["patients"]), None) or next(iter(self.hold(Entity.CLIENT, 1)))
        starts = datetime(2026, 12, 1, 0, 30, tzinfo=UTC) + timedelta(days=next(self._days))
        record_id = uuid4()
        self._day_of[record_id] = f"{starts:%Y-%m-%d}"
        fields = Visit(starts, starts + timedelta(hours=1), "112345", "玄関は開いています")
        links = {Entity.CLIENT: patient, Entity.STAFF: _DOCTOR}
        return Command(Entity.VISIT, Verb.CREATE, record_id, 1, str(uuid4()), fields, links)

    def refused_visit(self) -> Command:
        """Of nobody's."""
        return replace(self.visit(), links={Entity.CLIENT: "99999", Entity.STAFF: _DOCTOR})

    def copies(self, command: Command) -> Sequence[object]:
        """As Bench."""
        return self._entries(command)

    def said(self, command: Command) -> Sequence[Mapping[str, object]]:
        """What its two books say: it has no place for the end, the service, and the note of a record."""
        entries = self._entries(command)
        when = [datetime.fromisoformat(f"{each['day']}T{each['time']}").replace(tzinfo=JAPAN) for each in entries]
        whose = [{"client": str(each["patient"]), "staff": each["doctor"]} for each in entries]
        if command.entity is Entity.VISIT_RECORD:
            return [{"status": "done", "started_at": at} | of for at, of in zip(when, whose, strict=True)]
        notes = [unicodedata.normalize("NFKC", each["note"]).partition(" ")[2] for each in entries]
        return [
            {"status": "booked", "starts_at": at, "note": note} | of
            for at, note, of in zip(when, notes, whose, strict=True)
        ]

    def _entries(self, command: Command) -> list[dict[str, Any]]:
        state = self._orca.state()
        if command.entity is Entity.VISIT:
            mark = mark_of(command.record_id).translate(_WIDE)
            return [each for each in state["appointments"] if mark in each["note"]]
        of = command.links[Entity.CLIENT], self._day_of[command.record_id]
        return [each for each in state["acceptances"] if (str(each["patient"]), each["day"]) == of]

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """As Bench."""
        ids = [self._id(entity, number) for number in range(1, count + 1)]
        rows: dict[str, Any] = self._orca.state()["patients" if entity is Entity.CLIENT else "staff"]
        for left in set(rows) - set(ids):
            self.remove(entity, left)
        sound = (_patient() if entity is Entity.CLIENT else _staff()).items()
        self._save(entity, [each for each in ids if not sound <= rows.get(each, {}).items()])
        return ids

    def people(self, entity: Entity) -> Mapping[str, Master]:
        """A patient with all that can be said, one who has died, one of whom little is known; a doctor and a nurse."""
        if entity is Entity.STAFF:
            self.hold(entity, 1)
            self._orca.put_staff("20002", **_staff() | {"name": "大野　健一", "kana": "オオノ　ケンイチ"})
            return {
                "10001": Staff("10001", "林", "桜", "ハヤシ", "サクラ", "医師", None, None, active=True),
                "20002": Staff("20002", "大野", "健一", "オオノ", "ケンイチ", "看護師", None, None, active=True),
            }
        self.hold(entity, 0)
        home = {"Address_ZipCode": "1600023", "WholeAddress1": "東京都新宿区", "WholeAddress2": "１－１"}
        self._orca.put_patient(1, **_patient() | {"Home_Address_Information": home | {"PhoneNumber1": "03-0000-0001"}})
        died = {"WholeName": "大野　健一", "WholeName_inKana": "オオノ　ケンイチ", "Sex": "1", "Death_Flag": "1"}
        self._orca.put_patient(2, **died, BirthDate="1948-02-03")
        self._orca.put_patient(3, WholeName="森梅", WholeName_inKana="", Sex="")
        first = Client(
            *("00001", "森", "梅", "モリ", "ウメ", "1950-01-01", "female", "1600023", "東京都新宿区１－１"),
            *("03-0000-0001", True),
        )
        born, third = "1948-02-03", Client("00003", "森梅", "", "", "", "", "unknown", "", "", "", active=True)
        second = Client("00002", "大野", "健一", "オオノ", "ケンイチ", born, "male", "", "", "", active=False)
        return {"1": first, "2": second, "3": third}

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
        """A terminal that is busy."""
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
    said["Death_Flag"] = "0"
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
