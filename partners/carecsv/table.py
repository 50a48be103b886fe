"""A file's content as rows: cp932, commas, no header, free text in double quotes that may hold line ends.

cp932 is not shift_jis: 髙, 﨑, ① and ～ differ between them. What does not decode is never guessed at.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

ENCODING = "cp932"


class TableError(ValueError):
    """The content is no such table; `line` is where, from 1. It quotes nothing of what stands there."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}")
        self.line = line


def content(table: Sequence[Sequence[str]]) -> bytes:
    """The rows as a file. UnicodeEncodeError for a letter that cp932 does not have."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(table)
    return text.getvalue().encode(ENCODING)


def rows(content: bytes) -> list[list[str]]:
    """All rows; empty lines are none. Raises TableError."""
    try:
        text = content.decode(ENCODING)
    except UnicodeDecodeError as error:
        raise TableError(content.count(b"\n", 0, error.start) + 1) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[list[str]] = []
    try:
        found.extend(row for row in reader if row)
    except csv.Error:
        raise TableError(reader.line_num) from None
    return found
