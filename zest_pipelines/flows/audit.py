"""audit: the derived tables of one connection, held against the history that they are derived from."""

from __future__ import annotations

from collections.abc import Sequence

from partners.contract import Partner
from resources.logins import Login
from zest_pipelines.flows.services import Services
from zest_pipelines.store import projection
from zest_pipelines.store.projection import Difference


def audit(services: Services, partner: Partner, tenant: str) -> Sequence[Difference]:
    """The records that differ; it must be none. Raises StoreError."""
    with services.database.transaction(Login.OPERATOR, tenant) as tx:
        return [each for each in projection.differences(tx) if each.partner == partner.name]
