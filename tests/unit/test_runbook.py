"""The runbook has a section for everything that can turn red."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from partners.reasons import Owner, all_reasons
from zest_pipelines.flows.alerts import section_of
from zest_pipelines.orchestration.checks import CheckName

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^#{2,3} ([^\n]+)\n(.*?)(?=^#{2,3} |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", CheckName)
def test_each_check_has_a_section_that_says_what_it_means_where_to_look_and_what_to_do(name: CheckName) -> None:
    section = SECTIONS[f"`{name.value}`"]

    for part in ("**Means**", "**Look**", "**Do**"):
        assert part in section, part


@pytest.mark.parametrize("code", [each.code for each in all_reasons() if each.owner is not Owner.USER])
def test_each_alert_links_to_a_section_that_says_what_it_means_where_to_look_and_what_to_do(code: str) -> None:
    section = {title.lower().replace(" ", "-"): text for title, text in SECTIONS.items()}[section_of(code)]

    for part in ("**Means**", "**Look**", "**Do**"):
        assert part in section, part


def test_no_section_is_about_a_check_that_there_is_none_of() -> None:
    titles = {title.strip("`") for title in SECTIONS if title.startswith("`")}

    assert titles == {name.value for name in CheckName}


def test_each_file_that_the_runbook_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", RUNBOOK)

    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
