"""What a long history costs: who has due records, claiming, appending and settling, over 1 M and 10 M changes.

Installations of their own in a temporary folder, one after the other: empty, and with changes of 5,000 tenants over 13
months, all delivered but for 10,000 records and, of one tenant, 2,000 versions of 200 records. The history is made by
SQL, without the triggers, and so are the tables derived from it; the audit then has to find no difference. Before it
is measured all of it is vacuumed and written out, as history that has grown over months is.

Times are told, with a bar of 5 ms at the 95th percentile for who has due records and for claiming 60; all that a tick
asks (`all_that_is_due`: unread edits and persons' words as well) has none. What fails the bench is the plan (a table of
rows read as a whole, or too many pages) and growth (1.5 times from the smaller to the larger).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID, uuid4

import psycopg
import sqlalchemy as sa
from psycopg import sql

from partners.contract import Entity, Verb
from resources.logins import Login, Logins
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.local import embedded, machine
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.store import claims, due, projection, results
from zest_pipelines.store.database import Database
from zest_pipelines.store.keys import Key, Target
from zest_pipelines.store.query import QUERIES
from zest_pipelines.store.results import Intent, Result

PARTNER = "partner"
BAR_MS = 5.0
BARRED = ("who_has_due_records", "claiming_60")
MOST_GROWTH = 1.5
MOST_PAGES = {"due_pending": 400, "due_records": 4_000}
"""Of 8 KiB, that one run may touch, however long the history: 12,000 index entries; some 20 probes a record."""
MONTHS = 13
CLAIMED = 60
STEPS = 1_000
"""Changes appended, and settled, to learn what one costs."""
_HISTORY = ("update_event", "change", "intent", "result")
_PARTS = ("due_suspects", "asked_again", "decided", "unread_events")
_SMALL_TABLES = {"connection", "hold", "credential", "decision", "push_request", "retry_request", "lease", "snapshot"}
"""A few rows a tenant at most: one may read them as a whole."""


@dataclass(frozen=True)
class Size:
    """How much history."""

    changes: int
    tenants: int
    pending: int
    """Records that are due, each of one version, spread over the tenants."""
    of_one: int
    """Records of the last tenant that are due, each of ten versions."""


FULL = (Size(0, 5_000, 0, 200), Size(1_000_000, 5_000, 10_000, 200), Size(10_000_000, 5_000, 10_000, 200))
SMALL = (Size(0, 100, 0, 200), Size(10_000, 100, 200, 200), Size(100_000, 100, 200, 200))


def main() -> None:
    """Run it and print the figures as JSON; exit code 1 if a plan or a growth is not as it must be."""
    parser = argparse.ArgumentParser(prog="zest bench pending", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="10,000 and 100,000 changes of 100 tenants")
    parser.add_argument("--repeats", type=int, default=200, help="of each query (default 200)")
    chosen = parser.parse_args()
    sizes = SMALL if chosen.small else FULL
    measured = [_measured(size, chosen.repeats) for size in sizes]
    figures = {"sizes": measured} | verdict(measured)
    print(json.dumps(figures, indent=2))
    sys.exit(0 if figures["is_as_it_must_be"] else 1)


def verdict(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the figures of an empty, a smaller and a larger history compare."""
    empty, small, large = measured
    growth = {name: round(large[name]["p50_ms"] / small[name]["p50_ms"], 2) for name in (*BARRED, "all_that_is_due")}
    steps = {
        name: round(large[name] / min(empty[name], small[name]), 2)
        for name in ("appending_ms_a_change", "settling_ms_a_change")
    }
    plans = [fault for each in measured[1:] for fault in each["faults_of_plans"]]
    is_flat = all(factor <= MOST_GROWTH for factor in (*growth.values(), *steps.values()))
    return {
        "growth": growth,
        "growth_of_a_step": steps,
        "most_growth": MOST_GROWTH,
        "bar_ms": BAR_MS,
        "within_the_bar": all(each[name]["p95_ms"] <= BAR_MS for each in measured[1:] for name in BARRED),
        "faults_of_plans": plans,
        "is_as_it_must_be": is_flat and not plans,
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


# --- Measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """An installation with its history."""

    size: Size
    database: Database
    admin: psycopg.Connection
    target: Target
    """The tenant whose records are claimed."""
    months: tuple[date, ...]

    def ask(self, name: str) -> tuple[str, ...]:
        """Who is due for one reason, by one of the scheduler's queries."""
        with self.database.transaction(Login.SCHEDULE, None) as tx:
            return QUERIES[name].column(tx, partner=PARTNER)

    def schedule(self) -> tuple[str, ...]:
        """Who is due, for whatever reason: unread edits are looked for connection by connection."""
        with self.database.transaction(Login.SCHEDULE, None) as tx:
            return due.outbound(tx, PARTNER, "1")

    def claim(self) -> int:
        """Claim; nothing of it stays."""
        with self.database.transaction(Login.PUSH, self.target.tenant) as tx:
            return len(claims.due(tx, self.target, list(Entity), CLAIMED))


def _measured(size: Size, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="zest-pending-") as folder, _stage(Path(folder), size) as stage:
        figures: dict[str, Any] = {"changes": size.changes, "tenants": size.tenants}
        assert stage.claim() == min(CLAIMED, size.of_one)
        assert size.changes == 0 or len(stage.schedule()) == size.tenants, len(stage.schedule())
        figures["who_has_due_records"] = timed(partial(stage.ask, "due_pending"), repeats)
        figures["claiming_60"] = timed(stage.claim, repeats)
        figures["all_that_is_due"] = timed(stage.schedule, repeats // 10 + 1)
        figures["parts_of_that"] = {name: timed(partial(stage.ask, name), repeats // 10 + 1) for name in _PARTS}
        plans = {name: _plan(stage, name) for name in ("due_pending", "due_records")}
        figures["pages"] = {name: pages(plan) for name, plan in plans.items()}
        figures["faults_of_plans"] = [fault for name, plan in plans.items() for fault in faults(name, plan)]
        figures["appending_ms_a_change"], figures["settling_ms_a_change"] = _steps(stage)
        _say(json.dumps(figures))
        return figures


def timed(act: Callable[[], object], repeats: int) -> dict[str, float]:
    """Percentiles of so many runs, warm, in ms."""
    times = []
    for _ in range(repeats + 10):
        started = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - started))
    parts = quantiles(times[10:], n=20)
    return {"p50_ms": round(parts[9], 2), "p95_ms": round(parts[18], 2)}


def _plan(stage: Stage, name: str) -> Mapping[str, Any]:
    """The plan of a query as it ran once."""
    query = QUERIES[name]
    parameters: dict[str, Any] = {"partner": PARTNER}
    if query.login is Login.PUSH:
        parameters |= {"tenant": stage.target.tenant, "entities": [each.value for each in Entity], "most": CLAIMED}
        parameters |= {"busy_entities": [], "busy_ids": [], "under_way": timedelta(0), "first": None, "last": None}
    with stage.database.transaction(query.login, parameters.get("tenant")) as tx:
        statement = sa.text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.sql}")
        (found,) = tx.execute(statement, parameters).scalar_one()
    plan: Mapping[str, Any] = found["Plan"]
    return plan


def pages(plan: Mapping[str, Any]) -> int:
    """How many pages a plan's run has touched."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def faults(name: str, plan: Mapping[str, Any]) -> list[str]:
    """What is wrong with a plan, in words; none: it finds its rows by indexes, and touches few pages."""
    found = [
        f"{name} reads {node['Relation Name']} as a whole"
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in _SMALL_TABLES
    ]
    if pages(plan) > MOST_PAGES[name]:
        found.append(f"{name} touches {pages(plan)} pages")
    return found


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The node itself, and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def _steps(stage: Stage) -> tuple[float, float]:
    """What appending one change costs, and what settling it does: ms, through triggers, 50 in a transaction."""
    month, target, batches = stage.months[-1], stage.target, STEPS // 50
    appending, settling = [], []
    _append(stage, target, month, 50)  # warm: what a connection plans once is not counted
    for _ in range(batches):
        started = time.perf_counter()
        keys = _append(stage, target, month, 50)
        appending.append(time.perf_counter() - started)
        intents = [Intent(uuid4(), key, Verb.CREATE, f"visit:{key.record_id}:1", {}, None, None) for key in keys]
        with stage.database.transaction(Login.PUSH, target.tenant) as tx:
            results.add_intents(tx, target, 1, intents)
        started = time.perf_counter()
        with stage.database.transaction(Login.PUSH, target.tenant) as tx:
            ended = [
                Result(i.key, Outcome.DELIVERED, intent_id=i.intent_id, partner_id=f"p{i.key.record_id}")
                for i in intents
            ]
            assert results.add_results(tx, target, ended) == ()
        settling.append(time.perf_counter() - started)
    return round(1000 * median(appending) / 50, 3), round(1000 * median(settling) / 50, 3)


_APPEND = sa.text(
    """
    INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, on_date,
                             edited_at)
    SELECT :month, :tenant, :partner, 'visit', id, 1, 'upsert', '{"note": ""}',
           (SELECT i.record_id FROM sync.identity i WHERE i.tenant_id = :tenant AND i.entity = 'client' LIMIT 1),
           current_date, clock_timestamp()
    FROM unnest(CAST(:ids AS uuid[])) AS id
    """
)


def _append(stage: Stage, target: Target, month: date, number: int) -> list[Key]:
    ids: list[UUID] = [uuid4() for _ in range(number)]
    with stage.database.transaction(Login.MIGRATOR, target.tenant) as tx:
        tx.execute(sa.text("SET LOCAL ROLE zest_owner"))
        tx.execute(_APPEND, {"month": month, "ids": ids, **target.parameters()})
    return [Key(month, Entity.VISIT, record, 1) for record in ids]


# --- The history ------------------------------------------------------------------------------------------------------


@contextmanager
def _stage(folder: Path, size: Size) -> Iterator[Stage]:
    data_dir = DataDir(folder / "data")
    prepared = machine.prepare(data_dir)
    database = Database(prepared.logins)
    try:
        server = embedded.running(data_dir)
        assert server is not None
        with psycopg.connect(server.admin_url, dbname=prepared.logins.database, autocommit=True) as admin:
            for setting in ("fsync = off", "autovacuum = off", "max_wal_size = '8GB'", "full_page_writes = off"):
                admin.execute(sql.SQL(f"ALTER SYSTEM SET {setting}"))
            admin.execute("SELECT pg_reload_conf()")
            months = _made_months(admin)
            started = time.monotonic()
            _load(server.admin_url, prepared.logins, admin, size, months)
            _say(f"{size.changes:,} changes loaded in {time.monotonic() - started:.0f} s")
            target = Target(_name(size.tenants - 1), PARTNER)
            _check(database, target.tenant)
            yield Stage(size, database, admin, target, months)
    finally:
        database.close()
        machine.stop(data_dir)


def _name(number: int) -> str:
    return f"tenant-{number:04}"


def _made_months(admin: psycopg.Connection) -> tuple[date, ...]:
    """The months of history, the present one last, with partitions."""
    today = datetime.now(UTC).date()
    numbers = [12 * today.year + today.month - 1 - back for back in reversed(range(MONTHS))]
    months = tuple(date(number // 12, number % 12 + 1, 1) for number in numbers)
    admin.execute("SELECT sync.make_months(%s, %s)", [months[0], MONTHS])
    return months


# `n` counts the settled versions, two a record, in the order of their edits, the tenants taking turns. `k` counts the
# records that are pending, `v` their versions.
_ID = "md5({0}::text)::uuid"
_TENANT = "'tenant-' || lpad(({0} % {tenants})::text, 4, '0')"
_IMAGE = json.dumps(
    {
        "tenant_id": "tenant-0000",
        "visit_id": "00000000-0000-0000-0000-000000000000",
        "client_id": "00000000-0000-0000-0000-000000000000",
        "staff_id": "00000000-0000-0000-0000-000000000000",
        "starts_at": "2026-11-01T00:00:00+00:00",
        "ends_at": "2026-11-01T01:00:00+00:00",
        "service_code": "131111",
        "note": "",
        "status": "confirmed",
        "version": 1,
    }
)
_TENANTS = """
    INSERT INTO schedule.tenant (tenant_id, name) SELECT {tenant_t}, 'T' FROM generate_series(0, {tenants} - 1) t;
    INSERT INTO sync.connection (tenant_id, partner, base_url, timing)
    SELECT tenant_id, {partner}, 'http://127.0.0.1:1', 'minute' FROM schedule.tenant;
    INSERT INTO sync.identity (tenant_id, partner, entity, partner_id, record_id)
    SELECT tenant_id, {partner}, e, e || c, md5(tenant_id || e || c)::uuid
    FROM schedule.tenant, generate_series(0, 19) c, unnest(ARRAY['client', 'staff']) e;
