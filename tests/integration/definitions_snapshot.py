"""What Dagster is shown, as a file that is compared: keys, partitions, checks, jobs, clocks.

Dagster keeps history by these names. Run this module to write the file anew where a change is meant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from dagster import (
    AssetSpec,
    DefaultSensorStatus,
    Definitions,
    DynamicPartitionsDefinition,
    JobDefinition,
    MultiPartitionsDefinition,
    PartitionsDefinition,
    RepositoryDefinition,
    ScheduleDefinition,
    SensorDefinition,
    TimeWindowPartitionsDefinition,
)

FILE = Path(__file__).with_name("definitions.yaml")
COMMAND = "make snapshot"
_HEAD = f"""\
# What Dagster is shown. A renamed key, partition, check, job or clock loses its history in every installation.
# Written by: {COMMAND}
"""


def described(definitions: Definitions) -> dict[str, Any]:
    """All of it, in plain values."""
    repository = definitions.get_repository_def()
    return {
        "assets": {spec.key.to_user_string(): _asset(repository, spec) for spec in _specs(definitions)},
        "jobs": {job.name: _job(job) for job in _named(definitions.resolve_all_job_defs()) if job.name[0] != "_"},
        "schedules": {each.name: _schedule(each) for each in _named(repository.schedule_defs)},
        "sensors": {each.name: _sensor(each) for each in _named(repository.sensor_defs)},
    }


def written(description: Mapping[str, Any]) -> str:
    """The file's text."""
    return _HEAD + yaml.safe_dump(dict(description), sort_keys=False, default_flow_style=None, width=120)


def _specs(definitions: Definitions) -> list[AssetSpec]:
    return sorted(definitions.resolve_all_asset_specs(), key=lambda spec: spec.key.path)


def _named(definitions: Iterable[Any]) -> list[Any]:
    return sorted(definitions, key=lambda each: str(each.name))


def _asset(repository: RepositoryDefinition, spec: AssetSpec) -> dict[str, Any]:
    assert spec.partitions_def is not None
    graph = repository.asset_graph
    checks = [graph.get_check_spec(key) for key in graph.get_check_keys_for_assets({spec.key})]
    assert {check.partitions_def for check in checks} <= {spec.partitions_def, None}, "a check is of other partitions"
    return {
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": sorted(spec.owners),
        "partitions": _partitions(spec.partitions_def),
        "after": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "checks": sorted(check.name for check in checks),
        "blocking": sorted(check.name for check in checks if check.blocking),
        "unpartitioned": sorted(check.name for check in checks if check.partitions_def is None),
    }


def _partitions(partitions: PartitionsDefinition[Any]) -> Any:
    """Without where a time window begins, which moves with the calendar."""
    match partitions:
        case DynamicPartitionsDefinition():
            return partitions.name
        case MultiPartitionsDefinition():
            return {each.name: _partitions(each.partitions_def) for each in partitions.partitions_defs}
        case TimeWindowPartitionsDefinition():
            return {
                "cron": partitions.cron_schedule,
                "timezone": partitions.timezone,
                "end_offset": partitions.end_offset,
                "format": partitions.fmt,
            }
        case _:
            raise AssertionError(f"no words for {partitions}")


def _job(job: JobDefinition) -> dict[str, Any]:
    assets = sorted(key.to_user_string() for key in job.asset_layer.selected_asset_keys)
    made = {"assets": assets} if assets else {"config": (job.run_config or {}).get("ops", {})}
    return made | {"tags": dict(job.tags)}


def _schedule(schedule: ScheduleDefinition) -> dict[str, Any]:
    return {
        "job": schedule.job_name,
        "cron": schedule.cron_schedule,
        "timezone": schedule.execution_timezone,
        "status": schedule.default_status.value,
    }


def _sensor(sensor: SensorDefinition) -> dict[str, Any]:
    return {
        "job": sensor.job_name,
        "seconds": sensor.minimum_interval_seconds,
        "status": (sensor.default_status or DefaultSensorStatus.STOPPED).value,
    }


if __name__ == "__main__":
    from zest_pipelines.definitions import definitions as ours

    FILE.write_text(written(described(ours)), encoding="utf-8")
    sys.stdout.write(f"{FILE} is written\n")
