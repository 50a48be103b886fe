"""The folder in which the files lie.

Somebody else writes there: the program of the care managers' federation, a person, a synchronising tool. So a file that
was touched a moment ago may be half there, and is left for the next time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from partners.carecsv.places import Place
from partners.contract import Gate
from partners.errors import RejectedError, RetryableError

FILES = "files"
"""The only endpoint, as the gate knows it."""
MOST_BYTES = 64 * 1024 * 1024
"""Of one file, inclusive."""


@dataclass(frozen=True)
class Seen:
    """A file of the folder."""

    name: str
    is_still: bool
    """Whether nobody has touched it for a moment."""


@dataclass(frozen=True)
class Folder:
    """One connection's, for reading."""

    place: Place
    name: str
    gate: Gate
    still_seconds: float

    def names(self) -> list[Seen]:
        """What is in it, folders left out. Raises PartnerError."""
        self.ask()
        try:
            now, files = time.time(), self.place.files(self.name)
        except OSError as error:
            raise failure(error) from None
        return [Seen(name, abs(now - touched) >= self.still_seconds) for name, touched in files]

    def content(self, name: str) -> bytes | None:
        """All of a file; None: somebody has taken it away meanwhile. Raises PartnerError."""
        self.ask()
        try:
            content = self.place.read(f"{self.name}/{name}", MOST_BYTES + 1)
        except OSError as error:
            raise failure(error) from None
        if content is None:
            return None
        if len(content) > MOST_BYTES:
            raise RejectedError("file_unreadable", {"file": name, "why": "too_long"})
        return content

    def ask(self) -> None:
        """Ask the gate for one call. Raises Deferred."""
        self.gate.admit(FILES)
        self.gate.leave()


def failure(error: OSError) -> RejectedError | RetryableError:
    """What a folder's fault means."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return RejectedError("folder_missing")
        case PermissionError():
            return RejectedError("folder_forbidden")
        case _:
            return RetryableError("partner_unreachable")
