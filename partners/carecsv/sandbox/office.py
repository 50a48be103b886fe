"""A care manager's office with made-up clients: it puts files into a folder as the federation's program does.

Its log is what it has put there, in the order in which it did.
"""

from __future__ import annotations

import csv
import io
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from partners.carecsv.layouts import (
    CLIENTS,
    COLUMNS,
    COUNT,
    DAY,
    DELETION_COLUMNS,
    ENDS,
    INSURED,
    INSURER,
    MONTH,
    PLAN_COLUMNS,
    PLAN_DELETIONS,
    PLANS,
    PROVIDER,
    SERVICE,
    STARTS,
    Column,
)
from partners.carecsv.table import ENCODING
from partners.made_up_people import FAMILY_NAMES, FEMALE_NAMES, MALE_NAMES, PLACES
from partners.windows import JAPAN

Row = dict[str, str]
"""By the columns' names; a column that is left out is empty."""
OFFICE, RECEIVER = "1370000001", "1370000002"
VERSION = "202410"


@dataclass
class CareOffice:
    """It exchanges files with one folder, as a program between the two does: it fills `in`, and empties `out`.

    Who makes another one of the same folder goes on from what lies there.
    """

    base: Path
    receiver: str = RECEIVER
    log: list[str] = field(default_factory=list)
    """Names of the files, as they were put and taken."""
    actuals: dict[tuple[str, str], list[list[str]]] = field(default_factory=dict)
    """By insured and month: the rows that it was told last, all 25 columns."""

    def __post_init__(self) -> None:
        for each in (self.folder, self.out, self.taken):
            each.mkdir(exist_ok=True)
        for name in _oldest_first(self.taken):
            self._do(name)

    @property
    def folder(self) -> Path:
        """Where it puts files."""
        return self.base / "in"

    @property
    def out(self) -> Path:
        """Where it takes them from."""
        return self.base / "out"

    @property
    def taken(self) -> Path:
        """Where it keeps what it took."""
        return self.base / "taken"

    def clients(self) -> dict[str, Row]:
        """What its files say of the clients last, by insurer and insured."""
        files = ((name, COLUMNS) for name in _oldest_first(self.folder) if name.startswith(f"{CLIENTS}_"))
        rows = (row for name, columns in files for row in _read(self.folder / name, columns))
        return {f"{row[INSURER]}-{row[INSURED]}": row for row in rows}

    def plans(self) -> dict[tuple[str, str], list[Row]]:
        """What its files say last of what is planned, by client (insurer and insured) and month (YYYYMM)."""
        found: dict[tuple[str, str], list[Row]] = {}
        for name in _oldest_first(self.folder):
            kind, month, *_ = name.split("_")
            if kind in _PLANS:
                told: dict[tuple[str, str], list[Row]] = {}
                for row in _read(self.folder / name, _PLANS[kind]):
                    told.setdefault((f"{row[INSURER]}-{row[INSURED]}", month), []).append(row)
                found |= {whose: rows if kind == PLANS else [] for whose, rows in told.items()}
        return {whose: rows for whose, rows in found.items() if rows}

    def take(self) -> list[str]:
        """Take all files that are there, oldest first, and do as they say; returns their names."""
        names = _oldest_first(self.out)
        for name in names:
            (self.out / name).rename(self.taken / name)
            self._do(name)
            self.log.append(name)
        return names

    def _do(self, name: str) -> None:
        kind, month, *_ = name.split("_")
        with (self.taken / name).open(encoding=ENCODING, newline="") as file:
            table = list(csv.reader(file))
        of = {row[2]: [each for each in table if each[2] == row[2]] for row in table}
        for insured, rows in of.items():
            self.actuals[insured, month] = rows if kind == "UPJSK" else []

    def send(self, clients: Sequence[Row], at: datetime | None = None, *, part: str = "43") -> str:
        """Put one file of clients into the folder, whole or not at all; returns its name. `at`: its time, now without.

        `part`: the kind of service of the sender's name, by which files of one time differ.
        """
        return self.put(spelled(clients, COLUMNS), at, part=part)

    def send_plans(self, lines: Sequence[Row], month: str, at: datetime | None = None, *, part: str = "43") -> str:
        """As `send`, of plans of a month (YYYYMM): a line a service."""
        return self.put(spelled(lines, PLAN_COLUMNS), at, part=part, kind=PLANS, month=month)

    def take_back(self, clients: Sequence[Row], month: str, at: datetime | None = None) -> str:
        """As `send_plans`: there are none any more for these clients."""
        lines = [each | {DELETION_COLUMNS[-1].name: month} for each in clients]
        return self.put(spelled(lines, DELETION_COLUMNS), at, kind=PLAN_DELETIONS, month=month)

    def repeat(self, name: str, at: datetime) -> str:
        """Put a file that is there once more, at another time."""
        kind, month, _, part, *_ = name.split("_")
        return self.put((self.folder / name).read_bytes(), at, part=part, kind=kind, month=month)

    def put(
        self, content: bytes, at: datetime | None = None, *, part: str = "43", kind: str = CLIENTS, month: str = ""
    ) -> str:
        """As `send`, of whatever content and kind; `month`: that of its time without."""
        time = (at or datetime.now(UTC)).astimezone(JAPAN)
        of = month or f"{time:%Y%m}"
        name = f"{kind}_{of}_{OFFICE}_{part}_{self.receiver}_11_{time:%Y%m%d%H%M%S}.CSV"
        rest = self.folder / f".{name}.part"
        with rest.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rest.rename(self.folder / name)
        self.log.append(name)
        return name


