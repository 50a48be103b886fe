"""Preparing a server can be repeated and run twice at once; whatever is wrong ends in one sentence without data."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import grant_matrix
import psycopg
import pytest
import sqlalchemy as sa
import tenant_rows
from alembic import command
from conftest import fresh_database
from evidence import is_told
from product_hand import beside
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from partners.reasons import Language, all_reasons
from resources.logins import Login, Logins
from zest_pipelines.core.alarm import fingerprint_of
from zest_pipelines.core.reference import reference
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.orchestration.failures import fault_of
from zest_pipelines.store import installation, projection, tenants
from zest_pipelines.store.database import Database, savepoint
from zest_pipelines.store.errors import ConstraintError, DatabaseUnreachableError, SchemaError, StoreError
from zest_pipelines.store.installation import check_schema, install

CANARY = "カナリア花子"


@pytest.fixture
def elsewhere(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    """Logins to two databases that are not there yet."""
    made = replace(template, database="another", dagster_database="another_dagster")
    yield made
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        for name in (made.database, made.dagster_database):
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    with fresh_database(server, template) as logins:
        yield logins


@pytest.fixture
def opened(shared: Logins) -> Iterator[Database]:
    made = Database(shared)
    with made.transaction(Login.OPERATOR, "sakura") as tx:
        tenants.add(tx, "sakura", "A corporation")
    yield made
    made.close()


@pytest.fixture
def down(template: Logins, tmp_path: Path) -> Logins:
    """Logins to a server that is not up."""
    return replace(template, host=str(tmp_path))


def test_installing_again_changes_nothing(server: EmbeddedServer, elsewhere: Logins) -> None:
    install(server.admin_url, elsewhere)
    check_schema(elsewhere)
    database = Database(elsewhere)
    with database.transaction(Login.OPERATOR, "sakura") as tx:
        tenants.add(tx, "sakura", "A corporation")
    install(server.admin_url, elsewhere)
    check_schema(elsewhere)
    with database.transaction(Login.OPERATOR, "sakura") as tx:
        assert tenants.get(tx, "sakura").name == "A corporation"
        reasons = tx.execute(sa.text("SELECT code, severity, retry FROM sync.reason")).all()
    database.close()
    assert {row.code: (row.severity, row.retry) for row in reasons} == {
        each.code: (each.severity.value, each.retry.value) for each in all_reasons()
    }


def test_what_keeps_a_whole_run_from_its_work_is_told_by_the_catalogue(
    elsewhere: Logins, down: Logins, opened: Database
) -> None:
    with pytest.raises(DatabaseUnreachableError) as away:
        check_schema(down)
    with pytest.raises(SchemaError) as bare:
        check_schema(elsewhere)
    with pytest.raises(StoreError) as unknown, opened.transaction(Login.OPERATOR, "sakura") as tx:
        tenants.get(tx, "momiji")
    faults = [fault_of(each.value, "sakura", "fhir") for each in (away, bare, unknown)]
    assert [each.code for each in faults] == ["database_unreachable", "installation_incomplete", "input_refused"]
    assert [each.is_permanent for each in faults] == [False, True, True]
    for shown, fault in zip(
        (is_told("database_unreachable"), is_told("installation_incomplete"), is_told("input_refused")),
        faults,
        strict=True,
    ):
        assert fault.description.startswith(shown[Language.ENGLISH][0])
    assert reference("sakura", "fhir") in faults[0].description


def install_only(revision: str, server: EmbeddedServer, logins: Logins) -> None:
    """Prepare the server as the version with this schema did."""
    upgrade = command.upgrade

    def put_reasons(connection: sa.Connection) -> None:
        row = {"code": "old", "owner": "us", "message_ja": "a", "action_ja": "b", "message_en": "c", "action_en": "d"}
        row |= {"severity": "error", "retry": "by_hand"} if revision >= "0024" else {}
        connection.execute(sa.text(f"INSERT INTO sync.reason ({', '.join(row)}) VALUES (:{', :'.join(row)})"), row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installation, "_put_reasons", put_reasons)
        patch.setattr(command, "upgrade", lambda config, _: upgrade(config, revision))
        install(server.admin_url, logins)


def test_an_installation_of_an_earlier_version_is_brought_up_to_date_with_its_rows(
    server: EmbeddedServer, elsewhere: Logins
) -> None:
    install_only("0001", server, elsewhere)
    with pytest.raises(SchemaError, match="`zest init`"):
        check_schema(elsewhere)
    with psycopg.connect(server.admin_url, dbname=elsewhere.database, autocommit=True) as admin:
        tenant_rows.fill(admin, "sakura", but_not=tenant_rows.LATER_THAN_0001)

        def rows() -> list[dict[str, Any]]:
            query = "SELECT to_jsonb(c) FROM sync.change c UNION ALL SELECT to_jsonb(r) FROM sync.result r ORDER BY 1"
            return [row for (row,) in admin.execute(query).fetchall()]

        before = rows()
        install(server.admin_url, elsewhere)
        check_schema(elsewhere)
        assert [{name: row[name] for name in was} for row, was in zip(rows(), before, strict=True)] == before
        assert before
        assert grant_matrix.mismatches(admin) == []
        admin.execute("SELECT sync.make_months('2031-01-01', 1)")
        without_index = admin.execute(
            """
            SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = 'sync.change'::regclass
            AND NOT EXISTS (SELECT FROM pg_indexes x WHERE x.indexdef LIKE '%(tenant_id, partner, on_date) WHERE%'
                            AND format('%s.%s', x.schemaname, x.tablename)::regclass = i.inhrelid)
            """
        ).fetchall()
        assert without_index == []  # of the months that were there, and of one made since


# One record's life before there was a table of what is settled: steps of (what, version, outcome, intent).
_LIVES: Mapping[str, Sequence[tuple[str, int, str, str]]] = {
    "waiting": [("change", 1, "", "")],
    "under way": [("change", 1, "", ""), ("intent", 1, "", "a")],
    "in doubt": [("change", 1, "", ""), ("intent", 1, "", "a"), ("result", 1, "unknown", "a")],
    "in doubt, with a newer version": [
        *(("change", 1, "", ""), ("intent", 1, "", "a"), ("change", 2, "", ""), ("result", 1, "unknown", "a")),
    ],
    "tried again": [("change", 1, "", ""), ("intent", 1, "", "a"), ("result", 1, "retry", "a")],
    "parked": [("change", 1, "", ""), ("change", 2, "", ""), ("intent", 2, "", "a"), ("result", 2, "parked", "a")],
    "delivered": [("change", 1, "", ""), ("intent", 1, "", "a"), ("result", 1, "delivered", "a")],
    "found and changed": [
        *(("change", 1, "", ""), ("intent", 1, "", "a"), ("result", 1, "conflict", "a"), ("change", 2, "", "")),
        *(("intent", 2, "", "b"), ("result", 2, "delivered_with_warning", "b"), ("result", 1, "superseded", "")),
    ],
    "late": [("change", 2, "", ""), ("intent", 2, "", "a"), ("result", 2, "delivered", "a"), ("change", 1, "", "")],
    "not needed": [("change", 1, "", ""), ("change", 2, "", ""), ("result", 2, "not_needed", ""),
                   ("result", 1, "superseded", "")],
    "delivered, and open again": [
        *(("change", 1, "", ""), ("intent", 1, "", "a"), ("result", 1, "delivered", "a"), ("change", 2, "", "")),
        *(("intent", 2, "", "b"), ("result", 2, "retry", "b"), ("change", 3, "", ""), ("change", 4, "", "")),
    ],
}  # fmt: skip


def live(admin: psycopg.Connection, tenant: str, steps: Sequence[tuple[str, int, str, str]]) -> None:
    """Write a record's life as accumulate and push did."""
    record, intents = uuid4(), {"a": uuid4(), "b": uuid4(), "": None}
    for what, version, outcome, intent in steps:
        row = {"month": f"2026-{10 + version // 2}-01", "tenant_id": tenant, "partner": "fhir", "entity": "visit",
               "record_id": record, "version": version}  # fmt: skip
        match what:
            case "change":
                row |= {"op": "upsert", "image": "{}", "client_id": record, "on_date": "2026-12-01"}
                row |= {"edited_at": f"2026-12-01T0{version}:00:00Z"}
            case "intent":
                row |= {"intent_id": intents[intent], "epoch": 1, "verb": "create", "key": "k"}
                row |= {"links": f'{{"client": "c{version}"}}'}
            case _:
                row |= {"outcome": outcome, "reason": "r", "intent_id": intents[intent]}
                row |= {"partner_id": f"p{version}"} if intent and outcome != "unknown" else {}
        places = ", ".join(["%s"] * len(row))
        admin.execute(f"INSERT INTO sync.{what} ({', '.join(row)}) VALUES ({places})", list(row.values()))


