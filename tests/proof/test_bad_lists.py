"""Lists that lie, in each way in which lists do: nobody is deleted for it, and after one good reading all is equal.

The oracle is the sandbox's own state. Each reading is of everything, in four pages or more.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import TOKEN, NewTenant, Tenant, fresh_database
from masters_truth import Faces, differences, false_deletes, live_ids, say_who_waits
from partner import VAULT_KEY
from partner_people import People, meanwhile

from partners.contract import Entity
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import ApplyReport, LandReport
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.database import Database

CLIENT = Entity.CLIENT
CLIENTS, STAFF, ON_A_PAGE = 40, 12, 10
IS_SOAK = os.environ.get("ZEST_SOAK") == "1"
STORMS = 100 if IS_SOAK else 2
ROUNDS = 5
"""Readings of a storm, before the good one: so few that no mass change comes together."""
SEED = 20261126

# What goes wrong, on which page, and how the reading ends.
BAD: list[tuple[FaultKind, dict[str, Any], str]] = [
    (FaultKind.DROP_ENTRY, {"page": 2}, "incomplete"),
    (FaultKind.REPEAT_ENTRY, {"page": 2}, "certified"),
    (FaultKind.HALF_PAGE, {"page": 2}, "incomplete"),
    (FaultKind.REVERSED_PAGE, {"page": 2}, "certified"),
    (FaultKind.SKIPPED_PAGE, {"page": 1}, "incomplete"),
    (FaultKind.REPEATED_PAGE, {"page": 2, "times": 1}, "certified"),
    (FaultKind.REPEATED_PAGE, {"page": 2}, "incomplete"),  # without end
    (FaultKind.SWAPPED_PAGES, {"page": 1}, "certified"),
    (FaultKind.MISSING_NEXT, {"page": 2}, "incomplete"),
    (FaultKind.WRONG_TOTAL, {"page": 3, "total": 5}, "incomplete"),
    (FaultKind.SHORT_LIST, {"page": 2}, "incomplete"),
    (FaultKind.SHORT_LIST, {"page": 1}, "certified"),  # and three quarters of the people are not on it
    (FaultKind.EMPTY_LIST, {"page": 2}, "incomplete"),
    (FaultKind.EMPTY_LIST, {"page": 1}, "certified"),
    (FaultKind.SHIFTED_ROWS, {"page": 1, "times": 1}, "certified"),
    (FaultKind.OUTCOME_LIST, {"page": 1}, "failed"),
    (FaultKind.OUTCOME_LIST, {"page": 3}, "failed"),
    (FaultKind.STATUS, {"page": 2, "status": 200}, "failed"),
    (FaultKind.STATUS, {"page": 3, "status": 500}, "failed"),
    (FaultKind.STATUS, {"page": 3, "status": 410, "times": 1}, "certified"),  # begun again from the first page
    (FaultKind.HTML_LOGIN, {"page": 1}, "failed"),
    (FaultKind.HTML_LOGIN, {"page": 4}, "failed"),
    (FaultKind.CUT_BEFORE, {"page": 3}, "failed"),
    (FaultKind.TRUNCATED_BODY, {"page": 2, "reset": True}, "failed"),
]


@pytest.fixture(scope="module")
def services(server: EmbeddedServer, template: Logins) -> Iterator[Services]:
    """As if a day had passed since the last reading, whenever one begins: each is of everything."""
    with fresh_database(server, template) as logins:
        database = Database(logins)
        http = Http(total_seconds=3, connect_seconds=1)
        yield Services(
            database,
            Vault([VAULT_KEY]),
            http,
            now=lambda: datetime.now(UTC) + timedelta(days=2),
            random=random.Random(SEED).random,
        )
        database.close()


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(token=TOKEN, clients=CLIENTS, staff=STAFF, max_count=ON_A_PAGE)) as running:
        yield running


def take_in(tenant: Tenant, entity: Entity = CLIENT) -> tuple[LandReport, ApplyReport]:
    given = tenant.services, tenant.partner, tenant.name, entity
    landed = land(*given)
    diff(*given)
    return landed, apply(*given)


def let_a_day_pass(tenant: Tenant) -> None:
    """What time does to the results: the guard counts those of the last day."""
    with tenant.services.database.transaction(Login.MIGRATOR, tenant.name) as tx:
        tx.exec_driver_sql("SET LOCAL ROLE zest_owner")
        tx.exec_driver_sql("ALTER TABLE sync.master_result DISABLE TRIGGER refuse_rewrite")
        tx.exec_driver_sql("UPDATE sync.master_result SET made_at = made_at - interval '1 day'")
        tx.exec_driver_sql("ALTER TABLE sync.master_result ENABLE ALWAYS TRIGGER refuse_rewrite")


def take_in_well(tenant: Tenant) -> None:
    """A good reading of all that there is, after which all is equal, and a day."""
    tenant.sandbox.clear_faults()
    for entity in tenant.partner.reads:
        landed, _ = take_in(tenant, entity)
        if landed.state == "incomplete":  # it took up one that broke off, and whose list has changed since
            landed, _ = take_in(tenant, entity)
        _, applied = take_in(tenant, entity)  # what changed on the pages that one had read comes now
        if applied.waiting:
            say_who_waits(tenant)
            applied = apply(tenant.services, tenant.partner, tenant.name, entity)
        assert (landed.state, landed.is_full, applied.held) == ("certified", True, 0)
    assert false_deletes(tenant) == differences(tenant) == []
    let_a_day_pass(tenant)


def test_no_bad_list_deletes_anybody_and_a_good_one_makes_all_equal(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant, people = new_tenant(sandbox, "lists"), People(sandbox, random.Random(SEED))
    take_in_well(tenant)
    for kind, more, state in BAD:
        people.change()
        people.add()
        people.delete()
        sandbox.set_faults(FaultRule(kind, type="Patient", **more))
        landed, _ = take_in(tenant)
        assert [rule["fired"] > 0 for rule in sandbox.faults()] == [True], f"{kind} {more}"
        assert (landed.state, false_deletes(tenant)) == (state, []), f"{kind} {more}"
        take_in_well(tenant)


def test_where_list_and_point_reads_lie_alike_the_guard_keeps_everybody_until_the_partner_is_itself_again(
    sandbox: RunningSandbox, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(sandbox, "liar")
    take_in_well(tenant)
    sandbox.set_faults(
        FaultRule(FaultKind.EMPTY_LIST, type="Patient"),
        *(FaultRule(FaultKind.STATUS, id=each, status=404, code="not-found") for each in live_ids(sandbox, CLIENT)),
    )
    in_force = sum(each["active"] for each in sandbox.state("Patient"))
    landed, applied = take_in(tenant)
    assert (landed.state, landed.gone) == ("certified", CLIENTS)
    assert (applied.held, applied.applied) == (in_force, CLIENTS - in_force)
    assert differences(tenant) == []
    sandbox.clear_faults()
    _, applied = take_in(tenant)
    assert (applied.held, differences(tenant)) == (0, [])


def bad_luck(draw: random.Random) -> list[FaultRule]:
    """Some faults, any of which may befall any call; 410 keeps to its page, since of one record it would be a word."""

    def where(more: dict[str, Any]) -> dict[str, Any]:
        page = more["page"] if more.get("status") == 410 else None
        kind = draw.choice(("Patient", "Patient", "Practitioner", "PractitionerRole"))
        return {"type": kind, "page": page, "times": 2, "probability": 0.2, "seed": draw.randrange(1000)}

    return [FaultRule(kind, **more | where(more)) for kind, more, _ in draw.sample(BAD, 4)]


@pytest.mark.parametrize("number", range(STORMS))
def test_after_a_storm_of_bad_lists_and_edits_between_pages_nobody_was_deleted_and_all_is_equal(
    sandbox: RunningSandbox, new_tenant: NewTenant, number: int
) -> None:
    draw = random.Random(SEED + number)
    people = People(sandbox, draw)
    tenant = new_tenant(sandbox, f"storm-{number}")
    take_in_well(tenant)
    faces = Faces()
    restless = meanwhile(tenant, lambda _: people.act() if draw.random() < 0.5 else None)
    states = set()
    for _ in range(ROUNDS):
        sandbox.set_faults(*bad_luck(draw))
        states |= {take_in(restless, entity)[0].state for entity in tenant.partner.reads}
        assert false_deletes(tenant) == faces.written_over(tenant) == []
    assert states - {"certified"}, "it was no storm"
    take_in_well(tenant)
    assert faces.written_over(tenant) == []
