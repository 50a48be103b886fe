"""A push that is killed, by a real signal in a real process, at each point that matters: nothing lost, nothing twice.

The partner here makes a record for every POST, as servers do that pass over If-None-Exist: what keeps records from
being doubled is ours alone. Each rule that does so is also broken on purpose, and the breach must show.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TOKEN, NewTenant, Tenant
from cryptography.fernet import Fernet
from flow_bench import (
    accumulate_all,
    beside,
    broken_promises,
    calls,
    effects,
    expire_lease,
    forget_backoff,
    forget_hold,
    impatient,
    mark,
    push_now,
    wait_for,
)

from partners.contract import Command, Reply
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.flows.push import push
from zest_pipelines.store import due, leases
from zest_pipelines.store.leases import Kept

KEY = Fernet.generate_key().decode()
KILLED = -9


@pytest.fixture
def exposed(sandbox: RunningSandbox, new_tenant: NewTenant) -> Tenant:
    """A tenant whose vault another process can open, at a partner that makes a record for every POST."""
    sandbox.configure(conditional_create=False)
    tenant = new_tenant(sandbox)
    vault = Vault([KEY])
    sealed = vault.encrypt({"token": TOKEN}, tenant=tenant.name, partner=tenant.partner.name)
    tenant.sql("UPDATE sync.credential SET ciphertext = :sealed", Login.OPERATOR, sealed=sealed)
    tenant = replace(tenant, services=replace(tenant.services, vault=vault))
    tenant.take_in()
    return impatient(tenant, 2.0)


@contextmanager
def mortal_push(
    tenant: Tenant, *, dies: str = "never", mutant: str = "none", days: tuple[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A push of the tenant, or of some days of it, in a process of its own; gone when the block ends."""
    logins = tenant.services.database._logins
    told = {
        "host": logins.host,
        "port": logins.port,
        "database": logins.database,
        "passwords": {login.value: password for login, password in logins.passwords.items()},
        "key": KEY,
        "partner": tenant.partner.name,
        "tenant": tenant.name,
        "seconds": 5.0,
        "dies": dies,
        "mutant": mutant,
        "days": days,
    }
    program = Path(__file__).with_name("mortal_push.py")
    root = str(program.parents[2])
    process = subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, cwd=root, env={"PYTHONPATH": root, "PATH": ""}
    )
    assert process.stdin is not None
    with process:
        try:
            process.stdin.write(json.dumps(told).encode())
            process.stdin.close()
            yield process
        finally:
            process.kill()
            process.wait()


def die_pushing(tenant: Tenant, dies: str, mutant: str = "none") -> None:
    """Let a push start and be killed at the point `dies`."""
    accumulate_all(tenant)
    start = mark(tenant.sandbox)
    if dies == "waiting":
        tenant.sandbox.set_faults(*(FaultRule(FaultKind.DELAY, method=verb, seconds=4) for verb in ("POST", "PUT")))
    with mortal_push(tenant, dies=dies, mutant=mutant) as process:
        if dies == "waiting":
            wait_for(lambda: calls(tenant.sandbox, "POST", "PUT", after=start) != [], 30)
            process.kill()
        assert process.wait(30) == KILLED
    tenant.sandbox.clear_faults()


def recover(tenant: Tenant, mutant: str = "none") -> list[str]:
    """Push again in another process once the lease has run out; what is broken then."""
    expire_lease(tenant)
    with mortal_push(tenant, mutant=mutant) as process:
        assert process.wait(60) == 0
    return broken_promises(tenant)


POINTS = ("before_send", "waiting", "after_send")


@pytest.mark.parametrize("dies", POINTS)
@pytest.mark.parametrize("act", ["create", "update", "cancel"])
def test_a_killed_push_is_taken_up_by_the_next_one_with_nothing_lost_or_doubled(
    exposed: Tenant, act: str, dies: str
) -> None:
    visits = [exposed.add_visit(note="1") for _ in range(2)]
    if act != "create":
        push_now(exposed)
        for visit in visits:
            exposed.edit_visit(visit, **({"note": "2"} if act == "update" else {"status": "cancelled"}))
    die_pushing(exposed, dies)
    start = mark(exposed.sandbox)
    assert push_now(exposed).stopped == "push_under_way"  # for as long as the dead one's lease lasts
    assert calls(exposed.sandbox, after=start) == []
    expire_lease(exposed)
    report = push_now(exposed)
    assert (report.recovered, report.pending, report.stopped) == (1, 0, None)
    assert broken_promises(exposed) == []
    writes = ["created"] if act == "create" else ["created", "updated"]
    assert [effects(exposed.sandbox, visit) for visit in visits] == [writes] * 2


