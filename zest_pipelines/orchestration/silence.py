"""Whether Dagster still does anything: asked by a process that Dagster neither starts nor stops."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from dagster import DagsterInstance

from zest_pipelines.core.alarm import Trouble
from zest_pipelines.orchestration.alerts import SENSOR

PATIENCE = timedelta(minutes=5)
"""So long a part of the daemon may give no sign of life, and the station of alerts not be asked."""


def silences(
    instance: DagsterInstance, now: datetime, started: datetime, patience: timedelta = PATIENCE
) -> tuple[Trouble, ...]:
    """The daemon, if one of its parts is silent for `patience`, and the sensor that looks for alerts, if it is.

    `started`: when whoever asks began. What was silent before has that long to begin too.
    """

    def is_silent(last: datetime) -> bool:
        return now - max(last, started) > patience

    found = []
    if is_silent(sign := _last_sign(instance)):
        found.append(Trouble("", "daemon_silent", "", 1, 0, sign))
    if is_silent(look := _last_look(instance)):
        found.append(Trouble("", "nobody_looks", "", 1, 0, look))
    return tuple(found)


def _last_sign(instance: DagsterInstance) -> datetime:
    """Of the part of the daemon that has been silent for longest."""
    beats = instance.get_daemon_heartbeats()
    return min(_moment(beats[kind].timestamp if kind in beats else 0) for kind in instance.get_required_daemon_types())


def _last_look(instance: DagsterInstance) -> datetime:
    return max(_looks(instance), default=_moment(0))


def _looks(instance: DagsterInstance) -> Iterator[datetime]:
    for each in instance.all_instigator_state():
        if each.instigator_name == SENSOR:
            yield _moment(getattr(each.instigator_data, "last_tick_timestamp", None) or 0)


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
