"""What the kinds of fault that befall a list do to one page of a search.

A list goes wrong in ways that no status tells: a page is lost, shown twice or out of its turn, or all of it agrees and
somebody is missing. Each is what some server has been seen to do, and what a reader of lists must survive.
"""

from __future__ import annotations

from dataclasses import replace

from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.outcome import Issue, Json, operation_outcome
from partners.fhir.sandbox.paging import Cursor, PageBook, next_token, with_next
from partners.fhir.sandbox.store import Store


def spoiled_page(rule: FaultRule, page: Json, book: PageBook, store: Store) -> Json:
    """The page as this kind of fault changes it; `shifted_rows` changes the rows that come after it instead."""
    entries = page.get("entry", [])
    match rule.kind:
        case FaultKind.DROP_ENTRY:
            return page | {"entry": entries[1:]}
        case FaultKind.REPEAT_ENTRY:
            return page | {"entry": [entries[0], *entries]}
        case FaultKind.HALF_PAGE:
            return page | {"entry": entries[: len(entries) // 2]}
        case FaultKind.REVERSED_PAGE:
            return page | {"entry": entries[::-1]}
        case FaultKind.WRONG_TOTAL:
            return page | {"total": page.get("total", 0) + 1 if rule.total is None else rule.total}
        case FaultKind.EMPTY_LIST:
            return _last({name: value for name, value in page.items() if name != "entry"}) | {"total": 0}
        case FaultKind.OUTCOME_LIST:
            return _outcome_alone(rule, page)
        case FaultKind.SHIFTED_ROWS:
            _shift_rows(entries[0]["resource"], store)
            return page
    return _misled(rule, page, book)


def _misled(rule: FaultRule, page: Json, book: PageBook) -> Json:
    """The page with another `next` link, or none."""
    following = book.peek(next_token(page) or "")
    if following is None or rule.kind is FaultKind.MISSING_NEXT:
        return _last(page)
    size = following.query.count
    here, after = following.offset - size, following.offset + size
    match rule.kind:
        case FaultKind.SHORT_LIST:
            return _last(page) | {"total": following.offset}
        case FaultKind.SKIPPED_PAGE:
            return _leading(page, book, replace(following, offset=after, number=following.number + 1))
        case FaultKind.REPEATED_PAGE:
            return _leading(page, book, replace(following, offset=here, number=following.number - 1))
        case FaultKind.SWAPPED_PAGES:
            return _leading(page, book, replace(following, offset=after, then=(following.offset, after + size)))
    return page


def _leading(page: Json, book: PageBook, cursor: Cursor) -> Json:
    return with_next(page, book.put(cursor))


def _last(page: Json) -> Json:
    return with_next(page, None)


def _outcome_alone(rule: FaultRule, page: Json) -> Json:
    told = operation_outcome([Issue(rule.code, "fault of the sandbox")])
    bare = {name: value for name, value in page.items() if name not in ("entry", "total")}
    return _last(bare) | {"entry": [{"resource": told, "search": {"mode": "outcome"}}]}


def _shift_rows(first: Json, store: Store) -> None:
    """Delete the record; another one like it comes under an id behind all others and a number of its own."""
    kind, id = first["resourceType"], first["id"]
    version = store.live(kind, id)
    if version is None or version.resource is None:
        return  # another caller's page was first
    made = store.delete(kind, id)
    number = f"z{made.at}"
    own = [identifier | {"value": number} for identifier in version.resource.get("identifier", [])]
    store.save(version.resource | ({"identifier": own} if own else {}), number, "POST")
