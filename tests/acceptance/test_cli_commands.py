"""The commands, one after the other, as an operator types them against a partner that is a process of its own."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from zest_process import LONG, Zest, wait_for

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from zest_pipelines.core.reference import reference
from zest_pipelines.core.weeks import week_of
from zest_pipelines.local.ports import free_port

pytestmark = pytest.mark.acceptance

TOKEN = "an-operators-token"
CONFIG = SandboxConfig(token=TOKEN, clients=20, staff=5)
SETTINGS = (
    "--set",
    f"patient_identifier_system={CONFIG.patient_identifier_system}",
    "--set",
    f"staff_identifier_system={CONFIG.staff_identifier_system}",
)


@pytest.fixture(scope="module")
def zest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zest]:
    zest = Zest(tmp_path_factory.mktemp("cli") / "data")
    assert zest("init").code == 0
    try:
        yield zest
    finally:
        zest("down")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(CONFIG) as running:
        yield running


@pytest.fixture
def tenant(zest: Zest, sandbox: RunningSandbox) -> str:
    """A new tenant, connected to the sandbox."""
    name = f"t{uuid4().hex[:12]}"
    assert zest("tenant", "add", name, "--name", "試験法人").code == 0
    assert _connect(zest, name, sandbox.url).code == 0
    return name


def _connect(zest: Zest, tenant: str, url: str, token: str = TOKEN, *more: str):  # type: ignore[no-untyped-def]
    base = ("connect", tenant, "fhir", "--base-url", url, "--timing", "minute", *SETTINGS, *more)
    return zest(*base, "--secret-file", "-", stdin=json.dumps({"token": token}))


def _insert_visit(zest: Zest, tenant: str, client: UUID | None = None) -> UUID:
    """A confirmed visit, inserted as the product does it; of the first client unless said otherwise."""
    visit, starts_at = uuid4(), datetime.now(UTC) + timedelta(days=1)
    with _as(zest, "product", tenant) as tx:
        found = tx.execute("SELECT client_id FROM schedule.client ORDER BY 1 LIMIT 1").fetchone()
        tx.execute(
            "INSERT INTO schedule.visit (tenant_id, visit_id, client_id, starts_at, ends_at, status) "
            "VALUES (%s, %s, %s, %s, %s, 'confirmed')",
            [tenant, visit, client or (found and found[0]), starts_at, starts_at + timedelta(hours=1)],
        )
    return visit


def _delivered(sandbox: RunningSandbox, visit: UUID) -> int:
    return sum(
        {"system": "urn:zest:visit", "value": str(visit)} in each["identifier"] for each in sandbox.state("Appointment")
    )


def test_init_can_be_repeated_and_keeps_passwords_and_key(zest: Zest) -> None:
    kept = [zest.data_dir / name for name in ("logins.json", "vault.key")]
    before = [path.read_text() for path in kept]
    told = zest("init", "--json").json
    assert told == {"data_dir": str(zest.data_dir), "database": "embedded", "env_file": None}
    assert [path.read_text() for path in kept] == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


def test_check_says_what_may_be_read_and_written_and_writes_nothing(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    before = sandbox.health()["journal"]
    told = zest("check", tenant, "fhir", "--json").json
    assert {each["entity"]: (each["may_read"], each["may_write"]) for each in told["access"]}["client"][0] is True
    assert {row["method"] for row in sandbox.journal(before)} == {"GET"}


def test_sync_lands_applies_and_pushes_and_tells_what_waits(zest: Zest, sandbox: RunningSandbox, tenant: str) -> None:
    first = zest("sync", tenant, "fhir")
    assert first.code == 0, first.err
    known, unknown = _insert_visit(zest, tenant), _insert_visit(zest, tenant, uuid4())

    second = zest("sync", tenant, "fhir", "--json")
    assert second.code == 0, second.err
    assert (_delivered(sandbox, known), _delivered(sandbox, unknown)) == (1, 0)
    connections = zest("status", "--json").json["connections"]
    status = next(each for each in connections if each["tenant"] == tenant)
    assert status["out"]["oldest_pending_seconds"] > 0
    assert _without_times(status) == {
        "tenant": tenant,
        "partner": "fhir",
        "reads": ["client", "staff"],
        "timing": "minute",
        "weight": 1,
        "deliver_within_seconds": None,
        "paused": False,
        "pause_reason": None,
        "landed": {
            "client": {"records": 20, "snapshot": "certified"},
            "staff": {"records": 5, "snapshot": "certified"},
        },
        "applied": {
            "client": {"records": 20, "rejected": 0, "held": 0},
            "staff": {"records": 5, "rejected": 0, "held": 0},
        },
        "on_conflict": "hold",
        "closed": [],
        "hold": None,
        "out": {
            "changes": 2,
            "delivered": 1,
            "pending": 1,
            "parked": 0,
            "unknown": 0,
            "conflicts": 0,
            "repairs": 0,
        },
        "last_error": None,
    }

    (told,) = zest("limits", tenant, "--json").json["connections"]
    paced, in_flight = told["limits"]
    assert (paced["limit"], in_flight["limit"]) == ("tenant:600/60s", "tenant:concurrent=4")
    assert 0 < sum(paced["last_hour"]) <= len(sandbox.journal())
    assert (in_flight["used"], paced["closed_until"], told["pending"]) == (0, None, 1)
    assert "tenant:600/60s" in zest("limits").out
    assert zest("reopen", "fhir", tenant, "--json").json == {"partner": "fhir", "tenant": tenant, "reopened": 0}

    life = zest("explain", tenant, "visit", str(known), "--json").json
    assert {name: life[name] for name in ("tenant", "entity", "record_id", "badge")} == {
        "tenant": tenant,
        "entity": "visit",
        "record_id": str(known),
        "badge": "ok",
    }
    assert [step["what"] for step in life["timeline"]] == ["edited", "queued", "sent", "settled"]
    assert (life["conflicts"], life["holds"]) == ([], [])
    assert life["timeline"][-1].keys() == {
        "at", "partner", "what", "version", "outcome", "reason", "next_action",
    }  # fmt: skip
    patient = sandbox.state("Patient")[0]
    sandbox.put(patient | {"nickname": "x"})
    warned = zest("sync", tenant, "fhir")
    sandbox.put(patient)
    assert (warned.code, "shape_known" in warned.err) == (0, True), warned.err

    number = reference(tenant, "fhir", "visit", str(known))
    assert life["references"] == {"fhir": number}
    assert f"reference number at fhir: {number}" in zest("explain", tenant, "visit", str(known)).out

    waiting = zest("explain", tenant, "visit", str(unknown), "--json").json
    assert waiting["badge"] == "waiting"
    assert waiting["timeline"][-1]["reason"] == "client_not_yet_at_partner"
    assert waiting["timeline"][-1]["next_action"]


def _without_times(status: dict) -> dict:  # type: ignore[type-arg]
    landed = {entity: {k: v for k, v in each.items() if k != "at"} for entity, each in status["landed"].items()}
    out = {name: value for name, value in status["out"].items() if name != "oldest_pending_seconds"}
    return status | {"landed": landed, "out": out}


def test_a_week_is_pushed_now_once_and_shown_as_the_assets_own_run(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    assert zest("connect", tenant, "fhir", "--base-url", sandbox.url, "--timing", "week", *SETTINGS).code == 0
    assert zest("sync", tenant, "fhir").code == 0
    visit, week = _insert_visit(zest, tenant), ("push-week", tenant, "fhir", _monday())
    _insert_visit(zest, tenant, uuid4())  # of a client that the partner does not know
    asked = zest(*week, "--json")
    assert (asked.code, _delivered(sandbox, visit)) == (0, 0)
    assert f"zest request {tenant} {asked.json['request']}" in asked.err
    follow = ("request", tenant, asked.json["request"], "--json")
    assert (zest(*follow).json["kind"], zest(*follow).json["is_done"]) == ("push", False)

    first = zest(*week, "--wait", "--json")
    assert first.json["visits"] == {"delivered": 1, "unchanged": 0, "waiting": 1, "refused": 0}, first.err
    assert [(check["name"], check["severity"]) for check in first.json["failed_checks"]] == [("week_settled", "WARN")]
    assert (first.code, "waiting" in first.err) == (1, True)
    assert _delivered(sandbox, visit) == 1
    far = zest(*follow).json
    assert {name: far[name] for name in ("total", "delivered", "waiting", "is_done")} == {
        "total": 2,
        "delivered": 1,
        "waiting": 1,
        "is_done": True,
    }
    assert "done" in zest(*follow[:-1]).out
    with psycopg.connect(zest("db-url", "--login", "dagster").out.strip()) as tx:
        tags = dict(tx.execute("SELECT key, value FROM run_tags WHERE run_id = %s", [first.json["run"]]).fetchall())
    assert (tags["dagster/partition/tenant"], tags["dagster/partition/week"]) == (tenant, _monday())

    before, bad = sandbox.health()["journal"], _insert_visit(zest, tenant)
    sandbox.set_faults({"kind": "status", "identifier": str(bad), "status": 422, "code": "business-rule"})
    again = zest(*week, "--wait", "--json")
    sandbox.clear_faults()
    assert again.json["visits"] == {"delivered": 0, "unchanged": 1, "waiting": 1, "refused": 1}, again.err
    (check,) = again.json["failed_checks"]
    assert "refused" in check["description"]
    assert (again.code, check["severity"], again.err) == (1, "ERROR", f"{check['description']}\n")
    assert {row["effect"] for row in sandbox.journal(before)} <= {"none"}


def test_a_paused_connection_says_why_and_calls_nobody_until_it_is_resumed(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    paused = zest("pause", tenant, "fhir", "--reason", "the vendor moves house", "--json")
    assert paused.code == 0, paused.err
    assert (paused.json["paused"], paused.json["pause_reason"]) == (True, "the vendor moves house")
    assert "the vendor moves house" in zest("status").out
    visit, before = _insert_visit(zest, tenant, uuid4()), sandbox.health()["journal"]
    refused = zest("push-week", tenant, "fhir", _monday(), "--wait")
    assert (refused.code, "paused" in refused.err) == (2, True), refused.err
    told = zest("push-week", tenant, "fhir", _monday())
    assert (told.code, f"zest resume {tenant}" in told.err, "next minute" in told.err) == (0, True, False), told.err
    nothing = zest("release", tenant, "fhir")
    assert (nothing.code, "nothing to try again" in nothing.out) == (0, True), nothing.err
    assert sandbox.journal(before) == []

    assert zest("resume", tenant, "fhir", "--json").json["paused"] is False
    released = zest("release", tenant, "fhir", "visit", str(visit), "--json")
    assert released.code == 0, released.err
    assert zest("request", tenant, released.json["request"], "--json").json["kind"] == "retry"
    unknown = zest("release", tenant, "fhir", "visit", str(UUID(int=7)), "--yes")
    assert (unknown.code, len(unknown.err.splitlines())) == (2, 1)


def test_a_record_in_conflict_shows_its_fields_and_on_demand_both_sides_and_is_decided_by_hand(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    assert zest("sync", tenant, "fhir").code == 0
    visit, other = _insert_visit(zest, tenant), _insert_visit(zest, tenant)
    assert zest("sync", tenant, "fhir").code == 0
    sandbox.put(_copy(sandbox, visit) | {"comment": "theirs"})
    _edit_note(zest, tenant, visit, "ours")
    held = zest("sync", tenant, "fhir")

    assert "held, because changed at the partner: 1 record" in held.out
    life = zest("explain", tenant, "visit", str(visit), "--json")
    assert life.json["badge"] == "check_needed"
    assert life.json["conflicts"] == [{"partner": "fhir", "version": 2, "field": "note"}]
    both = zest("explain", tenant, "visit", str(visit), "--values")
    assert ("ours" in both.out, "theirs" in both.out) == (True, True)
    assert _audited(zest, tenant, "show_values") == [{"entity": "visit", "record": str(visit), "fields": ["note"]}]

    told = zest("abandon", tenant, "fhir", "visit", str(visit), "--reason", "theirs is right", "--json")
    assert (told.code, told.json["abandoned"]) == (0, 1), told.err
    done = zest("abandon", tenant, "fhir", "visit", str(other), "--reason", "why")
    assert (done.code, f"zest explain {tenant} visit {other}" in done.err) == (2, True), done.err
    assert zest("sync", tenant, "fhir").code == 0
    life = zest("explain", tenant, "visit", str(visit), "--json").json
    assert [(step["what"], step["outcome"]) for step in life["timeline"]][-2:] == [
        ("decided", "abandon"),
        ("settled", "abandoned"),
    ]
    assert life["timeline"][-2]["reason"] == "theirs is right"


def test_a_change_made_there_that_was_overwritten_is_named_and_its_values_are_shown_on_demand_alone(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    assert _connect(zest, tenant, sandbox.url, TOKEN, "--on-conflict", "overwrite").code == 0
    assert zest("sync", tenant, "fhir").code == 0
    visit = _insert_visit(zest, tenant)
    assert zest("sync", tenant, "fhir").code == 0
    sandbox.put(_copy(sandbox, visit) | {"comment": "theirs"})
    _edit_note(zest, tenant, visit, "ours")
    assert zest("sync", tenant, "fhir").code == 0

    assert _copy(sandbox, visit)["comment"] == "ours"
    named = {"partner": "fhir", "version": 2, "field": "note"}
    life = zest("explain", tenant, "visit", str(visit), "--json")
    assert (life.json["badge"], life.json["overwritten"]) == ("delivered_with_warning", [named])
    plain = zest("explain", tenant, "visit", str(visit))
    assert ("overwritten" in plain.out, "theirs" in plain.out) == (True, False)
    assert _audited(zest, tenant, "show_values") == []
    both = zest("explain", tenant, "visit", str(visit), "--values", "--json")
    assert both.json["overwritten"] == [named | {"ours": "ours", "theirs": "theirs"}]
    assert _audited(zest, tenant, "show_values") == [{"entity": "visit", "record": str(visit), "fields": ["note"]}]


def test_a_suspect_is_looked_at_again_or_taken_as_right_and_there_is_nothing_of_it_to_give_up(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    assert zest("sync", tenant, "fhir").code == 0
    again, right = (str(_insert_visit(zest, tenant)) for _ in range(2))
    assert zest("sync", tenant, "fhir").code == 0
    for visit in (again, right):
        _suspect(zest, tenant, visit)
        assert _badge(zest, tenant, visit) == "check_needed"

    refused = zest("abandon", tenant, "fhir", "visit", right, "--reason", "why")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert refused.err.startswith(f"Visit {right} is settled at fhir, so there is nothing to give up")
    assert f"`zest adopt {tenant} fhir visit {right} --partner-id ID" in refused.err

    released = zest("release", tenant, "fhir", "visit", again, "--json")
    follow = ("request", tenant, released.json["request"], "--json")
    far = zest(*follow).json
    assert (far["total"], far["check_needed"], far["is_done"]) == (1, 1, False)
    adopted = zest(
        "adopt", tenant, "fhir", "visit", right, "--partner-id", _copy(sandbox, right)["id"], "--reason", "seen"
    )
    assert adopted.code == 0, adopted.err
    before = sandbox.health()["journal"]
    assert zest("sync", tenant, "fhir").code == 0

    assert [_badge(zest, tenant, visit) for visit in (again, right)] == ["ok", "ok"]
    assert {row["effect"] for row in sandbox.journal(before)} == {"none"}
    far = zest(*follow).json
    assert (far["total"], far["delivered"], far["is_done"]) == (1, 1, True)
    told = zest("adopt", tenant, "fhir", "visit", right, "--partner-id", "x", "--reason", "why")
    assert (told.code, f"zest explain {tenant} visit {right}" in told.err) == (2, True), told.err


def _copy(sandbox: RunningSandbox, visit: UUID | str) -> dict[str, Any]:
    """What the partner has of a visit."""
    (copy,) = [each for each in sandbox.state("Appointment") if each["identifier"][0]["value"] == str(visit)]
    return copy


def _edit_note(zest: Zest, tenant: str, visit: UUID, note: str) -> None:
    with _as(zest, "product", tenant) as tx:
        tx.execute("UPDATE schedule.visit SET note = %s WHERE visit_id = %s", [note, visit])


def _suspect(zest: Zest, tenant: str, visit: str) -> None:
    """Store what a push does of a delivered visit whose late sender's work it could not judge."""
    with _as(zest, "push", tenant) as tx:
        for outcome, reason in (("suspected", "late_answer"), ("parked", "late_answer_unsure")):
            tx.execute(
                "INSERT INTO sync.repair (tenant_id, partner, entity, record_id, version, outcome, reason) "
                "VALUES (%s, 'fhir', 'visit', %s, 1, %s, %s)",
                [tenant, visit, outcome, reason],
            )


