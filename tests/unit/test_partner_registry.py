"""The list of partners and what each declaration must keep."""

from __future__ import annotations

import re

import pytest

from partners.contract import MASTERS, Partner
from partners.limits import parse_limit
from partners.registry import PARTNERS, UnknownPartnerError, partner
from partners.windows import parse_windows


def test_a_partner_is_found_by_its_name_and_an_unknown_one_names_those_there_are() -> None:
    assert partner("fhir") is PARTNERS["fhir"]
    with pytest.raises(UnknownPartnerError, match=r"'fihr'.*fhir"):
        partner("fihr")


@pytest.mark.parametrize("each", PARTNERS.values(), ids=lambda each: each.name)
def test_a_declaration_keeps_the_rules(each: Partner) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", each.name)
    assert set(each.reads) <= set(MASTERS)
    assert not set(each.writes) & set(MASTERS)
    assert [str(parse_limit(limit)) for limit in each.limits] == list(each.limits)
    assert [str(window) for window in parse_windows(each.closed)] == list(each.closed)
    keys = [setting.key for setting in (*each.settings, *each.secrets)]
    assert len(keys) == len(set(keys))
