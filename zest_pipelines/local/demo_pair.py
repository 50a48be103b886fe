"""One tenant of the demo with both of its sides, and how far they are from equal."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import psycopg

from resources.logins import Login, Logins
from zest_pipelines.local.demo_comparison import Comparison, Identifiers, compare
from zest_pipelines.local.demo_partners import DemoPartner
from zest_pipelines.local.demo_product import Product
from zest_pipelines.store.errors import store_error

PARTNER = "fhir"
SYSTEMS = {"visit_identifier_system": "urn:zest:visit", "record_identifier_system": "urn:zest:visit-record"}

_MASTERS = ("client", "staff")
_IDENTIFIERS = Identifiers(*SYSTEMS.values())


@dataclass(frozen=True)
class Pair:
    """A product and its partner."""

    tenant: str
    product: Product
    partner: DemoPartner
    logins: Logins

    def comparison(self) -> Comparison:
        """Both sides now. Raises StoreError, httpx.HTTPError."""
        return compare(self.product.books(), self.partner.state(), self._people(), _IDENTIFIERS)

    def differing_masters(self) -> int:
        """How many clients and staff are not equal. Raises StoreError, httpx.HTTPError."""
        found = self.comparison().differences
        return len({(each.kind, each.record) for each in found if each.kind in _MASTERS})

    def differing(self) -> int:
        """How many records are not equal or not yet settled. Raises StoreError, httpx.HTTPError."""
        found = self.comparison().differences
        return max(len({(each.kind, each.record) for each in found}), self.product.open_changes())

    def _people(self) -> dict[UUID, str]:
        """Whom of ours the partner knows by which id."""
        try:
            with psycopg.connect(self.logins.libpq_url(Login.OPERATOR)) as tx:
                tx.execute("SELECT set_config('app.tenant', %s, true)", [self.tenant])
                rows = tx.execute("SELECT record_id, partner_id FROM sync.identity WHERE valid_to IS NULL")
                return dict(rows.fetchall())
        except psycopg.Error as error:
            raise store_error(error) from None
