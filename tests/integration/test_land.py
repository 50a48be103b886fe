"""Land: what the partner shows is stored once, and nothing that it fails to show is lost."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import NewTenant, Tenant, wait_for
from evidence import is_told
from flow_bench import calls, impatient, mark

from partners.contract import Entity
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import LandReport
from zest_pipelines.store.database import Database

CLIENTS = 30


def land_clients(tenant: Tenant, entity: Entity = Entity.CLIENT) -> LandReport:
    return land(tenant.services, tenant.partner, tenant.name, entity)


def take_in_clients(tenant: Tenant) -> None:
    diff(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    apply(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)


def tomorrow(tenant: Tenant) -> Tenant:
    """The tenant a day later, when a reading of everything is due."""
    return replace(
        tenant, services=replace(tenant.services, now=lambda: datetime.now(UTC) + timedelta(days=1, hours=1))
    )


def landed(tenant: Tenant, entity: str = "client") -> list[Any]:
    """All landed versions, oldest first."""
    statement = "SELECT * FROM sync.landed_version WHERE entity = :entity ORDER BY landed_no"
    return list(tenant.sql(statement, Login.OPERATOR, entity=entity))


def active_clients(tenant: Tenant) -> int:
    return int(tenant.sql("SELECT count(*) FROM schedule.client WHERE active")[0][0])


def patient(sandbox: RunningSandbox, **changes: Any) -> dict[str, Any]:
    """A patient of the sandbox with elements replaced; None takes one away."""
    copy = sandbox.state("Patient")[0] | changes
    return {name: value for name, value in copy.items() if value is not None}


@pytest.fixture
def fresh(sandbox: RunningSandbox, new_tenant: NewTenant) -> Tenant:
    """A connected tenant of whom nothing has been read."""
    return new_tenant(sandbox)


def test_the_first_reading_is_of_everything_and_the_next_one_of_what_changed(
    fresh: Tenant, sandbox: RunningSandbox
) -> None:
    first = land_clients(fresh)
    assert (first.state, first.is_full, first.records, first.new_versions) == ("certified", True, CLIENTS, CLIENTS)
    before = mark(sandbox)
    second = land_clients(fresh)
    assert (second.state, second.is_full, second.new_versions) == ("certified", False, 0)
    assert all("_lastUpdated=ge" in row["query"] for row in calls(sandbox, after=before))
    assert len(landed(fresh)) == CLIENTS


def test_an_unchanged_night_writes_no_landed_version(tenant: Tenant) -> None:
    counts = len(landed(tenant)), len(landed(tenant, "staff"))
    for entity in tenant.partner.reads:
        report = land_clients(tomorrow(tenant), entity)
        assert (report.state, report.is_full, report.new_versions, report.gone) == ("certified", True, 0, 0)
    assert (len(landed(tenant)), len(landed(tenant, "staff"))) == counts


def test_a_raised_mapping_version_maps_every_record_with_the_next_reading(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    landed_before = len(landed(tenant))
    renewed = replace(tenant, partner=replace(tenant.partner, mapping_version="next"))
    report = land_clients(renewed)
    assert (report.state, report.is_full, report.new_versions) == ("certified", True, landed_before)
    assert not land_clients(renewed).is_full


def test_a_changed_and_a_new_record_land_and_no_other(tenant: Tenant, sandbox: RunningSandbox) -> None:
    old = len(landed(tenant))
    sandbox.put(patient(sandbox, birthDate="1950-05-05"))
    new = patient(sandbox, id="newcomer")
    new["identifier"] = [new["identifier"][0] | {"value": "99999999"}]
    sandbox.put(new)
    report = land_clients(tenant)
    assert (report.state, report.is_full, report.new_versions) == ("certified", False, 2)
    assert {row.master["birth_date"] for row in landed(tenant)[old:]} >= {"1950-05-05"}


def test_a_role_that_changed_lands_its_holder_anew(tenant: Tenant, sandbox: RunningSandbox) -> None:
    role = sandbox.state("PractitionerRole")[0]
    sandbox.put(role | {"code": [{"text": "看護師長"}]})
    report = land_clients(tenant, Entity.STAFF)
    assert (report.state, report.new_versions) == ("certified", 1)
    assert landed(tenant, "staff")[-1].master["qualification"] == "看護師長"


ROLE_FAULTS: list[dict[str, Any]] = [
    {"kind": FaultKind.SHORT_LIST, "page": 1},
    {"kind": FaultKind.SHORT_LIST, "page": 1, "times": 1},
    {"kind": FaultKind.EMPTY_LIST, "times": 1},
    {"kind": FaultKind.SHIFTED_ROWS, "page": 1, "times": 1},
    {"kind": FaultKind.WRONG_TOTAL, "page": 1, "times": 1},
    {"kind": FaultKind.DROP_ENTRY, "page": 2, "times": 1},
]


@pytest.mark.parametrize("fault", ROLE_FAULTS, ids=lambda fault: f"{fault['kind']} {fault.get('times', 'always')}")
@pytest.mark.parametrize("is_full", [True, False])
def test_who_left_does_not_come_back_because_a_list_of_roles_is_short(
    tenant: Tenant, sandbox: RunningSandbox, fault: dict[str, Any], is_full: bool
) -> None:
    sandbox.configure(max_count=3)
    for role in sandbox.state("PractitionerRole"):
        sandbox.put(role | {"active": False, "period": {"start": "2020-04-01", "end": "2021-03-31"}})
    assert land_clients(tenant, Entity.STAFF).is_certified
    before = {row.partner_id: row.master for row in _newest_staff(tenant)}
    assert len([each for each in before.values() if not each["active"]]) > 5
    for practitioner in sandbox.state("Practitioner"):  # so that the changed ones are asked for their roles
        sandbox.put(practitioner | {"language": "ja"})
    sandbox.set_faults(FaultRule(type="PractitionerRole", **fault))
    report = land_clients(tomorrow(tenant) if is_full else tenant, Entity.STAFF)
    sandbox.clear_faults()
    if not report.is_certified:
        assert report.reason == "partner_list_incomplete"
    now = {row.partner_id: row.master for row in _newest_staff(tenant)}
    assert [each for each, master in now.items() if master["active"] and not before[each]["active"]] == []
    assert land_clients(tenant, Entity.STAFF).is_certified


def _newest_staff(tenant: Tenant) -> list[Any]:
    return list({row.partner_id: row for row in landed(tenant, "staff")}.values())


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FaultKind.STATUS, 503), (FaultKind.CUT_AFTER, None), (FaultKind.TRUNCATED_BODY, None)],
)
def test_what_was_asked_and_answered_when_the_last_reading_broke_off_is_kept_masked(
    tenant: Tenant, sandbox: RunningSandbox, kind: FaultKind, status: int | None
) -> None:
    sandbox.configure(max_count=2)  # a longer page is not kept
    for page in (3, 2):
        sandbox.set_faults(FaultRule(kind, type="Patient", page=page, status=status or 500))
        assert land_clients(tomorrow(tenant)).state == "failed"
        sandbox.clear_faults()
        tenant.sql("UPDATE sync.snapshot SET resume = NULL", Login.LAND)
    ((kept,),) = tenant.sql("SELECT calls FROM sync.snapshot WHERE calls IS NOT NULL", Login.OPERATOR)
    assert [each["path"].rpartition("/")[2] for each in kept] == ["Patient"] * 2
    assert [each["status"] for each in kept] == [200, status]
    assert kept[0]["answer"]["entry"]
    assert (kept[-1]["answer"] or {}).get("resourceType") == (None if status is None else "OperationOutcome")
    told = json.dumps(kept, ensure_ascii=False)
    for each in sandbox.state("Patient"):
        assert each["identifier"][0]["value"] not in told
        assert each["name"][0]["text"] not in told


# Kind of fault, further matchers, the state, the reason and what its sentence mentions.
FAULTS: list[tuple[FaultKind, dict[str, Any], str, str, str]] = [
    (FaultKind.DROP_ENTRY, {"page": 2}, "incomplete", "partner_list_incomplete", "count_differs"),
    (FaultKind.WRONG_TOTAL, {"page": 2}, "incomplete", "partner_list_incomplete", "total_moved"),
    (FaultKind.WRONG_TOTAL, {}, "incomplete", "partner_list_incomplete", "count_differs"),
    (FaultKind.MISSING_NEXT, {"page": 1}, "incomplete", "partner_list_incomplete", "count_differs"),
    (FaultKind.STATUS, {"page": 2, "status": 500}, "failed", "partner_failed", ""),
    (FaultKind.STATUS, {"page": 2, "status": 401}, "failed", "credential_refused", ""),
    (FaultKind.STATUS, {"page": 2, "status": 429, "retry_after": 7}, "failed", "partner_busy", ""),
    (FaultKind.HTML_STATUS, {"page": 2, "status": 503}, "failed", "partner_maintenance", ""),
    (FaultKind.HTML_LOGIN, {"page": 2}, "failed", "html_instead_of_data", ""),
    (FaultKind.CUT_BEFORE, {"page": 2}, "failed", "partner_unreachable", ""),
    (FaultKind.CUT_AFTER, {"page": 2, "reset": True}, "failed", "partner_unreachable", ""),
    (FaultKind.TRUNCATED_BODY, {"page": 2}, "failed", "partner_unreachable", ""),
    (FaultKind.EMPTY_BODY, {"page": 2}, "failed", "answer_unreadable", ""),
    (FaultKind.WRONG_CONTENT_TYPE, {"page": 2}, "failed", "answer_unreadable", ""),
    (FaultKind.DELAY, {"page": 2, "seconds": 30}, "failed", "partner_unreachable", ""),
]


def too_old_to_go_on(tenant: Tenant) -> None:
    """What an hour does to a reading that broke off."""
    tenant.sql(
        "UPDATE sync.snapshot SET started_at = started_at - interval '1 hour' WHERE state = 'failed'", Login.LAND
    )


def test_a_broken_reading_lands_what_it_saw_deletes_nothing_and_says_why(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    """All kinds of fault in one go: each reading is of everything, in three pages or more."""
    sandbox.configure(max_count=10)
    hasty = impatient(tomorrow(tenant))
    for number, (kind, more, state, reason, why) in enumerate(FAULTS):
        newcomer = patient(sandbox, id=f"0-newcomer-{number}")  # on the first page: sorted by id
        newcomer["identifier"] = [newcomer["identifier"][0] | {"value": f"new-{number}"}]
        sandbox.put(newcomer)
        sandbox.set_faults(FaultRule(kind, type="Patient", **more))
        start = mark(sandbox)
        too_old_to_go_on(tenant)
        report = land_clients(hasty)
        case = f"{kind} {more}"
        assert not [row for row in calls(sandbox, after=start) if row["path"] != "/Patient"], (
            f"{case}: nobody is suspect"
        )
        assert (report.state, report.reason, report.gone) == (state, reason, 0), case
        assert why in report.params.get("why", ""), case
        assert report.new_versions == 1, case
    assert [row for row in landed(tenant) if row.fingerprint is None] == []
    take_in_clients(tenant)
    sandbox.clear_faults()
    too_old_to_go_on(tenant)
    healed = land_clients(hasty)
    assert (healed.state, healed.records, healed.new_versions) == ("certified", CLIENTS + len(FAULTS), 0)
    assert active_clients(tenant) >= CLIENTS + len(FAULTS) - 2  # two of the sandbox's people are inactive


def test_an_entry_that_comes_twice_with_the_same_content_is_landed_once(fresh: Tenant, sandbox: RunningSandbox) -> None:
    sandbox.set_faults(FaultRule(FaultKind.REPEAT_ENTRY, type="Patient"))
    report = land_clients(fresh)
    assert (report.state, report.records, len(landed(fresh))) == ("certified", CLIENTS, CLIENTS)


def test_a_record_deleted_at_the_partner_is_gone_after_a_reading_of_everything_and_its_own_answer(
    tenant: Tenant, sandbox: RunningSandbox
) -> None:
    gone = sandbox.state("Patient")[0]["id"]
    before = active_clients(tenant)
    sandbox.delete("Patient", gone)
    assert land_clients(tenant).gone == 0  # a reading of changes says nothing about who is missing
    start = mark(sandbox)
    report = land_clients(tomorrow(tenant))
    assert (report.state, report.gone) == ("certified", 1)
    assert [row["status"] for row in calls(sandbox, after=start) if row["path"] == f"/Patient/{gone}"] == [410]
    take_in_clients(tenant)
    assert active_clients(tenant) == before - 1
    (result,) = tenant.sql(
        "SELECT r.outcome, c.kind FROM sync.master_result r JOIN sync.master_change c USING (partner_id, landed_no) "
        "WHERE partner_id = :id AND kind = 'delete'",
        Login.OPERATOR,
        id=gone,
    )
    assert result.outcome == "applied"
    assert land_clients(tomorrow(tenant)).gone == 0  # once


@pytest.mark.parametrize("status", [404, 401, 500])
def test_only_the_partners_own_word_makes_a_record_gone(tenant: Tenant, sandbox: RunningSandbox, status: int) -> None:
    gone = sandbox.state("Patient")[3]["id"]
    sandbox.delete("Patient", gone)
    sandbox.set_faults(FaultRule(FaultKind.HTML_STATUS, id=gone, status=status))
    report = land_clients(tomorrow(tenant))
    assert (report.state, report.gone) == ("certified", 0)
    assert all(row.fingerprint is not None for row in landed(tenant))
    sandbox.clear_faults()
    assert land_clients(tomorrow(tenant)).gone == 1  # the suspicion was not forgotten


def test_a_record_that_a_shifted_page_hides_stays(tenant: Tenant, sandbox: RunningSandbox) -> None:
    """The dropped entry and a total that agrees with it: the reading is certified and yet lacks somebody."""
    start = mark(sandbox)
    sandbox.set_faults(FaultRule(FaultKind.DROP_ENTRY, type="Patient", page=1))
    hidden = min(str(each["id"]) for each in sandbox.state("Patient"))
    report = land_with_total(tomorrow(tenant), CLIENTS - 1)
    assert (report.state, report.records, report.gone) == ("certified", CLIENTS - 1, 0)
    assert [row["status"] for row in calls(sandbox, after=start) if row["path"] == f"/Patient/{hidden}"] == [200]
    assert all(row.fingerprint is not None for row in landed(tenant))


def land_with_total(tenant: Tenant, total: int) -> LandReport:
    """Land with a partner that tells `total`, whatever it lists."""

    class Telling:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def read(self, *asked: Any) -> Any:
            for page in self._inner.read(*asked):
                yield replace(page, total=total)

    partner = replace(tenant.partner, open=lambda *given: Telling(tenant.partner.open(*given)))
    return land_clients(replace(tenant, partner=partner))


def test_a_record_that_cannot_be_mapped_is_quarantined_and_its_neighbours_go_on(
    fresh: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.put(patient(sandbox, id="odd-sex", gender="M"))
    sandbox.put(patient(sandbox, id="no-number", identifier=None))
    sandbox.put(patient(sandbox, id="no-birth-date", birthDate=None))
    modified = [{"url": "urn:made-up", "valueBoolean": True}]
    sandbox.put(patient(sandbox, id="means-another-thing", modifierExtension=modified))
    report = land_clients(fresh)
    assert (report.state, report.records, report.unmappable) == ("certified", CLIENTS + 4, 3)
    problems = {row.partner_id: (row.problem, row.params) for row in landed(fresh) if row.problem}
    assert problems == {
        "odd-sex": ("unknown_code", {"field": "Patient.gender"}),
        "no-number": ("required_field_missing", {"field": "Patient.identifier"}),
        "means-another-thing": ("schema_unknown", {"detail": "Patient.modifierExtension"}),
    }
    is_told("schema_unknown", problems["means-another-thing"][1])
    is_told("unknown_code", problems["odd-sex"][1])
    changes = diff(fresh.services, fresh.partner, fresh.name, Entity.CLIENT)
    assert (changes.added, changes.unmappable) == (CLIENTS + 1, 3)
    applied = apply(fresh.services, fresh.partner, fresh.name, Entity.CLIENT)
    assert (applied.applied, applied.rejected, applied.equals_landed) == (CLIENTS + 1, 3, True)
    sandbox.put(patient(sandbox, id="odd-sex", gender="male"))
    land_clients(fresh)
    take_in_clients(fresh)
    assert len(fresh.ids("client")) == CLIENTS + 2


def test_what_cannot_be_mapped_is_told_of_each_reason_until_it_can(fresh: Tenant, sandbox: RunningSandbox) -> None:
    for number in range(21):
        sandbox.put(patient(sandbox, id=f"odd-{number:02}", gender="M"))
    land_clients(fresh)
    sandbox.put(patient(sandbox, id="no-number", identifier=None))
    for _ in range(2):  # the second reading brings nothing new
        report = land_clients(fresh)
        assert report.unmappable_for == {"unknown_code": 21, "required_field_missing": 1}
        assert (report.unmappable, len(report.problems)) == (22, 20)
        assert {each.reason for each in report.problems} == {"unknown_code", "required_field_missing"}
    for number in range(21):
        sandbox.put(patient(sandbox, id=f"odd-{number:02}", gender="male"))
    sandbox.delete("Patient", "no-number")
    assert land_clients(tomorrow(fresh)).unmappable_for == {}


def test_a_nul_in_a_name_stops_its_record_alone_and_once(fresh: Tenant, sandbox: RunningSandbox) -> None:
    name = {"family": "山\u0000田", "given": ["太郎"]}
    sandbox.put(patient(sandbox, id="nul", name=[name]))
    report = land_clients(fresh)
    assert (report.state, report.records, report.unmappable) == ("certified", CLIENTS + 1, 1)
    (odd,) = [row for row in landed(fresh) if row.problem]
    assert (odd.partner_id, odd.problem, odd.params) == ("nul", "field_invalid", {"field": "name[0].family"})
    assert land_clients(fresh).new_versions == 0
    sandbox.put(patient(sandbox, id="nul", name=[name | {"family": "山田"}]))
    assert land_clients(fresh).new_versions == 1
    take_in_clients(fresh)
    assert len(fresh.ids("client")) == CLIENTS + 1


def begin_and_die(tenant: Tenant) -> None:
    """What a killed reading leaves."""
    tenant.sql(
        "INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state) "
        "VALUES (gen_random_uuid(), :tenant, 'fhir', 'client', 'reading')",
        Login.LAND,
        tenant=tenant.name,
    )


def test_a_killed_reading_is_taken_over_after_five_minutes_and_not_before(fresh: Tenant) -> None:
    begin_and_die(fresh)
    refused = land_clients(fresh)
    assert (refused.state, refused.reason, refused.snapshot) == ("failed", "reading_under_way", "")
    is_told("reading_under_way", refused.params)
    age = "UPDATE sync.snapshot SET touched_at = clock_timestamp() - make_interval(secs => :seconds)"
    fresh.sql(age, Login.LAND, seconds=290)
    assert land_clients(fresh).reason == "reading_under_way"
    fresh.sql(age, Login.LAND, seconds=301)
    assert land_clients(fresh).state == "certified"
    states = fresh.sql("SELECT state, reason FROM sync.snapshot ORDER BY started_at", Login.LAND)
    assert [tuple(row) for row in states] == [("failed", "reading_broken_off"), ("certified", None)]
    is_told("reading_broken_off")


def test_a_reading_that_was_taken_for_dead_writes_nothing_more(fresh: Tenant, sandbox: RunningSandbox) -> None:
    sandbox.configure(max_count=10)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, type="Patient", page=2, times=1, seconds=1.0))
    reports: list[LandReport] = []
    slow = threading.Thread(target=lambda: reports.append(land_clients(fresh)))
    slow.start()
    wait_for(lambda: len(landed(fresh)) == 10)
    fresh.sql("UPDATE sync.snapshot SET touched_at = clock_timestamp() - interval '6 minutes'", Login.LAND)
    taken_over = land_clients(fresh)
    slow.join()
    assert (taken_over.state, taken_over.records) == ("certified", CLIENTS)
    assert [(report.state, report.reason) for report in reports] == [("failed", "reading_under_way")]
    assert len(landed(fresh)) == CLIENTS


def test_of_two_readings_at_once_one_reads(fresh: Tenant, sandbox: RunningSandbox) -> None:
    sandbox.set_faults(FaultRule(FaultKind.DELAY, type="Patient", seconds=0.4))
    other = Database(fresh.services.database._logins)
    tenants = [fresh, replace(fresh, services=replace(fresh.services, database=other))]
    reports: list[LandReport] = []
    threads = [threading.Thread(target=lambda one=one: reports.append(land_clients(one))) for one in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert sorted((report.state, report.reason or "") for report in reports) == [
        ("certified", ""),
        ("failed", "reading_under_way"),
    ]
    assert len(calls(sandbox, kind="Patient")) == 1
    assert len(landed(fresh)) == CLIENTS


def test_a_report_counts_the_calls_that_the_partner_saw(fresh: Tenant, sandbox: RunningSandbox) -> None:
    sandbox.configure(max_count=10)
    start = mark(sandbox)
    report = land_clients(fresh)
    assert report.calls == len(calls(sandbox, after=start)) == 3
    sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Patient", page=2, status=500))
    start = mark(sandbox)
    report = land_clients(tomorrow(fresh))
    assert (report.state, report.calls) == ("failed", len(calls(sandbox, after=start)))
    assert report.calls >= 2


def test_fields_that_the_format_does_not_have_are_told_and_their_records_taken(
    fresh: Tenant, sandbox: RunningSandbox
) -> None:
    odd = {"nickname": "x", "_birthDate": {"id": "known"}, "favouriteColour": "x"}
    sandbox.put(patient(sandbox, **odd))
    role = sandbox.state("PractitionerRole")[0]
    sandbox.put(role | {"nickname": "x"})
    report = land_clients(fresh)
    assert (report.state, report.unmappable, report.new_versions) == ("certified", 0, CLIENTS)
    assert report.unknown_fields == {"Patient.favouriteColour": 1, "Patient.nickname": 1}
    (problem,) = report.problems
    (row,) = [row for row in landed(fresh) if "nickname" in row.content]
    assert (problem.record, problem.reason) == (f"landed:{row.landed_no}", "fields_unknown")
    assert problem.params == {"fields": "Patient.favouriteColour, Patient.nickname"}
    is_told("fields_unknown", problem.params)
    assert land_clients(fresh, Entity.STAFF).unknown_fields == {"PractitionerRole.nickname": 1}
    assert land_clients(tomorrow(fresh)).unknown_fields == {}


def test_an_unknown_field_is_told_once_and_named_from_then_on(fresh: Tenant, sandbox: RunningSandbox) -> None:
    first, second = sandbox.state("Patient")[:2]
    sandbox.put(first | {"nickname": "x"})
    told = land_clients(fresh)
    assert (told.unknown_fields, told.told_fields, len(told.problems)) == ({"Patient.nickname": 1}, (), 1)
    sandbox.put(first | {"nickname": "y"})
    sandbox.put(second | {"nickname": "x", "favouriteColour": "x"})
    again = land_clients(fresh)
    assert (again.new_versions, again.unknown_fields) == (2, {"Patient.favouriteColour": 1})
    assert again.told_fields == ("Patient.nickname",)
    (problem,) = again.problems  # the record with the new one, and not the one that only changed
    (row,) = [row for row in landed(fresh) if "favouriteColour" in row.content]
    assert problem.record == f"landed:{row.landed_no}"
    last = land_clients(tomorrow(fresh))
    assert (last.unknown_fields, last.problems) == ({}, ())
    assert last.told_fields == ("Patient.favouriteColour", "Patient.nickname")
    assert land_clients(fresh, Entity.STAFF).told_fields == ()


def test_names_that_may_be_data_are_not_told(fresh: Tenant, sandbox: RunningSandbox) -> None:
    sandbox.put(patient(sandbox, **{"山田": 1, "03-1234-5678": 1, "00000010": 1, "Yamada": 1, "a" * 41: 1, "[1]": 1}))
    sandbox.put(patient(sandbox, **{"_line2": 1, "a" * 40: 1}, id="other"))
    assert set(land_clients(fresh).unknown_fields) == {"Patient.?", "Patient._line2", f"Patient.{'a' * 40}"}


CLOSED = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)  # two at night in Japan
OPEN = CLOSED - timedelta(seconds=1)
NOT_NOW = {
    "connection_paused": "paused_at = clock_timestamp(), pause_reason = 'test'",
    "outside_window": "closed = ARRAY['00:00-24:00']",
}


@pytest.mark.parametrize("why", NOT_NOW)
def test_no_call_is_made_while_the_connection_is_paused_or_the_partner_closed_and_what_was_read_stands(
    fresh: Tenant, sandbox: RunningSandbox, why: str
) -> None:
    assert land_clients(fresh).is_certified
    fresh.sql(f"UPDATE sync.connection SET {NOT_NOW[why]}", Login.OPERATOR)
    start = mark(sandbox)
    report = land(fresh.services, fresh.partner, fresh.name, Entity.CLIENT)
    assert (report.state, report.reason, report.calls) == ("failed", why, 0)
    is_told(why, report.params)
    assert calls(sandbox, after=start) == []
    assert (report.last and report.last.is_certified, report.freshness and report.freshness.not_now) == (True, why)
    assert len(fresh.sql("SELECT FROM sync.snapshot", Login.LAND)) == 1
    fresh.sql("UPDATE sync.connection SET closed = '{}', paused_at = NULL, pause_reason = NULL", Login.OPERATOR)
    assert land(fresh.services, fresh.partner, fresh.name, Entity.CLIENT).is_certified


def test_a_reading_breaks_off_when_the_partner_closes_and_the_next_one_goes_on_with_it(
    fresh: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.configure(max_count=10)
    closing = replace(fresh.services, now=lambda: CLOSED if calls(sandbox) else OPEN)
    fresh.sql("UPDATE sync.connection SET closed = ARRAY['02:00-05:00']", Login.OPERATOR)
    report = land(closing, fresh.partner, fresh.name, Entity.CLIENT)
    assert (report.state, report.reason) == ("failed", "outside_window")
    assert (len(calls(sandbox)), len(landed(fresh))) == (1, 10)
    (connection,) = fresh.sql("SELECT badge FROM sync.connection_badge", Login.OPERATOR)
    assert connection.badge == "waiting"
    start = mark(sandbox)
    fresh.sql("UPDATE sync.connection SET closed = '{}'", Login.OPERATOR)
    assert land(fresh.services, fresh.partner, fresh.name, Entity.CLIENT).is_certified
    assert calls(sandbox, after=start)


@pytest.mark.parametrize("why", NOT_NOW)
def test_a_reading_that_is_not_made_tells_no_field_that_another_one_still_counts(fresh: Tenant, why: str) -> None:
    statement = (
        "INSERT INTO sync.unknown_field (tenant_id, partner, entity, field, records) "
        "VALUES (:tenant, 'fhir', 'client', 'bed', 1)"
    )
    fresh.sql(statement, Login.LAND, tenant=fresh.name)
    fresh.sql(f"UPDATE sync.connection SET {NOT_NOW[why]}", Login.OPERATOR)
    report = land(fresh.services, fresh.partner, fresh.name, Entity.CLIENT)
    assert (report.reason, report.unknown_fields) == (why, {})
    assert fresh.sql("SELECT told_at FROM sync.unknown_field", Login.LAND)[0].told_at is None


def test_a_look_at_the_fields_that_breaks_costs_no_record(fresh: Tenant) -> None:
    def breaks(*_: object) -> Any:
        raise RuntimeError("a fault of ours")

    report = land_clients(replace(fresh, partner=replace(fresh.partner, unknown_fields=breaks)))
    assert (report.unmappable, report.unknown_fields) == (0, {"?": CLIENTS})
    assert land_clients(replace(tomorrow(fresh), partner=replace(fresh.partner, unknown_fields=None))).unmappable == 0


def test_a_reading_that_fails_or_waits_says_what_earlier_ones_are_good_for(
    fresh: Tenant, sandbox: RunningSandbox
) -> None:
    sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Patient", status=401))
    failed = land_clients(fresh)
    assert failed.freshness is not None
    assert (failed.freshness.was_read, failed.freshness.every, failed.last) == (False, timedelta(hours=1), None)
    sandbox.clear_faults()
    certified = land_clients(fresh)
    assert (certified.freshness, certified.last) == (None, None)
    begin_and_die(fresh)
    waits = land_clients(fresh)
    assert waits.freshness is not None
    assert waits.freshness.was_read
    assert timedelta(0) < waits.freshness.age < timedelta(minutes=1)
    assert waits.last is not None
    assert (waits.last.snapshot, waits.last.state, waits.last.records) == (certified.snapshot, "certified", CLIENTS)
