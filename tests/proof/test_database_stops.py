"""PostgreSQL crashes under load, or an open transaction holds all readers back: nothing is lost, and all goes on.

A server of its own that keeps what it has acknowledged (fsync on), started again by what starts it in `zest up`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from signal import SIGQUIT

import psycopg
import pytest
from partner import PROOFS, Office, connect
from partner_process import RunningPartner, running_partner
from product_writers import Ledger, writing
from pushers import serving
from storm import IS_SOAK, broken, drain, looking_at, wait_until, writers

from resources.logins import Logins
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.local.keeper import Keeper
from zest_pipelines.store.database import Database
from zest_pipelines.store.installation import install

STOPS = 5 if IS_SOAK else 2
RESUMES_WITHIN = 30.0
LOAD_SECONDS = 2.0
"""Between two crashes."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[DataDir]:
    made = DataDir(tmp_path / "zest")
    made.open()
    embedded.start(made)
    try:
        yield made
    finally:
        if running := embedded.running(made):
            running.stop("immediate")


@pytest.fixture
def partner() -> Iterator[RunningPartner]:
    with running_partner(latency=0.005) as running:
        yield running


@contextmanager
def kept(data_dir: DataDir) -> Iterator[None]:
    """Within the block, the server is started again when it died."""
    keeper, stop = Keeper(data_dir), threading.Event()

    def keep() -> None:
        while not stop.wait(0.1):
            keeper()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def committed_and_delivered(office: Office, partner: RunningPartner, ledger: Ledger) -> tuple[int, int]:
    """How many versions the product was told are kept, and how many writes had an effect at the partner."""
    return len(ledger.committed), sum(row["effect"] != "none" for row in partner.log())


def crash(server: EmbeddedServer, logins: Logins, office: Office, partner: RunningPartner, ledger: Ledger) -> float:
    """Crash the server as `pg_ctl -m immediate` does; seconds from when it is there again until edits were kept and
    others delivered. How long its recovery takes is the disk's.

    `pg_ctl` itself would go on to wait for the server that the keeper has started in the meantime.
    """
    server_pid = int((server.pgdata / "postmaster.pid").read_text().split()[0])
    os.kill(server_pid, SIGQUIT)
    assert wait_until(lambda: not Path(f"/proc/{server_pid}").exists(), 60.0), "it does not stop"
    edits, effects = committed_and_delivered(office, partner, ledger)
    assert wait_until(lambda: answers(server, logins), 120.0), "the server is not started again"
    started = time.monotonic()

    def gone_on() -> tuple[int, int]:
        edits_now, effects_now = committed_and_delivered(office, partner, ledger)
        return edits_now - edits, effects_now - effects

    wait_until(lambda: min(gone_on()) > 5, RESUMES_WITHIN)
    more_edits, more_effects = gone_on()
    assert more_edits > 5, "the product's writers do not go on"
    assert more_effects > 5, f"after {more_edits} edits the pushes do not go on"
    return time.monotonic() - started


def answers(server: EmbeddedServer, logins: Logins) -> bool:
    """Whether the server takes connections."""
    with suppress(psycopg.OperationalError), looking_at(server.admin_url, logins):
        return True
    return False


def test_crashes_of_postgresql_under_load_lose_nothing_that_was_acknowledged(
    data_dir: DataDir, partner: RunningPartner
) -> None:
    server = embedded.start(data_dir)
    logins = Logins.generate(str(server.socket_dir), server.port, environ={})
    install(server.admin_url, logins)
    draw, ledger = random.Random(5), Ledger()
    database = Database(logins)
    office = connect(database, "sakura", PROOFS["proof_version"], partner.url)
    hands = writers(logins, office, ledger, seed=5, rest=0.05)
    with closing(database), kept(data_dir), serving(2, logins, office, under_way=0.5):
        with writing(hands):
            resumed = []
            for _ in range(STOPS):
                time.sleep(LOAD_SECONDS * draw.uniform(0.5, 1.5))
                resumed.append(crash(server, logins, office, partner, ledger))
            time.sleep(LOAD_SECONDS)
        hands[0].confirm_all()
        with looking_at(server.admin_url, logins) as admin:
            doubtful = len(ledger.in_doubt)
            ledger.settle_doubt(admin)
            wrong = drain(admin, office, ledger)
            assert admin.execute("SHOW fsync").fetchone() == ("on",)
        wrong += broken(office, partner)
    waits = ", ".join(f"{seconds:.1f}" for seconds in resumed)
    print(f"crashes: {STOPS}, {len(ledger.committed)} events, {doubtful} commits in doubt, resumed after {waits} s")
    assert wrong == []


def test_a_transaction_left_open_in_another_database_holds_events_back_and_loses_none(
    server: EmbeddedServer, logins: Logins, database: Database, partner: RunningPartner
) -> None:
    office, ledger = connect(database, "sakura", PROOFS["proof_version"], partner.url), Ledger()
    hands = writers(logins, office, ledger, seed=6)
    with psycopg.connect(server.admin_url) as other, looking_at(server.admin_url, logins) as admin:
        other.execute("SELECT pg_current_xact_id()")
        with writing(hands, 200) as threads:
            for thread in threads:
                thread.join()
        hands[0].confirm_all()
        accumulate(office.services, office.partner, office.name)
        push(office.services, office.partner, office.name)
        assert partner.log() == []
        other.rollback()

        def is_settled() -> bool:
            accumulate(office.services, office.partner, office.name)
            push(office.services, office.partner, office.name)
            return drain(admin, office, ledger, 0.0) == []

        assert wait_until(is_settled, 20.0), drain(admin, office, ledger, 0.0)
    assert broken(office, partner) == []
