"""The shape of a tenant's id, and of what stands for a partner's.

It becomes a partition key, a run tag, a folder and a URL segment; each forbids something (Dagster cannot
backfill keys with commas), so the one rule allows little. A company's name is refused with the rest: ids
are opaque.
"""

from __future__ import annotations

import re

_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class TenantIdError(ValueError):
    """The text cannot be a tenant's id. The message gives the rule and omits the text, lest it be a name."""

    def __init__(self) -> None:
        super().__init__(
            "A tenant id has 1 to 63 characters: small letters a-z, digits, '-' and '_', "
            "the first a letter or a digit, for example 'sakura-care'."
        )


def check_tenant_id(text: str) -> str:
    """`text` itself if it can be a tenant's id. Raises TenantIdError."""
    if _TENANT_ID.fullmatch(text) is None:
        raise TenantIdError
    return text


def landed_id(landed_no: int | str) -> str:
    """What stands for the partner's own id, which may be the number by which people know the patient."""
    return f"landed:{landed_no}"


def plan_id(landed_no: int, line: int | None = None) -> str:
    """What stands for a landed plan, or for one of its lines, from 1."""
    return f"plan:{landed_no}" if line is None else f"plan:{landed_no}/{line}"
