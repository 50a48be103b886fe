"""Faults on demand: which request goes wrong, and how.

A rule says what it matches and what happens then. Rules are looked at in order; the first that fires decides, and a
request that a rule fired on is not counted by those after it. What a kind does on the wire is in `breakage`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter


class FaultKind(StrEnum):
    """What goes wrong. "Applied" means that the vendor's data changed as if nothing were wrong."""

    STATUS = "status"
    """Not applied: `status` with an OperationOutcome."""
    HTML_STATUS = "html_status"
    """Not applied: `status` with an HTML page, as a proxy in front would answer."""
    HTML_LOGIN = "html_login"
    """Not applied: 200 with an HTML login page."""
    REDIRECT = "redirect"
    """Not applied: 307 to the same address, without end unless `times` ends it."""
    CUT_BEFORE = "cut_before"
    """Not applied: the connection is closed without a byte."""
    CUT_AFTER = "cut_after"
    """Applied: the connection is closed without a byte."""
    APPLY_THEN_STATUS = "apply_then_status"
    """Applied: then `status` (500 unless given) with an OperationOutcome."""
    WRONG_CONTENT_TYPE = "wrong_content_type"
    """Applied: the right body, called text/plain."""
    EMPTY_BODY = "empty_body"
    """Applied: the right status without a body."""
    TRUNCATED_BODY = "truncated_body"
    """Applied: Content-Length of the whole body, half of it, then a closed connection."""
    DELAY = "delay"
    """Applied at once, answered `seconds` later."""
    DELAY_BEFORE = "delay_before"
    """Applied `seconds` later, even if the caller has gone, and answered then."""
    DRIP = "drip"
    """Applied: the body comes `bytes` at a time, `seconds` apart."""
    DROP_ENTRY = "drop_entry"
    """A page of a search lacks its first entry; its total still counts it."""
    REPEAT_ENTRY = "repeat_entry"
    """A page of a search has its first entry twice."""
    WRONG_TOTAL = "wrong_total"
    """A page of a search tells `total` (else one more than there are)."""
    MISSING_NEXT = "missing_next"
    """A page of a search lacks its `next` link though more rows exist."""
    HALF_PAGE = "half_page"
    """A page of a search lacks the second half of its entries, at least one; its total still counts them."""
    REVERSED_PAGE = "reversed_page"
    """A page of a search has its entries in the opposite order."""
    SHORT_LIST = "short_list"
    """A search ends with this page, and its total agrees: it counts the rows up to here."""
    EMPTY_LIST = "empty_list"
    """A page of a search says that there is nothing: no entry, no `next`, total 0."""
    OUTCOME_LIST = "outcome_list"
    """A page of a search holds an OperationOutcome alone, which says `code`: no record, no `next`, no total."""
    SKIPPED_PAGE = "skipped_page"
    """The `next` link of a page of a search leads past the page that follows."""
    REPEATED_PAGE = "repeated_page"
    """The `next` link of a page of a search leads to the same page once more. Without `times` it never ends."""
    SWAPPED_PAGES = "swapped_pages"
    """The two pages after this one come the other way round."""
    SHIFTED_ROWS = "shifted_rows"
    """When a page of a search is made, its first record is deleted and a new one comes at the end, as the partner's own
    people would do it: the rows in between move up by one, and the total stays."""
    ENTRY_STATUS = "entry_status"
    """Not applied: one entry of a batch gets `status`; the others go on."""
    BATCH_STATUS = "batch_status"
    """Not applied: a whole batch with such an entry gets `status`."""
    SHORT_BATCH = "short_batch"
    """Applied: the answer to a batch lacks its last entry."""


ENTRY_KINDS = frozenset({FaultKind.ENTRY_STATUS, FaultKind.BATCH_STATUS})
ROW_KINDS = frozenset(
    {
        FaultKind.DROP_ENTRY,
        FaultKind.REPEAT_ENTRY,
        FaultKind.HALF_PAGE,
        FaultKind.REVERSED_PAGE,
        FaultKind.EMPTY_LIST,
        FaultKind.SHIFTED_ROWS,
    }
)
"""Those that spoil a page with entries."""
LINK_KINDS = frozenset(
    {
        FaultKind.MISSING_NEXT,
        FaultKind.SHORT_LIST,
        FaultKind.SKIPPED_PAGE,
        FaultKind.REPEATED_PAGE,
        FaultKind.SWAPPED_PAGES,
    }
)
"""Those that spoil a page with a `next` link."""
PAGE_KINDS = ROW_KINDS | LINK_KINDS | {FaultKind.WRONG_TOTAL, FaultKind.OUTCOME_LIST}


