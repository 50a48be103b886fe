"""The lookout: a daemon that is silent, a sensor that nobody asks and a database that is away are told from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from alert_bench import Receiver, add_target, running_receiver
from dagster import DagsterInstance, instance_for_test
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._daemon.types import DaemonHeartbeat
from evidence import is_told
from psycopg import sql

from partners.reasons import Owner
from resources.logins import Logins
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.local.lookout import Lookout
from zest_pipelines.orchestration.alerts import SENSOR
from zest_pipelines.orchestration.silence import PATIENCE

SHORTLY = timedelta(seconds=30)


@dataclass
class House:
    """A Dagster whose daemon and sensor the test moves, a clock, and who is told."""

    instance: DagsterInstance
    services: Services
    receiver: Receiver
    now: datetime

    def beat(self) -> None:
        """Every part of the daemon gives a sign of life now."""
        for kind in self.instance.get_required_daemon_types():
            self.instance.add_daemon_heartbeat(DaemonHeartbeat(self.now.timestamp(), kind, "one", []))

    def tick(self) -> None:
        """The sensor is asked now."""
        origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("zest"), "__r__"), SENSOR)
        state = InstigatorState(
            origin,
            InstigatorType.SENSOR,
            InstigatorStatus.DECLARED_IN_CODE,
            SensorInstigatorData(last_tick_timestamp=self.now.timestamp(), min_interval=60),
        )
        if self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id) is None:
            self.instance.add_instigator_state(state)
        else:
            self.instance.update_instigator_state(state)

    def lookout(self) -> Lookout:
        return Lookout(self.services, lambda: nullcontext(self.instance))


@pytest.fixture
def house(services: Services, tmp_path: Path) -> Iterator[House]:
    with instance_for_test(temp_dir=str(tmp_path)) as instance, running_receiver() as receiver:
        made = House(instance, services, receiver, datetime.now(UTC) - timedelta(days=1))
        # In the past: notices are due by the database's clock
        made.services = replace(services, now=lambda: made.now)
        add_target(services, receiver)
        add_target(services, receiver, only=frozenset({Owner.PARTNER}), name="not-of-the-platform")
        yield made


def test_while_daemon_and_sensor_are_alive_nothing_is_told(house: House) -> None:
    look = house.lookout()
    for _ in range(4):
        house.now += PATIENCE / 2
        house.beat()
        house.tick()
        assert look() == ()
    assert house.receiver.took == []


def test_a_silent_daemon_is_told_once_and_not_before_it_has_had_its_time(house: House) -> None:
    look = house.lookout()
    house.beat()
    house.now += PATIENCE - SHORTLY
    house.tick()
    assert look() == ()
    for _ in range(3):
        house.now += SHORTLY * 2
        house.tick()
        assert [each.reason for each in look()] == ["daemon_silent"]
    is_told("daemon_silent")
    assert [title for title in house.receiver.titles if "daemon_silent" in title] == house.receiver.titles
    assert house.receiver.kinds() == (1, 0)


def test_one_part_of_the_daemon_that_hangs_is_a_silent_daemon(house: House) -> None:
    look = house.lookout()
    house.beat()
    house.now += PATIENCE * 2
    house.tick()
    *others, _ = house.instance.get_required_daemon_types()
    for kind in others:
        house.instance.add_daemon_heartbeat(DaemonHeartbeat(house.now.timestamp(), kind, "one", []))
    assert [each.reason for each in look()] == ["daemon_silent"]


def test_a_sensor_that_nobody_asks_is_told(house: House) -> None:
    look = house.lookout()
    house.tick()
    house.now += PATIENCE + SHORTLY
    house.beat()
    assert [each.reason for each in look()] == ["nobody_looks"]
    is_told("nobody_looks")
    assert house.receiver.kinds() == (1, 0)


def test_a_platform_that_was_down_has_time_to_begin(house: House) -> None:
    house.beat()
    house.tick()
    house.now += timedelta(hours=9)
    look = house.lookout()
    house.now += PATIENCE - SHORTLY
    assert look() == ()


def test_a_database_that_is_away_is_told_from_memory_once_and_once_when_it_is_back(
    house: House, server: EmbeddedServer, logins: Logins, caplog: pytest.LogCaptureFixture
) -> None:
    look = house.lookout()
    house.beat()
    house.tick()
    look()
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        name = sql.Identifier(logins.database)
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [logins.database])
        look()
        assert house.receiver.took == []  # it may be restarted
        house.receiver.is_down = True
        house.now += PATIENCE
        assert [each.reason for each in look()] == ["database_silent"]
        is_told("database_silent")
        house.receiver.is_down = False
        for _ in range(3):
            house.now += SHORTLY
            look()
        assert house.receiver.kinds() == (1, 0)
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    house.receiver.is_down = True
    for house.receiver.is_down in (True, False, False):
        house.beat()
        house.tick()
        look()
    assert house.receiver.kinds() == (1, 1)
    assert house.receiver.refused >= 2
    assert "hook-with-a-secret" not in caplog.text
    assert logins.passwords[next(iter(logins.passwords))] not in caplog.text
