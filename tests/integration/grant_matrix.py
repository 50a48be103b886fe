"""What the server grants, what grants.yaml says it should, and hands that try what is forbidden.

Used against the embedded server and against a distribution's server over TCP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql

from resources.logins import Login

Grants = dict[str, set[str]]
"""Login to verbs, "SELECT" or "SELECT(column)"."""
Connect = Callable[[Login], psycopg.Connection]

WRITES = frozenset({"INSERT", "UPDATE", "DELETE"})
_SECTIONS = ("tables", "views", "sequences", "functions", "schemas")
_NOT_A_TABLE = {"42809", "55000"}  # what a view answers to verbs that it does not know

_OBJECTS = """
    SELECT CASE c.relkind WHEN 'S' THEN 'sequences' WHEN 'v' THEN 'views' WHEN 'm' THEN 'views' ELSE 'tables' END,
           format('%I.%I', n.nspname, c.relname), c.oid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('schedule', 'sync') AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT c.relispartition
    UNION ALL
    SELECT 'functions', replace(format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)), ', ', ','),
           p.oid
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('schedule', 'sync')
    UNION ALL
    SELECT 'schemas', nspname, oid FROM pg_namespace WHERE nspname IN ('schedule', 'sync')
"""
_OF_TABLES = """
    SELECT who, CASE WHEN whole THEN verb ELSE format('%%s(%%s)', verb, attname) END
    FROM unnest(%(logins)s::text[]) who
    CROSS JOIN unnest(%(verbs)s::text[]) verb
    CROSS JOIN LATERAL (SELECT has_table_privilege(who, %(oid)s, verb) AS whole) t
    LEFT JOIN pg_attribute a ON NOT whole AND a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
        AND verb IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
    WHERE whole OR (a.attname IS NOT NULL AND has_column_privilege(who, %(oid)s, a.attname, verb))
"""
_OF_OTHERS = """
    SELECT who, verb FROM unnest(%(logins)s::text[]) who CROSS JOIN unnest(%(verbs)s::text[]) verb
    WHERE {}(who, %(oid)s::oid, verb)
