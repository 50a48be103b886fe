"""Alerts: one a cause over all tenants, one notice of each beginning and end, through real HTTP, whatever dies."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import alert_process
import psycopg
import pytest
from alert_bench import CANARY, Receiver, Trouble, add_target, running_receiver
from alert_process import POINTS
from conftest import Said
from cryptography.fernet import Fernet
from evidence import is_told

from partners.reasons import Owner, all_reasons
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.core.alarm import JAPAN, Hours, fingerprint_of
from zest_pipelines.flows.alerts import CALM, is_wanted, look, send
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import alerts

CALM_MINUTES = CALM.total_seconds() / 60
PARTNERS_FAULT = next(each.code for each in all_reasons() if each.owner is Owner.PARTNER)
USERS_FAULT = next(each.code for each in all_reasons() if each.owner is Owner.USER)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def trouble(server: EmbeddedServer, logins: Logins) -> Iterator[Trouble]:
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
        yield Trouble(admin)


@pytest.fixture
def minute(services: Services, receiver: Receiver, trouble: Trouble) -> Callable[..., None]:
    """So many minutes of the platform: each looks and sends once."""
    add_target(services, receiver)

    def passes(minutes: int = 1) -> None:
        for _ in range(minutes):
            look(services)
            send(services)
            trouble.pass_time(1)

    return passes


Minute = Callable[..., None]


def one_cause(receiver: Receiver, trouble: Trouble, minute: Minute, records: int) -> list[str]:
    """What is wrong with how so many failures of one cause are told."""
    trouble.fail(records, "KeyError visits.py:131", tenants=100)
    minute(3)
    trouble.mend()
    minute(int(CALM_MINUTES) + 2)
    told = [] if receiver.kinds() == (1, 1) else [f"(beginnings, ends) {receiver.kinds()}"]
    return told + [f"{CANARY} is told" for _, text in receiver.took if CANARY in text]


def test_ten_thousand_failures_of_one_cause_are_one_alert_and_one_recovery(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    assert one_cause(receiver, trouble, minute, 10_000) == []
    text = receiver.took[0][1]
    assert "records 10000, tenants 100," in text
    assert not re.search("tenant-[0-9]", text)
    assert "KeyError visits.py:131" in text
    assert re.search("[ぁ-ん]", text)
    assert "cannot explain" in text
    assert "zest errors classify" in text
    assert "support" not in text  # that is who reads it
    assert "docs/runbook.md" in text


def test_an_alert_a_record_is_noticed(receiver: Receiver, trouble: Trouble, minute: Minute) -> None:
    """The mutant: what tells records apart tells causes apart."""
    part = "sync.detail(p.params)"
    assert part in alerts._TROUBLES.sql
    broken = alerts._TROUBLES.sql.replace(part, "p.params ->> 'record'")
    with patch.object(alerts, "_TROUBLES", replace(alerts._TROUBLES, sql=broken)):
        assert one_cause(receiver, trouble, minute, 100) != []


def test_ten_causes_are_ten_alerts_and_ten_recoveries(receiver: Receiver, trouble: Trouble, minute: Minute) -> None:
    for number in range(10):
        trouble.fail(20, f"KeyError visits.py:{number}", tenants=4)
    minute(2)
    trouble.mend()
    minute(int(CALM_MINUTES) + 3)
    assert receiver.kinds() == (10, 10)
    assert len(set(receiver.titles)) == 20


def test_what_comes_and_goes_is_told_once(receiver: Receiver, trouble: Trouble, minute: Minute) -> None:
    for _ in range(4):
        trouble.fail(1, "KeyError visits.py:131")
        minute(1)
        trouble.mend()
        minute(int(CALM_MINUTES) - 1)
    assert receiver.kinds() == (1, 0)


def test_what_the_tenants_people_have_to_do_is_told_to_nobody_who_did_not_ask_and_to_nobody_before_a_day(
    services: Services, receiver: Receiver, trouble: Trouble
) -> None:
    add_target(services, receiver)
    add_target(services, receiver, only=frozenset({Owner.USER}), name="support")
    trouble.fail(50, "", reason=USERS_FAULT, minutes=23 * 60)
    trouble.hold(5, USERS_FAULT, minutes=600, failures=9)
    look(services)
    assert trouble.count("alert") == 0
    trouble.fail(7, "", reason=USERS_FAULT, minutes=25 * 60)
    look(services)
    assert send(services).sent == 1
    assert USERS_FAULT in receiver.titles[0]
    assert "records 7," in receiver.took[0][1]
    assert "docs/runbook.md#alert-of-what-a-tenants-people-have-to-do" in receiver.took[0][1]


def test_a_planned_closing_is_no_alert(receiver: Receiver, trouble: Trouble, minute: Minute) -> None:
    trouble.hold(50, "outside_window", minutes=600, failures=0)
    trouble.fail(50, "", reason="outside_window", state="retry")
    minute(2)
    assert trouble.count("alert") == 0


def test_a_fault_of_the_partners_is_one_alert_once_it_has_lasted(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.hold(50, PARTNERS_FAULT, minutes=20, failures=9)
    minute(1)
    assert receiver.took == []
    trouble.mend()
    trouble.hold(50, PARTNERS_FAULT, minutes=31, failures=9)
    minute(2)
    assert receiver.kinds() == (1, 0)
    assert "tenants 50" in receiver.took[0][1]
    trouble.open(minutes=0)
    minute(int(CALM_MINUTES) + 2)
    assert receiver.kinds() == (1, 1)


def test_a_reading_that_the_partner_fails_is_an_alert_once_that_has_lasted_and_one_that_we_fail_is_at_once(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.read("failed", "failed", "certified", "incomplete", "failed", reason=PARTNERS_FAULT)
    minute(1)
    assert receiver.took == []
    trouble.read("certified", "failed", "failed", "failed", reason=PARTNERS_FAULT)
    minute(1)
    assert receiver.kinds() == (1, 0)
    trouble.read("certified", "failed", reason="unknown")
    minute(1)
    assert receiver.kinds() == (2, 0)


def test_what_failed_before_the_partner_closed_opens_no_alert_while_it_is_closed_and_one_that_is_open_stays(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.read("certified", "failed", "failed", "failed", reason=PARTNERS_FAULT)
    trouble.fail(3, "record", reason=PARTNERS_FAULT, state="retry", minutes=40)
    trouble.close()
    minute(2)
    assert receiver.took == []
    trouble.fail(1, "parked", reason=PARTNERS_FAULT, minutes=40)
    minute(1)
    assert receiver.kinds() == (1, 0)
    trouble.reopen()
    minute(1)
    assert receiver.kinds() == (1, 0)
    trouble.fail_again()
    minute(1)
    assert receiver.kinds() == (3, 0)
    trouble.close()
    minute(int(CALM_MINUTES) + 2)
    assert receiver.kinds() == (3, 0)


def test_the_alert_of_a_connection_stays_while_the_partner_is_closed(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.hold(5, PARTNERS_FAULT, minutes=40, failures=9)
    minute(1)
    assert receiver.kinds() == (1, 0)
    trouble.close()
    minute(int(CALM_MINUTES) + 2)
    assert receiver.kinds() == (1, 0)
    trouble.open(minutes=0)
    minute(int(CALM_MINUTES) + 2)
    assert receiver.kinds() == (1, 1)


def test_a_fault_of_a_connection_opens_no_alert_while_the_partner_is_closed(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.hold(5, PARTNERS_FAULT, minutes=40, failures=9)
    trouble.close()
    minute(3)
    assert receiver.took == []


def test_a_record_that_the_partner_fails_is_no_alert_for_how_long_ago_it_was_edited(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    for state in ("retry", "unknown"):
        trouble.fail(3, "", reason=PARTNERS_FAULT, state=state, minutes=20)
    trouble.wait(4, tenants=1, minutes=50)
    trouble.turn("retry", PARTNERS_FAULT)
    minute(1)
    assert receiver.took == []
    trouble.mend()
    trouble.fail(2, "", reason=PARTNERS_FAULT, state="retry", minutes=40)
    minute(1)
    assert receiver.kinds() == (1, 0)
    assert "records 2," in receiver.took[0][1]


def test_a_record_that_is_in_doubt_and_retried_by_turns_is_an_alert_once_that_has_lasted(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.fail(3, "", reason=PARTNERS_FAULT, state="retry", minutes=40)
    for state in ("unknown", "retry", "unknown"):
        trouble.turn(state, PARTNERS_FAULT)
    minute(1)
    assert receiver.kinds() == (1, 0)
    trouble.turn("parked", USERS_FAULT)
    minute(int(CALM_MINUTES) + 2)
    assert receiver.kinds() == (1, 1)


def test_clients_that_are_not_taken_over_are_an_alert_until_one_is(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.refuse(8, "internal_error", minutes=0)
    trouble.refuse(9, USERS_FAULT, minutes=9000, outcome="held")
    minute(2)
    assert receiver.kinds() == (1, 0)
    assert "internal_error" in receiver.titles[0]
    assert "records 8," in receiver.took[0][1]


def test_conflicts_and_suspects_and_what_is_held_are_told_to_who_wants_to_hear_of_what_people_have_to_do(
    services: Services, receiver: Receiver, trouble: Trouble
) -> None:
    add_target(services, receiver, only=frozenset({Owner.USER}))
    day = 24 * 60 + 1
    trouble.fail(3, "", reason="changed_at_partner", state="conflict", minutes=day)
    trouble.suspect(4, "late_answer_unsure", minutes=day)
    trouble.suspect(5, "late_answer_unsure", minutes=60)
    trouble.refuse(6, "identity_ambiguous", minutes=day, outcome="held")
    look(services)
    assert send(services).sent == 3
    for reason, records in (("changed_at_partner", 3), ("late_answer_unsure", 4), ("identity_ambiguous", 6)):
        (text,) = (text for title, text in receiver.took if reason in title)
        assert f"records {records}," in text


def test_a_reading_of_plans_that_fails_is_an_alert(receiver: Receiver, trouble: Trouble, minute: Minute) -> None:
    trouble.read("certified", "failed", reason="unknown", entity="plan")
    minute(1)
    assert receiver.kinds() == (1, 0)


def test_edits_that_could_go_and_wait_too_long_are_an_alert_but_for_those_of_whom_nothing_is_sent_for_now(
    receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    trouble.connect(5)
    trouble.wait(10, tenants=5, minutes=50)
    minute(1)
    trouble.hold(5, "outside_window", minutes=600, failures=0)
    trouble.wait(10, tenants=5, minutes=600)
    minute(1)
    trouble.open(minutes=50)  # they could not go while hours were closed
    minute(1)
    trouble.open(minutes=90)
    trouble.resume(minutes=50)  # nor while the connection was paused
    minute(1)
    assert receiver.took == []
    trouble.resume(minutes=70)
    minute(2)
    assert receiver.kinds() == (1, 0)
    assert "edits_wait_too_long" in receiver.titles[0]
    assert "records 10, tenants 5," in receiver.took[0][1]
    is_told("edits_wait_too_long")


def test_the_bounds_are_what_operations_set(zest: Said, receiver: Receiver, trouble: Trouble, minute: Minute) -> None:
    code, out, _ = zest("alerts", "bounds", "--json")
    assert code == 0
    assert json.loads(out) == {"partner_after": "30m", "edits_after": "60m", "users_after": "1440m"}
    trouble.hold(5, PARTNERS_FAULT, minutes=40, failures=9)
    assert zest("alerts", "bounds", "--partner", "1h", "--edits", "2h")[0] == 0
    minute(1)
    assert receiver.took == []
    assert zest("alerts", "bounds", "--partner", "35m")[0] == 0
    minute(1)
    assert receiver.kinds() == (1, 0)
    assert json.loads(zest("alerts", "bounds", "--json")[1])["edits_after"] == "120m"


def test_an_operator_is_shown_at_which_tenants_a_cause_is_seen(
    services: Services, zest: Said, trouble: Trouble
) -> None:
    trouble.fail(5, "KeyError visits.py:131", tenants=2)
    trouble.fail(5, "another one")
    trouble.read("certified", "failed", reason="unknown")
    look(services)
    of_records = fingerprint_of("fhir", "unknown", "KeyError visits.py:131")
    seen = json.loads(zest("alerts", "show", of_records, "--json")[1])["seen_at"]
    assert [(each["tenant"], each["records"]) for each in seen] == [("tenant-2", 3), ("tenant-1", 2)]
    assert "zest badges tenant-1" in zest("alerts", "show", of_records)[1]
    assert len(json.loads(zest("alerts", "show", fingerprint_of("fhir", "unknown", ""), "--json")[1])["seen_at"]) == 1
    trouble.mend()
    assert "at no tenant now" in zest("alerts", "show", of_records)[1]
    code, _, told = zest("alerts", "show", "00000000")
    assert (code, "There never was an alert" in told) == (2, True)


@pytest.mark.parametrize("wrong", ["0m", "soon", "30s", "8d"])
def test_a_bound_that_is_none_is_refused_and_changes_nothing(zest: Said, wrong: str) -> None:
    before = zest("alerts", "bounds", "--json")
    code, _, told = zest("alerts", "bounds", "--edits", "2h", "--partner", wrong)
    assert code == 2
    assert "--partner" in told
    assert zest("alerts", "bounds", "--json") == before


def test_the_numbers_of_an_open_alert_are_at_most_ten_minutes_old(
    services: Services, zest: Said, trouble: Trouble
) -> None:
    def shown() -> int:
        (alert,) = json.loads(zest("alerts", "show", "--json")[1])["alerts"]
        return int(alert["records"])

    trouble.fail(5, "KeyError visits.py:131")
    look(services)
    trouble.fail(20, "KeyError visits.py:131")
    assert not is_wanted(services.database, services.now())
    assert shown() == 5
    trouble.pass_time(11)
    assert is_wanted(services.database, services.now())
    look(services)
    assert shown() == 25


def test_a_target_is_told_what_it_wants_to_hear(services: Services, receiver: Receiver, trouble: Trouble) -> None:
    add_target(services, receiver, only=frozenset({Owner.PARTNER}))
    trouble.fail(5, "KeyError visits.py:131")
    trouble.hold(5, PARTNERS_FAULT, minutes=40, failures=9)
    look(services)
    send(services)
    assert receiver.kinds() == (1, 0)
    assert PARTNERS_FAULT in receiver.titles[0]


def test_what_is_urgent_pierces_quiet_hours_where_that_is_wanted(
    services: Services, receiver: Receiver, trouble: Trouble
) -> None:
    now = services.now().astimezone(JAPAN)
    quiet = (now - timedelta(hours=1)).time(), (now + timedelta(hours=2)).time()
    add_target(services, receiver, Hours(*quiet, is_pierced=True))
    trouble.fail(5, "KeyError visits.py:131")
    trouble.hold(5, PARTNERS_FAULT, minutes=40, failures=9)
    look(services)
    send(services)
    assert receiver.kinds() == (1, 0)
    assert "unknown" in receiver.titles[0]


def test_a_receiver_that_is_down_for_an_hour_gets_all_once(
    receiver: Receiver, trouble: Trouble, minute: Minute, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.is_down = True
    for number in range(3):
        trouble.fail(5, f"KeyError visits.py:{number}")
    minute(20)
    trouble.mend()
    minute(40)
    assert trouble.count("alert") == 3
    assert 0 < receiver.refused <= 6 * 9  # later and later
    receiver.is_down = False
    minute(31)  # the longest it waits
    assert receiver.kinds() == (3, 3)
    assert len(set(receiver.titles)) == 6
    assert "hook-with-a-secret" not in caplog.text


def test_quiet_hours_hold_notices_and_tell_them_together(
    services: Services, receiver: Receiver, trouble: Trouble, zest: Said
) -> None:
    def shown() -> set[tuple[int, int]]:
        """Of each alert, how many notices were to be sent by now, and how many wait for their hour."""
        return {(row["unsent"], row["held"]) for row in json.loads(zest("alerts", "show", "--json")[1])["alerts"]}

    now = services.now().astimezone(JAPAN)
    hours = Hours((now - timedelta(hours=1)).time(), (now + timedelta(hours=2)).time())
    add_target(services, receiver, hours)
    for number in range(3):
        trouble.fail(5, f"KeyError visits.py:{number}")
    for minutes in (60, 59, 2):
        assert receiver.took == []
        look(services)
        send(services)
        assert shown() == {(0, 1)}
        trouble.pass_time(minutes)
    assert shown() == {(1, 0)}
    send(services)
    assert shown() == {(0, 0)}
    assert len(receiver.took) == 1
    assert all(f"visits.py:{number}" in receiver.took[0][1] for number in range(3))
    trouble.pass_time(60)
    send(services)
    assert len(receiver.took) == 1


def test_what_began_and_ended_while_the_service_was_down_is_told_in_that_order_once_it_is_back(
    services: Services, receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    receiver.is_down = True
    for number in range(2):
        trouble.fail(5, f"KeyError visits.py:{number}")
    minute(40)
    trouble.mend()
    minute(int(CALM_MINUTES) + 2)
    assert (receiver.took, trouble.count("notice")) == ([], 4)
    assert receiver.refused < 40  # it is left alone for longer each time
    receiver.is_down = False
    for _ in range(11):
        if not receiver.took:
            minute(1)
    assert len(receiver.took) == 4  # the others follow the first one at once
    for number in range(2):
        first, last = (title for title, text in receiver.took if f"visits.py:{number}" in text)
        assert ("ALERT" in first, "RECOVERED" in last) == (True, True)


def test_a_service_that_is_away_for_days_is_told_all_when_it_is_back(
    services: Services, receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    receiver.is_down = True
    trouble.fail(5, "KeyError visits.py:131")
    minute(1)
    trouble._admin.execute("UPDATE sync.notice SET attempts = 5000, not_before = now()")
    minute(1)
    receiver.is_down = False
    minute(11)
    assert receiver.kinds() == (1, 0)


def test_a_slow_service_is_waited_for_and_told_once(
    services: Services, receiver: Receiver, trouble: Trouble, minute: Minute
) -> None:
    receiver.seconds = 5.0  # longer than apprise waits by itself
    trouble.fail(5, "KeyError visits.py:131")
    minute(1)
    receiver.seconds = 0.0
    minute(3)
    assert receiver.kinds() == (1, 0)


class Mortal:
    """Looks and sends in processes that die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def die(self, point: str, mutant: str = "") -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"point": point, "mutant": mutant}), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline().strip() == str(-signal.SIGKILL)


