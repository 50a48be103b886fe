"""For each promise of the delivery, a rule that keeps it is broken on purpose, and the breach is noticed.

One mutant a promise in every run; all of them by `make mutants`, which prints who was caught (`mutants_table.py`). That
nothing is broken without a mutant is what `test_scenes` says of the same scenes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from conftest import fresh_database
from crash_scenes import SCENES, Theatre, theatre
from mutants import MUTANTS

from resources.logins import Logins
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

IN_EVERY_RUN = ("settled without comparing", "no read-back", "late one sent", "late answer dropped", "batch not halved")
NAMES = tuple(MUTANTS) if os.environ.get("ZEST_MUTANTS") == "all" else IN_EVERY_RUN


@pytest.fixture(scope="module")
def house(template: Logins) -> Iterator[Theatre]:
    with theatre(template) as made:
        yield made


@pytest.fixture
def own_house(house: Theatre, server: EmbeddedServer, template: Logins) -> Iterator[Theatre]:
    """The house on a database that may be broken."""
    with fresh_database(server, template) as logins:
        database = Database(logins)
        yield replace(house, logins=logins, database=database)
        database.close()
    house.clear()


@pytest.mark.parametrize("name", NAMES)
def test_the_breach_is_noticed(name: str, own_house: Theatre, server: EmbeddedServer) -> None:
    mutant = MUTANTS[name]
    with psycopg.connect(server.admin_url, dbname=own_house.logins.database, autocommit=True) as admin:
        mutant.install(admin)
    said = own_house.play(SCENES[mutant.scene], name)
    assert any(mutant.notices in each for each in said), said


def test_there_is_a_mutant_in_every_run_for_each_promise() -> None:
    assert {MUTANTS[name].invariant for name in IN_EVERY_RUN} == {each.invariant for each in MUTANTS.values()}
