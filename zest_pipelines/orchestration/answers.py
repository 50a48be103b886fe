"""What Dagster has last recorded of a check for a partition key: an answer that is no news is not logged again.

A thousand tenants that are well would else fill the event log minute by minute with the same green answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster import AssetCheckEvaluation, AssetCheckKey, AssetCheckSeverity, DagsterInstance
from dagster._core.event_api import PartitionKeyFilter  # what the event log is asked and answers has no public name
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus


class Answers:
    """The newest recorded answers for some partition keys, one question to the event log a check."""

    def __init__(self, instance: DagsterInstance, keys: Sequence[str]) -> None:
        self._log = instance.event_log_storage
        self._keys = keys
        self._failed: dict[AssetCheckKey, frozenset[str | None]] = {}

    def is_news(self, evaluation: AssetCheckEvaluation) -> bool:
        """Whether it fails where the last one held, the other way round, or fails with another severity.

        A check that holds and was never answered is no news.
        """
        if evaluation.partition not in self._failed_keys(evaluation.asset_check_key):
            return not evaluation.passed
        return evaluation.passed or evaluation.severity is not self._severity(evaluation)

    def _failed_keys(self, check: AssetCheckKey) -> frozenset[str | None]:
        if check not in self._failed:
            found = self._log.get_asset_check_partition_info([check], partition_keys=self._keys)
            self._failed[check] = frozenset(
                each.partition_key
                for each in found
                if each.latest_execution_status is AssetCheckExecutionRecordStatus.FAILED
            )
        return self._failed[check]

    def _severity(self, evaluation: AssetCheckEvaluation) -> AssetCheckSeverity | None:
        check = evaluation.asset_check_key
        one_key = PartitionKeyFilter(key=evaluation.partition)
        last = self._log.get_latest_asset_check_execution_by_key([check], one_key).get(check)
        return last.evaluation.severity if last is not None and last.evaluation is not None else None