def _audited(zest: Zest, tenant: str, act: str) -> list[Any]:
    """What the audit log says of each such act."""
    with _as(zest, "operator", tenant) as tx:
        return [detail for (detail,) in tx.execute("SELECT detail FROM sync.audit WHERE act = %s", [act])]


def _badge(zest: Zest, tenant: str, visit: str) -> str:
    return str(zest("explain", tenant, "visit", visit, "--json").json["badge"])


@contextmanager
def _as(zest: Zest, login: str, tenant: str) -> Iterator[psycopg.Connection]:
    """A transaction of that login for the tenant."""
    with psycopg.connect(zest("db-url", "--login", login).out.strip()) as tx:
        tx.execute("SELECT set_config('app.tenant', %s, true)", [tenant])
        yield tx


def test_closed_times_stop_the_way_out_quietly_and_say_when_it_opens(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    assert zest("sync", tenant, "fhir").code == 0
    today = datetime.now(ZoneInfo("Asia/Tokyo")).date()
    days = f"{today}..{today + timedelta(days=1)}"
    closed = ("--closed", days, "--closed", "02:00-05:00", "--on-conflict", "overwrite")
    assert _connect(zest, tenant, sandbox.url, TOKEN, *closed).code == 0
    visit, before = _insert_visit(zest, tenant), sandbox.health()["journal"]

    told = zest("sync", tenant, "fhir", "--json")

    assert told.code == 0, told.err
    assert [row for row in sandbox.journal(before) if row["method"] != "GET"] == []
    connection = told.json["connection"]
    assert (connection["closed"], connection["on_conflict"]) == ([days, "02:00-05:00"], "overwrite")
    assert connection["hold"]["reason"] == "outside_window"
    opens = datetime.fromisoformat(connection["hold"]["until"]).astimezone(ZoneInfo("Asia/Tokyo"))
    assert opens.isoformat() == f"{today + timedelta(days=2)}T00:00:00+09:00"
    assert f"nothing is sent until {today + timedelta(days=2)}" in zest("status").out
    life = zest("explain", tenant, "visit", str(visit), "--json").json
    assert [held["reason"] for held in life["holds"]] == ["outside_window"]
    refused = _connect(zest, tenant, sandbox.url, TOKEN, "--closed", "00:00-24:00")
    assert (refused.code, "leave some time open" in refused.err) == (2, True)


def _monday() -> str:
    """Of the week that `_insert_visit` plans in."""
    return week_of((datetime.now(ZoneInfo("Asia/Tokyo")) + timedelta(days=1)).date()).first.isoformat()


def test_a_wrong_token_is_told_by_check_and_sync_and_healed_by_connecting_again(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    assert _connect(zest, tenant, sandbox.url, "wrong").code == 0
    for command in ("check", "sync"):
        told = zest(command, tenant, "fhir")
        assert told.code == 2
        assert "credential" in told.err
        assert "wrong" not in told.err + told.out
    assert _connect(zest, tenant, sandbox.url).code == 0
    assert zest("sync", tenant, "fhir").code == 0


def test_connecting_again_without_a_secret_keeps_the_one_there_is(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    again = zest("connect", tenant, "fhir", "--base-url", sandbox.url, "--timing", "week", *SETTINGS)
    assert again.code == 0
    assert zest("check", tenant, "fhir").code == 0


def test_a_share_and_a_deadline_hold_until_the_next_connect(zest: Zest, sandbox: RunningSandbox, tenant: str) -> None:
    def shown() -> tuple[int, float | None]:
        told = zest("status", "--json").json["connections"]
        status = next(each for each in told if each["tenant"] == tenant)
        return status["weight"], status["deliver_within_seconds"]

    assert _connect(zest, tenant, sandbox.url, TOKEN, "--weight", "3", "--deliver-within", "30m").code == 0
    assert shown() == (3, 1800)
    assert "minute, within 30 min, weight 3" in zest("status").out
    assert _connect(zest, tenant, sandbox.url).code == 0
    assert shown() == (1, None)


def _hold(zest: Zest, tenant: str) -> None:
    """Twenty clients, of whom twelve are to be deleted, and somebody of whom nobody knows who it is."""
    with _as(zest, "apply", tenant) as tx:
        tx.execute(
            """
            WITH made AS (INSERT INTO schedule.client
                          SELECT %(t)s, gen_random_uuid(), 1, '佐藤', '花子', 'サトウ', 'ハナコ',
                                 '1940-01-01', 'female', '', '', '', true FROM generate_series(1, 20)
                          RETURNING client_id)
            INSERT INTO sync.identity (tenant_id, partner, entity, partner_id, record_id)
            SELECT %(t)s, 'fhir', 'client', 'p' || row_number() OVER (), client_id FROM made
            """,
            {"t": tenant},
        )
    with _as(zest, "diff", tenant) as tx:
        tx.execute(
            """
            INSERT INTO sync.master_change (tenant_id, partner, entity, partner_id, landed_no, kind, fields, after)
            SELECT %(t)s, 'fhir', 'client', 'p' || n, n, CASE WHEN n = 0 THEN 'add' ELSE 'delete' END, '{}',
                   CASE WHEN n = 0 THEN '{"family_kana": "サトウ"}'::jsonb END FROM generate_series(0, 12) AS n
            """,
            {"t": tenant},
        )
    with _as(zest, "apply", tenant) as tx:
        tx.execute(
            """
            INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome, reason, params)
            VALUES (%s, 'fhir', 'client', 'p0', 0, 'held', 'identity_ambiguous', '{"records": "a, b"}')
            """,
            [tenant],
        )


def test_what_is_held_on_the_way_in_is_shown_and_a_person_says_what_becomes_of_it(zest: Zest, tenant: str) -> None:
    _hold(zest, tenant)
    asked = zest("approve", tenant, "fhir")
    assert asked.code == 2
    assert "20" in asked.out
    assert "12" in asked.out
    assert "--yes" in asked.err
    looked = zest("approve", tenant, "fhir", "--json")
    assert (looked.json["approved"], "--yes" in looked.err) == (False, True)
    given = zest("approve", tenant, "fhir", "client", "--yes", "--json")
    assert given.json["held"] == [
        {
            "entity": "client",
            "population": 20,
            "deletes": 12,
            "deleted_lately": 0,
            "suspects": 0,
            "changed": {},
            "changed_lately": {},
        }
    ]
    assert given.json["approved"] is True
    assert "audit log" in given.err
    (waiting,) = zest("identities", tenant, "--json").json["waiting"]
    assert (waiting["id"], waiting["records"]) == ("landed:0", ["a", "b"])
    assert waiting["next_action"]
    said = zest("identities", tenant, "fhir", "--settle", "landed:0", "--new", "--reason", "asked the clinic")
    assert said.code == 0
    with _as(zest, "operator", tenant) as tx:
        acts = tx.execute("SELECT act FROM sync.audit ORDER BY at").fetchall()
        (approval,) = tx.execute("SELECT deletes, approved_by FROM sync.approval").fetchall()
        (word,) = tx.execute("SELECT act, reason FROM sync.identity_decision").fetchall()
    assert [act for (act,) in acts][-2:] == ["approve", "settle_identity"]
    assert approval == (12, "zest_operator")
    assert word == ("new", "asked the clinic")


def test_an_address_where_nobody_listens_is_one_sentence_and_exit_code_2(zest: Zest, tenant: str) -> None:
    assert _connect(zest, tenant, f"http://127.0.0.1:{free_port()}").code == 0
    told = zest("check", tenant, "fhir")
    assert told.code == 2
    assert len(told.err.splitlines()) == 1


class _Website(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_is_not_fhir_is_told_apart(zest: Zest, tenant: str) -> None:
    with HTTPServer(("127.0.0.1", 0), _Website) as website:
        thread = threading.Thread(target=website.serve_forever)
        thread.start()
        try:
            assert _connect(zest, tenant, f"http://127.0.0.1:{website.server_port}").code == 0
            told = zest("check", tenant, "fhir")
        finally:
            website.shutdown()
            thread.join()
    assert told.code == 2
    assert "FHIR" in told.err


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("check", "nobody", "fhir"), "zest tenant add"),
        (("sync", "nobody", "fhir"), "zest tenant add"),
        (("explain", "nobody", "visit", str(UUID(int=7))), "zest tenant add"),
        (("push-week", "nobody", "fhir"), "zest tenant add"),
        (("pause", "nobody", "fhir", "--reason", "r"), "zest tenant add"),
        (("resume", "nobody", "fhir"), "zest tenant add"),
        (("release", "nobody", "fhir", "visit", str(UUID(int=7))), "zest tenant add"),
        (("abandon", "nobody", "fhir", "--all", "--reason", "r"), "zest tenant add"),
        (("request", "nobody", str(UUID(int=7))), "zest tenant add"),
        (
            ("connect", "nobody", "fhir", "--base-url", "http://127.0.0.1:1", "--timing", "week", *SETTINGS),
            "zest tenant",
        ),
    ],
)
def test_an_unknown_tenant_is_told_with_the_next_step(zest: Zest, command: tuple[str, ...], word: str) -> None:
    told = zest(*command)
    assert (told.code, len(told.err.splitlines())) == (2, 1)
    assert word in told.err


def test_a_month_that_is_not_over_stays_where_it_is(zest: Zest) -> None:
    this_month = datetime.now(UTC).strftime("%Y-%m")
    told = zest("archive", this_month, "--json")
    assert (told.code, told.json["tables"]) == (1, [])
    assert f"{this_month} stays where it is: it is not over yet" in told.err


def test_an_unknown_record_is_told(zest: Zest, tenant: str) -> None:
    told = zest("explain", tenant, "visit", str(UUID(int=7)))
    assert (told.code, len(told.err.splitlines())) == (2, 1)


def test_commands_start_the_embedded_server_that_is_down(zest: Zest) -> None:
    assert zest("down").code == 0
    assert not zest.left_behind()
    assert zest("status", "--json").code == 0


@LONG
def test_up_delivers_an_edit_within_90_seconds_with_no_hand_in_between_and_leaves_nothing_behind(
    zest: Zest, sandbox: RunningSandbox, tenant: str
) -> None:
    assert zest("sync", tenant, "fhir").code == 0
    port = free_port()
    with zest.running("up", "--port", str(port)) as up:
        assert wait_for(lambda: _answers(port), 60)
        assert zest("up", "--port", str(free_port())).code == 2
        assert zest("down").code == 2
        taken = Zest(zest.data_dir.with_name("other"))("up", "--port", str(port))
        assert taken.code == 2
        visit = _insert_visit(zest, tenant)
        assert wait_for(lambda: _delivered(sandbox, visit) == 1, 90, interval=1)
        up.terminate()
        assert up.wait(timeout=60) == 0
    assert wait_for(lambda: not zest.left_behind(), 15)


def test_up_refuses_a_port_in_use(zest: Zest, sandbox: RunningSandbox) -> None:
    port = sandbox.url.rpartition(":")[2]
    told = zest("up", "--port", port)
    assert (told.code, len(told.err.splitlines())) == (2, 1)
    assert port in told.err


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/server_info", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_up_refuses_a_partner_that_there_is_none_of(zest: Zest) -> None:
    done = zest("up", "--port", str(free_port()), ZEST_PARTNERS="fhir,fihr")

    assert done.code == 2
    assert "ZEST_PARTNERS: no partner is called 'fihr'" in done.err


def test_the_sandbox_command_prints_its_address_and_shows_its_token_to_nobody(tmp_path: Path) -> None:
    token = tmp_path / "token.json"
    token.write_text(json.dumps({"token": TOKEN}))
    command = ("sandbox", "fhir", "--clients", "3", "--staff", "1", "--token-file", str(token), "--json")
    with Zest(tmp_path / "data").running(*command) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert httpx.get(f"{url}/Patient", trust_env=False).status_code == 401
        found = httpx.get(f"{url}/Patient", trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"})
        assert found.json()["total"] == 3
        assert TOKEN not in Path(f"/proc/{process.pid}/cmdline").read_text()
        process.terminate()
        assert process.wait(timeout=20) == 0
