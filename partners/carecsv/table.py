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
    return [row for _, row in _parsed(text)]


def numbered_rows(content: bytes) -> list[tuple[int, list[str]]]:
    """As `rows`, each with the line, from 1, on which it ends. What does not decode stands in them for `odd_letter` to
    find, so that one bad letter costs one row. Raises TableError."""
    return _parsed(content.decode(ENCODING, "surrogateescape"))


def odd_letter(text: str) -> str | None:
    """The first letter that the standard does not allow, by its code: a byte that is no cp932 (`0x81`), or one that
    each maker has otherwise (外字, `U+E000`); None: there is none. No letter of a person's is quoted."""
    for letter in text:
        if "\udc80" <= letter <= "\udcff":
            return f"0x{ord(letter) - 0xDC00:02X}"
        if "\ue000" <= letter <= "\uf8ff" or "\x80" <= letter <= "\xa0":
            return f"U+{ord(letter):04X}"
    return None


def _parsed(text: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error:
        raise TableError(reader.line_num) from None
