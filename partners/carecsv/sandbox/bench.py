"""What the certification needs of care CSV, in a folder of its own: on this machine, and on a server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import count as counting
from pathlib import Path
from uuid import UUID, uuid4

from partners.carecsv.actuals import parsed
from partners.carecsv.layouts import (
    CLIENTS,
    COUNT,
    DAY,
    ENDS,
    INSURED,
    INSURER,
    PLAN_COLUMNS,
    PLANS,
    SERVICE,
    STARTS,
)
from partners.carecsv.partner import CARECSV, STATE, STILL_SECONDS
from partners.carecsv.reading import MOST_RECORDS
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, Row, made_up, planned
from partners.certification.bench import Bench, BenchMissingError, LineFault, NotOffered, Sizes
from partners.contract import Client, Command, Entity, Master, Plan, PlannedService, Verb, Visit
from partners.windows import JAPAN

_STARTS = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)


class CareCsvBench(Bench):
    """An office that puts files there, and takes ours. Nobody answers a file, and no file tells of a delete."""

    partner = CARECSV
    secret: Mapping[str, str] = {}
    settings: Mapping[str, str] = {"office": RECEIVER, "kind": "13"}
    batch_settings: Mapping[str, str] = {}
    sizes = dict.fromkeys((Entity.CLIENT, Entity.PLAN), Sizes(page=MOST_RECORDS, cap=2 * MOST_RECORDS))

    def __init__(self, office: CareOffice) -> None:
        self._office, self.url = office, office.base.as_uri()
        self._time = datetime(2026, 11, 1, tzinfo=UTC)
        self._months = counting()
        self._day_of: dict[UUID, str] = {}

    @property
    def nobody(self) -> str:
        """There is none."""
        raise NotOffered("it is a folder of this machine: nobody has to listen")

    def befall(self, fault: LineFault) -> None:
        """Nothing can."""
        raise NotOffered("it is a folder of this machine: there is no line to it")

    def visit(self) -> Command:
        """In a month that no other has: what the office is told of does not name our visits, and a month of which
        nothing is left is told in another way than one that is changed."""
        starts, record_id = _STARTS + timedelta(days=32 * next(self._months)), uuid4()
        self._day_of[record_id] = f"{starts:%Y%m%d}"
        fields = Visit(starts, starts + timedelta(hours=1), "131111", "玄関は開いています")
        return Command(Entity.VISIT, Verb.CREATE, record_id, 1, str(uuid4()), fields, {Entity.CLIENT: _id(1)})

    def refused_visit(self) -> Command:
        """Of a service that has no code."""
        command = self.visit()
        assert isinstance(command.fields, Visit)
        return replace(command, fields=replace(command.fields, service_code="訪問"))

    def copies(self, command: Command) -> Sequence[object]:
        """What is kept of it as told."""
        kept = (parsed(file.read_bytes()) for file in (self._office.base / STATE).glob("*.json"))
        told = (each.told(command.entity, str(command.record_id)) for each in kept)
        return [each for each in told if each is not None]

    def said(self, command: Command) -> Sequence[Mapping[str, object]]:
        """What the office has in the files that it took: nothing of a visit before it was."""
        if command.entity is Entity.VISIT:
            raise NotOffered("no file tells of a visit before it was: it goes with its record")
        self._office.take()
        names = [each.name for each in PLAN_COLUMNS]
        rows = [dict(zip(names, row, strict=True)) for table in self._office.actuals.values() for row in table]
        return [
            {
                "status": "done",
                "client": f"{row[INSURER]}-{row[INSURED]}",
                "started_at": _at(row[DAY], row[STARTS]),
                "ended_at": _at(row[DAY], row[ENDS]),
                "service_code": row[SERVICE],
            }
            for row in rows
            if row[DAY] == self._day_of[command.record_id]
        ]

    def people(self, entity: Entity) -> Mapping[str, Master]:
        """One with all that can be said, and one of whom little is known, in one file."""
        self.hold(entity, 1)
        first, second = made_up(1, 1), made_up(1, 2)
        told = {"利用者氏名": "森　梅", "利用者氏名フリガナ": "モリ ウメ", "利用者性別": "2"}
        told |= {"利用者生年月日": "19500101", "利用者郵便番号": "160-0023", "利用者電話番号": "03-0000-0001"}
        told |= {"利用者住所１": "東京都新宿区", "利用者住所２": "１－１"}
        scant = dict.fromkeys(told, "") | {"利用者氏名フリガナ": "オオノ ケンイチ"}
        self._put([first | told, second | scant])
        whole = ("1950-01-01", "female", "160-0023", "東京都新宿区１－１", "03-0000-0001")
        return {
            "139999-9000000001": Client("9000000001", "森", "梅", "モリ", "ウメ", *whole, active=True),
            "139999-9000000002": Client(
                "9000000002", "", "", "オオノ", "ケンイチ", "", "unknown", "", "", "", active=True
            ),
        }

    def spoil_list(self, entity: Entity) -> None:
        """A file that is none of the standard's."""
        self._time += timedelta(minutes=1)
        kind, month = (PLANS, f"{_MONTHS[0]:%Y%m}") if entity is Entity.PLAN else (CLIENTS, "")
        self._still(self._office.put(b"\x81,", self._time, kind=kind, month=month))

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """In one file."""
        for file in self._office.folder.iterdir():
            file.unlink()
        self._put([made_up(1, number) for number in range(1, count + 1)])
        return [_id(number) for number in range(1, count + 1)]

    def change(self, entity: Entity, ids: Collection[str]) -> None:
        """In a later file."""
        rows = (made_up(1, number) for number in range(1, 3 * MOST_RECORDS))
        self._put([row | {"利用者電話番号": "00-0000-0000"} for row in rows if _id_of(row) in ids])

    def spoil(self, entity: Entity, partner_id: str) -> None:
        """In a later file."""
        row = next(row for row in (made_up(1, number) for number in range(1, 100)) if _id_of(row) == partner_id)
        self._put([row | {"利用者性別": "7", "利用者生年月日": "19251345", "利用者氏名": "　"}])

    def hold_plans(self, count: int) -> Sequence[Plan]:
        """Of every other client in the next month; a file for each hundred of a month."""
        for file in self._office.folder.glob("*PLAN_*"):
            file.unlink()
        plans = {number: _plan(number, _MONTHS[number % 2]) for number in range(count)}
        for at in range(0, count, 200):
            for month in _MONTHS:
                some = [(number, plan) for number, plan in plans.items() if at <= number < at + 200]
                if rows := [row for number, plan in some if plan.month == month for row in _lines(number, plan)]:
                    self._put_plans(rows, month)
        return list(plans.values())

    def replan(self, plan: Plan) -> Plan:
        """In a later file, without the first service."""
        number = _number(plan)
        anew = _plan(number, plan.month, hour=14)
        anew = replace(anew, services=(anew.services or ())[1:])
        self._put_plans(_lines(number, anew), plan.month)
        return anew

    def plan_before(self, plan: Plan) -> None:
        """In a file that is older by its name."""
        rows = _lines(_number(plan), _plan(_number(plan), plan.month, hour=7))
        self._still(self._office.send_plans(rows, f"{plan.month:%Y%m}", self._time - timedelta(days=9)))

    def take_back(self, plan: Plan) -> None:
        """In a later file."""
        self._time += timedelta(minutes=1)
        self._still(self._office.take_back([made_up(1, _number(plan))], f"{plan.month:%Y%m}", self._time))

    def spoil_plan(self, plan: Plan) -> tuple[Plan, Mapping[str, str]]:
        """In a later file, whose second line has no day."""
        assert plan.services is not None
        first, second, *others = _lines(_number(plan), plan)
        name = self._put_plans([first, second | {DAY: "20261332"}, *others], plan.month)
        rest = (plan.services[0], *plan.services[2:])
        return replace(plan, services=rest), {"file": name, "line": "2"}

    def _put(self, rows: Sequence[Row]) -> None:
        self._time += timedelta(minutes=1)
        self._still(self._office.send(rows, self._time))

    def _put_plans(self, rows: Sequence[Row], month: date) -> str:
        self._time += timedelta(minutes=1)
        return self._still(self._office.send_plans(rows, f"{month:%Y%m}", self._time))

    def _still(self, name: str) -> str:
        """As if nobody had touched it for a moment."""
        file = self._office.folder / name
        still = file.stat().st_mtime - 2 * STILL_SECONDS
        os.utime(file, (still, still))
        return name


