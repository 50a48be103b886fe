"""What a partner's answers can mean, as its own code says, and the patch by which it learns more.

Both are read from the source, where the tables are: no second list of codes has to be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import unified_diff
from functools import cache
from pathlib import Path

from partners.contract import CodeRow
from partners.reasons import ReasonScope, Severity, all_reasons

_ROOT = Path(__file__).parents[1]
_NO_PARTNER = ("certification", "__pycache__")
_NO_ANSWERS = ("partner.py", "tokens.py", "mapping.py")
"""What opens a connection and what builds a request: what these give, no answer to a call can mean."""
_QUOTED = re.compile(r'"([a-z][a-z0-9_]*)"')


class NoTableError(LookupError):
    """The table that a row is for is not where the row says."""


def meant(partner: str) -> frozenset[str]:
    """The reasons that an answer of that partner can mean: those that its own folder gives, and those that several
    others do, which are no protocol's own."""
    own = _given().get(partner, frozenset())
    others = [codes for name, codes in _given().items() if name != partner]
    return own | {code for codes in others for code in codes if sum(code in each for each in others) > 1}


def patch(rows: Iterable[CodeRow]) -> str:
    """A unified diff that adds the rows at the end of their tables, for `git apply` or `patch -p1` at the root of the
    code. Raises NoTableError."""
    files: dict[str, list[str]] = {}
    for row in rows:
        lines = files.setdefault(row.file, _lines(row.file))
        lines.insert(_end(lines, row), f"{row.line}\n")
    parts = (unified_diff(_lines(file), lines, f"a/{file}", f"b/{file}") for file, lines in files.items())
    return "".join(line for part in parts for line in part)


def _lines(file: str) -> list[str]:
    return (_ROOT / file).read_text(encoding="utf-8").splitlines(keepends=True)


def _end(lines: list[str], row: CodeRow) -> int:
    """Where the table ends: its closing brace."""
    begins = (number for number, line in enumerate(lines) if re.match(rf"{row.table}\b.*{{$", line))
    begin = next(begins, None)
    if begin is None:
        raise NoTableError(f"{row.file} has no table {row.table}")
    return next(number for number, line in enumerate(lines) if number > begin and line.rstrip() == "}")


@cache
def _given() -> dict[str, frozenset[str]]:
    """By partner, the codes of faults that stand in its folder where answers are read, its sandbox left out."""
    remarks = (Severity.INFORMATION, ReasonScope.RECORD)  # nothing is wrong with a record of which that is said
    codes = {each.code for each in all_reasons() if (each.severity, each.scope) != remarks}
    folders = (each for each in Path(__file__).parent.iterdir() if (each / "partner.py").exists())
    return {
        folder.name: frozenset(
            code
            for file in folder.glob("*.py")
            if file.name not in _NO_ANSWERS
            for code in _QUOTED.findall(file.read_text(encoding="utf-8"))
        )
        & codes
        for folder in folders
        if folder.name not in _NO_PARTNER
    }