@pytest.fixture
def own_key(services: Services) -> tuple[Services, str]:
    """The services with a key that others can be told."""
    key = Fernet.generate_key().decode()
    return replace(services, vault=Vault([key])), key


@pytest.fixture
def mortal(own_key: tuple[Services, str], logins: Logins, receiver: Receiver, tmp_path: Path) -> Iterator[Mortal]:
    services, key = own_key
    add_target(services, receiver)
    logins.write(tmp_path / "logins.json")
    program = [sys.executable, alert_process.__file__]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        told = {"logins": str(tmp_path / "logins.json"), "key": key, "address": receiver.address}
        print(json.dumps(told), file=process.stdin, flush=True)
        yield Mortal(process)
        process.stdin.close()


def after_deaths(services: Services, receiver: Receiver, trouble: Trouble) -> list[str]:
    """What is wrong with what was told, once others went on: one beginning, a repeated one known by its number."""
    for _ in range(3):
        look(services)
        send(services)
        trouble.pass_time(2)
    numbers = [re.findall(r"Notice ([0-9]+)", text)[0] for _, text in receiver.took]
    said = [] if set(receiver.titles) else ["never told"]
    said += [f"{len(set(numbers))} notices of one beginning"] if len(set(numbers)) > 1 else []
    return said + ([f"{trouble.count('alert')} alerts"] if trouble.count("alert") != 1 else [])


