"""Where notices go in tests: a real HTTP server that keeps what it took, and refuses when it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
from psycopg import sql

from partners.reasons import Owner
from resources.logins import Login
from zest_pipelines.core.alarm import Hours
from zest_pipelines.flows.alerts import sealed
from zest_pipelines.flows.services import Services
from zest_pipelines.store import alerts
from zest_pipelines.store.alerts import Target

CANARY = "カナリア花子"
OPERATIONS = frozenset(Owner) - {Owner.USER}


class Receiver:
    """What arrived, in order."""

    def __init__(self, port: int) -> None:
        self.address = f"json://127.0.0.1:{port}/hook-with-a-secret"
        self.took: list[tuple[str, str]] = []
        """Title and text."""
        self.refused = 0
        self.is_down = False
        self.seconds = 0.0
        """How long it takes to answer."""

    @property
    def titles(self) -> list[str]:
        """Of what arrived."""
        return [title for title, _ in self.took]

    def kinds(self) -> tuple[int, int]:
        """How many beginnings and how many ends arrived."""
        return sum("ALERT" in each for each in self.titles), sum("RECOVERED" in each for each in self.titles)


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A server on loopback, gone at the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if receiver.is_down:
                receiver.refused += 1
            else:
                receiver.took.append((told["title"], told["message"]))
            time.sleep(receiver.seconds)
            self.send_response(503 if receiver.is_down else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()


def add_target(
    services: Services,
    receiver: Receiver,
    hours: Hours | None = None,
    *,
    only: frozenset[Owner] = OPERATIONS,
    name: str = "ops",
) -> None:
    """Have notices go there, by default of what is not left to the tenants' people."""
    kept = sealed(services.vault, name, receiver.address)
    with services.database.transaction(Login.OPERATOR, None) as tx:
        alerts.add_target(tx, Target(name, kept, hours or Hours(), only))


