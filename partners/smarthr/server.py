"""A SmartHR as one connection sees it: its address, its token, and what can be asked of its crews (従業員).

Every call goes through the shared `wire`, and so past the gate. Asked for is what masters are made of and no more: a
crew has addresses, families, pay and insurance besides, which are nobody's business here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

import httpx

from partners.contract import Gate, Gone, Json
from partners.errors import RejectedError, RetryableError
from partners.smarthr import codes
from partners.wire import Answered, Cause, Exchange, NotSent, Request, answered_at, exchange, read_json

CREWS = "crews"
"""What the limits call the calls about crews."""
AT_ONCE = 100
"""Crews on a page: the most that SmartHR gives."""
FIELDS = (
    "id",
    "emp_code",
    "emp_status",
    "last_name",
    "first_name",
    "last_name_yomi",
    "first_name_yomi",
    "business_last_name",
    "business_first_name",
    "business_last_name_yomi",
    "business_first_name_yomi",
    "entered_at",
    "resigned_at",
    "positions",
    "job_category",
    "occupation",
    "updated_at",
)

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_COUNT = re.compile(r"[0-9]{1,9}")
_NEXT = re.compile(r'<[^>]*>\s*;[^,<]*\brel="?next\b')


@dataclass(frozen=True)
class Listed:
    """One page of the list of crews."""

    crews: tuple[Json, ...]
    """Those with a usable id."""
    nameless: int
    total: int | None
    """How many crews the whole list has; None: it does not say."""
    has_more: bool
    at: datetime | None
    """When it was answered, by the partner's clock; None: it does not say."""


@dataclass(frozen=True)
class Server:
    """One SmartHR, asked with one token."""

    client: httpx.Client = field(repr=False)
    gate: Gate = field(repr=False)
    base: str = field(repr=False)
    """As `checked_base` gives it."""
    token: str = field(repr=False)

    def crews(self, page: int) -> Listed:
        """A page of the crews, those changed last first; the first page is 1. Raises PartnerError."""
        answer = self._get(CREWS, {"page": str(page), "per_page": str(AT_ONCE), "sort": "-updated_at"})
        told, headers = _list_in(answer)
        crews = tuple(each for each in told if isinstance(each, dict) and id_of(each))
        total, links = headers.get("x-total-count", "").strip(), headers.get("link", "")
        count = int(total) if _COUNT.fullmatch(total) else None
        if links:
            has_more = bool(told and _NEXT.search(links))  # an empty page is beyond the end, or there is none
        else:  # a proxy may drop them, and one page alone has none
            has_more = len(told) >= AT_ONCE if count is None else page * AT_ONCE < count
        return Listed(crews, len(told) - len(crews), count, has_more, answered_at(headers))

    def look(self) -> None:
        """Read one crew, to see whether that can be done. Raises PartnerError; here a host that nobody knows is a wrong
        address."""
        answer = self._get(CREWS, {"page": "1", "per_page": "1"})
        if isinstance(answer, NotSent) and answer.cause is Cause.DNS:
            raise RejectedError("address_wrong")
        _list_in(answer)

    def crew(self, partner_id: str) -> Json | Gone:
        """One crew as it is now. PartnerError if SmartHR says neither that nor that there is none."""
        answer = self._get(f"{CREWS}/{quote(partner_id, safe='')}", {})
        if isinstance(answer, Answered) and codes.says_gone(answer):
            return Gone()
        told = read_json(answer) if isinstance(answer, Answered) and answer.status == 200 else None
        if not isinstance(told, dict):
            raise codes.failure(answer)
        if id_of(told) != partner_id:
            raise RetryableError("answer_unreadable")
        return told

    def _get(self, path: str, asked: Mapping[str, str]) -> Exchange:
        headers = {"accept": "application/json", "authorization": f"Bearer {self.token}"}
        address, params = f"{self.base}/api/v1/{path}", {"fields": ",".join(FIELDS), **asked}
        return exchange(
            self.client, self.gate, Request("GET", address, CREWS, headers, params), throttles=codes.is_throttle
        )


def id_of(crew: Json) -> str:
    """The crew's id; empty if it has none that can stand in an address."""
    found = crew.get("id")
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def checked_base(address: str) -> str:
    """A connection's address without a slash at its end. RejectedError unless it is plain http or https.

    A user, a query or a fragment in it is refused: credentials belong into the vault, the rest means nothing.
    """
    base = address.strip().rstrip("/")
    try:
        parts = urlsplit(base)
        is_plain = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        is_plain = False
    if not is_plain or parts.query or parts.fragment:
        raise RejectedError("address_wrong")
    return base


def _list_in(answer: Exchange) -> tuple[list[object], Mapping[str, str]]:
    """The list that was answered, and the headers beside it. Raises PartnerError."""
    told = read_json(answer) if isinstance(answer, Answered) and answer.status == 200 else None
    if not isinstance(answer, Answered) or not isinstance(told, list):
        raise codes.failure(answer)
    return told, answer.headers