"""
_SETTLED = """
    CREATE UNLOGGED TABLE public.settled AS
    SELECT n, n / 2 AS k, 1 + n % 2 AS version, {tenant_k} AS tenant_id,
           (ARRAY[{months}]::date[])[1 + n * {number_of_months} / {changes}] AS month,
           md5('record' || n / 2)::uuid AS record_id, md5('intent' || n)::uuid AS intent_id
    FROM generate_series(0::bigint, {changes} - 1) n
"""
_OPEN = """
    CREATE UNLOGGED TABLE public.open AS
    SELECT {tenant_p} AS tenant_id, md5('pending' || p)::uuid AS record_id, 1::bigint AS version,
           now() - interval '1 hour' AS edited_at
    FROM generate_series(0, {pending} - 1) p
    UNION ALL
    SELECT {last}, md5('of one' || p)::uuid, v, now() - interval '1 hour' + v * interval '1 minute'
    FROM generate_series(0, {of_one} - 1) p, generate_series(1, 10) v
"""
_CLIENT = "md5(tenant_id || 'client' || {0} % 20)::uuid"
_STAFF = "md5(tenant_id || 'staff' || {0} % 20)::uuid"
_EDITED = "month + {0} % 28 * interval '1 day'"
_INSERTS: Mapping[str, str] = {
    "update_event": f"""
        INSERT INTO sync.update_event (month, tenant_id, entity, record_id, version, op, image, at)
        SELECT month, tenant_id, 'visit', record_id, version, 'update', {{image}}, {_EDITED.format("n")} FROM settled
        UNION ALL
        SELECT {{now_month}}, tenant_id, 'visit', record_id, version, 'update', {{image}}, edited_at FROM open""",
    "change": f"""
        INSERT INTO sync.change (month, tenant_id, partner, entity, record_id, version, op, image, client_id, staff_id,
                                 on_date, edited_at)
        SELECT month, tenant_id, {{partner}}, 'visit', record_id, version, 'upsert', {{image}}, {_CLIENT.format("k")},
               {_STAFF.format("k")}, month + (k % 28)::integer, {_EDITED.format("n")} FROM settled
        UNION ALL
        SELECT {{now_month}}, tenant_id, {{partner}}, 'visit', record_id, version, 'upsert', {{image}},
               {_CLIENT.format("version")}, {_STAFF.format("version")}, current_date, edited_at FROM open""",
    "intent": """
        INSERT INTO sync.intent (month, intent_id, tenant_id, partner, entity, record_id, version, epoch, verb, key,
                                 links)
        SELECT month, intent_id, tenant_id, {partner}, 'visit', record_id, version, 1,
               CASE version WHEN 1 THEN 'create' ELSE 'update' END, 'visit:' || record_id || ':' || version,
               '{{"client": "client1", "staff": "staff1"}}' FROM settled""",
    "result": """
        INSERT INTO sync.result (month, tenant_id, partner, entity, record_id, version, intent_id, outcome, partner_id,
                                 partner_version)
        SELECT month, tenant_id, {partner}, 'visit', record_id, version, intent_id, 'delivered', 'p' || k,
               version::text FROM settled""",
    "standing": """
        INSERT INTO sync.standing (tenant_id, partner, entity, record_id, version, outcome, on_date, delivered_version,
                                   delivered_month, known_version, partner_id, partner_version, links)
        SELECT tenant_id, {partner}, 'visit', record_id, 2, 'delivered', month + (k % 28)::integer, 2, month, 2,
               'p' || k, '2', '{{"client": "client1", "staff": "staff1"}}' FROM settled WHERE version = 2""",
    "pending": f"""
        INSERT INTO sync.pending (tenant_id, partner, entity, record_id, version, month, op, client_id, staff_id,
                                  on_date, edited_at, since, open)
        SELECT tenant_id, {{partner}}, 'visit', record_id, version, {{now_month}}, 'upsert',
               {_CLIENT.format("version")}, {_STAFF.format("version")}, current_date, edited_at, since, open
        FROM (SELECT *, min(edited_at) OVER one AS since, count(*) OVER one AS open, max(version) OVER one AS newest
              FROM open WINDOW one AS (PARTITION BY record_id)) AS o
        WHERE version = newest""",
}
_CURSORS = """
    INSERT INTO sync.event_cursor (tenant_id, partner, xid, event_id, system_id)
    SELECT t.tenant_id, {partner}, coalesce(read.xid, '0'), coalesce(read.event_id, 0), s.system_identifier
    FROM schedule.tenant t CROSS JOIN pg_control_system() s
    LEFT JOIN LATERAL (SELECT e.xid, e.event_id FROM sync.update_event e WHERE e.tenant_id = t.tenant_id
                       ORDER BY e.xid DESC, e.event_id DESC LIMIT 1) AS read ON true
