"""Tokens of those who may look at a tenant's board. Made and revoked by `zest_operator`, asked for by `zest_board`.

A token is `TENANT.SECRET`; the secret's digest alone is kept, so nobody can read a token that was given.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from resources.logins import Login
from zest_pipelines.core.identifiers import TenantIdError, check_tenant_id
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.query import query
from zest_pipelines.store.tenants import audit

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)


@dataclass(frozen=True)
class BoardToken:
    """One that was given out."""

    name: str
    made_at: datetime
    revoked_at: datetime | None


_ADD = query(
    "add_board_token",
    Login.OPERATOR,
    "INSERT INTO sync.board_token (tenant_id, name, digest) VALUES (:tenant, :name, :digest) ON CONFLICT DO NOTHING "
    "RETURNING name",
)
_REVOKE = query(
    "revoke_board_token",
    Login.OPERATOR,
    """
    UPDATE sync.board_token SET revoked_at = clock_timestamp()
    WHERE tenant_id = :tenant AND name = :name AND revoked_at IS NULL RETURNING name
    """,
)
_LISTED = query(
    "board_tokens",
    Login.OPERATOR,
    "SELECT name, made_at, revoked_at FROM sync.board_token WHERE tenant_id = :tenant ORDER BY name",
)
_READER = query(
    "board_reader",
    Login.BOARD,
    """
    SELECT name FROM sync.board_token
    WHERE tenant_id = :tenant AND digest = :digest AND revoked_at IS NULL
    """,
)


def add(tx: Transaction, tenant: str, name: str) -> str:
    """A new token, which is told this once. StoreError if the name is taken, or is none."""
    if not _NAME.fullmatch(name):
        raise StoreError("a token's name is 1 to 40 of a-z, 0-9, - and _, such as product or support-desk")
    secret = secrets.token_urlsafe(32)
    if not _ADD.column(tx, tenant=tenant, name=name, digest=_digest(secret)):
        raise StoreError(f"there was a token {name} already: choose another name, also after it was revoked")
    audit(tx, tenant, "add_board_token", name, {})
    return f"{tenant}.{secret}"


def revoke(tx: Transaction, tenant: str, name: str) -> None:
    """Let it open nothing any more. StoreError if there is none of that name."""
    if not _REVOKE.column(tx, tenant=tenant, name=name):
        raise StoreError(f"there is no token {name} to revoke: zest board-token list {tenant} shows them")
    audit(tx, tenant, "revoke_board_token", name, {})


def listed(tx: Transaction, tenant: str) -> tuple[BoardToken, ...]:
    """Those that were given out, by name."""
    return tuple(BoardToken(**row) for row in _LISTED.all(tx, tenant=tenant))


def split(token: str) -> tuple[str, str] | None:
    """Tenant and secret of what may be a token; None: it is none."""
    tenant, _, secret = token.partition(".")
    try:
        check_tenant_id(tenant)
    except TenantIdError:
        return None
    return (tenant, secret) if _SECRET.fullmatch(secret) else None


def reader(tx: Transaction, tenant: str, secret: str) -> str | None:
    """The name of the token with that secret, in its tenant's transaction; None: it opens nothing."""
    found = _READER.one(tx, tenant=tenant, digest=_digest(secret))
    return None if found is None else str(found["name"])


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
