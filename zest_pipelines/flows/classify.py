"""classify: an operator says which reason an unknown error is, for what came and for what comes.

Nothing of history is rewritten: whoever tells or decides asks what was said. What stands parked under the error and is
tried again by ourselves from now on is asked for again in each tenant, as `operate.release` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from partners.reasons import reason
from resources.logins import Login
from zest_pipelines.core.alarm import detail_of
from zest_pipelines.core.classification import goes_on
from zest_pipelines.flows.services import Services
from zest_pipelines.store import classifications, requests, tenants
from zest_pipelines.store.classifications import Seen
from zest_pipelines.store.keys import Target
from zest_pipelines.store.requests import Selection, StoppedGroup


@dataclass(frozen=True)
class Classified:
    """What was done."""

    code: str | None
    requests: Mapping[str, UUID]
    """By tenant, the request by which what is stopped there is tried again."""


def unknown_errors(services: Services) -> tuple[Seen, ...]:
    """Every unknown error that was ever seen, the newest first, with what was said of it. Raises StoreError."""
    with services.database.transaction(Login.ALERT, None) as tx:
        found = classifications.seen(tx)
    with services.database.transaction(Login.OPERATOR, None) as tx:
        words = classifications.words(tx)
    return tuple(replace(each, word=words.get(each.fingerprint)) for each in found)


def stopped(services: Services, seen: Seen) -> Mapping[str, Sequence[StoppedGroup]]:
    """By tenant, what stands stopped under the error. Raises StoreError."""
    selection = Selection(fingerprint=seen.fingerprint)
    found: dict[str, Sequence[StoppedGroup]] = {}
    for tenant in seen.tenants:
        with services.database.transaction(Login.OPERATOR, tenant) as tx:
            if groups := requests.groups(tx, Target(tenant, seen.partner), selection):
                found[tenant] = groups
    return found


def classify(services: Services, seen: Seen, code: str | None, note: str) -> Classified:
    """Say that the error is that reason, or (None) that nobody knows it. Said again, it asks again. StoreError."""
    with services.database.transaction(Login.OPERATOR, None) as tx:
        classifications.classify(tx, seen.partner, detail_of(seen.params), code, note)
    made: dict[str, UUID] = {}
    waiting = stopped(services, seen) if code is not None and goes_on(reason(code)) else {}
    detail = {"fingerprint": seen.fingerprint, "code": code}
    for tenant in seen.tenants:
        with services.database.transaction(Login.OPERATOR, tenant) as tx:
            if tenant in waiting:
                made[tenant] = requests.retry(tx, Target(tenant, seen.partner), Selection(fingerprint=seen.fingerprint))
            tenants.audit(tx, tenant, "classify", seen.partner, detail)
    return Classified(code, made)
