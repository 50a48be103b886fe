"""History is added to and never changed, whoever tries; it lies in months that can be made, missed and taken away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import product

import psycopg
import pytest
import tenant_rows
from conftest import fresh_database

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer

TENANT = "sakura"
PARTITIONED = ("update_event", "change", "intent", "result")
HISTORY = (
    *("landed_version", "landed_plan", "master_change", "master_result", *PARTITIONED, "repair"),
    *("push_request", "retry_request", "decision", "approval", "approval_use", "identity_decision", "audit"),
)
_TRIGGERS = """
    SELECT c.relname, t.tgname, t.tgenabled = 'A' FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'sync'
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgfoid = 'sync.refuse_rewrite'::regproc
    WHERE c.relkind IN ('r', 'p') AND (c.relname = ANY (%(history)s) OR i.inhparent::regclass::text = ANY (%(parents)s))
"""


@pytest.fixture(scope="module")
def kept(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    """Logins to a database for all tests that change nothing."""
    with fresh_database(server, template) as made:
        with psycopg.connect(server.admin_url, dbname=made.database, autocommit=True) as connection:
            tenant_rows.fill(connection, TENANT)
        yield made


@pytest.fixture
def admin(server: EmbeddedServer, kept: Logins) -> Iterator[psycopg.Connection]:
    """A superuser, whom neither grants nor row-level security bind: what refuses him are the triggers."""
    with psycopg.connect(server.admin_url, dbname=kept.database, autocommit=True) as connection:
        connection.execute("SELECT set_config('app.tenant', %s, false)", [TENANT])
        yield connection


@pytest.fixture
def owner(logins: Logins) -> Iterator[psycopg.Connection]:
    """Who makes months and takes them away, in a database of the test's own with a tenant's rows."""
    with psycopg.connect(logins.libpq_url(Login.MIGRATOR), autocommit=True) as connection:
        connection.execute("SET ROLE zest_owner")
        connection.execute("SELECT set_config('app.tenant', %s, false)", [TENANT])
        yield connection


def unguarded(admin: psycopg.Connection) -> list[str]:
    """History tables and their partitions that lack one of the two triggers, or have one that can be passed by."""
    parents = [f"sync.{name}" for name in PARTITIONED]
    rows = admin.execute(_TRIGGERS, {"history": list(HISTORY), "parents": parents}).fetchall()
    found: dict[str, set[str]] = {}
    for table, trigger, is_always in rows:
        found.setdefault(table, set()).update([trigger] if is_always else [])
    return sorted(table for table, triggers in found.items() if triggers != {"refuse_rewrite", "refuse_truncate"})


def filled_partitions(connection: psycopg.Connection) -> list[str]:
    """The partitions that hold the tenant's rows: in each of the four tables the month of today."""
    rows = connection.execute(
        " UNION ALL ".join(f"SELECT DISTINCT tableoid::regclass::text FROM sync.{t}" for t in PARTITIONED)
    )
    return [name for (name,) in rows.fetchall()]


def rewrites(table: str) -> Iterator[str]:
    yield f"UPDATE {table} SET tenant_id = tenant_id"
    yield f"DELETE FROM {table}"
    yield f"TRUNCATE {table} CASCADE"


def refusals(connection: psycopg.Connection, tables: list[str]) -> set[str | None]:
    """What every rewriting of every table answers: sqlstates, "0 rows", or None for one that was done."""
    answers: set[str | None] = set()
    for table in tables:
        for statement in rewrites(table):
            try:
                with connection.transaction(force_rollback=True):
                    rows = connection.execute(statement).rowcount
                    answers.add("0 rows" if rows == 0 else None)
            except psycopg.Error as error:
                answers.add(error.sqlstate)
    return answers


def test_every_history_table_and_partition_is_guarded(admin: psycopg.Connection) -> None:
    assert unguarded(admin) == []


@pytest.mark.parametrize(
    "mutant",
    [
        "DROP TRIGGER refuse_rewrite ON sync.audit",
        "ALTER TABLE sync.change ENABLE TRIGGER refuse_rewrite",
        "DROP TRIGGER refuse_truncate ON sync.result_default",
        "CREATE TABLE sync.change_1999_01 PARTITION OF sync.change FOR VALUES FROM ('1999-01-01') TO ('1999-02-01')",
    ],
)
def test_the_look_at_the_guards_sees_one_that_is_missing(admin: psycopg.Connection, mutant: str) -> None:
    with admin.transaction(force_rollback=True):
        admin.execute(mutant)
        assert unguarded(admin) != []


