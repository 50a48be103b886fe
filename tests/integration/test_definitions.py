"""What Dagster is shown: a snapshot, so that a key, a partition or a check changes only on purpose."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import definitions_snapshot as snapshot
import pytest
from dagster import (
    AssetsDefinition,
    AssetSpec,
    CodeReferencesMetadataValue,
    Definitions,
    LocalFileCodeReference,
    UrlCodeReference,
)
from paper_partner import PAPER

from partners.contract import Entity
from partners.registry import PARTNERS, ShownPartnersError, shown_partners
from zest_pipelines.definitions import STATIONS, define, definitions

ROOT = Path(__file__).parents[2]
FHIR = PARTNERS["fhir"]


def _specs(of: Definitions = definitions) -> dict[str, AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in of.resolve_all_asset_specs()}


def test_everything_that_dagster_resolves_later_resolves() -> None:
    Definitions.validate_loadable(definitions)


def test_dagster_is_shown_what_the_snapshot_says() -> None:
    kept, now = snapshot.FILE.read_text(encoding="utf-8"), snapshot.written(snapshot.described(definitions))

    if kept != now:
        lines = difflib.unified_diff(kept.splitlines(), now.splitlines(), "definitions.yaml", "now", lineterm="", n=1)
        pytest.fail(
            "Dagster is shown something else. What is renamed loses its history in every installation; "
            f"if that is meant, run: {snapshot.COMMAND}\n" + "\n".join(lines),
            pytrace=False,
        )


@pytest.mark.parametrize("otherwise", [{"name": "fihr"}, {"reads": (Entity.STAFF,)}])
def test_the_snapshot_sees_what_changed(otherwise: dict[str, Any]) -> None:
    other = define([replace(FHIR, **otherwise)], STATIONS)

    assert snapshot.described(other) != snapshot.described(definitions)


def test_each_asset_says_who_writes_it_and_what_red_means() -> None:
    for spec in _specs().values():
        assert "Written by" in (spec.description or "")
        assert "Red:" in (spec.description or "")


def test_each_check_job_schedule_and_sensor_has_a_description() -> None:
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    described = [*jobs, *repository.schedule_defs, *repository.sensor_defs]
    described += [graph.get_check_spec(key) for key in graph.asset_check_keys]

    assert len(described) > 20
    assert [each.name for each in described if not each.description] == []


def test_no_run_gives_a_value_that_somebody_would_have_to_keep() -> None:
    every = [*(definitions.assets or ()), *(definitions.asset_checks or ())]
    assets = [each for each in every if isinstance(each, AssetsDefinition)]
    of_checks = {name for each in assets for name in each.check_specs_by_output_name}  # never kept, whatever they say
    jobs = definitions.resolve_all_job_defs()
    outputs = [(job.name, output) for job in jobs for node in job.all_node_defs for output in node.output_defs]

    kept = [(job, output) for job, output in outputs if output.name not in of_checks]
    assert len(kept) > 20
    assert [(job, output.name) for job, output in kept if not output.dagster_type.is_nothing] == []


def test_a_partner_that_is_read_for_staff_alone_has_no_assets_of_clients() -> None:
    whole, staff_only = (define([replace(FHIR, reads=reads)], STATIONS) for reads in (FHIR.reads, (Entity.STAFF,)))

    assert set(_specs(whole)) - set(_specs(staff_only)) == {
        f"fhir/{name}" for name in ("landed_clients", "client_changes", "applied_clients")
    }
    Definitions.validate_loadable(staff_only)


def test_a_partner_that_is_only_read_has_a_way_in_and_no_word_of_a_way_out() -> None:
    def shown(writes: dict[Entity, str]) -> dict[str, Any]:
        only = define([replace(FHIR, writes=writes)], STATIONS)
        Definitions.validate_loadable(only)
        return snapshot.described(only)

    whole, read = shown(dict(FHIR.writes)), shown({})
    assert {kind: sorted(whole[kind].keys() - read[kind].keys()) for kind in whole if whole[kind] != read[kind]} == {
        "assets": [f"fhir/{name}" for name in ("pushed_visits", "pushed_weeks", "reconciled_weeks", "visit_changes")],
        "jobs": [
            f"fhir_{name}" for name in ("abandon", "adopt", "audit", "held_back", "out", "push_period", "release")
        ],
        "schedules": ["fhir_audit_every_night", "fhir_out_every_minute"],
        "sensors": ["fhir_edits_held_back", "fhir_new_edits"],
    }
    jobs = define([replace(FHIR, writes={})], STATIONS).get_repository_def().get_all_jobs()
    told = " ".join(job.description or "" for job in jobs if job.name.startswith("fhir"))
    assert not re.search(r"push|sent|edit", told)


def test_one_partner_more_gets_a_group_of_its_own_and_takes_nothing_from_the_other() -> None:
    both = define([*PARTNERS.values(), PAPER], STATIONS)

    Definitions.validate_loadable(both)
    alone, described = snapshot.described(definitions), snapshot.described(both)
    for kind, of_others in alone.items():
        assert {name: each for name, each in described[kind].items() if not name.startswith("paper")} == of_others
    assert {spec.group_name for name, spec in _specs(both).items() if name.startswith("paper/")} == {"paper"}
    assert {"paper_in", "paper_out"} <= set(described["jobs"])
    assert [each.split("_", 1)[1] for each in described["schedules"] if each.startswith("paper_")] == [
        each.split("_", 1)[1] for each in alone["schedules"] if each.startswith("fhir_")
    ]


def test_partners_that_are_not_named_are_not_shown() -> None:
    assert shown_partners("") == tuple(PARTNERS.values())
    assert shown_partners(" fhir, fhir,") == (FHIR,)


def test_a_named_partner_that_there_is_none_of_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(ShownPartnersError, match=r"ZEST_PARTNERS.*'fihr'.*there are: .*fhir"):
        shown_partners("fhir,fihr")


def _links(of: Definitions) -> dict[str, Any]:
    found = {}
    for name, spec in _specs(of).items():
        value = spec.metadata["dagster/code_references"]
        assert isinstance(value, CodeReferencesMetadataValue)
        (found[name],) = value.code_references
    return found


def test_each_asset_links_to_the_function_that_makes_it() -> None:
    for name, link in _links(definitions).items():
        assert isinstance(link, LocalFileCodeReference)
        lines = Path(link.file_path).read_text(encoding="utf-8").splitlines()
        assert lines[(link.line_number or 0) - 1].strip().startswith("@multi_asset("), name


def test_each_asset_links_to_its_page_in_the_repository_where_one_is_named() -> None:
    links = _links(define([FHIR], STATIONS, "https://git.example/zest/blob/main/"))

    page = re.compile(r"https://git\.example/zest/blob/main/(zest_pipelines/orchestration/(assets|weeks)\.py)#L(\d+)")
    for link in links.values():
        assert isinstance(link, UrlCodeReference)
        found = page.fullmatch(link.url)
        assert found
        assert (ROOT / found[1]).exists()


def _validated(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """As a person types it, outside of the clone, whose `.env` would win."""
    dagster = Path(sys.executable).with_name("dagster")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZEST_", "DAGSTER_"))}
    return subprocess.run(
        [dagster, "definitions", "validate", "--workspace", ROOT / "workspace.yaml"],
        cwd=folder,
        env=kept | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def test_dagster_validates_the_workspace_under_its_variables(tmp_path: Path) -> None:
    done = _validated(tmp_path, ZEST_PARTNERS="fhir", ZEST_CODE_URL="https://git.example/zest/blob/main")

    assert done.returncode == 0, done.stdout


def test_dagster_says_why_the_code_location_does_not_load(tmp_path: Path) -> None:
    done = _validated(tmp_path, ZEST_PARTNERS="fihr")

    assert done.returncode != 0
    assert f"ZEST_PARTNERS: no partner is called 'fihr'; there are: {', '.join(sorted(PARTNERS))}." in done.stdout
