"""The request log: what the partner saw and did, in the order in which it did it.

It is the oracle of tests ("nothing twice", "versions rise", "never more calls than allowed"), so it is written in the
same step as the effect and before the answer. It holds numbers and keys: no token, no name, and of a query string
only the values of parameters that the server knows, none of which takes a name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class Row:
    """One request, or one entry of a batch."""

    seq: int
    """1, 2, ... in the order of effects; goes on after a restart if the journal has a file."""
    at: str
    """Arrival by the wall clock, an ISO 8601 instant in UTC with microseconds."""
    monotonic: float
    """Arrival by the monotonic clock, in seconds; comparable within one run."""
    method: str
    path: str
    query: str
    resource_type: str | None
    resource_id: str | None
    """The id in the path or, for a create, the id given."""
    identifier: str | None
    """The record's business identifier: the value of its first identifier."""
    if_match: str | None
    status: int | None
    """Status sent; None: the connection was cut instead."""
    effect: str
    """created, updated, deleted or none: what happened to the data, whatever was answered."""
    version: int | None
    """versionId that the request made or read."""
    fault: str | None
    """Kinds of the faults that befell it, joined by "+"."""
    within: int | None = None
    """seq of the batch that this entry came in; None for an HTTP request of its own."""


class Journal:
    """Rows in memory, and in a file too if a path is given."""

    def __init__(self, path: Path | None = None) -> None:
        """Rows of an earlier run are read back from the file; a last line cut short by a kill is dropped."""
        self._rows: list[Row] = []
        self._file: IO[bytes] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b", opener=_private)  # noqa: SIM115  # closed by close()
            self._file.seek(0)
            whole = self._file.read().rpartition(b"\n")[0]
            self._rows = [Row(**json.loads(line)) for line in whole.splitlines()]
            self._file.truncate(len(whole) + 1 if whole else 0)

    @property
    def last(self) -> int:
        """seq of the newest row; 0 if there is none."""
        return self._rows[-1].seq if self._rows else 0

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows whose seq go on from `last` without a gap; they are in the file when this returns."""
        self._rows += rows
        if self._file is not None:
            self._file.write(b"".join(_line(row) for row in rows))
            self._file.flush()

    def after(self, seq: int) -> list[dict[str, Any]]:
        """Rows above `seq`, oldest first."""
        return [asdict(row) for row in self._rows[max(seq, 0) :]]

    def close(self) -> None:
        """Close the file; rows in memory stay readable."""
        if self._file is not None:
            self._file.close()


def _line(row: Row) -> bytes:
    return json.dumps(vars(row), ensure_ascii=False).encode() + b"\n"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
