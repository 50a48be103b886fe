"""The partners there are: one line each. A new partner is a folder and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from partners.carecsv.partner import CARECSV
from partners.contract import Partner
from partners.fhir.partner import FHIR
from partners.orca.partner import ORCA
from partners.smarthr.partner import SMARTHR

PARTNERS: Mapping[str, Partner] = MappingProxyType({each.name: each for each in (FHIR, ORCA, SMARTHR, CARECSV)})
"""By name."""
ONLY_READ = tuple(name for name, each in PARTNERS.items() if not each.writes)
"""Names of those to which nothing is written."""


class UnknownPartnerError(LookupError):
    """There is no partner of that name; the message names those that there are."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no partner is called {name!r}; there are: {', '.join(sorted(PARTNERS))}{_hint(name)}")
        self.name = name


def _hint(name: str) -> str:
    """For whoever has written the folder alone."""
    is_there = name.isidentifier() and (Path(__file__).parent / name / "partner.py").exists()
    return ". Its folder is there, its line in partners/registry.py is not: add it" if is_there else ""


def partner(name: str) -> Partner:
    """The partner of that name. Raises UnknownPartnerError."""
    try:
        return PARTNERS[name]
    except KeyError:
        raise UnknownPartnerError(name) from None


class ShownPartnersError(UnknownPartnerError):
    """ZEST_PARTNERS names a partner that there is none of."""

    def __str__(self) -> str:
        return f"ZEST_PARTNERS: {super().__str__()}. Correct it, or unset it to show all."


def shown_partners(named: str) -> tuple[Partner, ...]:
    """The partners of a list with commas, all for an empty one. ShownPartnersError for an unknown name."""
    names = [name.strip() for name in named.split(",") if name.strip()]
    try:
        return tuple(partner(name) for name in dict.fromkeys(names or PARTNERS))
    except UnknownPartnerError as error:
        raise ShownPartnersError(error.name) from None
