"""A push that gets a real signal at a named point of its way: nothing lost, nothing doubled, and where the partner can
be asked nothing, a person is.

Points, signals, classes of partners and what is sent meet in pairs; the whole product of them with ZEST_SOAK=1.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from signal import SIGSTOP, Signals

import pytest
from conftest import fresh_database
from crash_scenes import ACTS, SIGNALS, Stage, Theatre, crash, theatre
from pairs import pairwise
from partner import PROOFS
from push_process import Point

from resources.logins import Login, Logins
from zest_pipelines.local.embedded import EmbeddedServer

FACTORS = (tuple(Point), SIGNALS, tuple(PROOFS), ACTS)
CASES = list(itertools.product(*FACTORS)) if os.environ.get("ZEST_SOAK") == "1" else pairwise(*FACTORS)
UNSURE = (Point.INTENT_COMMITTED, Point.BYTES_SENT, Point.RESPONSE_READ)
"""Where a push that ends leaves doubt what became of its call."""


@pytest.fixture(scope="module")
def house(server: EmbeddedServer, template: Logins) -> Iterator[Theatre]:
    with fresh_database(server, template) as logins, theatre(logins) as made:
        yield made


@pytest.mark.parametrize(
    ("point", "signal", "partner", "act"),
    [pytest.param(*case, id=f"{case[0]}-{case[1].name}-{case[2]}-{case[3]}") for case in CASES],
)
def test_nothing_is_lost_or_doubled(house: Theatre, point: Point, signal: Signals, partner: str, act: str) -> None:
    stage = house.stage(partner)
    visits = crash(stage, point, signal, act)
    assert stage.broken() == []
    asked = asked_of(stage)
    if partner != "proof_none":
        assert asked == []
        assert [len(stage.effects(visit)) for visit in visits] == [1 if act == "create" else 2] * 2
    elif point in UNSURE and signal != SIGSTOP:
        assert asked != []
        answer(stage)
        stage.settle()
        assert stage.broken() == asked_of(stage) == []
    house.clear()


def asked_of(stage: Stage) -> list[str]:
    """The ids of records that a person is asked about."""
    query = "SELECT record_id FROM sync.badge WHERE badge IN ('check_needed', 'action_needed') ORDER BY 1"
    return [str(row.record_id) for row in stage.office.sql(query)]


def answer(stage: Stage) -> None:
    """What a person does who looks at the partner's screen: takes what is there as delivered, the rest goes again."""
    tenant, partner = stage.office.name, stage.office.partner.name
    query = "SELECT entity, record_id, version FROM sync.pending WHERE state = 'parked'"
    copies = {(each["record_id"], each["version"]): each["partner_id"] for each in stage.partner.state()}
    for row in stage.office.sql(query, Login.OPERATOR):
        there = copies.get((str(row.record_id), row.version))
        named = {"tenant": tenant, "partner": partner, "entity": row.entity, "record_id": row.record_id}
        if there is None:
            stage.office.sql(
                "SELECT sync.request_retry(:tenant, :partner, CAST(:entity AS text), CAST(:record_id AS uuid))", **named
            )
        else:
            stage.office.sql(
                "SELECT sync.decide(:tenant, :partner, CAST(:entity AS text), CAST(:record_id AS uuid), :version, "
                "'adopt', :there, 'it is on their screen')",
                version=row.version,
                there=there,
                **named,
            )


def test_every_two_values_meet() -> None:
    wanted = {pair for case in itertools.product(*FACTORS) for pair in itertools.combinations(enumerate(case), 2)}
    assert wanted == {pair for case in CASES for pair in itertools.combinations(enumerate(case), 2)}