@dataclass(frozen=True)
class FaultRule:
    """One fault and the requests it befalls. A matcher left out matches all; the matchers given must all match."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: FaultKind
    method: str | None = None
    """HTTP method, in capitals."""
    type: str | None = None
    """Resource type in the path."""
    id: str | None = None
    """Resource id in the path."""
    identifier: str | None = None
    """The record's business identifier (value, without system)."""
    page: Annotated[int, Field(ge=1)] | None = None
    """Number of the search page, from 1. A request that is no search matches no page."""

    nth: Annotated[int, Field(ge=1)] = 1
    """The first matching request that it may befall, from 1."""
    times: Annotated[int, Field(ge=1)] | None = None
    """How often at most; None: once if `nth` is above 1, else without end."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Chance for each request from the nth on."""
    seed: int = 0
    """Decides the draws of `probability`."""

    status: Annotated[int, Field(ge=200, le=599)] = 500
    """Status that the kinds with a status answer."""
    code: str = "exception"
    """Issue code of the OperationOutcome."""
    retry_after: int | str | None = None
    """Retry-After header, seconds or an HTTP date."""
    seconds: Annotated[float, Field(ge=0)] = 1.0
    """Delay, or time between two drips."""
    bytes: Annotated[int, Field(ge=1)] = 16
    """Size of a drip."""
    total: Annotated[int, Field(ge=0)] | None = None
    """The total that `wrong_total` tells."""
    reset: bool = False
    """Close with RST (the peer sees a reset) and not with FIN (the peer sees the end)."""

    @property
    def most(self) -> int | None:
        """How often it may fire; None: without end."""
        return 1 if self.times is None and self.nth > 1 else self.times


@dataclass(frozen=True)
class Facts:
    """What rules can see of a request."""

    method: str
    resource_type: str | None = None
    resource_id: str | None = None
    identifier: str | None = None
    page: int | None = None


_RULES: TypeAdapter[tuple[FaultRule, ...]] = TypeAdapter(tuple[FaultRule, ...])


def parse_rules(data: object) -> tuple[FaultRule, ...]:
    """Rules from unchecked JSON, a list of objects. ValueError (pydantic's) if it is anything else."""
    return _RULES.validate_python(data)


@dataclass
class _Armed:
    rule: FaultRule
    draw: random.Random
    seen: int = 0
    fired: int = 0

    def befalls(self, facts: Facts) -> bool:
        rule = self.rule
        if (rule.most is not None and self.fired >= rule.most) or not _matches(rule, facts):
            return False
        self.seen += 1
        if self.seen < rule.nth or self.draw.random() >= rule.probability:
            return False
        self.fired += 1
        return True


class FaultBook:
    """The rules in force, and how often each matched and fired."""

    def __init__(self, rules: Sequence[FaultRule] = ()) -> None:
        self._armed: list[_Armed] = []
        self.add(rules)

    def add(self, rules: Sequence[FaultRule]) -> None:
        """Put `rules` behind those in force."""
        self._armed += [_Armed(rule, random.Random(rule.seed)) for rule in rules]

    def clear(self) -> None:
        """Drop all rules."""
        self._armed.clear()

    def request_fault(self, facts: Facts) -> FaultRule | None:
        """The rule that befalls an HTTP request, of the kinds that are not about pages or batch entries."""
        return self._pick(facts, lambda kind: kind not in PAGE_KINDS | ENTRY_KINDS)

    def entry_fault(self, facts: Facts, kind: FaultKind) -> FaultRule | None:
        """The rule of this kind that befalls one entry of a batch."""
        return self._pick(facts, lambda each: each == kind)

    def page_fault(self, facts: Facts, *, has_entries: bool, has_next: bool) -> FaultRule | None:
        """The rule that spoils a page. A rule counts only pages that it can spoil."""
        possible = PAGE_KINDS - (frozenset() if has_entries else ROW_KINDS) - (frozenset() if has_next else LINK_KINDS)
        return self._pick(facts, lambda kind: kind in possible)

    def as_json(self) -> list[dict[str, Any]]:
        """The rules in force in their order, with `seen` and `fired`."""
        return [asdict(armed.rule) | {"seen": armed.seen, "fired": armed.fired} for armed in self._armed]

    def _pick(self, facts: Facts, suits: Callable[[FaultKind], bool]) -> FaultRule | None:
        for armed in self._armed:
            if suits(armed.rule.kind) and armed.befalls(facts):
                return armed.rule
        return None


def _matches(rule: FaultRule, facts: Facts) -> bool:
    wanted = (
        (rule.method, facts.method),
        (rule.type, facts.resource_type),
        (rule.id, facts.resource_id),
        (rule.identifier, facts.identifier),
        (rule.page, facts.page),
    )
    return all(expected is None or expected == actual for expected, actual in wanted)
