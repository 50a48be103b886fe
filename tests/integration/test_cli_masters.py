"""`zest as-of` and `zest diff --preview`, as an operator types them, on the database of a test."""

from __future__ import annotations

import csv
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Said, Tenant

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.cli import masters
from zest_pipelines.flows.apply import apply

AS_OF = ("as-of", "sakura", "fhir", "client")
DIFF = ("diff", "sakura", "fhir", "client", "--preview")


def audited(tenant: Tenant) -> list[dict[str, Any]]:
    rows = tenant.sql("SELECT * FROM sync.audit WHERE act = 'show_masters' ORDER BY at", Login.OPERATOR)
    return [{"actor": row.actor, "subject": row.subject, **row.detail} for row in rows]


def moment(hours: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def test_the_masters_of_a_past_moment_are_told_with_their_reading_and_the_look_is_noted(
    tenant: Tenant, zest: Said
) -> None:
    at = moment()
    told = json.loads(zest(*AS_OF, "--at", at, "--json")[1])
    assert (told["tenant"], told["entity"], len(told["records"])) == ("sakura", "client", 30)
    ours = {str(row.client_id): row for row in tenant.sql("SELECT * FROM schedule.client")}
    for each in told["records"]:
        assert each["master"]["family_name"] == ours[each["record_id"]].family_name
        assert datetime.fromisoformat(each["read_at"]) < datetime.fromisoformat(each["applied_at"])
    (snapshot,) = tenant.sql("SELECT snapshot_id FROM sync.snapshot WHERE entity = 'client'", Login.OPERATOR)
    assert {each["snapshot_id"] for each in told["records"]} == {str(snapshot[0])}
    (noted,) = audited(tenant)
    assert noted == {"actor": "zest_operator", "subject": "fhir", "entity": "client", "at": noted["at"]}
    assert datetime.fromisoformat(noted["at"]) == datetime.fromisoformat(at)
    assert "nobody" in zest(*AS_OF, "--at", moment(-1))[1]


def test_people_see_a_table_of_some_and_files_have_all_for_their_owner_alone(
    tenant: Tenant, zest: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masters, "_MOST_SHOWN", 3)
    code, table, _ = zest(*AS_OF, "--at", moment())
    assert (code, "30 records; 27 more with --csv FILE or --json" in table) == (0, True)
    file = tmp_path / "then.csv"
    code, _, said = zest(*AS_OF, "--at", moment(), "--csv", str(file))
    assert (code, said.startswith("30 records in ")) == (0, True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    names = {row.family_name for row in tenant.sql("SELECT * FROM schedule.client")}
    assert (len(rows), {row["family_name"] for row in rows}) == (30, names)
    code, _, said = zest(*AS_OF, "--at", moment(), "--csv", str(file))
    assert (code, "is there already" in said) == (2, True)
    assert len(audited(tenant)) == 3  # a look is noted before anything is shown


def test_of_a_partner_that_only_links_it_is_said_that_this_is_its_word(tenant: Tenant, zest: Said) -> None:
    assert "only links" not in zest(*AS_OF, "--at", moment())[2]
    tenant.sql("UPDATE sync.connection SET creates = '{staff}'", Login.OPERATOR)
    code, _, said = zest(*AS_OF, "--at", moment())
    assert (code, "fhir only links to client records that are there" in said) == (0, True)


def test_a_preview_tells_counts_and_ids_that_say_nothing_and_writes_nothing(tenant: Tenant, zest: Said) -> None:
    code, told, _ = zest(*DIFF)
    assert (code, "The mass-change guard would let it through, of 28 records in force." in told) == (0, True)
    before = tenant.sql("SELECT count(*) FROM sync.audit", Login.OPERATOR)
    code, told, _ = zest(*DIFF, "--set", "patient_identifier_system=urn:nobody")
    assert code == 0
    assert "30 records (landed:" in told
    assert "could not be taken any more: required_field_missing." in told
    report = json.loads(zest(*DIFF, "--set", "patient_identifier_system=urn:nobody", "--json")[1])
    assert (report["newly_unmappable"], report["held"]) == ({"required_field_missing": 30}, False)
    assert report["set"] == ["patient_identifier_system"]
    assert tenant.sql("SELECT count(*) FROM sync.audit", Login.OPERATOR) == before
    names = [row.family_name for row in tenant.sql("SELECT * FROM schedule.client")]
    assert not [name for name in names if name and name in told + json.dumps(report, ensure_ascii=False)]


def test_a_wrong_link_is_undone_and_an_owner_named_from_the_command_line(tenant: Tenant, zest: Said) -> None:
    linked = "SELECT partner_id FROM sync.identity WHERE entity = 'client' AND valid_to IS NULL ORDER BY 1 LIMIT 1"
    id_ = tenant.sql(linked, Login.OPERATOR)[0].partner_id
    for arguments, word in (
        (("sakura", "--unlink", id_, "--reason", "two people"), "name the partner and add --reason"),
        (("sakura", "fhir", "--unlink", id_), "name the partner and add --reason"),
        (("sakura", "fhir", "--unlink", id_, "--settle", "landed:1", "--new"), "One word at a time"),
        (("sakura", "fhir", "--unlink", id_, "--own", "client", "--reason", "x"), "One word at a time"),
        (("sakura", "fhir", "--unlink", f"staff={id_}", "--reason", "two people"), "linked to none"),
    ):
        code, _, said = zest("identities", *arguments)
        assert (code, word in said) == (2, True), said
    code, _, said = zest("identities", "sakura", "fhir", "--unlink", f"client={id_}", "--reason", "two people")
    assert (code, "zest sync sakura fhir" in said) == (0, True)
    (audited,) = tenant.sql("SELECT detail FROM sync.audit WHERE act = 'unlink_identity'", Login.OPERATOR)
    assert (audited.detail.keys(), audited.detail["reason"]) == ({"landed", "reason"}, "two people")
    apply(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    waiting = json.loads(zest("identities", "sakura", "fhir", "--json")[1])["waiting"]
    assert [each["reason"] for each in waiting] == ["identity_unmatched"]
    code, _, said = zest("identities", "sakura", "fhir", "--own", "client", "--reason", "as ever")
    assert (code, "0 client records linked at fhir had another owner" in said) == (0, True), said


def test_what_cannot_be_looked_at_is_said_in_one_sentence(tenant: Tenant, zest: Said) -> None:
    for arguments, word in (
        (("as-of", "ume", "fhir", "client", "--at", "2026-11-01T09:00"), "zest tenant add ume"),
        ((*AS_OF, "--at", "2026-11-01T09:00", "--csv", "/nowhere/then.csv"), "/nowhere/then.csv"),
        (("diff", "ume", "fhir", "client", "--preview"), "zest tenant add ume"),
    ):
        code, out, said = zest(*arguments)
        assert (code, out, len(said.splitlines()), word in said) == (2, "", 1, True), said
