"""A search to its end: the server's pages, one after the other.

`next` is opaque: it is followed and never built. When it has expired the search is begun again, once; who reads must
then expect to meet again what came before. A `next` that repeats ends the search rather than going round for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from partners.contract import Json
from partners.errors import RetryableError
from partners.fhir.elements import objects
from partners.fhir.server import Server, id_of, taken
from partners.wire import Answered

Params = Mapping[str, str]


@dataclass(frozen=True)
class Hits:
    """One page of a search."""

    resources: Sequence[Json]
    total: int | None
    is_last: bool
    understood: frozenset[str] | None
    """Names of the parameters that the server used; None: it does not say."""


def search(server: Server, resource_type: str, params: Params) -> Iterator[Hits]:
    """The pages of a search, to the last. After an expired `next` they come again from the first, once."""
    answer = server.get(resource_type, resource_type, params)
    followed: set[str] = set()
    has_restarted = False
    while True:
        bundle = taken(answer, resource_type)
        yield hits_in(bundle, resource_type)
        following = _link(bundle, "next")
        if following is None:
            return
        if following in followed:
            raise RetryableError("partner_list_incomplete", {"why": "next_repeats"})
        followed.add(following)
        answer = server.follow(resource_type, following)
        if isinstance(answer, Answered) and answer.status in (404, 410):
            if has_restarted:
                raise RetryableError("partner_list_incomplete", {"why": "next_expired"})
            has_restarted = True
            followed.clear()
            answer = server.get(resource_type, resource_type, params)


def whole(server: Server, resource_type: str, params: Params) -> Hits:
    """A search as one page. RetryableError if it is fewer or more than the server says there are.

    For what is joined: if a role were lost with a page, its holder would seem to have left.
    """
    pages = list(search(server, resource_type, params))
    found = {id_of(resource): resource for page in pages for resource in page.resources}
    total = pages[-1].total
    if total not in (None, len(found)):
        raise RetryableError("partner_list_incomplete", {"why": "count_differs"})
    return Hits(list(found.values()), total, is_last=True, understood=pages[0].understood)


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
    if not all(map(id_of, resources)):
        raise RetryableError("answer_unreadable")
    total = bundle.get("total")
    is_count = isinstance(total, int) and not isinstance(total, bool)
    shown = _link(bundle, "self")
    is_last = _link(bundle, "next") is None
    return Hits(resources, total if is_count else None, is_last, _names(shown) if shown else None)


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