_PLANS = {PLANS: PLAN_COLUMNS, PLAN_DELETIONS: DELETION_COLUMNS}


def _oldest_first(folder: Path) -> list[str]:
    """Names of the files, by their time; those of one time by name."""
    names = sorted(each.name for each in folder.iterdir() if each.suffix == ".CSV")
    return sorted(names, key=lambda name: name.rsplit("_", 1)[1])


def _read(file: Path, columns: Sequence[Column]) -> list[Row]:
    names = [each.name for each in columns]
    with file.open(encoding=ENCODING, newline="") as opened:
        return [dict(zip(names, row, strict=True)) for row in csv.reader(opened)]


def spelled(rows: Sequence[Row], columns: Sequence[Column]) -> bytes:
    """The rows as a file of those columns."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([row.get(column.name, "") for column in columns] for row in rows)
    return text.getvalue().encode(ENCODING)


def planned(client: Row, starts: datetime, ends: datetime, service: str = "131111", provider: str = RECEIVER) -> Row:
    """A line of a client's plan: one service, in Japan's time."""
    begins, over = starts.astimezone(JAPAN), ends.astimezone(JAPAN)
    return {
        "CSVバージョン": VERSION,
        INSURER: client[INSURER],
        INSURED: client[INSURED],
        "作成年月日": "20261101",
        MONTH: f"{begins:%Y%m}",
        "プラン担当業者コード": OFFICE,
        DAY: f"{begins:%Y%m%d}",
        STARTS: f"{begins:%H%M}",
        ENDS: f"{over:%H%M}",
        COUNT: "1",
        SERVICE: service,
        PROVIDER: provider,
        "３０日超区分": "0",
    }


def made_up_plan(seed: int, number: int, month: datetime, provider: str = RECEIVER) -> list[Row]:
    """What is planned for the client of that number in the month that begins then: an hour a week, the same for the
    same numbers."""
    draw = random.Random(f"plan {seed} {number}")  # noqa: S311  # nothing is to be hidden
    first = month.replace(day=draw.randrange(1, 8), hour=draw.randrange(8, 17), tzinfo=JAPAN)
    weeks = (first + timedelta(weeks=week) for week in range(5))
    client = made_up(seed, number)
    return [planned(client, at, at + timedelta(hours=1), provider=provider) for at in weeks if at.month == month.month]


class PlanFault(StrEnum):
    """What can be wrong with the lines of a file of plans."""

    BAD_CHARACTER = "a byte that is no cp932 in the first line's name of the office"
    WRONG_LENGTH = "a service code of seven letters in the first line"
    MISSING = "no service code in the first line"
    TOO_FEW_COLUMNS = "the first line ends in its middle"
    NAMELESS = "the first line does not say whose it is"


def spoilt(lines: Sequence[Row], fault: PlanFault) -> bytes:
    """The lines as a file with that fault."""
    first, *rest = lines
    match fault:
        case PlanFault.BAD_CHARACTER:
            head = spelled([first | {"サービス事業所名": "MARK"}], PLAN_COLUMNS).replace(b"MARK", b"\x81")
        case PlanFault.WRONG_LENGTH:
            head = spelled([first | {SERVICE: "1311111"}], PLAN_COLUMNS)
        case PlanFault.MISSING:
            head = spelled([first | {SERVICE: ""}], PLAN_COLUMNS)
        case PlanFault.TOO_FEW_COLUMNS:
            head = spelled([first], PLAN_COLUMNS[:12])
        case PlanFault.NAMELESS:
            head = spelled([first | {INSURED: ""}], PLAN_COLUMNS)
    return head + spelled(rest, PLAN_COLUMNS)


def made_up(seed: int, number: int) -> Row:
    """The client of that number: the same for the same two numbers."""
    draw = random.Random(f"{seed} {number}")  # noqa: S311  # nothing is to be hidden
    sex = draw.choice(("1", "2"))
    family, given = draw.choice(FAMILY_NAMES), draw.choice(MALE_NAMES if sex == "1" else FEMALE_NAMES)
    born = datetime(1925, 1, 1, tzinfo=UTC) + timedelta(days=draw.randrange(12_000))
    place = draw.choice(PLACES)
    return {
        "CSVバージョン": VERSION,
        INSURER: "139999",
        INSURED: f"{9_000_000_000 + number:010}",
        "居宅サービス計画作成（変更）日": "20261101",
        "利用者氏名フリガナ": f"{family[1]} {given[1]}",
        "利用者氏名": f"{family[0]}　{given[0]}",
        "利用者性別": sex,
        "利用者生年月日": f"{born:%Y%m%d}",
        "利用者郵便番号": f"000-{draw.randrange(10_000):04}",
        "利用者住所１": "".join(place),
        "利用者住所２": f"{draw.randrange(1, 9)}-{draw.randrange(1, 30)}",
        "利用者電話番号": f"00-0000-{draw.randrange(10_000):04}",
        "要介護状態区分": draw.choice(("12", "13", "21", "22", "23", "24", "25")),
        "対象年月": "202612",
    }