def test_a_new_version_made_while_the_old_one_is_in_doubt_comes_after_it(exposed: Tenant) -> None:
    visit = exposed.add_visit(note="1")
    die_pushing(exposed, "after_send")
    exposed.edit_visit(visit, note="2")
    accumulate_all(exposed)
    assert recover(exposed) == []
    assert effects(exposed.sandbox, visit) == ["created", "updated"]


def test_a_visit_cancelled_while_its_creation_is_in_doubt_does_not_stay(exposed: Tenant) -> None:
    visit = exposed.add_visit()
    die_pushing(exposed, "after_send")
    exposed.edit_visit(visit, status="cancelled")
    accumulate_all(exposed)
    assert recover(exposed) == []
    assert effects(exposed.sandbox, visit) == ["created", "updated"]


@pytest.mark.parametrize(
    ("victims", "rescuers"),
    [("no_intent", "none"), ("none", "no_read_back")],
    ids=["nothing_is_noted_before_the_call", "sent_again_without_reading_back"],
)
def test_the_check_notices_when_a_rule_that_prevents_doubles_is_broken(
    exposed: Tenant, victims: str, rescuers: str
) -> None:
    exposed.add_visit()
    die_pushing(exposed, "after_send", victims)
    assert [each for each in recover(exposed, rescuers) if each.endswith("made 2 times")] != []


@pytest.mark.parametrize("dies", ["before_send", "after_send"])
def test_a_week_whose_run_is_killed_is_finished_by_the_clock_without_another_press(exposed: Tenant, dies: str) -> None:
    exposed.sql("UPDATE sync.connection SET timing = 'week'", Login.OPERATOR)
    visits = [exposed.add_visit() for _ in range(3)]
    with mortal_push(exposed, dies=dies, days=("2026-11-30", "2026-12-06")) as process:
        assert process.wait(30) == KILLED
    expire_lease(exposed)
    with exposed.services.database.transaction(Login.SCHEDULE, None) as tx:
        assert due.outbound(tx, exposed.partner.name, "1") == due.urgent(tx, exposed.partner.name) == (exposed.name,)
    report = push(exposed.services, exposed.partner, exposed.name)
    assert (report.pending, report.recovered, report.stopped) == (0, 1, None)
    assert [effects(exposed.sandbox, visit) for visit in visits] == [["created"]] * 3
    assert broken_promises(exposed) == []


class Paused:
    """A connector whose sends wait until they may go."""

    def __init__(self, inner: Any, arrived: threading.Event, may_go: threading.Event) -> None:
        self._inner, self._arrived, self._may_go = inner, arrived, may_go

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, command: Command) -> Reply:
        self._arrived.set()
        assert self._may_go.wait(10)
        reply: Reply = self._inner.send(command)
        return reply


@pytest.mark.parametrize("is_lease_kept", [True, False])
def test_the_lease_keeps_two_pushes_from_sending_one_record_and_its_lack_is_noticed(
    exposed: Tenant, is_lease_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_lease_kept:
        monkeypatch.setattr(leases, "take", lambda *_: 1)
        monkeypatch.setattr(leases, "keep", lambda *_: Kept(is_paused=False, on_conflict="hold"))
    exposed.add_visit()
    accumulate_all(exposed)
    arrived, may_go = threading.Event(), threading.Event()
    slow = replace(exposed.partner, open=lambda *given: Paused(exposed.partner.open(*given), arrived, may_go))
    with beside(replace(exposed, partner=slow)) as first:
        assert arrived.wait(10)
        push(exposed.services, exposed.partner, exposed.name)
        may_go.set()
        first.result()
    assert (broken_promises(exposed) == []) == is_lease_kept


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_storm_of_faults_and_kills_everything_has_arrived_once(exposed: Tenant, seed: int) -> None:
    draw, sandbox = random.Random(seed), exposed.sandbox
    kinds = [FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.STATUS, FaultKind.TRUNCATED_BODY]
    sandbox.set_faults(*(FaultRule(kind, type="Appointment", probability=0.1, seed=seed) for kind in kinds))
    visits = [exposed.add_visit(note="0") for _ in range(8)]
    for step in range(1, 4):
        for visit in draw.sample(visits, 4):
            edit = {"status": draw.choice(("confirmed", "cancelled"))} if draw.random() < 0.5 else {"note": str(step)}
            exposed.edit_visit(visit, **edit)
        accumulate_all(exposed)
        expire_lease(exposed)
        forget_backoff(exposed)
        start, most = mark(sandbox), draw.randrange(2, 12)
        with mortal_push(exposed) as process:
            wait_for(lambda: len(calls(sandbox, after=start)) >= most or process.poll() is not None, 30)  # noqa: B023
    sandbox.clear_faults()
    for _ in range(3):
        expire_lease(exposed)
        forget_backoff(exposed)
        forget_hold(exposed)  # five faults in a row
        report = push_now(exposed)
    assert report.pending == 0
    assert broken_promises(exposed) == []
