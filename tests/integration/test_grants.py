"""Each table has one writer, and the server enforces it: grants.yaml against the live catalogue, and by hand."""

from __future__ import annotations

from collections.abc import Iterator

import grant_matrix
import psycopg
import pytest

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer

_MUTANTS = (
    "GRANT UPDATE ON sync.change TO zest_push",
    "GRANT UPDATE (outcome) ON sync.result TO zest_operator",
    "GRANT SELECT ON sync.credential TO zest_operator",
    "GRANT SELECT (image) ON sync.update_event TO zest_schedule",
    "GRANT SELECT ON schedule.client TO PUBLIC",
    "GRANT TRUNCATE ON sync.audit TO zest_operator",
    "GRANT SELECT ON sync.change_default TO zest_operator",
    "GRANT EXECUTE ON FUNCTION sync.write_audit(text, text, text, jsonb) TO PUBLIC",
    "GRANT USAGE ON SEQUENCE sync.event_id TO zest_product",
    "GRANT CREATE ON SCHEMA sync TO zest_land",
    "GRANT zest_push TO zest_product WITH INHERIT TRUE",
    "REVOKE SELECT ON sync.lease FROM zest_push",
    "CREATE TABLE sync.stray ()",
    "DROP VIEW sync.delivery",
)


@pytest.fixture
def admin(server: EmbeddedServer, logins: Logins) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.admin_url, dbname=logins.database) as connection:
        yield connection


def test_the_server_grants_exactly_what_the_matrix_says(admin: psycopg.Connection) -> None:
    assert grant_matrix.mismatches(admin) == []


def test_each_table_has_exactly_one_writer(admin: psycopg.Connection) -> None:
    found = {
        name: {login for login, verbs in grants.items() if {verb.split("(")[0] for verb in verbs} & grant_matrix.WRITES}
        for name, grants in grant_matrix.live(admin)["tables"].items()
    }
    wanted = {name: {who} if who in set(Login) else set() for name, who in grant_matrix.writers().items()}
    assert found == wanted


def test_every_verb_under_every_login_is_answered_as_the_matrix_says(admin: psycopg.Connection, logins: Logins) -> None:
    def connect(login: Login) -> psycopg.Connection:
        return psycopg.connect(logins.libpq_url(login), autocommit=True)

    assert grant_matrix.false_answers(admin, connect) == []
    assert grant_matrix.calls_of_others(admin, connect) == []


@pytest.mark.parametrize("mutant", _MUTANTS)
def test_the_comparison_sees_a_grant_that_is_wrong(template: Logins, server: EmbeddedServer, mutant: str) -> None:
    with psycopg.connect(server.admin_url, dbname=template.database) as admin:
        admin.execute(mutant)
        assert grant_matrix.mismatches(admin) != []
        admin.rollback()


def test_trying_by_hand_sees_a_grant_that_is_wrong(admin: psycopg.Connection, logins: Logins) -> None:
    admin.execute("GRANT DELETE ON sync.result TO zest_push")
    admin.execute("GRANT EXECUTE ON FUNCTION sync.make_months(date, integer) TO zest_budget")
    admin.commit()

    def connect(login: Login) -> psycopg.Connection:
        return psycopg.connect(logins.libpq_url(login), autocommit=True)

    assert grant_matrix.false_answers(admin, connect) == ["zest_push: DELETE FROM sync.result: done"]
    assert len(grant_matrix.calls_of_others(admin, connect)) == 1


def test_only_our_logins_enter_and_each_its_own_database(template: Logins, server: EmbeddedServer) -> None:
    with psycopg.connect(server.admin_url) as admin:
        rows = admin.execute(
            """
            SELECT who, d, verb FROM unnest(%s::text[]) who CROSS JOIN unnest(%s::text[]) d
            CROSS JOIN unnest(ARRAY['CONNECT', 'CREATE', 'TEMP']) verb WHERE has_database_privilege(who, d, verb)
            """,
            [["public", *Login], [template.database, template.dagster_database]],
        ).fetchall()
    ours = {(login.value, template.database, "CONNECT") for login in Login if login is not Login.DAGSTER}
    its_owners = {(Login.DAGSTER.value, template.dagster_database, verb) for verb in ("CONNECT", "CREATE", "TEMP")}
    copies = {(Login.LAND.value, template.database, "TEMP")}  # pages, through a temporary table
    assert set(rows) == ours | its_owners | copies


def test_nobody_who_can_log_in_is_more_than_a_plain_login(template: Logins, server: EmbeddedServer) -> None:
    with psycopg.connect(server.admin_url) as admin:
        rows = admin.execute(
            """
            SELECT rolname, rolcanlogin, rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication
                   OR rolinherit AND rolname NOT IN ('zest_owner', 'zest_dagster')  -- members of nothing, as below
            FROM pg_roles WHERE rolname LIKE 'zest\\_%'
            """
        ).fetchall()
        members = admin.execute(
            """
            SELECT m.member::regrole::text, m.roleid::regrole::text FROM pg_auth_members m
            WHERE m.roleid::regrole::text LIKE 'zest\\_%' AND m.member::regrole::text <> 'postgres'
            """
        ).fetchall()
    assert {(name, can_log_in) for name, can_log_in, _ in rows} == {
        ("zest_owner", False),
        *((login.value, True) for login in Login),
    }
    assert [name for name, _, is_more in rows if is_more] == []
    assert members == [("zest_migrator", "zest_owner")]
