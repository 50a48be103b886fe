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
from pathlib import Path

from partners.carecsv.layouts import CLIENTS, COLUMNS, INSURED, INSURER
from partners.carecsv.table import ENCODING
from partners.made_up_people import FAMILY_NAMES, FEMALE_NAMES, MALE_NAMES, PLACES
from partners.windows import JAPAN

Row = dict[str, str]
"""By the columns' names; a column that is left out is empty."""
OFFICE, RECEIVER = "1370000001", "1370000002"
VERSION = "202410"


@dataclass
class CareOffice:
    """It exchanges files with one folder, as a program between the two does: it fills `in`, and empties `out`."""

    base: Path
    receiver: str = RECEIVER
    log: list[str] = field(default_factory=list)
    """Names of the files, as they were put and taken."""
    actuals: dict[tuple[str, str], list[list[str]]] = field(default_factory=dict)
    """By insured and month: the rows that it was told last, all 25 columns."""

    def __post_init__(self) -> None:
        for each in (self.folder, self.out):
            each.mkdir(exist_ok=True)

    @property
    def folder(self) -> Path:
        """Where it puts files."""
        return self.base / "in"

    @property
    def out(self) -> Path:
        """Where it takes them from."""
        return self.base / "out"

    def take(self) -> list[str]:
        """Take all files that are there, oldest first, and do as they say; returns their names."""
        names = sorted(
            (each.name for each in self.out.iterdir() if each.suffix == ".CSV"), key=lambda name: name.rsplit("_", 1)[1]
        )
        for name in names:
            kind, month, *_ = name.split("_")
            with (self.out / name).open(encoding=ENCODING, newline="") as file:
                table = list(csv.reader(file))
            of = {row[2]: [each for each in table if each[2] == row[2]] for row in table}
            for insured, rows in of.items():
                self.actuals[insured, month] = rows if kind == "UPJSK" else []
            (self.out / name).unlink()
            self.log.append(name)
        return names

    def send(self, clients: Sequence[Row], at: datetime | None = None, *, part: str = "43") -> str:
        """Put one file of clients into the folder, whole or not at all; returns its name. `at`: its time, now without.

        `part`: the kind of service of the sender's name, by which files of one time differ.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerows([client.get(column.name, "") for column in COLUMNS] for client in clients)
        return self.put(text.getvalue().encode(ENCODING), at, part=part)

    def put(self, content: bytes, at: datetime | None = None, *, part: str = "43") -> str:
        """As `send`, of whatever content."""
        time = (at or datetime.now(UTC)).astimezone(JAPAN)
        name = f"{CLIENTS}_{time:%Y%m}_{OFFICE}_{part}_{self.receiver}_11_{time:%Y%m%d%H%M%S}.CSV"
        rest = self.folder / f".{name}.part"
        with rest.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rest.rename(self.folder / name)
        self.log.append(name)
        return name


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