class Trouble:
    """A hand that breaks and mends things in the tables over all tenants, and lets time pass. It is nobody's login."""

    def __init__(self, admin: psycopg.Connection) -> None:
        self._admin = admin

    def fail(
        self,
        records: int,
        detail: str,
        *,
        tenants: int = 1,
        reason: str = "unknown",
        state: str = "parked",
        minutes: int = 0,
    ) -> None:
        """Records that stopped; of what stands with the reason, `detail` alone tells causes apart."""
        self._admin.execute(
            """
            INSERT INTO sync.pending (tenant_id, partner, entity, record_id, version, month, op, client_id, on_date,
                                      state, reason, params, edited_at, since, turned_at)
            SELECT 'tenant-' || 1 + n %% %s, 'fhir', 'visit', gen_random_uuid(), 1, date_trunc('month', now()),
                   'upsert', gen_random_uuid(), current_date, %s, %s,
                   jsonb_build_object('detail', %s::text, 'record', n::text, 'value', %s::text),
                   now() - interval '9 days', now() - interval '9 days', now() - %s * interval '1 minute'
            FROM generate_series(1, %s) n
            """,
            [tenants, state, reason, detail, CANARY, minutes, records],
        )

    def hold(self, tenants: int, reason: str, *, minutes: int, failures: int) -> None:
        """Connections that have stood still for so long."""
        self.connect(tenants)
        self._admin.execute(
            """
            INSERT INTO sync.hold (tenant_id, partner, reason, failures, since, until, noted_at)
            SELECT 'tenant-' || n, 'fhir', %s, %s, now() - %s * interval '1 minute', now() + interval '15 minutes',
                   now()
            FROM generate_series(1, %s) n
            """,
            [reason, failures, minutes, tenants],
        )

    def wait(self, records: int, *, tenants: int, minutes: int) -> None:
        """Edits that could go and have waited for so long."""
        self._admin.execute(
            """
            INSERT INTO sync.pending (tenant_id, partner, entity, record_id, version, month, op, client_id, on_date,
                                      edited_at, since, turned_at)
            SELECT 'tenant-' || 1 + n %% %s, 'fhir', 'visit', gen_random_uuid(), 1, date_trunc('month', now()),
                   'upsert', gen_random_uuid(), current_date, now(), now() - interval '9 days',
                   now() - %s * interval '1 minute'
            FROM generate_series(1, %s) n
            """,
            [tenants, minutes, records],
        )

    def turn(self, state: str, reason: str) -> None:
        """All edits stand so now."""
        self._admin.execute("UPDATE sync.pending SET state = %s, reason = %s", [state, reason])

    def suspect(self, records: int, reason: str, *, minutes: int) -> None:
        """Delivered records that a late answer may have undone; what was found in looking at them cannot be judged."""
        self._admin.execute(
            """
            INSERT INTO sync.standing (tenant_id, partner, entity, record_id, version, outcome, delivered_version,
                                       suspect_state, suspect_reason, suspect_since)
            SELECT 'tenant-1', 'fhir', 'visit', gen_random_uuid(), 1, 'delivered', 1, 'parked', %s,
                   now() - %s * interval '1 minute'
            FROM generate_series(1, %s)
            """,
            [reason, minutes, records],
        )

    def refuse(self, records: int, reason: str, *, minutes: int, outcome: str = "rejected") -> None:
        """The newest change of so many clients was not taken over. One more, of late, is of a change before it."""
        for clients, ended, no in ((records, outcome, 2), (records + 1, "rejected", 1)):
            self._admin.execute(
                """
                INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome, reason,
                                                params, made_at)
                SELECT 'tenant-1', 'fhir', 'client', %s || n, %s, %s, %s, jsonb_build_object('value', %s::text),
                       now() - %s * interval '1 minute'
                FROM generate_series(1, %s) n
                """,
                [reason, no, ended, reason, CANARY, minutes, clients],
            )
        self._admin.execute(
            """
            INSERT INTO sync.master_result (tenant_id, partner, entity, partner_id, landed_no, outcome)
            VALUES ('tenant-1', 'fhir', 'client', %s, 2, 'applied')
            """,
            [f"{reason}{records + 1}"],
        )

    def open(self, *, minutes: int) -> None:
        """Nothing has held a connection back for so long."""
        self._admin.execute(
            "UPDATE sync.hold SET until = now() - %s * interval '1 minute', lifted_at = now()", [minutes]
        )

    def resume(self, *, minutes: int) -> None:
        """Each connection was paused, until then."""
        self._admin.execute("UPDATE sync.connection SET resumed_at = now() - %s * interval '1 minute'", [minutes])

    def read(self, *states: str, reason: str, entity: str = "client") -> None:
        """Readings of one tenant, one each twenty minutes, the last one now; what is not certified is for `reason`."""
        self.connect(1)
        for number, state in enumerate(states, start=1 - len(states)):
            self._admin.execute(
                """
                INSERT INTO sync.snapshot (snapshot_id, tenant_id, partner, entity, state, reason, started_at,
                                           finished_at)
                SELECT gen_random_uuid(), 'tenant-1', 'fhir', %s, %s, %s, at, at
                FROM (SELECT now() + %s * interval '20 minutes') AS moment (at)
                """,
                [entity, state, None if state == "certified" else reason, number],
            )

    def close(self) -> None:
        """Closed hours began twenty minutes ago: nothing was tried in them."""
        self._admin.execute("UPDATE sync.snapshot SET finished_at = now() - interval '20 minutes'")
        self._admin.execute(
            """
            INSERT INTO sync.hold (tenant_id, partner, reason, failures, since, until, noted_at)
            SELECT tenant_id, partner, 'outside_window', 0, now(), now() + interval '6 hours', now()
            FROM sync.connection
            ON CONFLICT (tenant_id, partner) DO UPDATE SET
                reason = excluded.reason, until = excluded.until, lifted_at = NULL,
                params = hold.params || jsonb_build_object('before', hold.reason)
            """
        )

    def reopen(self) -> None:
        """They are over, and nothing was tried yet."""
        self._admin.execute("UPDATE sync.hold SET until = now()")

    def fail_again(self) -> None:
        """What is read or sent fails as before."""
        self._admin.execute("UPDATE sync.snapshot SET finished_at = now()")
        self._admin.execute("DELETE FROM sync.hold")

    def connect(self, tenants: int) -> None:
        """Tenants, made up and connected."""
        made_up = (
            "INSERT INTO schedule.tenant (tenant_id, name) "
            "SELECT 'tenant-' || n, 'made up' FROM generate_series(1, %s) n",
            "INSERT INTO sync.connection (tenant_id, partner, base_url, timing) "
            "SELECT 'tenant-' || n, 'fhir', 'http://x', 'minute' FROM generate_series(1, %s) n",
        )
        for each in made_up:
            self._admin.execute(f"{each} ON CONFLICT DO NOTHING", [tenants])

    def mend(self) -> None:
        """Nothing is wrong any more."""
        self._admin.execute("DELETE FROM sync.pending")
        self._admin.execute("DELETE FROM sync.hold")

    def pass_time(self, minutes: float) -> None:
        """What so many minutes do to alerts and notices."""
        span = [minutes]
        self._admin.execute("UPDATE sync.notice SET not_before = not_before - %s * interval '1 minute'", span)
        self._admin.execute(
            "UPDATE sync.alert SET gone_at = gone_at - %(span)s, seen_at = seen_at - %(span)s",
            {"span": timedelta(minutes=minutes)},
        )

    def count(self, table: str) -> int:
        """Rows of the schema sync."""
        row = self._admin.execute(sql.SQL("SELECT count(*) FROM sync.{}").format(sql.Identifier(table))).fetchone()
        assert row is not None
        return int(row[0])
