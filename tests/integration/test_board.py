"""The board: each token opens one tenant, and what is shown is read, masked, escaped and never kept by anybody."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from board_bench import caller, serving, token_of, visitor
from conftest import Tenant
from test_diff_apply import carry_over, compare
from way_out import WayOut, ended, way_out

from partners.contract import Entity
from partners.fhir.sandbox import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.board import patience
from zest_pipelines.board.bundle import bundle
from zest_pipelines.core.identifiers import landed_id
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.core.reference import reference
from zest_pipelines.flows.land import land
from zest_pipelines.store import board_tokens, decisions
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.keys import Key

PATHS = ["/", "/records", "/records/visit/{id}", "/records/visit/{id}/calls"]
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def out(database: Database) -> WayOut:
    return way_out(database)


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    with serving(database) as url:
        yield url


def parked(out: WayOut, detail: str = "422") -> Key:
    key = out.change()
    intent = out.intend(key)
    told = [{"method": "POST", "path": "/Appointment", "asked": {"a": "‹name 3›"}, "status": 422, "answer": None}]
    result = ended(intent, Outcome.PARKED, "record_refused", params={"detail": detail}, calls=told)
    assert out.store(result) == ()
    return key


def path_of(path: str, key: Key) -> str:
    return path.format(id=key.record_id)


def test_the_product_reads_how_its_tenant_stands_in_either_language(
    out: WayOut, database: Database, address: str
) -> None:
    key = parked(out)
    with caller(address, token_of(database, out.tenant)) as product:
        told = product.get("/api/overview", params={"lang": "en"}).json()
        (group,) = told["records"]
        assert (group["badge"], group["records"], group["reason"]) == ("action_needed", 1, "record_refused")
        assert [(each["badge"], each["reason"]) for each in told["connections"]] == [("ok", None)]
        japanese = product.get("/api/overview").json()["records"][0]
        assert japanese["next_action"].endswith("。")
        assert group["next_action"] != japanese["next_action"]
        asked = {name: group[name] for name in ("partner", "entity", "badge", "reason")}
        (member,) = product.get("/api/records", params=asked).json()["records"]
        assert member["record_id"] == str(key.record_id)
        life = product.get(f"/api/records/visit/{key.record_id}").json()
        assert life["badge"] == "action_needed"
        assert [step["what"] for step in life["timeline"]] == ["queued", "sent", "answered"]
        assert life["timeline"][-1]["next_action"] == japanese["next_action"]


def test_what_is_ours_is_told_with_the_number_of_the_record_that_support_asks_for(
    out: WayOut, database: Database, address: str
) -> None:
    key = out.change()
    assert out.store(ended(out.intend(key), Outcome.PARKED, "internal_error")) == ()
    with caller(address, token_of(database, out.tenant)) as product:
        life = product.get(f"/api/records/visit/{key.record_id}").json()
        asked = {"partner": out.partner, "entity": "visit", "badge": life["badge"], "reason": "internal_error"}
        (member,) = product.get("/api/records", params=asked).json()["records"]
        (group,) = product.get("/api/overview").json()["records"]
    number = reference(out.tenant, out.partner, "visit", str(key.record_id))
    assert number in life["timeline"][-1]["next_action"]
    assert number in life["partners"][0]["next_action"]
    assert number in member["next_action"]
    assert reference(out.tenant, out.partner) in group["next_action"]


def test_a_person_sees_the_same_on_pages_and_finds_the_record(out: WayOut, database: Database, address: str) -> None:
    key = parked(out)
    with visitor(address, token_of(database, out.tenant)) as person:
        page = person.get("/")
        assert (page.status_code, 'lang="ja"' in page.text, "対応が必要" in page.text) == (200, True, True)
        english = person.get("/", params={"lang": "en"}).text
        assert "action needed" in english
        listed = english.split('href="/records?')[1].split('"')[0].replace("&amp;", "&")
        assert str(key.record_id) in person.get(f"/records?{listed}").text
        assert "次にすること" in person.get(f"/records/visit/{key.record_id}").text
        calls = person.get(f"/records/visit/{key.record_id}/calls").text
        assert "POST /Appointment" in calls
        assert "‹name 3›" in calls


def test_who_says_half_a_request_loses_the_line_and_keeps_nobody_out(
    out: WayOut, database: Database, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.3)
    place = urlsplit(address).hostname, urlsplit(address).port
    with ExitStack() as lines, caller(address, token_of(database, out.tenant)) as product:
        slow = [lines.enter_context(socket.create_connection(place, timeout=5)) for _ in range(220)]
        slow[0].sendall(b"POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nto")
        for each in slow[1:]:
            each.sendall(b"GET /api/overview HTTP/1.1\r\nhost: x\r\nx-a: ")
        for each in slow:
            with suppress(ConnectionError):
                while each.recv(4096):  # at the latest after twice that time; else the socket's timeout ends it
                    pass
        assert product.get("/api/overview").status_code == 200


def test_calls_of_a_record_that_the_tenant_has_not_are_not_there(out: WayOut, database: Database, address: str) -> None:
    with caller(address, token_of(database, out.tenant)) as product:
        assert product.get(f"/api/records/visit/{uuid4()}/calls").status_code == 404


def test_looking_at_calls_is_noted_with_the_tokens_name(out: WayOut, database: Database, address: str) -> None:
    key = parked(out)
    with caller(address, token_of(database, out.tenant, "support-desk")) as support:
        assert support.get(f"/api/records/visit/{key.record_id}/calls").json()["calls"][0]["calls"][0]["status"] == 422
    noted = out.sql("SELECT actor, subject, detail FROM sync.audit WHERE act = 'show_calls'")
    assert [(row.actor, row.subject, row.detail["token"], row.detail["record"]) for row in noted] == [
        ("zest_board", out.partner, "support-desk", str(key.record_id))
    ]


@pytest.mark.parametrize("path", PATHS)
def test_without_a_token_or_with_another_ones_nothing_is_told(
    out: WayOut, database: Database, address: str, path: str
) -> None:
    key = parked(out)
    other = way_out(database, tenant=f"ume-{uuid4().hex[:8]}")
    theirs, query = token_of(database, other.tenant), f"partner={out.partner}&entity=visit&badge=action_needed"
    revoked = token_of(database, out.tenant, "old")
    with out.transaction(Login.OPERATOR) as tx:
        board_tokens.revoke(tx, out.tenant, "old")
    secret = theirs.partition(".")[2]
    for token in ("", "x", revoked, f"{out.tenant}.{secret}", f"{out.tenant}.", f"{out.tenant}.{'a' * 43}", "\xe9"):
        with caller(address) as product:
            headers = {"authorization": f"Bearer {token}".strip().encode("latin-1")}
            answer = product.get(f"/api{path_of(path, key).rstrip('/') or '/overview'}?{query}", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["next_action"]
        with visitor(address) as person:
            cookie = {"cookie": f"board={token}".encode("latin-1")}
            page = person.get(f"{path_of(path, key)}?{query}", headers=cookie)
            assert (page.status_code, page.headers["location"].startswith("/sign-in")) == (303, True)
    with caller(address, theirs) as product:
        answer = product.get(f"/api{path_of(path, key).rstrip('/') or '/overview'}?{query}")
        assert out.partner not in answer.text or path == "/records"  # which says again what it was asked
        assert str(key.record_id) not in answer.text or path.endswith("/calls")  # the same, and that there are none
        assert "record_refused" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/records/visit/1",
        "/records/visit/00000000-0000-0000-0000-000000000000",
        "/records/person/00000000-0000-0000-0000-000000000000",
        "/records/visit/%00",
        "/records?entity=visit&badge=action_needed",
        "/records?entity=visit&badge=best&partner=fhir",
        "/records?entity=visit&badge=ok&partner=%00",
        "/records?entity=visit&badge=ok&partner=fhir&reason=%00",
        f"/{SCRIPT}",
    ],
)
def test_what_is_not_there_is_told_with_the_next_step_and_repeats_nothing(
    out: WayOut, database: Database, address: str, path: str
) -> None:
    token = token_of(database, out.tenant)
    with visitor(address, token) as person, caller(address, token) as product:
        page, answer = person.get(path), product.get(f"/api{path}")
    assert (page.status_code, answer.status_code) == (404, 404)
    assert "見つかりません" in page.text
    assert SCRIPT not in page.text
    assert answer.json()["next_action"]


def test_what_a_partner_wrote_is_text_and_never_a_page(out: WayOut, database: Database, address: str) -> None:
    key = parked(out, detail=SCRIPT)
    with visitor(address, token_of(database, out.tenant)) as person:
        pages = [
            person.get("/").text,
            person.get(f"/records/visit/{key.record_id}").text,
            person.get("/", params={"lang": SCRIPT, SCRIPT: SCRIPT}).text,
            person.get(f"/records?partner={SCRIPT}&entity=visit&badge=ok&reason={SCRIPT}").text,
        ]
    assert any("&lt;script&gt;" in page for page in pages[:2])
    assert [page for page in pages if "<script" in page] == []


def test_no_answer_is_kept_framed_or_scripted_and_the_cookie_is_for_no_script(
    out: WayOut, database: Database, address: str
) -> None:
    token = token_of(database, out.tenant)
    with visitor(address) as person:
        entered = person.post("/sign-in", data={"token": f" {token} "})
        cookie = entered.headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "samesite=strict", "max-age=43200"))
        for path in ("/", "/sign-in", "/board.css", "/healthz", "/api/overview", "/nowhere"):
            headers = person.get(path).headers
            assert headers["cache-control"] == "no-store"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
        assert token not in person.get("/").text
        assert person.post("/sign-out").headers["location"].startswith("/sign-in")
        assert person.get("/").status_code == 303


def test_a_form_that_is_too_long_or_holds_no_token_opens_nothing(address: str) -> None:
    with visitor(address) as person:
        for data in ({"token": "x" * 5000}, {"token": "x"}, {}, {"token": "a.\0"}):
            answer = person.post("/sign-in", data=data)
            assert (answer.status_code in (401, 413), "set-cookie" in answer.headers) == (True, False)
            assert "トークン" in answer.text
        assert person.post("/").status_code == 404
        assert person.put("/api/overview").status_code == 404


def test_callers_that_never_end_what_they_say_keep_nobody_else_waiting(
    out: WayOut, database: Database, address: str
) -> None:
    token = token_of(database, out.tenant)
    host, port = address.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(80)]
    try:
        for number, each in enumerate(slow):
            each.sendall(
                b"GET / HTTP/1.1\r\nhost: x\r\n"
                if number % 2
                else b"POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-length: 4000\r\n\r\ntoken="
            )
        with caller(address, token) as product:
            started = time.monotonic()
            assert product.get("/api/overview").status_code == 200
            assert time.monotonic() - started < 3
    finally:
        for each in slow:
            each.close()


def test_a_database_that_is_away_is_told_and_its_words_are_not(
    out: WayOut, database: Database, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_of(database, out.tenant)

    def away(*_: object) -> None:
        raise StoreError("secret words of the database")

    monkeypatch.setattr(board_tokens, "reader", away)
    with caller(address, token) as product, visitor(address) as person:
        answer = product.get("/api/overview", params={"lang": "en"})
        person.cookies.set("board", token)
        page = person.get("/")
    assert (answer.status_code, page.status_code) == (503, 503)
    assert "support" in answer.json()["next_action"]
    assert "secret words" not in answer.text + page.text


def test_a_token_is_told_once_and_only_its_digest_is_kept(out: WayOut, database: Database) -> None:
    token = token_of(database, out.tenant)
    assert token.partition(".")[2] not in repr(out.sql("SELECT * FROM sync.board_token"))
    with pytest.raises(StoreError, match="another name"), out.transaction(Login.OPERATOR) as tx:
        board_tokens.add(tx, out.tenant, "product")
    with pytest.raises(StoreError, match="a token's name"), out.transaction(Login.OPERATOR) as tx:
        board_tokens.add(tx, out.tenant, "山田")
    with pytest.raises(StoreError, match="board-token list"), out.transaction(Login.OPERATOR) as tx:
        board_tokens.revoke(tx, out.tenant, "nobody")


def test_the_board_may_read_no_persons_data_and_write_nothing(out: WayOut) -> None:
    parked(out)
    for table in (
        "schedule.client",
        "schedule.visit",
        "sync.change",
        "sync.intent",
        "sync.landed_version",
        "sync.credential",
    ):
        with pytest.raises(StoreError):
            out.sql(f"SELECT 1 FROM {table}", Login.BOARD)
    with pytest.raises(StoreError):
        out.sql("SELECT theirs FROM sync.result", Login.BOARD)
    with pytest.raises(StoreError):
        out.sql("DELETE FROM sync.board_token", Login.BOARD)


def test_a_bundle_tells_a_case_without_what_persons_wrote(out: WayOut) -> None:
    key = parked(out)
    with out.transaction(Login.OPERATOR) as tx:
        words = "because the family of 蟹工 called"
        decisions.abandon(tx, out.target, Entity.VISIT, key.record_id, 1, words)
        told = bundle(tx, out.tenant, key.record_id, datetime(2026, 11, 26, tzinfo=UTC))
        assert bundle(tx, out.tenant, uuid4(), datetime.now(UTC)) is None
    assert told is not None
    (case,) = told["records"]
    assert case["calls"][0]["calls"][0]["status"] == 422
    assert [step["what"] for step in case["timeline"]] == ["queued", "sent", "answered", "decided"]
    assert told["versions"]["dagster"]
    (connection,) = told["connections"]
    assert (connection["partner"], connection["base_url"]) == (out.partner, "http://x")
    assert words not in json.dumps(told, ensure_ascii=False)


def test_a_bundle_is_found_by_the_number_that_messages_name(out: WayOut) -> None:
    key, now = parked(out), datetime.now(UTC)
    of_record = reference(out.tenant, out.partner, "visit", str(key.record_id))
    with out.transaction(Login.OPERATOR) as tx:
        told, whole = (bundle(tx, out.tenant, each, now) for each in (of_record, reference(out.tenant, out.partner)))
        assert bundle(tx, out.tenant, "4C7DFGHJ", now) is None
    assert told is not None
    assert whole is not None
    assert [each["record_id"] for each in told["records"]] == [str(key.record_id)]
    assert (whole["records"], [each["partner"] for each in whole["connections"]]) == ([], [out.partner])
    (group,) = whole["connections"][0]["groups"]
    assert (group["count"], group["reason"]) == (1, "record_refused")
    assert [each["record_id"] for each in group["records"]] == [str(key.record_id)]


def test_a_bundle_is_found_by_the_number_of_a_client_that_came(tenant: Tenant, sandbox: RunningSandbox) -> None:
    theirs, *others = sandbox.state("Patient")[:15]
    sandbox.configure(max_count=10)
    for each in (theirs | {"gender": "M"}, *others):  # in this order, and after all others, they are read
        sandbox.put(each)
    sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Patient", page=3, status=503))
    assert land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT).state == "failed"
    newest = "SELECT max(landed_no) FROM sync.landed_version WHERE partner_id = :id"
    ((number,),) = tenant.sql(newest, Login.OPERATOR, id=theirs["id"])
    asked = reference(tenant.name, "fhir", "client", landed_id(number))

    def told() -> dict[str, Any]:
        with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
            case = bundle(tx, tenant.name, asked, datetime.now(UTC))
        assert case is not None
        assert [each["partner"] for each in case["connections"]] == ["fhir"]
        text = json.dumps(case, ensure_ascii=False)
        assert not [each for each in (theirs["name"][0]["text"], theirs["identifier"][0]["value"]) if each in text]
        (came,) = case["landed"]
        assert (case["records"], came["entity"], came["landed_no"]) == ([], "client", number)
        assert (came["reason"], came["params"]) == ("unknown_code", {"field": "Patient.gender"})
        return dict(came)

    before = told()
    assert (before["outcome"], before["record_id"]) == (None, None)
    assert (before["reading"]["state"], before["reading"]["reason"]) == ("failed", "partner_maintenance")
    assert [each["status"] for each in before["reading"]["calls"]] == [200, 200, 503]
    compare(tenant)
    carry_over(tenant)
    assert told()["outcome"] == "rejected"