def test_whatever_dies_the_beginning_is_told(
    own_key: tuple[Services, str], mortal: Mortal, receiver: Receiver, trouble: Trouble, server: EmbeddedServer
) -> None:
    services, _ = own_key
    for point in POINTS:
        trouble.fail(5, f"at {point}")
        mortal.die(point)
        assert after_deaths(services, receiver, trouble) == [], point
        assert len(receiver.took) == (2 if point == "delivered" else 1), point
        trouble.mend()
        trouble._admin.execute("TRUNCATE sync.alert, sync.notice")
        receiver.took.clear()


def test_an_alert_and_its_notices_in_two_transactions_are_noticed(
    own_key: tuple[Services, str], mortal: Mortal, receiver: Receiver, trouble: Trouble
) -> None:
    """The mutant: who dies in between has nobody told, ever."""
    trouble.fail(5, "KeyError visits.py:131")
    mortal.die("", "in two")
    assert after_deaths(own_key[0], receiver, trouble) == ["never told"]


def test_an_address_is_kept_sealed_and_shown_nowhere(
    zest: Said, services: Services, receiver: Receiver, tmp_path: Path, logins: Logins
) -> None:
    secret = "hook-with-a-secret"
    (tmp_path / "address").write_text(receiver.address + "\n")
    said = [
        zest("alerts", "add", "ops", "--url-file", str(tmp_path / "address"), "--quiet", "22:00-07:00"),
        zest("alerts", "add", "ops", "--url-file", str(tmp_path / "address")),
        zest("alerts", "test", "ops"),
        zest("alerts", "targets", "--json"),
    ]
    assert [code for code, *_ in said] == [0, 2, 0, 0], said
    assert receiver.titles == ["zest TEST / テスト"]
    assert [each["only"] for each in json.loads(said[3][1])["targets"]] == [["partner", "unknown", "us"]]
    receiver.is_down = True
    said += [zest("alerts", "test", "ops"), zest("alerts", "show"), zest("alerts", "remove", "ops")]
    assert [code for code, *_ in said[4:]] == [2, 0, 0]
    assert not [each for each in said if secret in "".join(map(str, each))]
    with services.database.transaction(Login.ALERT, None) as tx:
        assert alerts.targets(tx) == ()


def test_a_target_has_a_name_that_can_be_typed(zest: Said) -> None:
    code, _, told = zest("alerts", "add", "Bad Name", "--url-file", "-")
    assert (code, "a-z" in told) == (2, True)


def test_what_is_no_address_is_not_quoted(zest: Said, tmp_path: Path) -> None:
    (tmp_path / "address").write_text("nothing://that-is-a-secret\n")
    code, out, err = zest("alerts", "add", "ops", "--url-file", str(tmp_path / "address"))
    assert code == 2
    assert "that-is-a-secret" not in out + err
