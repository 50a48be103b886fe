"""No tenant sees or touches another's row: the catalogue says so, and every login tries on every table it may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import psycopg
import pytest
import tenant_rows
from conftest import fresh_database
from grant_matrix import documented, live
from psycopg.types.json import Jsonb

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer

OURS, THEIRS = "sakura", "momiji"
_OF_ALL_TENANTS = {Login.SCHEDULE, Login.MIGRATOR, Login.ALERT}
"""Who looks across tenants: who is due, which month is settled, and what is wrong."""
_OF_NO_TENANT = {
    *("sync.budget", "sync.reason", "sync.field"),
    *("sync.alert_target", "sync.alert_bounds", "sync.alert", "sync.notice", "sync.classification", "sync.newest_word"),
}
_BINDS = "(tenant_id = current_setting('app.tenant'::text, true))"
_CATALOGUE = """
    SELECT format('%I.%I', n.nspname, c.relname), c.relispartition, c.relrowsecurity AND c.relforcerowsecurity,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'),
           ARRAY(SELECT format('%s %s %s %s', p.polname, p.polcmd, p.polroles::regrole[], pg_get_expr(p.polqual, c.oid))
                 FROM pg_policy p WHERE p.polrelid = c.oid ORDER BY p.polname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('schedule', 'sync') AND c.relkind IN ('r', 'p') ORDER BY 1
"""
_VIEWS = """
    SELECT format('%I.%I', n.nspname, c.relname), c.relowner::regrole::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('schedule', 'sync') AND c.relkind = 'v' AND c.relowner::regrole::text <> 'zest_owner'
"""


@pytest.fixture(scope="module")
def logins(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    """Logins to one database for all tests here; nothing in them stays."""
    with fresh_database(server, template) as made:
        yield made


@pytest.fixture(scope="module")
def admin(server: EmbeddedServer, logins: Logins) -> Iterator[psycopg.Connection]:
    """A superuser in a database with two tenants that have a row in every table."""
    with psycopg.connect(server.admin_url, dbname=logins.database, autocommit=True) as connection:
        for tenant in (OURS, THEIRS):
            tenant_rows.fill(connection, tenant)
        yield connection


@contextmanager
def changed(admin: psycopg.Connection, change: str, back: str) -> Iterator[None]:
    """The database with a hole in it."""
    admin.execute(change)
    try:
        yield
    finally:
        admin.execute(back)


@contextmanager
def working(logins: Logins, login: Login, tenant: str | None = OURS) -> Iterator[psycopg.Connection]:
    """A transaction of a login for a tenant, undone at the end."""
    with psycopg.connect(logins.libpq_url(login)) as connection:
        if tenant is not None:
            connection.execute("SELECT set_config('app.tenant', %s, true)", [tenant])
        yield connection
        connection.rollback()


def usable(login: Login, verb: str) -> list[str]:
    """Tables of tenants' rows, and views, on which the login may do `verb`."""
    granted = documented()["tables"] | documented()["views"]
    wanted = {verb, f"{verb}(tenant_id)"}
    return [name for name in granted if name not in _OF_NO_TENANT and granted[name].get(login, set()) & wanted]


def seen(logins: Logins, login: Login, tenant: str | None) -> dict[str, set[str]]:
    """Whose rows the login sees in each table and view it may read."""
    with working(logins, login, tenant) as tx:
        return {
            name: {row[0] for row in tx.execute(f"SELECT tenant_id FROM {name}")} for name in usable(login, "SELECT")
        }


def _open(table: str) -> str:
    return f"ALTER POLICY own_tenant ON {table} USING (true)"


def _shut(table: str) -> str:
    return f"ALTER POLICY own_tenant ON {table} USING {_BINDS}"


def unprotected(admin: psycopg.Connection) -> list[str]:
    """Tables and views that the catalogue leaves open."""
    across = {
        "alerts_see_all": Login.ALERT,
        "archivist_sees_all": Login.MIGRATOR,
        "scheduler_sees_all": Login.SCHEDULE,
    }
    granted = live(admin)["tables"]
    wrong = [f"{name} belongs to {owner}" for name, owner in admin.execute(_VIEWS).fetchall()]
    for name, is_partition, is_forced, has_tenant, policies in admin.execute(_CATALOGUE).fetchall():
        wanted = [] if is_partition else [f"own_tenant * {{-}} {_BINDS}"]
        wanted += [f"{policy} r {{{login}}} true" for policy, login in across.items() if login in granted.get(name, {})]
        if has_tenant == (name in _OF_NO_TENANT) or (has_tenant and not (is_forced and policies == sorted(wanted))):
            wrong.append(f"{name}: forced {is_forced}, policies {policies}")
    return wrong


def test_every_table_of_tenants_rows_is_bound_to_the_transactions_tenant(admin: psycopg.Connection) -> None:
    assert unprotected(admin) == []


@pytest.mark.parametrize(
    "mutant",
    [
        "ALTER TABLE sync.result NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE sync.result_default DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_tenant ON schedule.visit",
        "ALTER POLICY own_tenant ON sync.change USING (true)",
        "CREATE POLICY another ON sync.audit FOR SELECT TO zest_operator USING (true)",
        "ALTER POLICY scheduler_sees_all ON sync.pending TO PUBLIC",
        "CREATE TABLE sync.stray (tenant_id text)",
        "ALTER VIEW sync.badge OWNER TO postgres",
    ],
)
def test_the_look_at_the_catalogue_sees_a_hole(template: Logins, server: EmbeddedServer, mutant: str) -> None:
    with psycopg.connect(server.admin_url, dbname=template.database) as connection:
        connection.execute(mutant)
        assert unprotected(connection) != []
        connection.rollback()


def test_each_login_sees_its_tenants_rows_in_every_table_and_no_others(
    admin: psycopg.Connection, logins: Logins
) -> None:
    for login in set(Login) - {*_OF_ALL_TENANTS, Login.DAGSTER}:
        found = seen(logins, login, OURS)
        assert found == dict.fromkeys(found, frozenset({OURS})), login
    assert len(seen(logins, Login.OPERATOR, OURS)) == len(documented()["tables"] | documented()["views"]) - len(
        _OF_NO_TENANT
    )


def test_without_a_tenant_of_its_own_a_login_sees_nothing(admin: psycopg.Connection, logins: Logins) -> None:
    for login, tenant in product(set(Login) - {*_OF_ALL_TENANTS, Login.DAGSTER}, (None, "", "nobodys")):
        found = seen(logins, login, tenant)
        assert found == dict.fromkeys(found, frozenset()), login


def test_who_looks_across_tenants_sees_all_of_them_whatever_is_set(admin: psycopg.Connection, logins: Logins) -> None:
    for login, tenant in product(_OF_ALL_TENANTS, (None, OURS)):
        found = seen(logins, login, tenant)
        assert found == dict.fromkeys(found, frozenset({OURS, THEIRS})), login
    # What they may see of them, column by column, is test_grants.py's.


def test_trying_sees_a_policy_and_a_views_owner_that_are_wrong(admin: psycopg.Connection, logins: Logins) -> None:
    with changed(admin, _open("sync.intent"), _shut("sync.intent")):
        assert seen(logins, Login.PUSH, OURS)["sync.intent"] == {OURS, THEIRS}
    health = "sync.connection_health"
    with changed(admin, f"ALTER VIEW {health} OWNER TO postgres", f"ALTER VIEW {health} OWNER TO zest_owner"):
        assert seen(logins, Login.PRODUCT, OURS)[health] == {OURS, THEIRS}


_WRITTEN = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = CAST(%s AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


def foreign_writes(admin: psycopg.Connection, logins: Logins) -> list[str]:
    """Writes to another tenant's rows that were not refused, each under each login that writes the table."""
    done = []
    for login in set(Login) - {Login.DAGSTER}:
        for name in usable(login, "INSERT"):
            row = admin.execute(f"SELECT to_jsonb(t) FROM {name} t WHERE tenant_id = %s", [THEIRS]).fetchone()
            assert row is not None, f"{name} has no row to try with"
            written = admin.execute(_WRITTEN, [name]).fetchall()  # what is generated cannot be
            columns = ", ".join(column for (column,) in written)
            insert = f"INSERT INTO {name} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{name}, %s)"
            done += _refusal(logins, login, insert, [Jsonb(row[0])], {"42501"})
        for name in usable(login, "UPDATE"):
            take_over = f"UPDATE {name} SET tenant_id = tenant_id WHERE tenant_id = %s"
            done += _refusal(logins, login, take_over, [THEIRS], {"0 rows"})
            give_away = f"UPDATE {name} SET tenant_id = %s"
            done += _refusal(logins, login, give_away, [THEIRS], {"42501", "ZT002"})
        for name in usable(login, "DELETE"):
            done += _refusal(logins, login, f"DELETE FROM {name} WHERE tenant_id = %s", [THEIRS], {"0 rows"})
    return done


def _refusal(logins: Logins, login: Login, statement: str, values: list[object], wanted: set[str]) -> list[str]:
    with working(logins, login) as tx:
        try:
            answer = f"{tx.execute(statement, values).rowcount} rows"
        except psycopg.Error as error:
            answer = str(error.sqlstate)
    return [] if answer in wanted else [f"{login}: {statement}: {answer}"]


def test_no_login_writes_another_tenants_row(admin: psycopg.Connection, logins: Logins) -> None:
    assert foreign_writes(admin, logins) == []


def test_trying_to_write_sees_a_policy_that_is_wrong(admin: psycopg.Connection, logins: Logins) -> None:
    with changed(admin, _open("sync.lease"), _shut("sync.lease")):
        assert len(foreign_writes(admin, logins)) == 3  # taken, given away, and another tenant's put in


def test_no_function_serves_another_tenant(admin: psycopg.Connection, logins: Logins) -> None:
    push = "SELECT sync.request_push(%s, 'fhir', current_date, current_date)"
    retry = "SELECT sync.request_retry(%s, 'fhir')"
    decide = """
        SELECT sync.decide(p.tenant_id, p.partner, p.entity, p.record_id, p.version, 'abandon', NULL, 'a reason')
        FROM (SELECT %s AS tenant_id, partner, entity, record_id, version FROM sync.badge
              WHERE reason = 'changed_at_partner') AS p
    """
    audit = "SELECT sync.write_audit(%s, 'act', 'subject', '{}')"
    for login, call in (
        *product((Login.PRODUCT, Login.OPERATOR), (push, retry, decide)),
        (Login.OPERATOR, audit),
    ):
        with working(logins, login) as tx, pytest.raises(psycopg.Error) as refused:
            tx.execute(call, [THEIRS])
        assert refused.value.sqlstate in {"ZT001", "42501"}
        with working(logins, login) as tx:
            assert tx.execute(call, [OURS]).rowcount == 1


def test_what_is_open_at_another_tenant_is_neither_given_up_nor_looked_at(
    admin: psycopg.Connection, logins: Logins
) -> None:
    admin.execute("UPDATE sync.pending SET waits_for = 'staff'")  # which none of them does
    for login, call in (
        (Login.OPERATOR, "SELECT sync.abandon_all(%s, 'fhir', 'a reason')"),
        *product((Login.PUSH, Login.ACCUMULATE, Login.SCHEDULE), ("SELECT sync.recheck(%s, 'fhir')",)),
    ):
        with working(logins, login) as tx:
            assert tx.execute(call, [THEIRS]).fetchone() == (0,), login
            assert tx.execute(call, [OURS]).fetchone() == (2,), login


def test_no_login_can_step_around_row_level_security(admin: psycopg.Connection, logins: Logins) -> None:
    for login in set(Login) - {Login.DAGSTER, Login.MIGRATOR, Login.BUDGET}:
        table = usable(login, "SELECT")[0]
        with working(logins, login) as tx:
            tx.execute("SET row_security = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                tx.execute(f"SELECT tenant_id FROM {table}")
        for step in (
            "SET ROLE zest_owner",
            "SET SESSION AUTHORIZATION postgres",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
            "SET session_replication_role = replica",
        ):
            with working(logins, login) as tx, pytest.raises(psycopg.errors.InsufficientPrivilege):
                tx.execute(step)


def test_the_owner_whom_migrations_act_as_is_bound_too(admin: psycopg.Connection, logins: Logins) -> None:
    for tenant, wanted in ((None, set()), (OURS, {OURS})):
        with working(logins, Login.MIGRATOR, tenant) as tx:
            tx.execute("SET ROLE zest_owner")
            for name in documented()["tables"].keys() - _OF_NO_TENANT:
                assert {row[0] for row in tx.execute(f"SELECT tenant_id FROM {name}")} == wanted, name
