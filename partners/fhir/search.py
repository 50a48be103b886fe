"""A search to its end: the server's pages, one after the other.

`next` is opaque: it is followed and never built, by this search or by a later one that takes up where it broke off.
When it has expired the search is begun again, once; who reads must then expect to meet again what came before. A `next`
that repeats ends the search rather than going round for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

from partners.contract import Json
from partners.errors import RetryableError
from partners.fhir.elements import objects
from partners.fhir.server import Server, id_of, taken, version_of
from partners.wire import Answered, answered_at

Params = Mapping[str, str]
MOST_WHOLE = 50_000
"""Resources that a search as one page may hold in memory, repeats counted."""


@dataclass(frozen=True)
class Hits:
    """One page of a search."""

    resources: Sequence[Json]
    total: int | None
    following: str | None
    """Address of the next page; None: this is the last one."""
    understood: frozenset[str] | None
    """Names of the parameters that the server used; None: it does not say."""
    at: datetime | None = None
    """When it answered, by its own clock and in whole seconds; None: it does not say."""
    nameless: int = 0
    """Entries that have no id, or none that R4 allows; they are not in `resources`."""

    @property
    def is_last(self) -> bool:
        """Whether the server has no more."""
        return self.following is None


def search(server: Server, resource_type: str, params: Params, following: str | None = None) -> Iterator[Hits]:
    """The pages of a search, to the last; with `following`, from the page at that address on.

    After an expired `next` they come again from the first, once.
    """
    followed: set[int] = set()
    has_restarted = False
    while True:
        if following is None:
            answer = server.get(resource_type, resource_type, params)
        else:
            answer = server.follow(resource_type, following)
        if following is not None and isinstance(answer, Answered) and answer.status in (404, 410):
            if has_restarted:
                raise RetryableError("partner_list_incomplete", {"why": "next_expired"})
            has_restarted, following = True, None
            followed.clear()
            continue
        hits = hits_in(taken(answer, resource_type), resource_type)
        yield replace(hits, at=answered_at(answer.headers) if isinstance(answer, Answered) else None)
        following = hits.following
        if following is None:
            return
        if hash(following) in followed:
            raise RetryableError("partner_list_incomplete", {"why": "next_repeats"})
        followed.add(hash(following))  # a list may have many pages, and an address kilobytes


def whole(server: Server, resource_type: str, params: Params) -> Hits:
    """A search as one page. RetryableError if it is fewer or more than the server says there are, on any of its pages,
    or MOST_WHOLE."""
    found: dict[str, Json] = {}
    first: Hits | None = None
    totals: set[int | None] = set()
    length = 0
    for page in search(server, resource_type, params):
        first = first or page
        totals.add(page.total)
        found |= {id_of(resource): resource for resource in page.resources}
        if page.nameless:
            raise RetryableError("partner_list_incomplete", {"why": "record_without_id"})
        length += max(len(page.resources), 1)
        if length > MOST_WHOLE:
            raise RetryableError("partner_list_incomplete", {"why": "too_long"})
    assert first is not None  # a search has a page, or raises
    if len(totals) > 1:
        raise RetryableError("partner_list_incomplete", {"why": "total_moved"})
    (total,) = totals
    if total not in (None, len(found)):
        raise RetryableError("partner_list_incomplete", {"why": "count_differs"})
    return Hits(list(found.values()), total, following=None, understood=first.understood, at=first.at)


def surely_whole(server: Server, resource_type: str, params: Params) -> Hits:
    """The same, asked for twice, from the other end the second time. RetryableError also if the two are not the same.

    For what is joined: a role that is lost with a page, or because another row moved meanwhile, seems to be no more,
    and who left long ago would be back. No later question would tell: of what is not there nobody asks.
    """
    once = whole(server, resource_type, params)
    states, at = _states(once), once.at
    del once  # so that one of the two is in memory
    again = whole(server, resource_type, {**params, "_sort": "-_id"})
    if states != _states(again):
        raise RetryableError("partner_list_incomplete", {"why": "list_moved"})
    return replace(again, at=at)


def _states(hits: Hits) -> set[tuple[str, str]]:
    return {(id_of(each), version_of(each)) for each in hits.resources}


def hits_in(bundle: Json, resource_type: str) -> Hits:
    """A searchset as hits. Entries of other types (remarks on the search, included records) are passed over.

    RetryableError if it is none, or if an error stands among its entries: then nobody knows what is missing.
    """
    if bundle.get("resourceType") != "Bundle":
        raise RetryableError("answer_unreadable")
    listed = [entry.get("resource") for entry in objects(bundle.get("entry"))]
    if any(map(_tells_an_error, listed)):
        raise RetryableError("partner_failed")
    resources = [each for each in listed if isinstance(each, dict) and each.get("resourceType") == resource_type]
    named = [each for each in resources if id_of(each)]
    total = bundle.get("total")
    is_count = isinstance(total, int) and not isinstance(total, bool)
    shown = _link(bundle, "self")
    return Hits(
        named,
        total if is_count else None,
        _link(bundle, "next"),
        _names(shown) if shown else None,
        nameless=len(resources) - len(named),
    )


def _tells_an_error(resource: object) -> bool:
    """Whether it is an outcome of a severity that R4 (Search) allows in no list of hits."""
    if not isinstance(resource, dict) or resource.get("resourceType") != "OperationOutcome":
        return False
    return any(issue.get("severity") in ("fatal", "error") for issue in objects(resource.get("issue")))


def _names(address: str) -> frozenset[str]:
    try:
        pairs = parse_qsl(urlsplit(address).query, keep_blank_values=True)
    except ValueError:
        return frozenset()
    return frozenset(name.partition(":")[0] for name, _ in pairs)


def _link(bundle: Json, relation: str) -> str | None:
    for link in objects(bundle.get("link")):
        if link.get("relation") == relation and isinstance(link.get("url"), str):
            return str(link["url"])
    return None
