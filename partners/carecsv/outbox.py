"""What is written: the state of each client, in a folder of its own, and the files, in one that others empty.

First the files are put, then it is kept that they were. Who dies in between finds the file there and does not put a
second one; only if somebody has taken it away in that moment, the same month is sent once more, and replaces itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from partners.carecsv.actuals import Client, Kept, Office, mark, parsed, spelled
from partners.carecsv.filenames import parse_name
from partners.carecsv.folder import MOST_BYTES
from partners.carecsv.places import Place
from partners.carecsv.table import TableError, content, rows
from partners.errors import RejectedError

ACTUALS, DELETIONS = "UPJSK", "DLTJSK"
RECEIVERS_KIND = "43"
"""居宅介護支援: what a care manager's office does."""

_LATEST = "latest"
"""The file that keeps the time of the last one that was put: it may have been taken meanwhile."""
Row = Sequence[str]


@dataclass(frozen=True)
class Outbox:
    """Of one connection."""

    place: Place
    out: str
    """From this folder others take the files."""
    state: str
    """In this one is kept what was told."""

    def open(self) -> None:
        """See that both folders are there; that of the state is made. OSError."""
        self.place.make(self.state)
        self.place.files(self.out)

    def may_write(self) -> bool:
        """Whether files can be put, as far as that shows. OSError if there is no such folder."""
        self.place.files(self.out)
        return self.place.may_write(self.out)

    def kept(self, client: Client) -> Kept:
        """What was told of a client's visits. OSError; RejectedError if what is there is none of ours."""
        content = self.place.read(self._of(client), MOST_BYTES)
        try:
            return Kept() if content is None else parsed(content)
        except ValueError:
            raise RejectedError("internal_error") from None

    def keep(self, client: Client, kept: Kept) -> None:
        """Store it, whole or not at all. OSError."""
        self.place.put(self._of(client), spelled(kept))

    def standing(self) -> dict[tuple[str, str, str, str], tuple[str, str]]:
        """What the files that nobody has taken yet tell last, of each receiver, month, insurer and insured: the kind of
        file, and the mark of its rows. One that cannot be read tells nothing. OSError."""
        files = [
            (name, kind)
            for each, _ in self.place.files(self.out)
            for kind in (ACTUALS, DELETIONS)
            if (name := parse_name(kind, each)) is not None
        ]
        found: dict[tuple[str, str, str, str], tuple[str, str]] = {}
        for name, kind in sorted(files):
            with suppress(TableError):
                told: dict[tuple[str, str], list[Row]] = {}
                for row in rows(self.place.read(f"{self.out}/{name.name}", MOST_BYTES) or b""):
                    if len(row) > 2:  # else it is somebody else's, and says not whose
                        told.setdefault((row[1], row[2]), []).append(row)
                found |= {(name.receiver, name.month, *whose): (kind, mark(each)) for whose, each in told.items()}
        return found

    def put(self, kind: str, office: Office, receiver: str, month: str, told: Sequence[Row], now: datetime) -> str:
        """Put a file there; returns its name. OSError.

        Its time is later than that of any before it.
        """
        table = content(told)
        latest = (self.place.read(f"{self.state}/{_LATEST}", MOST_BYTES) or b"").decode("ascii", "replace")
        at = f"{now:%Y%m%d%H%M%S}"
        if at <= latest:
            at = f"{datetime.strptime(latest, '%Y%m%d%H%M%S') + timedelta(seconds=1):%Y%m%d%H%M%S}"  # noqa: DTZ007
        self.place.put(f"{self.state}/{_LATEST}", at.encode())
        name = f"{kind}_{month}_{office.code}_{office.kind}_{receiver}_{RECEIVERS_KIND}_{at}.CSV"
        self.place.put(f"{self.out}/{name}", table)
        return name

    def _of(self, client: Client) -> str:
        return f"{self.state}/{client.partner_id}.json"
