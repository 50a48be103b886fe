"""The state file: what keeps an acknowledged effect alive through `kill -9`.

Each effect is appended as one line and handed to the operating system before its answer is sent; a start replays the
file. There is nothing to save at shutdown, so there is no moment at which a kill could lose anything. A transaction
is one line, hence all or none. The file is not forced to disk (no fsync): a power cut is outside its promise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from partners.fhir.sandbox.store import Version


class StateFileError(Exception):
    """The state file holds something that this program did not write; a person has to look at it."""


class StateFile:
    """An append-only file of effects. `append` is a store's sink."""

    def __init__(self, path: Path) -> None:
        """Open or make the file (owner-only, folders included), and drop a last line that a kill cut short."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Unbuffered: after a failed write nothing is left in a buffer that a later one would bring along.
        self._file = open(path, "ab", buffering=0, opener=_private)  # noqa: SIM115  # closed by close()
        self._size = _whole_lines(path)
        self._file.truncate(self._size)

    def replay(self) -> Iterator[Version]:
        """Every version in the file, in the order in which it was made. StateFileError if a line is damaged."""
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield from [Version(**row) for row in json.loads(line)]
                except (ValueError, TypeError):
                    raise StateFileError(f"line {number} of {self._path.name} is not an effect") from None

    def append(self, versions: Sequence[Version]) -> None:
        """Write `versions` as one line; after a failed write the file is as it was before."""
        line = json.dumps([_row(version) for version in versions], ensure_ascii=False, separators=(",", ":"))
        data = line.encode() + b"\n"
        try:
            written = 0
            while written < len(data):  # an unbuffered write may take only a part
                written += self._file.write(data[written:])
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Give the file back; nothing may be appended afterwards."""
        self._file.close()


def _row(version: Version) -> dict[str, Any]:
    return dict(vars(version))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _whole_lines(path: Path) -> int:
    data = path.read_bytes()
    return data.rfind(b"\n") + 1
