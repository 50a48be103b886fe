"""The list of partners and what each declaration must keep."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from partners.contract import MASTERS, Partner
from partners.limits import parse_limits
from partners.registry import PARTNERS, UnknownPartnerError, partner
from partners.windows import parse_windows

ROOT = Path(__file__).parents[2]


def test_a_partner_is_found_by_its_name_and_an_unknown_one_names_those_there_are() -> None:
    assert partner("fhir") is PARTNERS["fhir"]
    with pytest.raises(UnknownPartnerError, match=r"'fihr'.*fhir"):
        partner("fihr")


@pytest.mark.parametrize("each", PARTNERS.values(), ids=lambda each: each.name)
def test_a_declaration_keeps_the_rules(each: Partner) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", each.name)
    assert set(each.reads) <= set(MASTERS)
    assert not set(each.writes) & set(MASTERS)
    assert [str(limit) for limit in parse_limits(each.limits, each.endpoints)] == list(each.limits)
    assert set(each.writes.values()) <= set(each.endpoints)
    at_each = [f"endpoint={name}:1/1s" for name in each.endpoints]  # so its name is one that the grammar takes
    assert [str(limit) for limit in parse_limits(at_each, each.endpoints)] == at_each
    assert [str(window) for window in parse_windows(each.closed)] == list(each.closed)
    keys = [setting.key for setting in (*each.settings, *each.secrets)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("each", PARTNERS.values(), ids=lambda each: each.name)
def test_the_page_about_limits_names_the_endpoints_of_each_partner(each: Partner) -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    names = ", ".join(f"`{name}`" for name in each.endpoints)
    row = f"| `{each.name}` | {names or 'none'} |"
    assert row in page, "add this row to docs/limits.md, Endpoints"


def test_each_partner_stands_in_the_import_contracts() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    every = {f"partners.{name}" for name in PARTNERS}
    (independent,) = (each for each in told if each["name"] == "A partner knows no other")
    assert set(independent["modules"]) == every, "add it to the contract 'A partner knows no other' in pyproject.toml"
    for words in ("Of the partners, the platform knows the contract", "The certification knows no partner"):
        (kept,) = (each for each in told if each["name"].startswith(words))
        missing = every - set(kept["forbidden_modules"])
        assert not missing, f"add it to the forbidden_modules of the contract '{words} ...' in pyproject.toml"
