"""What a station says of its work: counts and opaque ids, never a person's data. Metadata and tables come from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from zest_pipelines.core.weeks import Days
from zest_pipelines.flows.limits import Outlook

MOST_PROBLEMS = 20
"""Named in one report, of each kind."""


@dataclass(frozen=True)
class Problem:
    """One record that did not get through, and why."""

    entity: str
    record: str
    """Opaque id: ours for visits, `landed:` and the landed version's number for masters, `plan:` and the number of the
    landed plan, with a line of it behind a slash.

    A partner's own id may be the number by which people know the patient, and this is shown in Dagster's UI.
    """
    outcome: str
    """unmappable or landed (with unknown fields), held or rejected on the way in, compared of a plan; on the way out an
    open outcome, or delivered_with_warning."""
    reason: str
    """A code of the catalogue of reasons."""
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LandReport:
    """One reading of one entity."""

    entity: str
    snapshot: str
    """Id of the snapshot; empty if none was begun."""
    state: str
    """certified, incomplete (something is missing, so absence proves nothing) or failed (the reading broke off)."""
    reason: str | None = None
    """Why it is not certified: a code of the catalogue."""
    params: Mapping[str, str] = field(default_factory=dict)
    is_full: bool = False
    pages: int = 0
    records: int = 0
    """Records read, repeats not counted."""
    new_versions: int = 0
    """Records that differ from what had landed before, new ones included."""
    gone: int = 0
    """Records whose absence was proved."""
    suspects: int = 0
    """Records that did not come in a full reading and are neither proved gone nor seen again, since whenever."""
    unmappable: int = 0
    """Records that cannot become a master as they last landed, in this reading or before."""
    unmappable_for: Mapping[str, int] = field(default_factory=dict)
    """These by reason."""
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    """Of the new versions: how many have a field that the partner's format does not have and that no reading told
    before, by the field's name. At most 20 names; `?` for those that may themselves be data."""
    told_fields: tuple[str, ...] = ()
    """The names that earlier readings told."""
    problems: tuple[Problem, ...] = ()
    """The unmappable ones, at most 20, and new versions that have unknown fields and are well otherwise, at most 20."""
    calls: int = 0
    """Calls made to the partner."""
    last: LandReport | None = None
    """Of one that was put off: how the last one ended that was not; None: there was none."""
    freshness: Freshness | None = None
    """Set unless this one is certified."""
    seconds: float = 0.0

    @property
    def is_certified(self) -> bool:
        """Whether it may be relied on to be all that the partner has, or all that changed."""
        return self.state == "certified"


@dataclass(frozen=True)
class Freshness:
    """How old the newest certified reading of one entity is."""

    entity: str
    age: timedelta
    """Since that reading began; without one, since the connection was made or last changed."""
    was_read: bool
    every: timedelta
    """How often it is to be read."""
    not_now: str | None = None
    """Why none is made now, though nothing is wrong: connection_paused or outside_window."""


@dataclass(frozen=True)
class PlanReport:
    """One reading of plans, and how what stands then agrees with the confirmed visits, from this month on."""

    landing: LandReport
    plans: int = 0
    """Of linked clients and a month each; those that were taken back are left out."""
    agreeing: int = 0
    """Planned and confirmed alike."""
    differing: int = 0
    """Planned and confirmed for the same day, with another service or time."""
    missing_here: int = 0
    """Planned, and not confirmed."""
    no_visits: int = 0
    """Planned without a time, and no visit stands for it: such as additions to a fee, which nobody confirms."""
    missing_there: int = 0
    """Confirmed, and not planned."""
    unsure: int = 0
    """Confirmed, and perhaps planned in a line that could not be taken."""
    unlinked: int = 0
    """Plans of clients whom nobody here is linked to; they are not compared."""
    without_plan: int = 0
    """Confirmed visits, in months of which plans have come, of clients for whom none has."""
    problems: tuple[Problem, ...] = ()
    """Findings, at most 20, and plans of unlinked clients, at most 20."""

    @property
    def agrees(self) -> bool:
        """Whether nothing was found."""
        return not (self.differing or self.missing_here or self.missing_there or self.unlinked)


