"""PostgreSQL dies in the middle of a station: that is said in one sentence, and after a restart everything goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from conftest import Tenant, wait_for
from flow_bench import accumulate_all, broken_promises, calls, effects, expire_lease, mark, push_now

from partners.contract import Entity
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login, Logins
from zest_pipelines.flows.land import land
from zest_pipelines.flows.push import push
from zest_pipelines.local import embedded
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store.errors import DatabaseUnreachableError
from zest_pipelines.store.installation import install


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> DataDir:
    made = DataDir(tmp_path_factory.mktemp("fragile"))
    made.open()
    return made


@pytest.fixture(scope="module")
def server(data_dir: DataDir) -> Iterator[EmbeddedServer]:
    """A server of this module's own, which its tests may kill."""
    running = embedded.start(data_dir)
    try:
        yield running
    finally:
        running.stop("immediate")


@pytest.fixture(scope="module")
def template(server: EmbeddedServer) -> Logins:
    logins = Logins.generate(str(server.socket_dir), server.port, environ={})
    install(server.admin_url, logins)
    return logins


@pytest.fixture
def logins(server: EmbeddedServer, template: Logins, request: pytest.FixtureRequest) -> Logins:
    """Logins to a database of the test's own; it goes with the server."""
    name = f"fragile_{abs(hash(request.node.name))}"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template.database} OWNER zest_owner")  # type: ignore[arg-type]
    return replace(template, database=name)


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_push_whose_database_dies_says_so_and_the_next_one_finds_what_was_sent(
    tenant: Tenant, sandbox: RunningSandbox, server: EmbeddedServer, data_dir: DataDir, aside: ThreadPoolExecutor
) -> None:
    sandbox.configure(conditional_create=False)
    visits = [tenant.add_visit() for _ in range(3)]
    accumulate_all(tenant)
    start = mark(sandbox)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, method="POST", nth=2, times=1, seconds=2))
    dying = aside.submit(push, tenant.services, tenant.partner, tenant.name)
    wait_for(lambda: len(calls(sandbox, "POST", after=start)) >= 2)  # the first goes alone, the others side by side
    server.stop("immediate")
    with pytest.raises(DatabaseUnreachableError, match="the database does not answer: start it"):
        dying.result()
    with pytest.raises(DatabaseUnreachableError):
        push(tenant.services, tenant.partner, tenant.name)
    embedded.start(data_dir)
    expire_lease(tenant)
    report = push_now(tenant)
    assert report.pending == 0
    assert (report.delivered, report.recovered) in ((1, 1), (2, 1), (2, 2))  # as far as the third had come
    assert [effects(sandbox, visit) for visit in visits] == [["created"]] * 3
    assert broken_promises(tenant) == []


def test_a_reading_whose_database_dies_is_taken_up_again(
    tenant: Tenant, sandbox: RunningSandbox, server: EmbeddedServer, data_dir: DataDir, aside: ThreadPoolExecutor
) -> None:
    for each in sandbox.state("Patient")[:3]:
        sandbox.put(each | {"birthDate": "1950-05-05"})
    sandbox.configure(max_count=10)
    start = mark(sandbox)
    sandbox.set_faults(FaultRule(FaultKind.DELAY, type="Patient", page=2, times=1, seconds=2))
    dying = aside.submit(land, tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    wait_for(lambda: len(calls(sandbox, kind="Patient", after=start)) == 2)
    server.stop("immediate")
    with pytest.raises(DatabaseUnreachableError):
        dying.result()
    embedded.start(data_dir)
    tenant.sql("UPDATE sync.snapshot SET touched_at = touched_at - interval '6 minutes'", Login.LAND)
    tenant.take_in()
    dates = "SELECT FROM schedule.client WHERE birth_date = '1950-05-05'"
    assert len(tenant.sql(dates)) == 3
    readings = tenant.sql("SELECT state, attempt FROM sync.snapshot ORDER BY started_at", Login.LAND)
    assert [tuple(row) for row in readings[-2:]] == [("certified", 2), ("certified", 1)]
