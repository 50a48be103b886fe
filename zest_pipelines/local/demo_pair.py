"""One tenant of the demo with both of its sides, and how far they are from equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import psycopg

from resources.logins import Login, Logins
from zest_pipelines.local.demo_care import DemoOffice, compare_care
from zest_pipelines.local.demo_clinic import ClinicState, compare_clinic
from zest_pipelines.local.demo_comparison import Comparison, Identifiers, PartnerState, compare
from zest_pipelines.local.demo_partners import SYSTEMS, DemoPartner
from zest_pipelines.local.demo_product import Product
from zest_pipelines.store.errors import store_error

_MASTERS = ("client", "staff")
_OURS = ("client", "staff", "visit", "visit_record")
"""What the product has; a plan is somebody else's."""
_IDENTIFIERS = Identifiers(*SYSTEMS.values())
_KINDS = ("Patient", "Practitioner", "PractitionerRole", "Appointment", "Encounter")


@dataclass(frozen=True)
class Pair:
    """A product and its partners: one that speaks FHIR, or ORCA with SmartHR, or a care manager's office."""

    tenant: str
    product: Product
    partners: Mapping[str, DemoPartner]
    """By the partner's name; those that are a process."""
    office: DemoOffice | None
    logins: Logins

    def comparison(self) -> Comparison:
        """Both sides now. Raises StoreError, httpx.HTTPError."""
        books = self.product.books()
        if self.office is not None:
            return compare_care(books, self.office.state(self._landed_plans()), self._people(self.office.name))
        if (fhir := self.partners.get("fhir")) is not None:
            state = PartnerState(*fhir.ask(*(f"state/{kind}" for kind in _KINDS)))
            return compare(books, state, self._people("fhir"), _IDENTIFIERS)
        (clinic,), (crews,) = (self.partners[name].ask("state") for name in ("orca", "smarthr"))
        state_ = ClinicState(clinic["patients"], clinic["appointments"], clinic["acceptances"], crews)
        return compare_clinic(books, state_, self._people("orca"), self._people("smarthr"))

    def differing_masters(self) -> int:
        """How many clients and staff are not equal. Raises StoreError, httpx.HTTPError."""
        return self._count(_MASTERS)

    def differing(self) -> int:
        """How many records of the product are not equal or not yet settled. Raises StoreError, httpx.HTTPError."""
        return max(self._count(_OURS), self.product.open_changes())

    def agree(self) -> None:
        """Have the care manager plan what is confirmed, if there is one. Raises StoreError."""
        if self.office is not None:
            self.office.agree(self.product.books(), self._people(self.office.name))

    def differing_plans(self) -> int:
        """How many lines of plans are not equal. Raises StoreError."""
        return 0 if self.office is None else sum(each.kind not in _OURS for each in self.comparison().differences)

    def _count(self, kinds: Sequence[str]) -> int:
        return len({(each.kind, each.record) for each in self.comparison().differences if each.kind in kinds})

    def _people(self, partner: str) -> dict[UUID, str]:
        """Whom of ours the partner knows by which id."""
        asked = "SELECT record_id, partner_id FROM sync.identity WHERE valid_to IS NULL AND partner = %s"
        return dict(self._rows(asked, partner))

    def _landed_plans(self) -> dict[tuple[str, date], Sequence[Mapping[str, Any]]]:
        """The services that landed last, by the partner's id of the client and month."""
        rows = self._rows(
            "SELECT DISTINCT ON (partner_id, month) partner_id, month, services FROM sync.landed_plan "
            "WHERE partner = %s ORDER BY partner_id, month, landed_no DESC",
            "carecsv",
        )
        return {(client, month): services or () for client, month, services in rows}

    def _rows(self, asked: str, partner: str) -> list[tuple[Any, ...]]:
        try:
            with psycopg.connect(self.logins.libpq_url(Login.OPERATOR)) as tx:
                tx.execute("SELECT set_config('app.tenant', %s, true)", [self.tenant])
                return tx.execute(asked, [partner]).fetchall()
        except psycopg.Error as error:
            raise store_error(error) from None
