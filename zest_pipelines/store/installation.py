"""Preparing a server: logins, two databases, the schema. Safe to repeat, and to run twice at once.

The admin's URL is used here alone. Owners do not log in: `zest_migrator` is a member of `zest_owner` and acts as it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from partners.params import fields
from partners.reasons import all_reasons
from resources.logins import Login, Logins
from zest_pipelines.store.errors import SchemaError, StoreError, store_error

OWNER = "zest_owner"
_INSTALLING = 7_305_731  # advisory lock: one installation at a time
_SESSION = {
    "idle_in_transaction_session_timeout": "60s",  # a forgotten transaction stalls every reader of events
    "statement_timeout": "120s",
    "lock_timeout": "30s",
}
# Rows are looked up by their keys: by an index, whatever the tables held when the statement was planned, and without
# planning it anew each time, for a push over the partitions of all months, which costs more than to execute it.
_BY_KEYS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
_SESSION_OF = {
    Login.PUSH: _BY_KEYS,
    Login.BUDGET: _BY_KEYS,
    # It asks the same every few seconds: what it reads is in memory.
    Login.SCHEDULE: {"random_page_cost": "1.1", "jit": "off"},
}


def install(admin_url: str, logins: Logins) -> None:
    """Make or renew logins, databases and schema on the server at `admin_url` (a libpq URL).

    Raises StoreError: unreachable, refused for want of rights, or of a version before 15.
    """
    try:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            if admin.info.server_version < 150_000:
                raise SchemaError("PostgreSQL 15 or later is needed: upgrade the server")
            admin.execute("SELECT pg_advisory_lock(%s)", (_INSTALLING,))  # until this connection closes
            _make_logins(admin, logins)
            _make_database(admin, logins.database, OWNER)
            _make_database(admin, logins.dagster_database, Login.DAGSTER)
            _let_in(admin, logins)
    except psycopg.errors.InsufficientPrivilege:
        raise StoreError(
            "this login may not make roles and databases: give ZEST_DATABASE_URL an administrator's"
        ) from None
    except psycopg.Error as error:
        refused = store_error(error)
        if isinstance(refused, SchemaError):  # its next step would be to do what is being done here
            raise StoreError("the server refuses the administrator: correct what ZEST_DATABASE_URL says") from None
        raise refused from None
    migrate(logins)


def migrate(logins: Logins) -> None:
    """Bring the schema to this version's."""
    with _as_owner(logins) as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_INSTALLING})")
        config = _alembic()
        found, known = _revision(connection), ScriptDirectory.from_config(config).walk_revisions()
        if found is not None and found not in {each.revision for each in known}:
            raise SchemaError("the database was prepared by a newer version of zest: use that version")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _put_reasons(connection)


def check_schema(logins: Logins) -> None:
    """SchemaError unless the database's schema is this version's; DatabaseUnreachableError."""
    with _as_owner(logins) as connection:
        found, wanted = _revision(connection), ScriptDirectory.from_config(_alembic()).get_current_head()
    if found != wanted:
        raise SchemaError("the database's schema is not this version's: run `zest init`")


def _revision(connection: Connection) -> str | None:
    """The schema's version; None: there is none yet."""
    return MigrationContext.configure(connection, opts={"version_table": "schema_version"}).get_current_revision()


def _put_reasons(connection: Connection) -> None:
    """The product reads the catalogue in the database, so that both say the same."""
    columns = ("code", "owner", "severity", "retry", "message_ja", "action_ja", "message_en", "action_en")
    rows = [{name: str(getattr(reason, name)) for name in columns} for reason in all_reasons()]
    connection.execute(text("DELETE FROM sync.reason"))
    connection.execute(text(f"INSERT INTO sync.reason ({', '.join(columns)}) VALUES (:{', :'.join(columns)})"), rows)
    names = [{"field": field, "ja": name["ja"], "en": name["en"]} for field, name in fields().items()]
    connection.execute(text("DELETE FROM sync.field"))
    connection.execute(text("INSERT INTO sync.field (field, name_ja, name_en) VALUES (:field, :ja, :en)"), names)


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "zest_pipelines:migrations")
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _as_owner(logins: Logins) -> Iterator[Connection]:
    engine = create_engine(logins.url(Login.MIGRATOR), hide_parameters=True)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET ROLE {OWNER}")
            yield connection
    except (DBAPIError, psycopg.Error) as error:  # the schema's files are run by the driver itself
        raise store_error(error) from None
    finally:
        engine.dispose()


def _make_logins(admin: psycopg.Connection, logins: Logins) -> None:
    if admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone() is None:
        admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(OWNER)))
    for login in Login:
        name = sql.Identifier(login)
        if admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login.value,)).fetchone() is None:
            admin.execute(sql.SQL("CREATE ROLE {}").format(name))
        # Hashed here: the server's log never sees the password.
        hashed = admin.pgconn.encrypt_password(
            logins.password(login).encode(), login.value.encode(), b"scram-sha-256"
        ).decode()
        attributes = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS "
        # Up to PostgreSQL 15 the owner of a database that does not inherit may make no table in its schema public.
        attributes += "INHERIT" if login is Login.DAGSTER else "NOINHERIT"
        admin.execute(sql.SQL("ALTER ROLE {} " + attributes + " PASSWORD {}").format(name, sql.Literal(hashed)))
        if login not in (Login.MIGRATOR, Login.DAGSTER):
            for option, value in (_SESSION | _SESSION_OF.get(login, {})).items():
                admin.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(option), value))
    owner, migrator = sql.Identifier(OWNER), sql.Identifier(Login.MIGRATOR)
    admin.execute(sql.SQL("GRANT {} TO {}").format(owner, migrator))


def _make_database(admin: psycopg.Connection, name: str, owner: str) -> None:
    if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
        return
    # Who makes a database for another role must be able to act as it.
    admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
    statement = sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
        sql.Identifier(name), sql.Identifier(owner)
    )
    admin.execute(statement)
    admin.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(sql.Identifier(owner)))


def _let_in(admin: psycopg.Connection, logins: Logins) -> None:
    """Only our logins may connect, each to its own database."""
    for database in (logins.database, logins.dagster_database):
        name = sql.Identifier(database)
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        for login in Login:
            if (login is Login.DAGSTER) == (database == logins.dagster_database):
                admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(login)))
    # What lands is copied into a temporary table first: row-level security takes no COPY.
    copies = sql.Identifier(logins.database), sql.Identifier(Login.LAND)
    admin.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(*copies))
