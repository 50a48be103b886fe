"""Whether an answer is news, held against what a real Dagster has recorded."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

from collections.abc import Iterator

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetKey,
    AssetSpec,
    DagsterInstance,
    Failure,
    MaterializeResult,
    OpExecutionContext,
    StaticPartitionsDefinition,
    job,
    materialize,
    multi_asset,
    op,
)

from zest_pipelines.orchestration import checks
from zest_pipelines.orchestration.answers import Answers
from zest_pipelines.orchestration.checks import CheckName, evaluation

ASSET = AssetKey(["paper", "thing"])
TENANTS = StaticPartitionsDefinition(["sakura", "ume"])
WARN, ERROR = AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR


def _answer(tenant: str, failed_as: AssetCheckSeverity | None = None) -> AssetCheckEvaluation:
    return evaluation(ASSET, tenant, CheckName.FRESH, failed_as, "", {})


def _log(instance: DagsterInstance, answer: AssetCheckEvaluation) -> None:
    @op
    def tell(context: OpExecutionContext) -> None:
        context.log_event(answer)  # type: ignore[arg-type]

    @job
    def telling() -> None:
        tell()

    assert telling.execute_in_process(instance=instance).success


def test_the_same_answer_is_no_news_and_another_one_or_another_severity_is() -> None:
    with DagsterInstance.ephemeral() as instance:
        assert not Answers(instance, ["sakura"]).is_news(_answer("sakura"))
        for recorded in (None, WARN, ERROR):
            _log(instance, _answer("sakura", recorded))
            for told in (None, WARN, ERROR):
                assert Answers(instance, ["sakura"]).is_news(_answer("sakura", told)) is (told is not recorded)
                assert Answers(instance, None).is_news(_answer("ume", told)) is (told is not None)


def test_where_a_run_died_before_it_answered_any_answer_is_news_but_not_while_it_runs() -> None:
    during: list[bool] = []

    @multi_asset(
        specs=[AssetSpec(ASSET)], check_specs=checks.specs(ASSET, [CheckName.FRESH], TENANTS), partitions_def=TENANTS
    )
    def thing(context: AssetExecutionContext) -> Iterator[MaterializeResult[None]]:
        yield MaterializeResult(asset_key=ASSET)
        during.append(Answers(context.instance, ["sakura"]).is_news(_answer("sakura")))
        raise Failure("it dies")

    with DagsterInstance.ephemeral() as instance:
        assert not materialize([thing], instance=instance, partition_key="sakura", raise_on_error=False).success
        answers = Answers(instance, ["sakura", "ume"])

        assert during == [False]
        assert [answers.is_news(_answer("sakura", failed_as)) for failed_as in (None, WARN, ERROR)] == [True] * 3
        assert not answers.is_news(_answer("ume"))