"""


def _load(admin_url: str, logins: Logins, admin: psycopg.Connection, size: Size, months: Sequence[date]) -> None:
    """Fill the tables: without triggers and indexes, which come back at the end, and with statistics."""
    words = _words(size, months)
    admin.execute(_filled(_TENANTS, words))
    admin.execute(_filled(_SETTLED, words))
    admin.execute(_filled(_OPEN, words))
    with _without_triggers(admin):

        def fill(table: str) -> None:
            with psycopg.connect(admin_url, dbname=logins.database, autocommit=True) as connection:
                connection.execute("SET maintenance_work_mem = '512MB'")
                connection.execute("SET search_path = public")
                with _without_indexes(connection, table):
                    connection.execute(_filled(_INSERTS[table], words))
                connection.execute(sql.SQL("ANALYZE sync.{}").format(sql.Identifier(table)))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(fill, _INSERTS))
    admin.execute(_filled(_CURSORS, words))
    admin.execute("DROP TABLE public.settled, public.open")
    admin.execute("VACUUM ANALYZE")
    admin.execute("CHECKPOINT")


def _words(size: Size, months: Sequence[date]) -> dict[str, str]:
    counted = {name: _TENANT.format(name, tenants=size.tenants) for name in ("t", "p")}
    return {
        "tenant_t": counted["t"],
        "tenant_p": counted["p"],
        "tenant_k": _TENANT.format("(n / 2)", tenants=size.tenants),
        "tenants": str(size.tenants),
        "changes": str(size.changes),
        "pending": str(size.pending),
        "of_one": str(size.of_one),
        "partner": f"'{PARTNER}'",
        "last": f"'{_name(size.tenants - 1)}'",
        "image": f"'{_IMAGE}'::jsonb",
        "months": ", ".join(f"'{month}'" for month in months),
        "number_of_months": str(len(months)),
        "now_month": f"date '{months[-1]}'",
    }


def _filled(statement: str, words: Mapping[str, str]) -> bytes:
    return statement.format(**words).encode()


@contextmanager
def _without_triggers(admin: psycopg.Connection) -> Iterator[None]:
    """The history tables and the derived ones, whose triggers would make each of the other."""
    tables = [sql.Identifier("sync", table) for table in (*_HISTORY, "standing", "pending")]
    named = admin.execute(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgenabled = 'A' AND tgparentid = 0 "
        "AND tgrelid IN (SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'sync'::regnamespace)"
    ).fetchall()
    for table in tables:
        admin.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(table))
    yield
    for table, name in named:
        statement = sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}")
        admin.execute(statement.format(sql.Identifier(*table.split(".")), sql.Identifier(name)))


@contextmanager
def _without_indexes(connection: psycopg.Connection, table: str) -> Iterator[None]:
    """Its constraints and indexes are made anew at the end, which is quicker than row by row."""
    made = connection.execute(
        "SELECT i.relname, coalesce(pg_get_constraintdef(c.oid), replace(pg_get_indexdef(x.indexrelid), ' ON ONLY ', "
        "' ON ')), c.oid IS NOT NULL "
        "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
        "LEFT JOIN pg_constraint c ON c.conindid = x.indexrelid AND c.conrelid = x.indrelid "
        "WHERE x.indrelid = format('sync.%%I', %s::text)::regclass ORDER BY x.indexrelid",
        [table],
    ).fetchall()
    place = sql.Identifier("sync", table)
    for name, _, is_constraint in made:
        drop = "ALTER TABLE {place} DROP CONSTRAINT {name}" if is_constraint else "DROP INDEX {index}"
        names = {"place": place, "name": sql.Identifier(name), "index": sql.Identifier("sync", name)}
        connection.execute(sql.SQL(drop).format(**names))
    yield
    for name, definition, is_constraint in made:
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} ").format(place, sql.Identifier(name))
        connection.execute(add + sql.SQL(definition) if is_constraint else sql.SQL(definition))


def _check(database: Database, tenant: str) -> None:
    """What was put into the derived tables must be what history says."""
    with database.transaction(Login.OPERATOR, tenant) as tx:
        assert projection.differences(tx) == ()


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
