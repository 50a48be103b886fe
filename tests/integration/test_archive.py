"""A settled month of history is put away while pushes go on, and its records live on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import fresh_database
from partner import PROOFS, Office, connect, truth
from partner_process import RunningPartner

from partners.contract import Entity
from resources.logins import Login, Logins
from zest_pipelines.core.outcome import RepairOutcome
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.archive import archive
from zest_pipelines.flows.push import push
from zest_pipelines.flows.reports import PushReport
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import archive as archives
from zest_pipelines.store import projection, results
from zest_pipelines.store.database import Database
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.results import Repair

THEN = {"starts_at": "2024-08-10T09:00:00+09:00", "ends_at": "2024-08-10T10:00:00+09:00"}
PARENTS = ("update_event", "change", "intent", "result")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def logins(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    """Of one database for all tests here: each has a tenant and a month of its own."""
    with fresh_database(server, template) as made:
        yield made


@pytest.fixture(scope="module")
def database(logins: Logins) -> Iterator[Database]:
    database = Database(logins)
    yield database
    database.close()


@pytest.fixture(scope="module")
def admin(server: EmbeddedServer, logins: Logins) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def month(admin: psycopg.Connection) -> date:
    """One that is over, with tables of its own."""
    years, months = divmod(next(_numbers), 12)
    first = date(2024 + years, 1 + months, 1)
    admin.execute("SELECT sync.make_months(%s, 1)", [first])
    return first


@pytest.fixture
def office(database: Database, partner: RunningPartner) -> Office:
    return connect(database, f"office-{uuid4().hex[:8]}", PROOFS["proof_client_id"], partner.url, limits=())


def tables_of(month: date) -> tuple[str, ...]:
    return tuple(f"{parent}_{month:%Y_%m}" for parent in PARENTS)


def send_back(office: Office, admin: psycopg.Connection, month: date) -> None:
    """Have all that was edited since, and not accumulated, be edited on the tenth of that month."""
    with admin.transaction():
        admin.execute("ALTER TABLE sync.update_event DISABLE TRIGGER refuse_rewrite")
        admin.execute(
            "UPDATE sync.update_event e SET month = %s, at = %s WHERE e.tenant_id = %s AND NOT EXISTS ("
            "SELECT FROM sync.event_cursor k WHERE k.tenant_id = e.tenant_id "
            "AND (k.xid, k.event_id) >= (e.xid, e.event_id))",
            [month, datetime(month.year, month.month, 10, tzinfo=UTC), office.name],
        )
        admin.execute("ALTER TABLE sync.update_event ENABLE ALWAYS TRIGGER refuse_rewrite")


def pushed(office: Office) -> PushReport:
    accumulate(office.services, office.partner, office.name)
    return push(office.services, office.partner, office.name)


def delivered_then(office: Office, admin: psycopg.Connection, month: date, number: int = 1) -> list[UUID]:
    """Visits that were edited, delivered and over in that month."""
    visits = office.add_visits(number, **THEN)
    send_back(office, admin, month)
    assert pushed(office).delivered == number
    return visits


def badges(office: Office) -> dict[UUID, tuple[str, int]]:
    """Badge and version of each record."""
    return {row.record_id: (row.badge, row.version) for row in office.sql("SELECT * FROM sync.badge")}


def differences(office: Office) -> tuple[projection.Difference, ...]:
    with office.services.database.transaction(Login.OPERATOR, office.name) as tx:
        return projection.differences(tx)


@contextmanager
def pushing(office: Office) -> Iterator[list[int]]:
    """Visits are edited and pushed all the time; how many were delivered by each push."""
    delivered: list[int] = []
    failed: list[Exception] = []
    is_over = threading.Event()

    def work() -> None:
        try:
            while not is_over.is_set():
                office.add_visits(5)
                delivered.append(pushed(office).delivered)
        except Exception as error:  # noqa: BLE001  # told by the test's own thread
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield delivered
    finally:
        is_over.set()
        thread.join()
    assert failed == []


def test_a_settled_month_is_put_away_while_pushes_go_on(
    office: Office, partner: RunningPartner, admin: psycopg.Connection, month: date
) -> None:
    delivered_then(office, admin, month, 20)
    with pushing(office) as delivered:
        while len(delivered) < 2:
            time.sleep(0.01)
        report = archive(office.services, month)
        after = len(delivered)
        while len(delivered) < after + 2:
            time.sleep(0.01)
    assert report.waits is None
    assert report.tables == tables_of(month)
    assert set(delivered) == {5}
    assert office.sql("SELECT count(*) FROM sync.result WHERE month = :m", Login.OPERATOR, m=month)[0][0] == 0
    assert set(badges(office).values()) == {("ok", 1)}
    assert truth(office, partner).broken == []
    assert differences(office) == ()


def test_records_whose_history_is_away_are_changed_cancelled_and_read_back_as_ever(
    office: Office, partner: RunningPartner, admin: psycopg.Connection, month: date
) -> None:
    changed, cancelled, doubted, deleted = delivered_then(office, admin, month, 4)
    assert archive(office.services, month).waits is None

    office.edit(changed, note="2")
    office.cancel(cancelled)
    office.delete(deleted)
    assert pushed(office).delivered == 3
    partner.fail("cut_after", times=1)
    office.edit(doubted, note="2")
    report = pushed(office)
    assert (report.unknown, report.recovered) == (1, 1)

    assert set(badges(office).values()) == {("ok", 2)}
    (recovery, space) = office.space
    writes = [row for row in partner.log() if (row["recovery"], row["space"]) == (recovery, space)]
    effects = [row["effect"] for row in writes if row["effect"] != "none"]
    assert sorted(effects) == ["cancelled"] * 2 + ["created"] * 4 + ["updated"] * 2
    assert truth(office, partner).broken == []
    assert differences(office) == ()


def test_what_is_away_is_an_operators_to_read_tenant_by_tenant_and_nobodys_to_change(
    office: Office, admin: psycopg.Connection, logins: Logins, month: date
) -> None:
    delivered_then(office, admin, month, 2)
    assert archive(office.services, month).waits is None
    for table in tables_of(month):
        for login in set(Login) - {Login.DAGSTER, Login.OPERATOR}:
            with psycopg.connect(logins.libpq_url(login)) as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(f"SELECT * FROM archive.{table}")
        for tenant, rows in ((office.name, 2), ("another", 0), ("", 0)):
            with psycopg.connect(logins.libpq_url(Login.OPERATOR)) as operator:
                operator.execute("SELECT set_config('app.tenant', %s, true)", [tenant])
                assert operator.execute(f"SELECT count(*) FROM archive.{table}").fetchone() == (rows,)
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    operator.execute(f"DELETE FROM archive.{table}")
        for change in (f"DELETE FROM archive.{table}", f"TRUNCATE archive.{table}"):
            with pytest.raises(psycopg.errors.Error, match="is history"):
                admin.execute(change)


def test_a_month_waits_while_an_edit_of_it_is_open(office: Office, admin: psycopg.Connection, month: date) -> None:
    office.add_visits(**THEN)
    send_back(office, admin, month)
    accumulate(office.services, office.partner, office.name)

    assert archive(office.services, month).waits == (
        f"an edit of tenant {office.name} from it, or from before it, is still open"
    )
    assert push(office.services, office.partner, office.name).delivered == 1
    assert archive(office.services, month).waits is None


def test_a_month_waits_for_an_edit_of_it_that_a_newer_one_stands_before(
    office: Office, admin: psycopg.Connection, month: date
) -> None:
    (visit,) = office.add_visits(**THEN)
    send_back(office, admin, month)
    accumulate(office.services, office.partner, office.name)
    office.edit(visit, note="2")
    accumulate(office.services, office.partner, office.name)

    assert "is still open" in (archive(office.services, month).waits or "")
    assert push(office.services, office.partner, office.name).pending == 0
    assert archive(office.services, month).waits is None


def test_a_month_waits_until_each_connection_has_read_it(
    office: Office, admin: psycopg.Connection, month: date
) -> None:
    office.add_visits(**THEN)
    send_back(office, admin, month)

    assert archive(office.services, month).waits == (
        f"edits of tenant {office.name} in it have not been accumulated for each of its connections"
    )


def test_an_edit_that_is_committed_at_the_last_moment_is_seen(
    office: Office, admin: psycopg.Connection, logins: Logins, month: date
) -> None:
    delivered_then(office, admin, month)
    with psycopg.connect(logins.libpq_url(Login.MIGRATOR)) as late:
        late.execute("SET ROLE zest_owner")
        late.execute("SELECT set_config('app.tenant', %s, false)", [office.name])
        late.execute(
            "INSERT INTO sync.update_event (month, tenant_id, entity, record_id, version, op, image, at) "
            "SELECT month, tenant_id, entity, record_id, 2, 'update', image, at FROM sync.update_event"
        )
        waiting: list[float] = []

        def commit(seconds: float) -> None:
            waiting.append(seconds)
            late.commit()

        report = archive(replace(office.services, sleep=commit), month)
    assert waiting != []
    assert "have not been accumulated" in (report.waits or "")
    assert report.tables == ()
    assert pushed(office).delivered == 1


def test_a_month_waits_while_a_record_delivered_in_it_is_suspect(
    office: Office, admin: psycopg.Connection, database: Database, month: date
) -> None:
    (visit,) = delivered_then(office, admin, month)
    target, key = Target(office.name, office.partner.name), Key(month, Entity.VISIT, visit, 1)
    with database.transaction(Login.PUSH, office.name) as tx:
        results.add_repairs(tx, target, [Repair(key, RepairOutcome.SUSPECTED, "late_answer")])

    assert "is to be read again" in (archive(office.services, month).waits or "")
    push(office.services, office.partner, office.name)
    assert archive(office.services, month).waits is None


def test_a_month_waits_for_the_visits_that_were_edited_in_it(
    office: Office, admin: psycopg.Connection, month: date
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=2)
    office.add_visits(starts_at=tomorrow, ends_at=tomorrow + timedelta(hours=1))
    send_back(office, admin, month)
    assert pushed(office).delivered == 1

    assert "are not over yet" in (archive(office.services, month).waits or "")


@pytest.mark.parametrize(
    ("month", "waits"),
    [
        (datetime.now(UTC).date().replace(day=1), "it is not over yet"),
        (date(2023, 12, 1), "there are no tables of it; what there is of it lies in the default ones, and stays there"),
    ],
)
def test_a_month_that_cannot_be_put_away_says_why(
    office: Office, admin: psycopg.Connection, month: date, waits: str
) -> None:
    assert archive(office.services, month).waits == waits


def test_a_month_is_put_away_once(office: Office, admin: psycopg.Connection, month: date) -> None:
    assert archive(office.services, month).tables == tables_of(month)
    assert archive(office.services, month).waits == "it is in the archive already"


def test_a_month_in_use_is_left_alone_in_the_end(
    office: Office, admin: psycopg.Connection, logins: Logins, month: date
) -> None:
    with psycopg.connect(logins.libpq_url(Login.OPERATOR)) as reader:
        reader.execute("SELECT count(*) FROM sync.change")
        report = archive(replace(office.services, sleep=lambda _: None), month)
    assert report.waits == "its tables are in use all the time; try again when less goes on"
    with office.services.database.transaction(Login.MIGRATOR, None) as tx:
        assert archives.hindrance(tx, month) is None
