"""The folder in which the files lie, on this machine or a share that is mounted on it.

Somebody else writes there: the program of the care managers' federation, a person, a synchronising tool. So a file that
was touched a moment ago may be half there, and is left for the next time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

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

    path: Path
    gate: Gate
    still_seconds: float

    def names(self) -> list[Seen]:
        """What is in it, folders left out. Raises PartnerError."""
        self.ask()
        try:
            now = time.time()
            with os.scandir(self.path) as entries:
                files = [(each.name, each.stat().st_mtime) for each in entries if each.is_file()]
        except OSError as error:
            raise failure(error) from None
        return [Seen(name, abs(now - touched) >= self.still_seconds) for name, touched in files]

    def content(self, name: str) -> bytes | None:
        """All of a file; None: somebody has taken it away meanwhile. Raises PartnerError."""
        self.ask()
        try:
            with (self.path / name).open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error) from None
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