"""
_VERBS = {
    "tables": ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
    "sequences": ["USAGE", "SELECT", "UPDATE"],
    "functions": ["EXECUTE"],
    "schemas": ["USAGE", "CREATE"],
}
_VERBS["views"] = _VERBS["tables"]
_QUERIES = {
    "tables": _OF_TABLES,
    "views": _OF_TABLES,
    "sequences": _OF_OTHERS.format("has_sequence_privilege"),
    "functions": _OF_OTHERS.format("has_function_privilege"),
    "schemas": _OF_OTHERS.format("has_schema_privilege"),
}
_PARTITIONS = """
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('schedule', 'sync') AND c.relispartition AND c.relkind = 'r' ORDER BY 1
"""


@cache
def documented() -> Mapping[str, Mapping[str, Grants]]:
    """grants.yaml without the writers: section, object, login, verbs."""
    return {
        section: {
            name: {login: set(verbs) for login, verbs in grants.items() if login != "writer"}
            for name, grants in _file()[section].items()
        }
        for section in _SECTIONS
    }


def writers() -> Mapping[str, str]:
    """Table to its writer, as grants.yaml has it."""
    return {name: grants["writer"] for name, grants in _file()["tables"].items()}


@cache
def _file() -> dict[str, dict[str, dict[str, Any]]]:
    loaded: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(Path(__file__).with_name("grants.yaml").read_text())
    return loaded


def live(admin: psycopg.Connection) -> dict[str, dict[str, Grants]]:
    """What the server grants each login, whether to itself, to a role that it is a member of or to everybody."""
    found: dict[str, dict[str, Grants]] = {section: {} for section in _SECTIONS}
    for section, name, oid in admin.execute(_OBJECTS).fetchall():
        parameters = {"logins": ["public", *Login], "verbs": _VERBS[section], "oid": oid}
        grants = found[section].setdefault(name, {})
        for login, verb in admin.execute(_QUERIES[section], parameters).fetchall():
            grants.setdefault(login, set()).add(verb)
    return found


def mismatches(admin: psycopg.Connection) -> list[str]:
    """Every object, login and verb in which the server and grants.yaml differ."""
    wanted, found = documented(), live(admin)
    return [
        f"{login} on {name}: server {sorted(had)}, grants.yaml {sorted(due)}"
        for section in _SECTIONS
        for name in sorted(wanted[section].keys() | found[section].keys())
        for login, due, had in _compared(wanted[section].get(name), found[section].get(name))
    ] + [f"{login} on {name}: a partition is nobody's" for name, login in _partition_grants(admin)]


def _compared(wanted: Grants | None, found: Grants | None) -> Iterator[tuple[str, set[str], set[str]]]:
    if wanted is None or found is None:
        yield "object", {"known"} if wanted is not None else set(), {"known"} if found is not None else set()
        return
    for login in sorted(wanted.keys() | found.keys()):
        due, had = wanted.get(login, set()), found.get(login, set())
        if due != had:
            yield login, due, had


def _partition_grants(admin: psycopg.Connection) -> list[tuple[str, str]]:
    rows = admin.execute(
        """
        SELECT c.relname, who FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN unnest(%s::text[]) who
        WHERE n.nspname = 'sync' AND c.relispartition AND c.relkind = 'r' AND (
            has_any_column_privilege(who, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
            OR has_table_privilege(who, c.oid, 'DELETE, TRUNCATE, TRIGGER'))
        """,
        [["public", *Login]],
    )
    return [(name, login) for name, login in rows.fetchall()]


def false_answers(admin: psycopg.Connection, connect: Connect) -> list[str]:
    """Every verb on every table and view, run for real under each login, whose answer is not what grants.yaml says."""
    columns = _columns(admin)
    partitions = [name for (name,) in admin.execute(_PARTITIONS).fetchall()]
    tried = [name for name in partitions if name.endswith("_default")] + partitions[:1]
    wrong = []
    for login in Login:
        if login is Login.DAGSTER:
            continue  # it has no business in this database, and may not even connect to it
        with connect(login) as connection:
            for section in ("tables", "views"):
                for name, grants in documented()[section].items():
                    wrong += _false_answers(connection, login, name, columns[name], grants.get(login, set()))
            for name in tried:
                wrong += _false_answers(connection, login, name, columns[name], set())
    return wrong


def _columns(admin: psycopg.Connection) -> dict[str, list[str]]:
    rows = admin.execute(
        """
        SELECT format('%I.%I', table_schema, table_name), array_agg(column_name::text ORDER BY ordinal_position)
        FROM information_schema.columns WHERE table_schema IN ('schedule', 'sync') GROUP BY 1
        """
    )
    return dict(rows.fetchall())


def _false_answers(
    connection: psycopg.Connection, login: str, name: str, columns: list[str], granted: set[str]
) -> Iterator[str]:
    for verb, statement in _statements(name, columns):
        is_granted = verb in granted or verb.split("(")[0] in granted
        # What is granted is only planned, which asks for the same rights; what is not is run for real.
        state = _answer(connection, f"EXPLAIN {statement}" if is_granted else statement)
        is_refused = state == "42501" or (state in _NOT_A_TABLE and name in documented()["views"])
        if is_refused == is_granted:
            yield f"{login}: {statement}: {state or 'done'}"


def _statements(name: str, columns: list[str]) -> Iterator[tuple[str, str]]:
    for column in columns:
        yield f"SELECT({column})", f'SELECT "{column}" FROM {name}'
    yield "INSERT", f"INSERT INTO {name} DEFAULT VALUES"
    yield "UPDATE", f'UPDATE {name} SET "{columns[0]}" = NULL'
    yield "DELETE", f"DELETE FROM {name}"
    yield "TRUNCATE", f"TRUNCATE {name}"


def _answer(connection: psycopg.Connection, statement: str) -> str | None:
    """The sqlstate of a refusal; None if it was done. Undone in any case."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL(statement))  # type: ignore[arg-type]  # of this file's own making
    except psycopg.Error as error:
        return error.sqlstate
    return None


def calls_of_others(admin: psycopg.Connection, connect: Connect) -> list[str]:
    """Functions and sequences that a login could use although grants.yaml does not say so."""
    done = []
    for login in Login:
        if login is Login.DAGSTER:
            continue
        with connect(login) as connection:
            for name, grants in documented()["functions"].items():
                if not grants.get(login):
                    types = [part for part in name[name.index("(") + 1 : -1].split(",") if part]
                    call = f"SELECT {name[: name.index('(')]}({', '.join(f'NULL::{part}' for part in types)})"
                    done += [f"{login}: {call}"] if _answer(connection, call) != "42501" else []
            for name, grants in documented()["sequences"].items():
                if not grants.get(login):
                    call = f"SELECT nextval('{name}')"
                    done += [f"{login}: {call}"] if _answer(connection, call) != "42501" else []
    return done