def test_what_was_settled_before_there_was_a_table_for_it_is_taken_over(
    server: EmbeddedServer, elsewhere: Logins
) -> None:
    install_only("0002", server, elsewhere)
    with psycopg.connect(server.admin_url, dbname=elsewhere.database, autocommit=True) as admin:
        for tenant in ("sakura", "momiji"):
            admin.execute("SELECT set_config('app.tenant', %s, false)", [tenant])
            admin.execute("INSERT INTO schedule.tenant (tenant_id, name) VALUES (%s, 'T')", [tenant])
            admin.execute("INSERT INTO sync.connection VALUES (%s, 'fhir', 'http://x', 'week')", [tenant])
            admin.execute("INSERT INTO sync.event_cursor VALUES (%s, 'fhir', '5', 5)", [tenant])
            for steps in _LIVES.values():
                live(admin, tenant, steps)

        install(server.admin_url, elsewhere)
        database = Database(elsewhere)
        for tenant in ("sakura", "momiji"):
            with database.transaction(Login.OPERATOR, tenant) as tx:
                assert projection.differences(tx) == ()
                assert tx.execute(sa.text("SELECT count(*) FROM sync.standing")).scalar_one() == len(_LIVES) - 1
            with database.transaction(Login.PUSH, tenant) as tx:
                assert tx.execute(sa.text("SELECT sync.recheck(:tenant, 'fhir')"), {"tenant": tenant}).scalar_one() == 0
        database.close()
        waiting = admin.execute("SELECT waits_for, count(*) FROM sync.pending GROUP BY 1 ORDER BY 1").fetchall()
        assert waiting == [("client", 8), (None, 8)]  # those in doubt, and what came late, wait for nothing
        ids = admin.execute("SELECT DISTINCT system_id FROM sync.event_cursor").fetchall()
        assert ids == admin.execute("SELECT system_identifier FROM pg_control_system()").fetchall()


