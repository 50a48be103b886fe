"""reconcile: read back what was pushed for some days, and compare the partner's copies field by field.

It writes nothing, at the partner or here, so it needs no lease and a push may go on beside it. What a push or an edit
makes of a record meanwhile is told apart afterwards: a copy that differs counts only if its record has no newer change
by then.

A cancelled record that is not there is as it should be: nothing stands there that nobody plans. A fault of one record
that a person has to cure at the partner (it is there twice) is a mismatch with a reason; one that may pass leaves the
record out, and the report says that not all was compared. Neither delays its neighbours; any other fault ends it, and
so do a pause, closed hours and the end of the time box. The records are taken in any order: what one comparison did not
come to, the next one may.

Only what we know is looked at. What else stands at the partner (another one's record, a second copy of ours beside the
one that we know) is not seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import assert_never

from partners.contract import Absent, Command, Found, Partner, Recovery, Verb
from partners.errors import PartnerError, RejectedError, RetryableError
from partners.reasons import ReasonScope
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.core.classification import Classification
from zest_pipelines.core.commands import command
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows.opening import Line, connection_row, not_now, open_line
from zest_pipelines.flows.places import place_of
from zest_pipelines.flows.reports import Mismatch, ReconcileReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import classifications, readback
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.keys import Target
from zest_pipelines.store.readback import Pushed
from zest_pipelines.store.tenants import ConnectionRow

_PATIENCE = timedelta(seconds=30)
_LOOK_EVERY = 5.0
"""Seconds between two looks whether somebody has paused the connection."""
_MOST_MISMATCHES = 20


@dataclass
class _Tally:
    """What a comparison has found so far."""

    open: int = 0
    equal: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    classified: Classification = field(default_factory=Classification)
    """What unknown errors are told as."""
    stopped: PartnerError | None = None
    """Why not all was compared; the newest of several reasons."""

    def report(self, days: Days) -> ReconcileReport:
        """All of it in numbers, and the first few mismatches."""
        missing = sum(not each.fields and each.reason is None for each in self.mismatches)
        return ReconcileReport(
            days,
            compared=self.equal + len(self.mismatches),
            equal=self.equal,
            missing=missing,
            differing=len(self.mismatches) - missing,
            open=self.open,
            mismatches=tuple(self.mismatches[:_MOST_MISMATCHES]),
            stopped=self.stopped.reason if self.stopped else None,
            params=self.stopped.params if self.stopped else {},
        )


def reconcile(
    services: Services, partner: Partner, tenant: str, days: Days, box_seconds: float = 600.0
) -> ReconcileReport:
    """Compare what was delivered of `days`, for about `box_seconds` at most: a call a record, and a second one if it is
    not where it was.

    What the partner does wrong is told in the report; raises StoreError alone. Of a paused connection, or in closed
    hours, nothing is read: we make no calls then.
    """
    started = time.monotonic()
    row, tally = connection_row(services, partner, tenant, Login.PUSH), _Tally()
    try:
        if partner.capability.recovery is Recovery.NONE:
            raise RejectedError("cannot_be_read_back")
        if (reason := not_now(services, partner, row)) is not None:
            raise RejectedError(reason)
        _compare_all(services, partner, row, days, started + box_seconds, tally)
    except PartnerError as error:  # Deferred too
        tally.stopped = error
    except VaultError:
        tally.stopped = RejectedError("secret_unreadable")
    report = replace(tally.report(days), seconds=time.monotonic() - started)
    if report.stopped is None:
        return report
    return replace(report, stopped=tally.classified.told(report.stopped, report.params).code)


def _compare_all(
    services: Services, partner: Partner, row: ConnectionRow, days: Days, end: float, tally: _Tally
) -> None:
    """Take every record into the tally. Raises PartnerError for a fault that is not of one record alone, at monotonic
    `end` and for a pause; VaultError."""
    target = Target(row.connection.tenant, partner.name)
    with services.database.transaction(Login.PUSH, target.tenant) as tx:
        pushed = readback.pushed(tx, target, days)
        tally.classified = classifications.of_partner(tx, partner.name)
    tally.open = pushed.open
    with open_line(services, partner, row, _PATIENCE) as line:
        for record in _while_allowed(services, partner, target, pushed.records, end):
            try:
                mismatch = _mismatch(line, record, tally.classified)
            except PartnerError as error:
                if tally.classified.told(error.reason, error.params).scope is not ReasonScope.RECORD:
                    raise
                tally.stopped = error
                continue
            if mismatch is None:
                tally.equal += 1
            elif _is_newest(services, target, record):
                tally.mismatches.append(mismatch)
            else:
                tally.open += 1


def _while_allowed(
    services: Services, partner: Partner, target: Target, records: Sequence[Pushed], end: float
) -> Iterator[Pushed]:
    """The records in any order. Raises PartnerError when the time box ends, the partner closes, or somebody has paused
    the connection."""
    looked = time.monotonic()
    for record in sorted(records, key=lambda _: services.random()):
        now = time.monotonic()
        if now >= end:
            raise RetryableError("time_box_ended")
        if now - looked >= _LOOK_EVERY:
            looked = now
            row = connection_row(services, partner, target.tenant, Login.PUSH)
            if (reason := not_now(services, partner, row)) is not None:
                raise RejectedError(reason)
        yield record


def _mismatch(line: Line, record: Pushed, classified: Classification) -> Mismatch | None:
    """What is wrong with the partner's copy; None: nothing. Raises PartnerError where that cannot be told for now."""
    try:
        found = line.connector.find(_command(record))
    except RejectedError as error:
        told = classified.told(error.reason, error.params)
        if told.scope is not ReasonScope.RECORD:
            raise
        return replace(_of(record), reason=told.code, params=error.params)
    except (PartnerError, StoreError):
        raise
    except Exception as error:  # noqa: BLE001  # a fault of ours in one record must not hold up its neighbours
        raise RetryableError("internal_error", {"detail": place_of(error)}) from None
    match found:
        case Absent():
            return None if record.verb is Verb.CANCEL else _of(record)
        case Found():
            return None if found.matches else _of(record, found.differing)
        case _:
            assert_never(found)


def _of(record: Pushed, fields: tuple[str, ...] = ()) -> Mismatch:
    return Mismatch(record.entity, str(record.record_id), fields)


def _is_newest(services: Services, target: Target, record: Pushed) -> bool:
    with services.database.transaction(Login.PUSH, target.tenant) as tx:
        return readback.is_newest(tx, target, record)


def _command(record: Pushed) -> Command:
    """What the partner should hold: the version that was delivered, under the id that it answered."""
    return command(
        record.entity,
        record.verb,
        record.record_id,
        record.version,
        key=record.idempotency_key,
        image=record.image,
        links=record.links,
        partner_id=record.partner_id,
        partner_version=record.partner_version,
    )
