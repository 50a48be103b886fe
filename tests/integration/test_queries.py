"""SQL has one room, and every query in it can be prepared on the migrated database under the login that will run it."""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from conftest import fresh_database

import zest_pipelines.store
from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.query import QUERIES, Query

for _module in pkgutil.iter_modules(zest_pipelines.store.__path__, "zest_pipelines.store."):
    import_module(_module.name)  # which registers its queries

_ROOT = Path(__file__).parents[2]
_MAY_HOLD_SQL = ("zest_pipelines/store/", "zest_pipelines/migrations/")
# The demo plays ZEST SCHEDULE, whose own SQL under its own login it stands for.
_PLAYS_THE_PRODUCT = re.compile(r"zest_pipelines/local/demo_\w+\.py")
_STATEMENT = re.compile(
    r"^\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+[\w.]+\s+(AS\s+\w+\s+)?SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\(|TRUNCATE\s"
    r"|(CREATE|ALTER|DROP)\s+(TABLE|ROLE|DATABASE|VIEW|INDEX|FUNCTION|SCHEMA)\s|(GRANT|REVOKE)\s.*\sON\s)",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Logins]:
    with fresh_database(server, template) as logins:
        yield logins


def numbered(query: Query) -> str:
    """The query as PREPARE wants it: SQLAlchemy's own reading of `:name`, as $1, $2 in the order of first use."""
    compiled = sa.text(query.sql).compile(dialect=sa.make_url("postgresql+psycopg://").get_dialect()())
    order = {name: f"${number}" for number, name in enumerate(dict.fromkeys(compiled.params), 1)}
    return re.sub(r"%\((\w+)\)s", lambda match: order[match[1]], str(compiled)).replace("%%", "%")


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_query_can_be_prepared_under_its_login(shared: Logins, name: str) -> None:
    query = QUERIES[name]
    with psycopg.connect(shared.libpq_url(query.login)) as connection:
        if query.temporary:
            connection.execute(query.temporary)
        connection.execute(f"PREPARE it AS {numbered(query)}")
        parameters = connection.execute("SELECT parameter_types::text[] FROM pg_prepared_statements").fetchone()
        assert parameters is not None
        # PREPARE asks for no rights: they are looked at when it is planned.
        nulls = ", ".join(["NULL"] * len(parameters[0]))
        connection.execute(f"EXPLAIN EXECUTE it{f'({nulls})' if nulls else ''}")
        connection.rollback()


def test_every_login_that_works_by_itself_has_queries() -> None:
    not_ours = {Login.PRODUCT, Login.DAGSTER}
    assert {query.login for query in QUERIES.values()} == set(Login) - not_ours


@pytest.mark.parametrize(
    ("sql", "login", "sqlstate"),
    [
        ("SELECT nothing FROM sync.change", Login.PUSH, "42703"),
        ("SELECT * FROM sync.change", Login.DIFF, "42501"),
        ("INSERT INTO sync.result (version) VALUES (:version)", Login.ACCUMULATE, "42501"),
    ],
)
def test_a_query_that_is_wrong_is_seen(
    shared: Logins, monkeypatch: pytest.MonkeyPatch, sql: str, login: Login, sqlstate: str
) -> None:
    monkeypatch.setitem(QUERIES, "wrong", Query("wrong", login, sql))
    with pytest.raises(psycopg.Error) as refused:
        test_a_query_can_be_prepared_under_its_login(shared, "wrong")
    assert refused.value.sqlstate == sqlstate


def sql_in(source: str) -> list[int]:
    """Lines of the literals that are SQL statements; docstrings are not."""
    tree = ast.parse(source)
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and id(node) not in prose
        and isinstance(node.value, str)
        and _STATEMENT.match(node.value)
    ]


def test_sql_is_in_the_store_and_the_migrations_alone() -> None:
    sources = [path for room in ("zest_pipelines", "partners", "resources") for path in (_ROOT / room).rglob("*.py")]
    names = {path.relative_to(_ROOT).as_posix(): path for path in sources}
    others = {
        name: path
        for name, path in names.items()
        if not name.startswith(_MAY_HOLD_SQL) and not _PLAYS_THE_PRODUCT.fullmatch(name)
    }
    assert len(others) > 50
    assert {name: lines for name, path in others.items() if (lines := sql_in(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('tx.execute("SELECT 1")', [1]),
        ('f"""\n    INSERT INTO {table} VALUES (1)"""', [1]),
        ('x = "UPDATE sync.lease SET epoch = 1"', [1]),
        ('y = "WITH last AS (SELECT 1) SELECT * FROM last"', [1]),
        ('"""SELECT in a docstring is prose."""', []),
        ('UPDATE = "update"; z = "Select a partition", "Update the master"', []),
    ],
)
def test_the_search_for_sql_finds_it(source: str, found: list[int]) -> None:
    assert sql_in(source) == found