def test_unknown_errors_that_were_seen_before_they_were_counted_are_counted(
    server: EmbeddedServer, elsewhere: Logins
) -> None:
    install_only("0029", server, elsewhere)
    with psycopg.connect(server.admin_url, dbname=elsewhere.database, autocommit=True) as admin:
        for tenant in ("sakura", "momiji"):
            tenant_rows.fill(admin, tenant, but_not=["sync.unexplained"])
            admin.execute("SELECT set_config('app.tenant', %s, false)", [tenant])
            for reason in ("unknown", "unknown", "partner_busy"):
                admin.execute(
                    """
                    INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, outcome, reason,
                                             params)
                    SELECT month, tenant_id, 'fhir', entity, record_id, version, 'retry', %s,
                           '{"detail": "read HTTP 418"}' FROM sync.change WHERE tenant_id = %s LIMIT 1
                    """,
                    [reason, tenant],
                )
        install(server.admin_url, elsewhere)
        found = admin.execute("SELECT tenant_id, fingerprint, params, occurrences FROM sync.unexplained ORDER BY 1")
        cause = fingerprint_of("fhir", "unknown", "read HTTP 418")
        told = {"detail": "read HTTP 418"}
        assert found.fetchall() == [("momiji", cause, told, 2), ("sakura", cause, told, 2)]


