"""Where the folders are: on this machine (or on a share that is mounted on it), or elsewhere (`sftp`).

Each says what went wrong as an OSError, whose kind tells missing and forbidden from the rest. Names within a place are
relative, with a slash between folder and file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class UnsureError(OSError):
    """It may be there, and may not."""


class Place(Protocol):
    """The folder of a connection, used by one thread."""

    def files(self, folder: str) -> list[tuple[str, float]]:
        """What lies in a folder, without folders: name, and when it was touched last, in seconds of the epoch."""

    def read(self, name: str, most: int) -> bytes | None:
        """At most so many bytes of a file; None: it is not there."""

    def put(self, name: str, content: bytes) -> None:
        """Put a file there, in the place of one of that name: whole or not at all. UnsureError if that is not known."""

    def make(self, folder: str) -> None:
        """Make a folder for its owner alone, unless it is there."""

    def may_write(self, folder: str) -> bool:
        """Whether files can be put into a folder, as far as that shows without putting one."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class Local:
    """On this machine."""

    path: Path

    def files(self, folder: str) -> list[tuple[str, float]]:
        """As Place."""
        with os.scandir(self.path / folder) as entries:
            return [(each.name, each.stat().st_mtime) for each in entries if each.is_file()]

    def read(self, name: str, most: int) -> bytes | None:
        """As Place."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(most)
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Under another name first, forced to the disk, and then renamed. What could not be put is taken away again: a
        disk that is full would get fuller."""
        place = self.path / name
        part = place.with_name(f".{place.name}.part")
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(place)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        try:
            _sync(place.parent)
        except OSError as error:
            raise UnsureError(*error.args) from None

    def make(self, folder: str) -> None:
        """As Place."""
        (self.path / folder).mkdir(mode=0o700, exist_ok=True)

    def may_write(self, folder: str) -> bool:
        """As Place."""
        return os.access(self.path / folder, os.W_OK)

    def close(self) -> None:
        """Nothing is held."""


def _sync(folder: Path) -> None:
    """Have the disk know the names in it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
