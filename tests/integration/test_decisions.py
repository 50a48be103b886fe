"""A person's word on an open version: only what is open can be decided, and whoever decides is told what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from conftest import fresh_database
from way_out import WayOut, way_out

from resources.logins import Login, Logins
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import tenants
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.results import Result

_DECIDE = (
    "SELECT sync.decide(%(tenant)s, %(partner)s, %(entity)s, %(record)s, %(version)s, %(act)s, %(id)s, %(reason)s)"
)


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: Logins) -> Iterator[Database]:
    with fresh_database(server, template) as logins:
        made = Database(logins)
        yield made
        made.close()


@pytest.fixture
def out(shared: Database) -> WayOut:
    return way_out(shared)


def decide(out: WayOut, login: Login = Login.PRODUCT, **columns: Any) -> None:
    """By hand, as the product does. The reason why it was refused is raised."""
    values = out.target.parameters() | {"entity": "visit", "version": 1, "act": "abandon", "id": None, "reason": "gone"}
    with psycopg.connect(out.database._logins.libpq_url(login)) as tx:
        tx.execute("SELECT set_config('app.tenant', %s, true)", [out.tenant])
        tx.execute(_DECIDE, values | columns)


def decisions(out: WayOut) -> list[tuple[Any, ...]]:
    rows = out.sql(
        """
        SELECT version, act, partner_id, reason, decided_by FROM sync.decision WHERE partner = :partner
        ORDER BY decided_at
        """
    )
    return [tuple(row) for row in rows]


def test_an_open_version_is_given_up_or_taken_as_delivered(out: WayOut) -> None:
    key = out.change()
    decide(out, record=key.record_id)
    decide(out, Login.OPERATOR, record=key.record_id, act="adopt", id="P1", reason="it is there")
    assert decisions(out) == [
        (1, "abandon", None, "gone", "zest_product"),
        (1, "adopt", "P1", "it is there", "zest_operator"),
    ]


@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        ({"tenant": "momiji"}, "ZT001"),
        ({"partner": "nobody"}, "ZT004"),
        ({"act": "forget"}, "ZT005"),
        ({"act": None}, "ZT005"),
        ({"act": "adopt"}, "ZT005"),
        ({"act": "adopt", "id": ""}, "ZT005"),
        ({"id": "P1"}, "ZT005"),
        ({"reason": " "}, "ZT005"),
        ({"reason": None}, "ZT005"),
        ({"version": 2}, "ZT006"),
        ({"entity": "visit_record"}, "ZT006"),
        ({"record": uuid4()}, "ZT006"),
    ],
)
def test_whoever_decides_is_told_what_is_wrong(out: WayOut, wrong: dict[str, Any], sqlstate: str) -> None:
    key = out.change()
    with pytest.raises(psycopg.Error) as refused:
        decide(out, **{"record": key.record_id} | wrong)
    assert refused.value.sqlstate == sqlstate
    assert decisions(out) == []


def test_no_record_is_taken_to_be_under_the_id_of_another_one(out: WayOut) -> None:
    """The next edit would be written over that one."""
    other, key = out.change(), out.change()
    out.deliver(other, partner_id="P1")
    with pytest.raises(psycopg.Error) as refused:
        decide(out, record=key.record_id, act="adopt", id="P1")
    assert refused.value.sqlstate == "ZT008"
    decide(out, record=key.record_id, act="adopt", id="P2")
    again = out.change(replace(other, version=2))
    decide(out, record=other.record_id, version=again.version, act="adopt", id="P1")
    assert [row[2] for row in decisions(out)] == ["P2", "P1"]


@pytest.mark.parametrize("reason", ["", " ", "a\x01b", "two\nlines", "x" * 501])
def test_a_reason_that_nobody_could_read_later_is_refused_in_words(out: WayOut, reason: str) -> None:
    with pytest.raises(StoreError, match=r"one line of 1 to 500 characters"), out.transaction(Login.OPERATOR) as tx:
        tenants.pause(tx, out.tenant, out.partner, reason)


def test_a_settled_version_is_past_deciding(out: WayOut) -> None:
    key = out.change()
    out.deliver(key)
    with pytest.raises(psycopg.Error) as refused:
        decide(out, record=key.record_id)
    assert refused.value.sqlstate == "ZT006"


def test_all_that_is_open_at_a_connection_is_given_up_at_once(out: WayOut, shared: Database) -> None:
    settled, another = out.change(), way_out(shared)
    out.deliver(settled)
    parked = out.change()
    out.store(Result(parked, Outcome.PARKED, "record_refused"))
    waiting = out.change(client=uuid4())
    another.change()
    (row,) = out.sql("SELECT sync.abandon_all(:tenant, :partner, 'the tenant has left')")
    assert row[0] == 2
    rows = out.sql("SELECT record_id, act FROM sync.decision WHERE partner = :partner")
    assert sorted(map(tuple, rows)) == sorted([(parked.record_id, "abandon"), (waiting.record_id, "abandon")])
