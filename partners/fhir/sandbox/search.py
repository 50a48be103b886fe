"""Search: what a query means, which records it finds, and the page it shows.

Like many real servers this one pages by offset over the live result: a record that changes while a caller pages moves,
and rows are then missed or seen twice. A parameter it does not know is ignored and left out of the `self` link, which
is the only sign that a caller gets (R4, Search, section 3.1.1.1).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.index import COMMON_PARAMETERS, DATE_PARAMETERS, REFERENCE_PARAMETERS, reference_key
from partners.fhir.sandbox.instants import Span, parse_instant, parse_span
from partners.fhir.sandbox.outcome import Json, refuse
from partners.fhir.sandbox.store import Store, Version

Params = tuple[tuple[str, str], ...]
"""A query string, decoded, in the order given."""

_PREFIXES = ("eq", "ge", "gt", "le", "lt")
_SORTS = ("_lastUpdated", "-_lastUpdated", "_id", "-_id")


@dataclass(frozen=True)
class Equal:
    """The record is found under `parameter` with one of `values` (already index keys)."""

    parameter: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Bound:
    """The record's time, in milliseconds, is at least `low` and below `high`; None: no bound on that side."""

    parameter: str
    low: int | None
    high: int | None

    def admits(self, at: int) -> bool:
        """Whether a time lies within the bounds."""
        return (self.low is None or at >= self.low) and (self.high is None or at < self.high)


@dataclass(frozen=True)
class Query:
    """A search as the server understood it."""

    resource_type: str
    equals: tuple[Equal, ...] = ()
    bounds: tuple[Bound, ...] = ()
    sort: str = "_id"
    count: int = 50
    only_count: bool = False
    elements: tuple[str, ...] = ()
    with_total: bool = True
    understood: Params = ()
    """The parameters that were used, as the `self` link shows them."""


def parse_query(resource_type: str, params: Params, config: SandboxConfig) -> Query:
    """What `params` ask for. Refusal 400 if a parameter that is understood has a value that is not."""
    query = Query(resource_type, count=min(config.default_count, config.max_count))
    for name, value in params:
        if name in config.ignored_parameters:
            continue
        step = _read(query, name, value, config)
        if step is not None:
            shown = str(step.count) if name == "_count" else value
            query = replace(step, understood=(*query.understood, (name, shown)))
    return query


def known_parameters(resource_type: str) -> tuple[str, ...]:
    """Parameters that select records of a type, as the CapabilityStatement lists them."""
    return (
        *COMMON_PARAMETERS,
        *REFERENCE_PARAMETERS.get(resource_type, ()),
        *DATE_PARAMETERS.get(resource_type, ()),
    )


def select(store: Store, query: Query) -> Sequence[Version]:
    """The live records that `query` finds, sorted. Cost: the index where it can, else one pass over the type."""
    if query.equals:
        ids = frozenset.intersection(*(_found(store, query.resource_type, term) for term in query.equals))
        rows: Sequence[Version] = [row for id in ids if (row := store.live(query.resource_type, id))]
        rows = sorted(rows, key=_sort_key(query.sort))
    elif query.sort in ("_id", "-_id"):
        rows = store.by_id(query.resource_type)
    else:
        rows = store.by_update(query.resource_type)
        rows = _within(rows, query.bounds)
    for bound in query.bounds:
        rows = [row for row in rows if _admits(bound, row)]
    return rows[::-1] if query.sort.startswith("-") else rows


def shown(row: Version, query: Query) -> Json:
    """The record as the page shows it: whole, or only the elements asked for, which its meta then tells."""
    resource = row.resource or {}
    if not query.elements:
        return resource
    wanted = {"resourceType", "id", "meta", *query.elements}
    part = {name: value for name, value in resource.items() if name in wanted}
    system = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
    return part | {"meta": {**part["meta"], "tag": [{"system": system, "code": "SUBSETTED"}]}}


def _read(query: Query, name: str, value: str, config: SandboxConfig) -> Query | None:
    """`query` with one more parameter, or None where the server does not know it."""
    kind = query.resource_type
    match name:
        case "_count":
            count = min(_number(value), config.max_count)
            return replace(query, count=count, only_count=query.only_count or count == 0)
        case "_sort":
            return replace(query, sort=value) if value in _SORTS else None
        case "_summary":
            return replace(query, only_count=True) if value == "count" else None
        case "_elements":
            return replace(query, elements=tuple(value.split(",")))
        case "_total":
            return replace(query, with_total=value != "none") if value in ("accurate", "none") else None
        case "_id" | "identifier":
            return replace(query, equals=(*query.equals, Equal(name, tuple(value.split(",")))))
        case _ if name == "_lastUpdated" or name in DATE_PARAMETERS.get(kind, ()):
            return replace(query, bounds=(*query.bounds, _bound(name, value)))
        case _ if name in REFERENCE_PARAMETERS.get(kind, ()):
            keys = tuple(reference_key(name, item) for item in value.split(","))
            return replace(query, equals=(*query.equals, Equal(name, keys)))
    return None


def _number(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise refuse(400, "invalid", "_count is not a number")
    return int(value)


def _bound(name: str, value: str) -> Bound:
    prefix, date = (value[:2], value[2:]) if value[:2] in _PREFIXES else ("eq", value)
    try:
        span = parse_span(date)
    except ValueError:
        raise refuse(400, "invalid", f"{name} is not a date") from None
    low, high = _BOUNDS[prefix](span)
    return Bound(name, low, high)


# R4, Search, section 3.1.1.4.5: gt and le look at the end of what the value stands for, lt and ge at its start.
_BOUNDS: dict[str, Callable[[Span], tuple[int | None, int | None]]] = {
    "eq": lambda span: (span.start, span.end),
    "ge": lambda span: (span.start, None),
    "gt": lambda span: (span.end, None),
    "le": lambda span: (None, span.end),
    "lt": lambda span: (None, span.start),
}


def _found(store: Store, kind: str, term: Equal) -> frozenset[str]:
    if term.parameter == "_id":
        return frozenset(id for id in term.values if store.live(kind, id))
    return frozenset().union(*(store.find(kind, (term.parameter, value)) for value in term.values))


def _sort_key(sort: str) -> Callable[[Version], int | str]:
    return (lambda row: row.id) if sort.endswith("_id") else (lambda row: row.at)


def _within(rows: Sequence[Version], bounds: Iterable[Bound]) -> Sequence[Version]:
    """Rows sorted by time, cut down to the bounds on `_lastUpdated` without looking at each."""
    for bound in bounds:
        if bound.parameter == "_lastUpdated":
            low = 0 if bound.low is None else bisect_left(rows, bound.low, key=lambda row: row.at)
            high = len(rows) if bound.high is None else bisect_left(rows, bound.high, key=lambda row: row.at)
            rows = rows[low:high]
    return rows


def _admits(bound: Bound, row: Version) -> bool:
    if bound.parameter == "_lastUpdated":
        return bound.admits(row.at)
    try:
        return bound.admits(parse_instant((row.resource or {}).get("start")))
    except ValueError:
        return False  # a record without that date is not found by it
