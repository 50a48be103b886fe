"""One tenant of the demo with both of its sides, and how far they are from equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import psycopg

from resources.logins import Login, Logins
from zest_pipelines.local.demo_clinic import ClinicState, compare_clinic
from zest_pipelines.local.demo_comparison import Comparison, Identifiers, PartnerState, compare
from zest_pipelines.local.demo_partners import SYSTEMS, DemoPartner
from zest_pipelines.local.demo_product import Product
from zest_pipelines.store.errors import store_error

_MASTERS = ("client", "staff")
_IDENTIFIERS = Identifiers(*SYSTEMS.values())
_KINDS = ("Patient", "Practitioner", "PractitionerRole", "Appointment", "Encounter")


@dataclass(frozen=True)
class Pair:
    """A product and its partners: one that speaks FHIR, or ORCA with SmartHR."""

    tenant: str
    product: Product
    partners: Mapping[str, DemoPartner]
    """By the partner's name."""
    logins: Logins

    def comparison(self) -> Comparison:
        """Both sides now. Raises StoreError, httpx.HTTPError."""
        books = self.product.books()
        if (fhir := self.partners.get("fhir")) is not None:
            state = PartnerState(*fhir.ask(*(f"state/{kind}" for kind in _KINDS)))
            return compare(books, state, self._people("fhir"), _IDENTIFIERS)
        (clinic,), (crews,) = (self.partners[name].ask("state") for name in ("orca", "smarthr"))
        state_ = ClinicState(clinic["patients"], clinic["appointments"], clinic["acceptances"], crews)
        return compare_clinic(books, state_, self._people("orca"), self._people("smarthr"))

    def differing_masters(self) -> int:
        """How many clients and staff are not equal. Raises StoreError, httpx.HTTPError."""
        found = self.comparison().differences
        return len({(each.kind, each.record) for each in found if each.kind in _MASTERS})

    def differing(self) -> int:
        """How many records are not equal or not yet settled. Raises StoreError, httpx.HTTPError."""
        found = self.comparison().differences
        return max(len({(each.kind, each.record) for each in found}), self.product.open_changes())

    def _people(self, partner: str) -> dict[UUID, str]:
        """Whom of ours the partner knows by which id."""
        try:
            with psycopg.connect(self.logins.libpq_url(Login.OPERATOR)) as tx:
                tx.execute("SELECT set_config('app.tenant', %s, true)", [self.tenant])
                rows = tx.execute(
                    "SELECT record_id, partner_id FROM sync.identity WHERE valid_to IS NULL AND partner = %s", [partner]
                )
                return dict(rows.fetchall())
        except psycopg.Error as error:
            raise store_error(error) from None
