"""Pages: searchset and history bundles, and the opaque `next` links between them.

A link holds a token and no query, so a caller cannot build one. It pins the query, not the rows.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from partners.fhir.sandbox.instants import format_http_date, format_instant
from partners.fhir.sandbox.outcome import Json, refuse
from partners.fhir.sandbox.search import Params, Query, select, shown
from partners.fhir.sandbox.store import Store, Version

PAGE_PARAMETER = "_page"
_TOKEN = f"{PAGE_PARAMETER}="
_MOST_LINKS = 10_000


@dataclass(frozen=True)
class HistoryQuery:
    """A reading of versions, newest first: of one record, or of a type."""

    resource_type: str
    id: str | None
    since: int | None
    """Versions made at this time (milliseconds) or after it; None: all."""
    count: int
    understood: Params


@dataclass(frozen=True)
class Cursor:
    """Where a page starts: the query it belongs to, how many rows were before it, and its number from 1."""

    query: Query | HistoryQuery
    offset: int = 0
    number: int = 1
    then: tuple[int, ...] = ()
    """Where the pages after it start, as far as a fault says; none: each where the one before ends."""

    @property
    def following(self) -> Cursor:
        """The page after this one."""
        offset = self.then[0] if self.then else self.offset + self.query.count
        return Cursor(self.query, offset, self.number + 1, self.then[1:])


class PageBook:
    """Remembers what the `next` links that were given out stand for. In memory: a restart expires them all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cursors: OrderedDict[str, tuple[float, Cursor]] = OrderedDict()

    def put(self, cursor: Cursor) -> str:
        """A new token for `cursor`; the oldest of more than 10,000 tokens is forgotten."""
        token = secrets.token_urlsafe(12)
        self._cursors[token] = (self._clock(), cursor)
        if len(self._cursors) > _MOST_LINKS:
            self._cursors.popitem(last=False)
        return token

    def peek(self, token: str) -> Cursor | None:
        """The cursor of a token, expired or not; None if unknown."""
        return self._cursors[token][1] if token in self._cursors else None

    def get(self, token: str, resource_type: str, seconds: float) -> Cursor:
        """The cursor of a token not older than `seconds`. Refusal 410 if it expired or is unknown."""
        made, cursor = self._cursors.get(token, (0.0, None))
        if cursor is None or cursor.query.resource_type != resource_type or self._clock() - made > seconds:
            raise refuse(410, "expired", "the page is no longer known: start the search again")
        return cursor


def bundle(store: Store, book: PageBook, base: str, cursor: Cursor) -> Json:
    """The page at `cursor` as a Bundle. `base` is the server's address without a slash at its end."""
    query = cursor.query
    if isinstance(query, Query):
        kind, path, rows = "searchset", query.resource_type, select(store, query)
        entries = [] if query.only_count else [_found(row, query, base) for row in _page(rows, cursor)]
        more = not query.only_count and cursor.following.offset < len(rows)
    else:
        path = "/".join(part for part in (query.resource_type, query.id, "_history") if part)
        kind, rows = "history", _versions(store, query)
        entries = [_made(row, base) for row in _page(rows, cursor)]
        more = cursor.following.offset < len(rows)
    links = [{"relation": "self", "url": _with_query(f"{base}/{path}", query.understood)}]
    if more:
        links.append({"relation": "next", "url": f"{base}/{query.resource_type}?{_TOKEN}{book.put(cursor.following)}"})
    page: Json = {"resourceType": "Bundle", "type": kind, "link": links}
    if not isinstance(query, Query) or query.with_total:
        page["total"] = len(rows)
    return page | {"entry": entries} if entries else page  # R4: an empty list is written by leaving it out


def next_token(page: Json) -> str | None:
    """The token in the page's `next` link; None if it has none."""
    return next((link["url"].rpartition(_TOKEN)[2] for link in page["link"] if link["relation"] == "next"), None)


def with_next(page: Json, token: str | None) -> Json:
    """The page with a `next` link of this token in place of its own, or (None) without one."""
    links = [link for link in page["link"] if link["relation"] != "next"]
    told = [
        link | {"url": link["url"].rpartition(_TOKEN)[0] + _TOKEN + token}
        for link in page["link"]
        if link["relation"] == "next" and token is not None
    ]
    return page | {"link": links + told}


def _page(rows: Sequence[Version], cursor: Cursor) -> Sequence[Version]:
    return rows[cursor.offset : cursor.offset + cursor.query.count]


def _versions(store: Store, query: HistoryQuery) -> Sequence[Version]:
    kind = query.resource_type
    rows = store.log(kind) if query.id is None else store.history(kind, query.id)
    return [row for row in reversed(rows) if query.since is None or row.at >= query.since]


def _found(row: Version, query: Query, base: str) -> Json:
    return {
        "fullUrl": f"{base}/{row.resource_type}/{row.id}",
        "resource": shown(row, query),
        "search": {"mode": "match"},
    }


def _made(row: Version, base: str) -> Json:
    url = row.resource_type if row.method == "POST" else f"{row.resource_type}/{row.id}"
    status = {"POST": "201", "PUT": "201" if row.number == 1 else "200", "DELETE": "204"}[row.method]
    entry: Json = {
        "fullUrl": f"{base}/{row.resource_type}/{row.id}",
        "request": {"method": row.method, "url": url},
        "response": {"status": status, "etag": row.etag, "lastModified": format_instant(row.at)},
    }
    return entry if row.resource is None else entry | {"resource": row.resource}


def version_headers(row: Version, base: str, location: bool) -> tuple[tuple[str, str], ...]:
    """ETag and Last-Modified of a version; Location too if the answer is to a write."""
    headers = (("etag", row.etag), ("last-modified", format_http_date(row.at)))
    url = f"{base}/{row.resource_type}/{row.id}/_history/{row.number}"
    return (*headers, ("location", url)) if location else headers


def _with_query(url: str, params: Params) -> str:
    return f"{url}?{urlencode(params, safe=':|,/')}" if params else url
