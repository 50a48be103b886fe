"""What the ledger calls the bucket of a limit."""

from __future__ import annotations

from collections.abc import Sequence

from partners.contract import Connection
from partners.limits import Limit, LimitScope, Rate, parse_limit


def bucket_name(connection: Connection, limit: Limit) -> str:
    """Who shares the limit and what it counts; not how many, so that a changed limit goes on with what was used."""
    owner = "" if limit.scope is LimitScope.VENDOR else connection.tenant
    return f"{connection.partner}/{owner}/{limit.measured}"


def place_of_calls(connection: Connection, limit: Rate) -> str:
    """How the names of all limits begin that count the same calls, in whatever way."""
    return bucket_name(connection, limit).rpartition(f":{limit.kind}/")[0] + ":"


def buckets_of(partner: str, tenant: str | None) -> str:
    """How the names of a tenant's own buckets at the partner begin; None: of all there, those that are shared too."""
    return f"{partner}/" if tenant is None else f"{partner}/{tenant}/"


def begun_by(connection: Connection, before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The buckets of those limits on calls that `after` says and `before` did not."""
    old, new = (list(map(parse_limit, each)) for each in (before, after))
    named = {bucket_name(connection, each) for each in new if isinstance(each, Rate)}
    return sorted(named - {bucket_name(connection, each) for each in old})
