"""Names of files, which say what is in them, of which month, from whom to whom, and since when.

    UPHOSOKU_202612_1370000001_43_1370000002_11_20261126093000.CSV
    id       month  from office kind to office kind time

Before edition 4.0 the kinds of service were not part of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(
    r"(?P<id>[A-Z0-9]+)_(?P<month>\d{6})_(?P<sender>\d{10})(?:_\d{2})?_(?P<receiver>\d{10})(?:_\d{2})?_(?P<time>\d{14})\.csv",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, order=True)
class FileName:
    """In the order in which files are to be taken."""

    time: str
    """Fourteen digits; files with the same are one set."""
    name: str
    """The whole."""
    sender: str
    """Code of the office that it comes from."""
    receiver: str
    month: str
    """Six digits; 000000: of no month."""
    kind: str
    """Its id, such as UPHOSOKU."""


def parse_name(kind: str, name: str) -> FileName | None:
    """The parts of the name of a file of that kind; None: it is none."""
    found = _NAME.fullmatch(name)
    if found is None or found["id"].upper() != kind:
        return None
    return FileName(found["time"], name, found["sender"], found["receiver"], found["month"], kind)


def claims_to_be(kind: str, name: str) -> bool:
    """Whether a name begins and ends like those of the kind, whatever stands between."""
    upper = name.upper()
    return upper.startswith(f"{kind}_") and upper.endswith(".CSV")