def _at(day: str, clock: str) -> datetime:
    return datetime.strptime(day + clock, "%Y%m%d%H%M").replace(tzinfo=JAPAN)


_MONTHS = (date(2026, 12, 1), date(2027, 1, 1))


def _plan(number: int, month: date, hour: int = 9) -> Plan:
    """Three services of a client: one with times, one without that is planned twice, and one until midnight."""
    first, second, third = (month.replace(day=1 + (number + day) % 28) for day in range(3))
    services = (
        PlannedService(first, "131111", f"{hour:02}:00", f"{hour + 1:02}:30"),
        PlannedService(second, "13A211", "", "", 2),
        PlannedService(third, "131111", f"{hour + 8:02}:00", "00:00"),
    )
    return Plan(_id(number), month, "", services)


def _lines(number: int, plan: Plan) -> list[Row]:
    """As a file has them."""
    client = made_up(1, number)
    rows = []
    for each in plan.services or ():
        row = planned(client, datetime.combine(each.day, time(), JAPAN), _STARTS, each.service_code)
        starts, ends = (said.replace(":", "") or "9999" for said in (each.starts, each.ends))
        rows.append(row | {STARTS: starts, ENDS: "2400" if ends == "0000" else ends, COUNT: str(each.count)})
    return rows


def _number(plan: Plan) -> int:
    return int(plan.client[-9:])


def _id(number: int) -> str:
    return _id_of(made_up(1, number))


def _id_of(row: Row) -> str:
    return f"{row[INSURER]}-{row[INSURED]}"


@contextmanager
def running_bench() -> Iterator[Bench]:
    """A bench in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        bench = CareCsvBench(CareOffice(Path(folder)))
        bench.hold(Entity.CLIENT, 3)
        yield bench


@contextmanager
def running_server_bench() -> Iterator[Bench]:
    """The same on a server, by SFTP. BenchMissingError without asyncssh."""
    try:
        from partners.carecsv.sandbox.server_bench import CareCsvServerBench
        from partners.carecsv.sandbox.sftp_server import SftpServer
    except ModuleNotFoundError as error:
        if error.name != "asyncssh":
            raise
        raise BenchMissingError("the server for SFTP needs asyncssh, which `make setup` installs") from None
    with tempfile.TemporaryDirectory() as folder:
        server = SftpServer(Path(folder))
        with server.running():
            bench = CareCsvServerBench(CareOffice(Path(folder)), server)
            bench.hold(Entity.CLIENT, 3)
            yield bench


OTHERS = {"sftp": running_server_bench}