def test_not_even_a_superuser_rewrites_history(admin: psycopg.Connection) -> None:
    tables = [f"sync.{table}" for table in HISTORY]
    partitions = filled_partitions(admin)
    assert len(partitions) == len(PARTITIONED)
    assert refusals(admin, tables + partitions) == {"ZT003"}
    admin.execute("SET session_replication_role = replica")
    assert refusals(admin, tables + partitions) == {"ZT003"}


def test_a_rewriting_that_is_not_refused_is_seen(admin: psycopg.Connection) -> None:
    with admin.transaction(force_rollback=True):
        admin.execute("DROP TRIGGER refuse_rewrite ON sync.change")
        assert None in refusals(admin, ["sync.change"])


def test_no_login_rewrites_history(admin: psycopg.Connection, kept: Logins) -> None:
    tables = [f"sync.{table}" for table in HISTORY] + filled_partitions(admin)
    for login in set(Login) - {Login.DAGSTER}:
        with psycopg.connect(kept.libpq_url(login), autocommit=True) as connection:
            connection.execute("SELECT set_config('app.tenant', %s, false)", [TENANT])
            assert refusals(connection, tables) == {"42501"}, login


def test_the_owner_rewrites_no_history(admin: psycopg.Connection, kept: Logins) -> None:
    with psycopg.connect(kept.libpq_url(Login.MIGRATOR), autocommit=True) as connection:
        connection.execute("SET ROLE zest_owner")
        connection.execute("SELECT set_config('app.tenant', %s, false)", [TENANT])
        assert refusals(connection, [f"sync.{table}" for table in HISTORY]) == {"ZT003"}
        # Rows of a partition are hidden from him too, so there is nothing for the trigger to refuse.
        assert refusals(connection, filled_partitions(admin)) == {"ZT003", "0 rows"}


def add_event(owner: psycopg.Connection, month: date) -> str:
    """An update event of that month; the partition that it landed in."""
    row = owner.execute(
        """
        INSERT INTO sync.update_event (month, tenant_id, entity, record_id, version, op, image, at)
        VALUES (%s, %s, 'visit', gen_random_uuid(), 1, 'insert', '{}', %s) RETURNING tableoid::regclass::text
        """,
        [month, TENANT, month],
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_months_are_made_ahead_and_making_them_can_be_repeated(owner: psycopg.Connection, logins: Logins) -> None:
    with psycopg.connect(logins.libpq_url(Login.OPERATOR)) as operator:
        for _ in range(2):
            operator.execute("SELECT sync.make_months('2031-01-15', 2)")
    assert add_event(owner, date(2031, 1, 1)) == "sync.update_event_2031_01"
    assert add_event(owner, date(2031, 2, 1)) == "sync.update_event_2031_02"
    assert unguarded(owner) == []


def test_a_month_that_was_not_prepared_lands_in_the_default_and_stays_there(owner: psycopg.Connection) -> None:
    assert add_event(owner, date(2031, 1, 1)) == "sync.update_event_default"
    owner.execute("SELECT sync.make_months('2030-12-01', 3)")
    assert add_event(owner, date(2030, 12, 1)) == "sync.update_event_2030_12"
    assert add_event(owner, date(2031, 1, 1)) == "sync.update_event_default"
    assert add_event(owner, date(2031, 2, 1)) == "sync.update_event_2031_02"


def test_fourteen_months_are_there_from_the_start(owner: psycopg.Connection) -> None:
    parents = [f"sync.{name}" for name in PARTITIONED]
    rows = owner.execute(
        "SELECT p::text, (SELECT count(*) FROM pg_inherits WHERE inhparent = p) FROM unnest(%s::regclass[]) p",
        [parents],
    )
    assert dict(rows.fetchall()) == {f"sync.{name}": 15 for name in PARTITIONED}  # and the default one


def test_a_settled_month_can_be_taken_away_with_its_rows(server: EmbeddedServer, logins: Logins) -> None:
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as admin:
        tenant_rows.fill(admin, TENANT)
        months = filled_partitions(admin)
    with psycopg.connect(logins.libpq_url(Login.MIGRATOR), autocommit=True) as owner:
        owner.execute("SET ROLE zest_owner")
        owner.execute("SELECT set_config('app.tenant', %s, false)", [TENANT])
        for parent, month in product(PARTITIONED, months):
            if month.startswith(f"sync.{parent}_2"):
                owner.execute(f"ALTER TABLE sync.{parent} DETACH PARTITION {month}")
                assert owner.execute(f"SELECT count(*) FROM sync.{parent}").fetchone() == (0,)
                owner.execute(f"DROP TABLE {month}")
        today = owner.execute("SELECT current_date").fetchone()
        assert today is not None
        assert add_event(owner, today[0].replace(day=1)) == "sync.update_event_default"
