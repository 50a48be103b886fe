"""What Dagster has last recorded of a check for a partition key: an answer that is no news is not logged again.

A thousand tenants that are well would else fill the event log minute by minute with the same green answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster import AssetCheckEvaluation, AssetCheckKey, AssetCheckSeverity, DagsterInstance, RunsFilter
from dagster._core.event_api import PartitionKeyFilter  # what the event log is asked and answers has no public name
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as _Status
from dagster._core.storage.asset_check_execution_record import AssetCheckPartitionInfo


class Answers:
    """The newest recorded answers for some partition keys (None: for all), one question to the event log a check."""

    def __init__(self, instance: DagsterInstance, keys: Sequence[str] | None) -> None:
        self._instance = instance
        self._keys = keys
        self._failed: dict[AssetCheckKey, frozenset[str | None]] = {}

    def is_news(self, evaluation: AssetCheckEvaluation) -> bool:
        """Whether it fails where the last one held, the other way round, or fails with another severity.

        A check that holds is no news where it was never answered, and none where a run that goes on is to answer it.
        """
        if evaluation.partition not in self.failed(evaluation.asset_check_key):
            return not evaluation.passed
        return evaluation.passed or evaluation.severity is not self._severity(evaluation)

    def failed(self, check: AssetCheckKey) -> frozenset[str | None]:
        """The keys whose last answer failed, and those whose last run ended without the answer that it had planned."""
        if check not in self._failed:
            found = self._instance.event_log_storage.get_asset_check_partition_info([check], partition_keys=self._keys)
            failed = [each for each in found if each.latest_execution_status is _Status.FAILED]
            planned = [each for each in found if each.latest_execution_status is _Status.PLANNED]
            self._failed[check] = frozenset(each.partition_key for each in [*failed, *self._left_open(planned)])
        return self._failed[check]

    def _left_open(self, planned: Sequence[AssetCheckPartitionInfo]) -> Sequence[AssetCheckPartitionInfo]:
        """Those whose run has ended. One that goes on still answers, in a row older than any that we could add."""
        if not planned:
            return planned
        runs = self._instance.get_runs(RunsFilter(run_ids=list({each.latest_planned_run_id for each in planned})))
        alive = {run.run_id for run in runs if not run.is_finished}
        return [each for each in planned if each.latest_planned_run_id not in alive]

    def _severity(self, evaluation: AssetCheckEvaluation) -> AssetCheckSeverity | None:
        """Of the last answer; None: there is none, or the run that had planned it gave none."""
        check = evaluation.asset_check_key
        one_key = PartitionKeyFilter(key=evaluation.partition)
        last = self._instance.event_log_storage.get_latest_asset_check_execution_by_key([check], one_key).get(check)
        if last is None or last.status is not _Status.FAILED or last.evaluation is None:
            return None
        return last.evaluation.severity
