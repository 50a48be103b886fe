"""What the certification needs of care CSV, in a folder of its own: on this machine, and on a server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from partners.carecsv.actuals import parsed
from partners.carecsv.layouts import INSURED, INSURER
from partners.carecsv.partner import CARECSV, STATE, STILL_SECONDS
from partners.carecsv.reading import MOST_RECORDS
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, Row, made_up
from partners.certification.bench import Bench, BenchMissingError, LineFault, NotOffered, Sizes
from partners.contract import Command, Entity, Verb, Visit

_STARTS = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)


class CareCsvBench(Bench):
    """An office that puts files there. Nobody answers a file, and no file tells of a delete."""

    partner = CARECSV
    secret: Mapping[str, str] = {}
    settings: Mapping[str, str] = {"office": RECEIVER, "kind": "13"}
    batch_settings: Mapping[str, str] = {}
    has_deletes = False
    sizes = {Entity.CLIENT: Sizes(page=MOST_RECORDS, cap=2 * MOST_RECORDS)}  # noqa: RUF012  # nobody changes it

    def __init__(self, office: CareOffice) -> None:
        self._office, self.url = office, office.base.as_uri()
        self._time = datetime(2026, 11, 1, tzinfo=UTC)

    @property
    def nobody(self) -> str:
        """There is none."""
        raise NotOffered("it is a folder of this machine: nobody has to listen")

    def befall(self, fault: LineFault) -> None:
        """Nothing can."""
        raise NotOffered("it is a folder of this machine: there is no line to it")

    def visit(self) -> Command:
        """As Bench."""
        fields = Visit(_STARTS, _STARTS + timedelta(hours=1), "131111", "玄関は開いています")
        return Command(Entity.VISIT, Verb.CREATE, uuid4(), 1, str(uuid4()), fields, {Entity.CLIENT: _id(1)})

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

    def _put(self, rows: Sequence[Row]) -> None:
        self._time += timedelta(minutes=1)
        file = self._office.folder / self._office.send(rows, self._time)
        still = file.stat().st_mtime - 2 * STILL_SECONDS
        os.utime(file, (still, still))


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
