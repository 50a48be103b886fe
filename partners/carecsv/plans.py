"""Reading plans: what care managers have planned (UPPLAN), and which plans they took back (DLTPLAN).

A file has plans of one month, each in the whole place of what an earlier file said for that client. Files of one time
and sender are one set. They are taken from the newest to the oldest, and of a client and month only what comes first.
Of the lines those count that name our office. A line that cannot be taken waits alone, told by file, line and column;
nothing that stands in it is quoted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby

from partners.carecsv.filenames import FileName
from partners.carecsv.folder import Folder
from partners.carecsv.layouts import (
    COUNT,
    DAY,
    DELETION_COLUMNS,
    ENDS,
    MONTH,
    PLAN_COLUMNS,
    PLAN_DELETIONS,
    PLANS,
    PROVIDER,
    SERVICE,
    STARTS,
    Column,
)
from partners.carecsv.reading import MOST_RECORDS, ODD, files_of, numbers, unreadable
from partners.carecsv.table import ENCODING, TableError, numbered_rows, odd_letter
from partners.contract import Plan, PlannedService, PlanPage, Unmappable
from partners.errors import RejectedError

MOST_SERVICES = 1000
"""Of one client in a file, inclusive: more is no month of a person's."""
_NO_TIME, _MIDNIGHT = "9999", "2400"
_TIME = re.compile(r"([01]\d|2[0-3])[0-5]\d", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_SERVICE = re.compile(r"[0-9A-Z]{6}", re.ASCII)
_COUNT_AT = [each.name for each in PLAN_COLUMNS].index(COUNT)
_LAYOUTS = {PLANS: PLAN_COLUMNS, PLAN_DELETIONS: DELETION_COLUMNS}
_FORMS: Mapping[str, Callable[[str], object]] = {
    STARTS: lambda said: said == _NO_TIME or _TIME.fullmatch(said),
    ENDS: lambda said: said in (_NO_TIME, _MIDNIGHT) or _TIME.fullmatch(said),
    COUNT: _DIGITS.fullmatch,
    SERVICE: _SERVICE.fullmatch,
}


@dataclass
class _Told:
    """What a set says of one client."""

    services: list[PlannedService] | None = None
    """None: the plan was taken back."""
    bad: list[Unmappable] = field(default_factory=list)


@dataclass
class _Set:
    """What the files of one time and sender say of one month."""

    told: dict[str, _Told] = field(default_factory=dict)
    """By the client's id."""
    lost: list[RejectedError] = field(default_factory=list)
    """Lines that belong to no client's plan."""


def read_plans(folder: Folder, receiver: str, cursor: str | None) -> Iterator[PlanPage]:
    """The newest plan of each client and month in all files, or in those of the cursor's time and later ones.

    A file that cannot be read keeps no other back, nor does a line that belongs to no plan (it does not say whose it
    is, or takes back what is not known); but the reading does not end well until the file is gone or, for a line, the
    sender has said the month anew. Raises PartnerError.
    """
    files, bad = files_of((PLANS, PLAN_DELETIONS), folder, receiver)
    wanted = [each for each in files if cursor is None or each.time >= cursor]
    newest = wanted[-1].time if wanted else cursor
    seen, said_anew, pending = set[tuple[str, date]](), set[tuple[str, date]](), list[Plan]()
    for (time, sender), found in _sets(wanted):
        for month, files_of_month in found.items():
            if month is None:
                bad += [unreadable(each.name, "name") for each in files_of_month]
                continue
            said = _said(folder, files_of_month, receiver, month, bad)
            if (sender, month) not in said_anew:
                said_anew.add((sender, month))
                bad += said.lost
            for client, told in said.told.items():
                if (client, month) not in seen:
                    seen.add((client, month))
                    services = None if told.services is None else tuple(told.services)
                    pending.append(Plan(client, month, time, services, tuple(told.bad)))
        if len(pending) >= MOST_RECORDS:
            yield PlanPage(tuple(pending))
            pending.clear()
    if bad:
        yield PlanPage(tuple(pending))
        raise bad[0]
    yield PlanPage(tuple(pending), newest)


def _sets(files: Sequence[FileName]) -> Iterator[tuple[tuple[str, str], Mapping[date | None, list[FileName]]]]:
    """The files of each time and sender, newest first, by month. None: the name has no month."""
    in_order = sorted(files, key=lambda each: (each.time, each.sender), reverse=True)
    for key, together in groupby(in_order, lambda each: (each.time, each.sender)):
        months: dict[date | None, list[FileName]] = {}
        for each in sorted(together):  # by name: what is taken back comes before what is planned
            day = _day(f"{each.month}01")
            months.setdefault(day, []).append(each)
        yield key, months


def _said(folder: Folder, files: Sequence[FileName], receiver: str, month: date, bad: list[RejectedError]) -> _Set:
    """What a set's files of a month say; those that cannot be read go to `bad`."""
    said = _Set()
    for file in files:
        try:
            content = folder.content(file.name)
            rows = [] if content is None else numbered_rows(content)
        except TableError as error:
            bad.append(unreadable(file.name, str(error)))
            continue
        except RejectedError as error:
            if error.reason != "file_unreadable":
                raise
            bad.append(error)
            continue
        if _most_services(row for _, row in rows) > MOST_SERVICES:
            bad.append(unreadable(file.name, "too_long"))
            continue
        for line, row in rows:
            _take(said, file, line, row, receiver, month)
    return said


def _most_services(rows: Iterable[Sequence[str]]) -> int:
    """How many services one client has at most, as often as each is planned; what has no number counts once."""
    counts = Counter[tuple[str, str]]()
    for row in rows:
        if (whose := numbers(row)) is not None:
            said = row[_COUNT_AT].strip() if len(row) > _COUNT_AT else ""
            counts[whose] += max(1, int(said)) if re.fullmatch(r"[0-9]{1,2}", said) else 1
    return max(counts.values(), default=0)


def _take(said: _Set, file: FileName, line: int, row: list[str], receiver: str, month: date) -> None:
    where = {"file": file.name, "line": str(line)}
    if (whose := numbers(row)) is None:
        said.lost.append(RejectedError("plan_line_nameless", where))
        return
    columns = _LAYOUTS[file.kind]
    values = dict(zip((each.name for each in columns), row, strict=False))
    if file.kind == PLAN_DELETIONS:
        if (wrong := _wrong(columns, row, values, month)) is None:
            said.told["-".join(whose)] = _Told()
        else:  # what was planned stands
            said.lost.append(RejectedError(wrong.reason, {**where, **wrong.params}))
        return
    told = said.told.setdefault("-".join(whose), _Told())
    if told.services is None:
        told.services = []
    if len(row) == len(columns) and _is_of_others(values[PROVIDER].strip(), receiver):
        return
    if (wrong := _wrong(columns, row, values, month)) is not None:
        told.bad.append(Unmappable(wrong.reason, {**where, **wrong.params}))
    else:
        told.services.append(_service(values))


def _is_of_others(provider: str, receiver: str) -> bool:
    return len(provider) == len(receiver) and bool(_DIGITS.fullmatch(provider)) and provider != receiver


def _wrong(columns: Sequence[Column], row: Sequence[str], values: Mapping[str, str], month: date) -> Unmappable | None:
    """Why a line cannot be taken, and what tells where; None: it can."""
    for name, said in values.items():
        if (letter := odd_letter(said)) is not None:
            return Unmappable("plan_line_character", {"field": name, "character": letter})
    if len(row) != len(columns):
        return Unmappable("plan_line_invalid", {"field": ODD})
    for column in columns:
        said = values[column.name].strip()
        is_too_long = column.most_bytes is not None and len(said.encode(ENCODING)) > column.most_bytes
        form = _FORMS.get(column.name)
        if is_too_long or (column.is_required and not said) or (form is not None and not form(said)):
            return Unmappable("plan_line_invalid", {"field": column.name})
    of_month = MONTH if MONTH in values else columns[-1].name
    if values[of_month].strip() != f"{month:%Y%m}":
        return Unmappable("plan_line_invalid", {"field": of_month})
    if DAY in values:
        day = _day(values[DAY].strip())
        if day is None or (day.year, day.month) != (month.year, month.month):
            return Unmappable("plan_line_invalid", {"field": DAY})
    if PROVIDER in values and not _DIGITS.fullmatch(values[PROVIDER].strip()):
        return Unmappable("plan_line_invalid", {"field": PROVIDER})
    return None


def _service(values: Mapping[str, str]) -> PlannedService:
    day = _day(values[DAY].strip())
    assert day is not None  # it was looked at
    starts, ends = (_time(values[name].strip()) for name in (STARTS, ENDS))
    return PlannedService(day, values[SERVICE].strip(), starts, ends, int(values[COUNT].strip()))


def _time(said: str) -> str:
    if said == _NO_TIME:
        return ""
    return "00:00" if said == _MIDNIGHT else f"{said[:2]}:{said[2:]}"


def _day(text: str) -> date | None:
    """None: it is no day."""
    if len(text) != 8 or not _DIGITS.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007  # a date has no zone
    except ValueError:
        return None
