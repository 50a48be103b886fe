"""What is written: the state of each client, in a folder of its own, and the files, in one that others empty.

First the files are put, then it is kept that they were. Who dies in between finds the file there and does not put a
second one; only if somebody has taken it away in that moment, the same month is sent once more, and replaces itself. A
file is written under another name, forced to the disk, and then renamed: nobody ever sees half of one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from partners.carecsv.actuals import Client, Kept, Office, mark, parsed, spelled
from partners.carecsv.filenames import FileName, parse_name
from partners.carecsv.table import TableError, content, rows

ACTUALS, DELETIONS = "UPJSK", "DLTJSK"
RECEIVERS_KIND = "43"
"""居宅介護支援: what a care manager's office does."""

Row = Sequence[str]


class UnsureError(OSError):
    """It is there, and may not outlive a power cut."""


@dataclass(frozen=True)
class Outbox:
    """Of one connection."""

    out: Path
    """From here others take the files."""
    state: Path
    """Here is kept what was told."""

    def open(self) -> None:
        """See that both folders are there; that of the state is made, for its owner alone. OSError."""
        self.state.mkdir(mode=0o700, exist_ok=True)
        os.stat(self.out)

    def kept(self, client: Client) -> Kept:
        """What was told of a client's visits. OSError; ValueError if what is there is none of ours."""
        try:
            return parsed(self._of(client).read_bytes())
        except FileNotFoundError:
            return Kept()

    def keep(self, client: Client, kept: Kept) -> None:
        """Store it, whole or not at all. OSError."""
        _put(self._of(client), spelled(kept))

    def names(self, kind: str) -> list[FileName]:
        """Files of the kind that nobody has taken yet, oldest first. OSError."""
        found = (parse_name(kind, name) for name in os.listdir(self.out))
        return sorted(each for each in found if each is not None)

    def has(self, kind: str, receiver: str, month: str, told: Sequence[Row]) -> bool:
        """Whether the newest file there that tells of this client's month tells exactly that. OSError."""
        of_month = [each for each in self.names(kind) if (each.receiver, each.month) == (receiver, month)]
        for name in reversed(of_month):
            try:
                table = rows((self.out / name.name).read_bytes())
            except (FileNotFoundError, TableError):
                continue
            theirs = [row for row in table if row[1:3] == list(told[0][1:3])]
            if theirs:
                return mark(theirs) == mark(told)
        return False

    def put(self, kind: str, office: Office, receiver: str, month: str, told: Sequence[Row], now: datetime) -> str:
        """Put a file there; returns its name. OSError.

        Its time is later than that of any that is there.
        """
        table = content(told)
        latest = max((each.time for each in [*self.names(ACTUALS), *self.names(DELETIONS)]), default="")
        at = f"{now:%Y%m%d%H%M%S}"
        if at <= latest:
            at = f"{datetime.strptime(latest, '%Y%m%d%H%M%S') + timedelta(seconds=1):%Y%m%d%H%M%S}"  # noqa: DTZ007
        name = f"{kind}_{month}_{office.code}_{office.kind}_{receiver}_{RECEIVERS_KIND}_{at}.CSV"
        _put(self.out / name, table)
        return name

    def _of(self, client: Client) -> Path:
        return self.state / f"{client.partner_id}.json"


def _put(place: Path, content: bytes) -> None:
    part = place.with_name(f".{place.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(place)
    try:
        _sync(place.parent)
    except OSError as error:
        raise UnsureError(*error.args) from None


def _sync(folder: Path) -> None:
    """Have the disk know the names in it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