def test_what_settled_records_are_in_question_for_is_taken_from_history(
    server: EmbeddedServer, elsewhere: Logins
) -> None:
    install_only("0034", server, elsewhere)
    with psycopg.connect(server.admin_url, dbname=elsewhere.database, autocommit=True) as admin:
        for tenant in ("sakura", "momiji"):
            tenant_rows.fill(admin, tenant, but_not=["sync.unexplained"])
            admin.execute("SELECT set_config('app.tenant', %s, false)", [tenant])
            for outcome, detail in (("suspected", ""), ("retry", "find HTTP 500"), ("parked", "find HTTP 418")):
                admin.execute(
                    """
                    INSERT INTO sync.repair (tenant_id, partner, entity, record_id, version, outcome, reason, params)
                    SELECT tenant_id, partner, entity, record_id, 1, %s, 'unknown',
                           jsonb_build_object('detail', %s::text) FROM sync.standing WHERE tenant_id = %s
                    """,
                    [outcome, detail, tenant],
                )
        install(server.admin_url, elsewhere)
        found = admin.execute("SELECT DISTINCT suspect_params, suspect_cause FROM sync.standing").fetchall()
        assert found == [({"detail": "find HTTP 418"}, fingerprint_of("fhir", "unknown", "find HTTP 418"))]
        database = Database(elsewhere)
        for tenant in ("sakura", "momiji"):
            with database.transaction(Login.OPERATOR, tenant) as tx:
                assert [each.parts for each in projection.differences(tx) if "suspicion" in each.parts] == []
        database.close()


def test_two_installations_at_once_both_succeed(server: EmbeddedServer, elsewhere: Logins) -> None:
    with beside(lambda: install(server.admin_url, elsewhere)), beside(lambda: install(server.admin_url, elsewhere)):
        pass
    check_schema(elsewhere)


def test_an_installation_that_was_killed_halfway_is_finished_by_the_next(
    server: EmbeddedServer, elsewhere: Logins
) -> None:
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE another OWNER zest_owner")
    install(server.admin_url, elsewhere)
    check_schema(elsewhere)


def test_a_database_that_is_not_there_or_empty_or_of_another_version_is_told_apart_from_a_good_one(
    server: EmbeddedServer, elsewhere: Logins
) -> None:
    with pytest.raises(SchemaError, match="`zest init`"):
        check_schema(elsewhere)
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE another OWNER zest_owner")
    with pytest.raises(SchemaError, match="`zest init`"):
        check_schema(elsewhere)
    install(server.admin_url, elsewhere)
    with psycopg.connect(server.admin_url, dbname="another") as admin:
        admin.execute("UPDATE public.schema_version SET version_num = '0000'")
    with pytest.raises(SchemaError, match="`zest init`"):
        check_schema(elsewhere)


def test_work_on_a_database_without_the_schema_says_to_prepare_it(server: EmbeddedServer, elsewhere: Logins) -> None:
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE another OWNER zest_owner")
    database = Database(elsewhere)
    with pytest.raises(SchemaError, match="`zest init`"), database.transaction(Login.OPERATOR, "sakura") as tx:
        tenants.get(tx, "sakura")
    database.close()


def test_a_server_that_is_down_is_unreachable_to_everyone(server: EmbeddedServer, down: Logins) -> None:
    database = Database(down)
    with pytest.raises(DatabaseUnreachableError), database.transaction(Login.PUSH, "sakura"):
        pytest.fail("a server that is down let somebody in")
    with pytest.raises(DatabaseUnreachableError):
        check_schema(down)
    with pytest.raises(DatabaseUnreachableError):
        install(f"postgresql://postgres@/postgres?host={down.host}", down)


def test_a_connection_that_is_cut_is_unreachable_once(server: EmbeddedServer, opened: Database) -> None:
    def work_on_a_cut_connection() -> None:
        with opened.transaction(Login.OPERATOR, "sakura") as tx:
            pid = tx.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with psycopg.connect(server.admin_url) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            tenants.get(tx, "sakura")

    with pytest.raises(DatabaseUnreachableError):
        work_on_a_cut_connection()
    with opened.transaction(Login.OPERATOR, "sakura") as tx:
        assert tenants.get(tx, "sakura").tenant_id == "sakura"


@pytest.mark.parametrize("login", [Login.OPERATOR, Login.MIGRATOR])
def test_an_administrator_without_rights_is_told_so(template: Logins, elsewhere: Logins, login: Login) -> None:
    with pytest.raises(StoreError) as refused:
        install(template.libpq_url(login), elsewhere)
    assert str(refused.value) == (
        "this login may not make roles and databases: give ZEST_DATABASE_URL an administrator's"
    )
    with pytest.raises(SchemaError):
        check_schema(elsewhere)


