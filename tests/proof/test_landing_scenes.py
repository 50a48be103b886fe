"""The way in comes through every scene unharmed; and where a rule is broken on purpose, its scene notices.

A reading gets a real SIGKILL before and after each of its commits. With ZEST_SOAK=1, the partner's people go on before
the next one takes over too. All mutants by `make mutants`; in every run, those that need no process of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from conftest import TOKEN, NewTenant, fresh_database
from landing_mutants import LANDING_MUTANTS
from landing_scenes import SCENES, edited_while_dead, new_stage
from partner import VAULT_KEY
from pushers import Pushers, running_pushers

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.http import Http
from resources.logins import Logins
from resources.vault import Vault
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

IN_EVERY_RUN = (
    "certificate ignored",
    "absence believed",
    "every 404 believed",
    "broken off and forgotten",
    "endless list read on",
    "instalments",
    "suspects not counted",
    "suspicion not needed",
    "a yes counts again",
    "a yes without a ceiling",
    "told again and again",
    "id is the person",
    "swapped and retired",
    "number kept",
    "undone link stays",
    "undone link comes back",
    "cursor by the last page",
    "hash without the mapping",
)
NAMES = tuple(LANDING_MUTANTS) if os.environ.get("ZEST_MUTANTS") == "all" else IN_EVERY_RUN


@pytest.fixture(scope="module")
def services(server: EmbeddedServer, template: Logins) -> Iterator[Services]:
    with fresh_database(server, template) as logins:
        database = Database(logins)
        yield Services(database, Vault([VAULT_KEY]), Http(total_seconds=3, connect_seconds=1))
        database.close()


@pytest.fixture(scope="module")
def landers() -> Iterator[Pushers]:
    with running_pushers("land_process.py") as running:
        yield running


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """Three pages of clients who have not changed for a minute."""
    config = SandboxConfig(token=TOKEN, clients=30, staff=2, max_count=10, seeded_before=60.0)
    with running_sandbox(config) as running:
        yield running


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_broken(name: str, sandbox: RunningSandbox, landers: Pushers, new_tenant: NewTenant) -> None:
    assert SCENES[name](new_stage(sandbox, landers, new_tenant)) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_breach_is_noticed(name: str, sandbox: RunningSandbox, landers: Pushers, new_tenant: NewTenant) -> None:
    mutant = LANDING_MUTANTS[name]
    said = SCENES[mutant.scene](new_stage(sandbox, landers, new_tenant, name))
    assert any(mutant.notices in each for each in said), said


if os.environ.get("ZEST_SOAK") == "1":

    def test_what_people_did_while_no_reading_was_alive_is_not_lost(
        sandbox: RunningSandbox, landers: Pushers, new_tenant: NewTenant
    ) -> None:
        assert edited_while_dead(new_stage(sandbox, landers, new_tenant)) == []
