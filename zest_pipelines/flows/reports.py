"""What a station says of its work: counts and opaque ids, never a person's data. Metadata and tables come from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Problem:
    """One record that did not get through, and why."""

    entity: str
    record: str
    """Opaque id: ours for visits, `landed:` and the landed version's number for masters.

    A partner's own id may be the number by which people know the patient, and this is shown in Dagster's UI.
    """
    outcome: str
    """held or rejected on the way in; on the way out an open outcome, or delivered_with_warning."""
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
    unmappable: int = 0
    """Of the new versions: those that cannot become a master."""
    seconds: float = 0.0

    @property
    def is_certified(self) -> bool:
        """Whether it may be relied on to be all that the partner has, or all that changed."""
        return self.state == "certified"


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
    problems: tuple[Problem, ...] = ()
    """The held and rejected ones, at most 20."""
    landed_records: int = 0
    """Records that the partner has, by what landed."""
    applied_records: int = 0
    """Records whose newest landed version has been applied."""
    rejected_records: int = 0
    """Records whose newest landed version was rejected, now or earlier."""
    held_records: int = 0
    seconds: float = 0.0

    @property
    def equals_landed(self) -> bool:
        """Whether every landed record is applied, but for those that wait for a person."""
        return self.landed_records == self.applied_records + self.rejected_records + self.held_records


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
    retry: int = 0
    unknown: int = 0
    conflict: int = 0
    parked: int = 0
    recovered: int = 0
    """In doubt before; read back and settled or cleared for another try."""
    pending: int = 0
    """Open changes left, of whatever state."""
    pending_parked: int = 0
    """Of these: parked, now or earlier."""
    oldest_pending: datetime | None = None
    """Edit time of the oldest change that could go and has not: not parked, asked for, its people known there."""
    stopped: str | None = None
    """Why it ended before all that was due had been tried: a code of the catalogue; None: all tried."""
    params: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    """What did not get through in this push, at most 20."""
    seconds: float = 0.0