@dataclass(frozen=True)
class DiffReport:
    """Landed against last applied."""

    entity: str
    added: int = 0
    changed: int = 0
    deleted: int = 0
    unmappable: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ApplyReport:
    """What became of the open master changes."""

    entity: str
    applied: int = 0
    superseded: int = 0
    held: int = 0
    """Open: a person has to approve them, or the partner to be asked again."""
    rejected: int = 0
    waiting: int = 0
    """Of the held ones: those of which a person has to say who they are."""
    population: int = 0
    """Records in force before, against which the mass-change guard measures."""
    deletes: int = 0
    """Deletes that were about to be applied, held ones included."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """Records that were about to change in a field, by its name, held ones included."""
    held_deletes: int = 0
    """How many deletes the guard held."""
    deleted_lately: int = 0
    """Deletes of the last day for which it held them too."""
    suspects: int = 0
    """Records that may be gone as well, for which it held them too."""
    changed_lately: Mapping[str, int] = field(default_factory=dict)
    """Other records that changed in the held fields within an hour, for which it held them too."""
    held_fields: Mapping[str, int] = field(default_factory=dict)
    """The fields whose changes the guard held, each with the number of its records."""
    problems: tuple[Problem, ...] = ()
    """Those that the guard held, at most 20; those of which nobody knows who they are, at most 20; and of those that
    stand rejected, since whenever, at most 20."""
    left_behind: tuple[str, ...] = ()
    """Landed, and neither applied nor rejected nor held: opaque ids, at most 20."""
    landed_records: int = 0
    """Records that the partner has, by what landed."""
    applied_records: int = 0
    """Records whose newest landed version has been applied."""
    rejected_records: int = 0
    """Records whose newest landed version was rejected, now or earlier."""
    held_records: int = 0
    seconds: float = 0.0

    @property
    def left_records(self) -> int:
        """Records that landed and are neither applied nor rejected nor held; below 0, the tables contradict each
        other."""
        return self.landed_records - self.applied_records - self.rejected_records - self.held_records

    @property
    def equals_landed(self) -> bool:
        """Whether every landed record is applied, but for those that wait for a person."""
        return self.left_records == 0


@dataclass(frozen=True)
class AccumulateReport:
    """Update events turned into changes."""

    events: int = 0
    changes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class PushReport:
    """One push of one connection."""

    delivered: int = 0
    delivered_with_warning: int = 0
    superseded: int = 0
    not_needed: int = 0
    abandoned: int = 0
    """Given up by a person."""
    retry: int = 0
    unknown: int = 0
    conflict: int = 0
    parked: int = 0
    recovered: int = 0
    """In doubt before; read back and settled or cleared for another try."""
    repaired: int = 0
    """Settled records that a late sender had touched, and that were sent again."""
    late: int = 0
    """Answers that came when another push had settled their records already."""
    batches: int = 0
    """Calls that carried several records."""
    pending: int = 0
    """Open changes left, of whatever state."""
    pending_parked: int = 0
    """Of these: parked, now or earlier."""
    oldest_pending: datetime | None = None
    """Edit time of the oldest change that could go and has not: not parked, asked for, its people known there."""
    stopped: str | None = None
    """Why it ended before all that was due had been tried: a code of the catalogue; None: all tried."""
    params: Mapping[str, str] = field(default_factory=dict)
    is_held: bool = False
    """Whether `stopped` has opened the breaker, so that no push calls for a while."""
    blocked: frozenset[str] = frozenset()
    """Kinds of record that the partner takes none of until a person acts; one problem of each says why."""
    problems: tuple[Problem, ...] = ()
    """What did not get through in this push, at most 20."""
    calls: int = 0
    """Calls made to the partner."""
    seconds: float = 0.0
    outlook: Outlook | None = field(default=None, compare=False)
    """How far the limits are spent, and when what is left will have gone."""

    @property
    def got_through(self) -> int:
        """Records that came to their end."""
        ended = self.delivered + self.delivered_with_warning + self.superseded + self.not_needed
        return ended + self.recovered + self.repaired + self.abandoned

    @property
    def held_up(self) -> int:
        """Records that were tried and go on, or wait for a person."""
        return self.retry + self.unknown + self.conflict + self.parked + self.late


@dataclass(frozen=True)
class PeriodCounts:
    """How the records of a period stand at the partner; each record is counted once."""

    delivered: int = 0
    """Since it was asked for."""
    unchanged: int = 0
    """The partner had them already, or need not have them."""
    waiting: int = 0
    """Not there yet; they go by themselves, or as soon as what they wait for has come."""
    refused: int = 0
    """Not there, and a person has to act."""

    @property
    def total(self) -> int:
        """All records of the period that the partner is to have."""
        return self.delivered + self.unchanged + self.waiting + self.refused


@dataclass(frozen=True)
class PeriodReport:
    """What became of the records of some days, asked for by a person."""

    days: Days
    request: str
    """Id of the push request that was recorded; empty if none was."""
    visits: PeriodCounts = field(default_factory=PeriodCounts)
    visit_records: PeriodCounts = field(default_factory=PeriodCounts)
    stopped: str | None = None
    """Why nothing of this connection goes on for now: a code of the catalogue; None: nothing stops it."""
    params: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    """The waiting and refused ones that have a reason, at most 20."""
    seconds: float = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the partner has all of it."""
        return self.stopped is None and not any(
            each.waiting or each.refused for each in (self.visits, self.visit_records)
        )


@dataclass(frozen=True)
class StoppedReport:
    """What is stopped of the records that a person asked to have tried again: refused, or in conflict."""

    again: int = 0
    """Tried since, and stopped once more."""
    untried: int = 0
    """Not tried yet."""
    problems: tuple[Problem, ...] = ()
    """Those stopped once more, at most 20."""


@dataclass(frozen=True)
class Mismatch:
    """A delivered record that the partner shows otherwise."""

    entity: str
    record: str
    """Opaque id."""
    fields: tuple[str, ...]
    """Names of what differs (as contract.Found has them), never values; empty: the partner does not have the record,
    or `reason` says why it cannot be compared."""
    reason: str | None = None
    """A code of the catalogue: what is wrong with this record's copy at the partner; None: it was compared."""
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReconcileReport:
    """What was pushed for some days, read back from the partner and compared field by field."""

    days: Days
    compared: int = 0
    equal: int = 0
    missing: int = 0
    """Delivered once, and not there any more."""
    differing: int = 0
    """There, and otherwise than delivered, or not to be compared for a fault that a person has to cure there."""
    open: int = 0
    """Left out of the comparison, because the partner has not got their newest version yet, or got it meanwhile."""
    mismatches: tuple[Mismatch, ...] = ()
    """The missing and differing ones, at most 20."""
    stopped: str | None = None
    """Why it ended before all was compared: a code of the catalogue; None: all was compared."""
    params: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether all was compared and all was equal."""
        return self.stopped is None and self.compared == self.equal
