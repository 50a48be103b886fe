"""What must hold after a run, tenant by tenant: the checks that the assets declare, and what all their answers share.

They are evaluated inside the run that made the report and carry the tenant as their partition, so that in a
run of many tenants each has its own answer. ERROR, red in the UI: a person has to act. WARN, yellow: somebody should
look, or it goes by itself.

None of a tenant's checks is declared blocking. Blocking acts between the steps of a run alone, and the way in is one
step, which serves many tenants: to stop it for one would stop those beside it. Nor should everything stop: after a
reading that is not certified nobody is deleted, yet what it brought is taken; of a mass change the deletes or the
fields in question are held, yet additions go on, and so does the way out. These are rules of the stations, and hold
where no check is planned as well. The checks of a week do block what follows in its run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import StrEnum

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    MetadataValue,
    OpExecutionContext,
    PartitionsDefinition,
    PreviewWarning,
)

from partners.contract import TLS_SECRETS, Partner
from partners.reasons import reason as catalogued
from zest_pipelines.flows.reports import Problem
from zest_pipelines.orchestration.failures import Fault, is_retried
from zest_pipelines.orchestration.metadata import Metadata

WHERE = "`zest explain` says why, and what to do, for each record."


class CheckName(StrEnum):
    """The checks; each belongs to one kind of asset."""

    SNAPSHOT_CERTIFIED = "snapshot_certified"
    SHAPE_KNOWN = "shape_known"
    FRESH = "fresh"
    PLAN_AGREES = "plan_agrees"
    CERTIFICATE_LASTS = "certificate_lasts"
    NO_MASS_CHANGE = "no_mass_change"
    NOTHING_REJECTED = "nothing_rejected"
    EQUALS_LANDED = "equals_landed"
    IDENTITIES_SETTLED = "identities_settled"
    NOT_STOPPED = "not_stopped"
    OLDEST_PENDING_AGE = "oldest_pending_age"
    NOTHING_PARKED = "nothing_parked"
    NOTHING_HELD_BACK = "nothing_held_back"
    PROJECTION_AGREES = "projection_agrees"
    WEEK_SETTLED = "week_settled"
    EQUALS_READ_BACK = "equals_read_back"


_ABOUT = {
    CheckName.SNAPSHOT_CERTIFIED: "The last reading surely holds all that the partner has, or all that "
    "changed. Else nobody is deleted because of it. Yellow: we read again by ourselves. Red: do what the description "
    "says.",
    CheckName.SHAPE_KNOWN: "What came new or changed in the last reading has the fields that we know, and each of the "
    "partner's records could become one of ours (drift). Yellow: look at the fields and reasons that the description "
    "names; nothing is lost, and what is well goes on. A field is told once for each version of a record; a record "
    "that cannot be taken, until it can.",
    CheckName.FRESH: "The last reading to be relied on is no older than twice the interval that is set for the "
    "connection (else yellow), or six times (else red; at most a day, but never below three times). Readings fail or "
    "none are started: the description says where to look. A paused connection is not read, and not red.",
    CheckName.PLAN_AGREES: "What others have planned for our clients, from this month on, is what is confirmed here: "
    "the same services on the same days at the same times, for clients who are linked. Yellow: the listed visits and "
    "lines of plans differ, or a plan's client is unknown here. Nothing is changed by itself: people settle it.",
    CheckName.CERTIFICATE_LASTS: "The client certificate that the connection shows, if any, is valid for more than 60 "
    "days; looked at every ten minutes. Yellow: have the partner issue another one. Red: it has expired, and "
    "nothing is read or sent.",
    CheckName.NO_MASS_CHANGE: "Not too much is about to change at once. Too much are deletes of more than 10 records "
    "that are also more than 5 % of those in force, and changes of one field in 10 records or more that are also more "
    "than 30 %. Red: these are held until a person has looked, while additions and all other changes go on.",
    CheckName.NOTHING_REJECTED: "Every record of the partner could become one of ours. Red: correct the "
    "listed records at the partner; the next reading takes them.",
    CheckName.EQUALS_LANDED: "Every landed record is applied, but for those that wait for a person or were "
    "rejected. Red: records were left behind; materialize changes and applied again, and tell us if it stays so.",
    CheckName.IDENTITIES_SETTLED: "Of every record of the partner it is known whether it is one of our masters, or "
    "somebody new. Red: the listed ones wait, and nothing is sent under their ids, until a person says who they are "
    "(`zest identities`); all others go on.",
    CheckName.NOT_STOPPED: "Pushes try what is due, or wait for their turn. Yellow: three times in a row nothing of "
    "this tenant got through to the partner, so we stay away and look now and then whether it is over. Red: nothing "
    "gets through until what the description says is done. Told once when it begins and once when it is over.",
    CheckName.OLDEST_PENDING_AGE: "No edit has waited more than 15 minutes (else yellow) or an hour (else red) for "
    "the partner, parked ones left out. Red: look at what stopped it.",
    CheckName.NOTHING_PARKED: "No record stands refused for good. Red: the listed records need a person.",
    CheckName.NOTHING_HELD_BACK: "No transaction that stays open, in whatever database of the server, keeps edits from "
    "being read for more than a minute; one answer for all tenants. Red: nothing new goes out to those whom the "
    "description counts until it has ended.",
    CheckName.PROJECTION_AGREES: "What waits for the partner, and what is settled there, is what history says; looked "
    "at every night. Red: tell us with the run's id; nothing has to be stopped.",
    CheckName.WEEK_SETTLED: "The partner has everything of the week. Yellow: the rest waits and goes by itself. Red: "
    "a person has to act; the description says where. It blocks: nothing is read back of a week that is red.",
    CheckName.EQUALS_READ_BACK: "What was pushed of the week is what the partner shows when it is read back. Red: the "
    "listed records are missing or differ there, or a person has to act before it can be read. Yellow: not all of it "
    "is there yet, or not all could be read; launch it again later. Not seen: what stands at the partner and is not "
    "ours, and a second copy of ours while the one that we know is there.",
}
_MOST_NAMED = 5


def specs(
    asset: AssetKey, names: Sequence[CheckName], partitions: PartitionsDefinition[str] | None, *, blocking: bool = False
) -> list[AssetCheckSpec]:
    """The declarations of an asset's checks, partitioned as the asset is; None: of all its partitions at once.

    `blocking`: an error fails the run and stops what follows, where the answer is yielded and not only logged.
    """
    with warnings.catch_warnings():
        # In preview; without the partitions the UI would show the last tenant's answer as everyone's.
        warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", PreviewWarning)
        return [
            AssetCheckSpec(
                name.value, asset=asset, description=_ABOUT[name], partitions_def=partitions, blocking=blocking
            )
            for name in names
        ]


def shows_certificates(partner: Partner) -> bool:
    """Whether its connections may show a client certificate."""
    return set(TLS_SECRETS) <= set(partner.secrets)


def log(context: AssetExecutionContext | OpExecutionContext, answers: Iterable[AssetCheckEvaluation]) -> None:
    """Log answers that no run planned: each is stored as a row of its own."""
    for answer in answers:
        context.log_event(answer)  # type: ignore[arg-type]  # it takes checks too, though its type does not say so


def broken(asset: AssetKey, tenant: str, name: CheckName, fault: Fault) -> AssetCheckEvaluation:
    """The answer where a fault kept the station from giving one."""
    failed_as = AssetCheckSeverity.ERROR if fault.is_permanent else AssetCheckSeverity.WARN
    metadata: Metadata = {"reason": MetadataValue.text(fault.code)}
    return evaluation(asset, tenant, name, failed_as, fault.description, metadata)


def is_waiting(code: str) -> bool:
    """Whether the reason is no fault but a rule of ours that lets it go on later: limits, hours."""
    return is_retried(code) and catalogued(code).is_wait


def is_put_off(code: str) -> bool:
    """Whether nothing is wrong: it waits for its turn, or until the person who paused it resumes it."""
    return is_waiting(code) or code == "connection_paused"


def severity(code: str) -> AssetCheckSeverity:
    """A warning while we try again by ourselves, else an error."""
    return AssetCheckSeverity.WARN if is_retried(code) else AssetCheckSeverity.ERROR


def counted(count: int, what: str) -> str:
    """`1 page`, `2 pages`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def spoken(span: timedelta) -> str:
    """`40 min`, `5 h`, `3 days`: two of a unit before the next is used."""
    minutes = round(span.total_seconds() / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def named(found: Sequence[Problem], count: int | None = None) -> str:
    """The first few opaque ids of `count` records (None: of those that are listed)."""
    names = [each.record for each in found[:_MOST_NAMED]]
    more = (len(found) if count is None else count) - len(names)
    return ", ".join([*names, *([f"and {more} more"] if more > 0 else [])])


def evaluation(
    asset: AssetKey,
    tenant: str | None,
    name: CheckName,
    failed_as: AssetCheckSeverity | None,
    description: str,
    metadata: Metadata,
) -> AssetCheckEvaluation:
    """The answer of one check for one partition key (None: it has none). `failed_as` None: it holds."""
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=name.value,
        passed=failed_as is None,
        severity=failed_as or AssetCheckSeverity.ERROR,
        description=description,
        metadata=metadata,
        partition=tenant,
    )
