"""A partner that is a list in memory, with a pager over it: for tests of what a reading makes of pages that a server
could hardly be made to send, and of what dies between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from conftest import NewTenant, Tenant

from partners.contract import Capability, Client, Entity, Gone, Page, Partner, PointRead, ProofOfAbsence, SourceRecord
from partners.errors import RetryableError
from partners.fhir.partner import FHIR
from resources.logins import Login

_CAN_BE_ASKED = PointRead()


class Killed(BaseException):
    """The process dies here: nobody catches it, and what had not been committed is undone."""


@dataclass
class Listed:
    """What the partner has, and what befalls its readings."""

    rows: dict[str, str] = field(default_factory=dict)
    """Id and family name."""
    size: int = 2
    """Records a page."""
    can_resume: bool = True
    befalls: Callable[[int], None] = lambda number: None
    """Called before each page is handed out, with its number from 1."""
    pages: Callable[[int, Page], Iterable[Page]] = lambda number, page: [page]
    """What comes in the place of a page."""
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    """Cursor and token of each reading."""
    fetched: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    """Ids that the partner does not answer for."""
    gates: list[Any] = field(default_factory=list)
    """Of each line that was opened; its calls pass none."""

    def opened(self, gate: Any) -> Listed:
        """The connector of one line."""
        self.gates.append(gate)
        return self

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        self.asked.append((cursor, resume))
        first = int(resume or 0)
        last = max(1, -(-len(self.rows) // self.size))
        for number in range(first + 1, last + 1):
            self.befalls(number)
            yield from self.pages(number, self._page(number, last))

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        self.fetched.append(partner_id)
        self.befalls(0)
        if partner_id in self.failing:
            raise RetryableError("partner_failed")
        return record(partner_id, self.rows[partner_id]) if partner_id in self.rows else Gone()

    def close(self) -> None:
        pass

    def _page(self, number: int, last: int) -> Page:
        shown = sorted(self.rows.items())[(number - 1) * self.size : number * self.size]
        records = tuple(record(*row) for row in shown)
        if number == last:
            return Page(records, True, len(self.rows), is_last=True, cursor="now")
        return Page(records, True, len(self.rows), resume=str(number) if self.can_resume else None)


def record(partner_id: str, family_name: str) -> SourceRecord:
    """A record as the partner shows it."""
    return SourceRecord(partner_id, "", {"id": partner_id, "family_name": family_name})


def mapped(entity: Entity, content: Any, settings: Any) -> Client:
    """Its master."""
    return Client(content["id"], content["family_name"], "", "", "", "1950", "unknown", "", "", "", True)


def partner_with(listed: Any, proves_absence: ProofOfAbsence = _CAN_BE_ASKED, **changes: Any) -> Partner:
    """The partner, under the name by which the connections know it."""
    capability = Capability(FHIR.capability.recovery, True, False, proves_absence=proves_absence)
    opened = {"open": lambda *given: listed.opened(given[-1]), "map": mapped, "unknown_fields": None, "secrets": ()}
    return replace(FHIR, capability=capability, **{**opened, **changes})


def connected(new_tenant: NewTenant, listed: Any, name: str = "sakura", **changes: Any) -> Tenant:
    """A tenant at the partner."""
    tenant = new_tenant(None, name, base_url="http://127.0.0.1:1")
    return replace(tenant, partner=partner_with(listed, **changes))


def pass_time(tenant: Tenant, span: timedelta) -> None:
    """What time does to a reading under way and its connection."""
    tenant.sql(
        "UPDATE sync.connection SET changed_at = changed_at - CAST(:span AS interval)", Login.OPERATOR, span=span
    )
    tenant.sql(
        "UPDATE sync.snapshot SET touched_at = touched_at - CAST(:span AS interval), "
        "started_at = started_at - CAST(:span AS interval) WHERE state = 'reading'",
        Login.LAND,
        span=span,
    )
