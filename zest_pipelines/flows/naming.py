"""What the ledger calls the bucket of a limit."""

from __future__ import annotations

from partners.contract import Connection
from partners.limits import Limit, LimitScope, Rate


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