def test_passwords_are_kept_as_hashes_only(server: EmbeddedServer, template: Logins) -> None:
    with psycopg.connect(server.admin_url) as admin:
        rows = admin.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY (%s)", [[*Login]])
        kept = dict(rows.fetchall())
    assert kept.keys() == set(Login)
    assert all(password.startswith("SCRAM-SHA-256$") for password in kept.values())


def unique(tx: sa.Connection) -> None:
    for _ in range(2):
        run(tx, "INSERT INTO sync.connection VALUES ('sakura', :canary, 'http://x', 'minute')")


def run(tx: sa.Connection, statement: str) -> None:
    tx.execute(sa.text(statement), {"canary": CANARY} if ":canary" in statement else {})


_BREACHES: dict[str, Callable[[sa.Connection], Any]] = {
    "unique": unique,
    "check": lambda tx: run(tx, "INSERT INTO sync.connection VALUES ('sakura', 'fhir', :canary, 'never')"),
    "not null": lambda tx: run(tx, "INSERT INTO schedule.tenant (tenant_id, timezone) VALUES ('sakura', :canary)"),
    "foreign key": lambda tx: run(tx, "INSERT INTO sync.credential VALUES ('sakura', :canary, 'x')"),
    "type": lambda tx: run(tx, "SELECT CAST(:canary AS uuid)"),
    "date": lambda tx: run(tx, "SELECT CAST(:canary AS date)"),
    "json": lambda tx: run(tx, "SELECT CAST(:canary AS jsonb)"),
    "another tenant's": lambda tx: run(tx, "INSERT INTO schedule.tenant (tenant_id, name) VALUES ('momiji', :canary)"),
    "nul": lambda tx: tx.execute(sa.text("SELECT :text"), {"text": f"{CANARY}\0"}),
    "no table": lambda tx: run(tx, f'SELECT * FROM "{CANARY}"'),
    "no right": lambda tx: run(tx, f"SELECT '{CANARY}' FROM sync.intent FOR UPDATE"),
    "no syntax": lambda tx: run(tx, f"SELECT '{CANARY}"),
    "raised": lambda tx: run(tx, f"DO $$ BEGIN RAISE EXCEPTION '{CANARY}'; END $$"),
}


@pytest.mark.parametrize("breach", _BREACHES)
def test_what_the_database_refuses_is_told_without_data(opened: Database, breach: str) -> None:
    with pytest.raises(StoreError) as refused, opened.transaction(Login.OPERATOR, "sakura") as tx:
        _BREACHES[breach](tx)
    assert_without_canary(refused.value)
    assert not isinstance(refused.value, DatabaseUnreachableError)  # or one would wait for what never heals


def assert_without_canary(error: StoreError) -> None:
    told = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    assert not any(CANARY in part for part in told)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_part_that_is_undone_is_told_without_data_and_the_rest_stays(opened: Database) -> None:
    with opened.transaction(Login.OPERATOR, "sakura") as tx:
        with pytest.raises(ConstraintError) as refused, savepoint(tx):
            _BREACHES["check"](tx)
        assert tenants.get(tx, "sakura").name == "A corporation"
    assert_without_canary(refused.value)
    assert refused.value.constraint == "connection_timing_check"


# Where row-level security is on, PostgreSQL leaves the row out of its DETAIL; a value it cannot read it always quotes.
@pytest.mark.parametrize("breach", ["type", "date", "raised"])
def test_the_drivers_own_errors_would_tell(opened: Database, breach: str) -> None:
    with opened.transaction(Login.OPERATOR, "sakura") as tx:
        with pytest.raises(DBAPIError, match=CANARY):
            _BREACHES[breach](tx)
        tx.rollback()


def test_a_database_of_a_newer_version_is_left_alone_with_a_clear_word(server: EmbeddedServer, logins: Logins) -> None:
    with psycopg.connect(logins.libpq_url(Login.MIGRATOR), autocommit=True) as owner:
        owner.execute("SET ROLE zest_owner")
        owner.execute("UPDATE public.schema_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="newer version of zest"):
        install(server.admin_url, logins)
