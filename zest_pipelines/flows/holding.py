"""What the answers of a push say of its connection: whether the partner is there, and when it is left alone.

A record's own trouble stops nothing. What tells of the whole connection stops the push, and the breaker counts it: a
refused credential at the first answer, no answers and failures after so many calls in a row. One failure may be the
record's (a partner that fails at it fails at it again); that five records in a row are to blame is refused to believe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from zest_pipelines.core.breaker import stays_away
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.tally import Tally
from zest_pipelines.flows.verdicts import Verdict
from zest_pipelines.store import holds
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.holds import Hold
from zest_pipelines.store.keys import Target

SILENCES = 3
"""Calls in a row without any answer after which a partner that did answer in this push is taken for away."""
FAULTS = 5
"""Calls in a row that were failed, cut off or answered unreadably after which the partner is taken for out of order."""
RUN_OUT = ("time_box_ended", "budget_deferred")
"""Why nothing more is begun, though what was given to the lanes may go on."""
_AWAY = "partner_unreachable"
_OUT_OF_ORDER = "partner_maintenance"


class Holding:
    """What holds the connection of one push back, used by its coordinator alone."""

    def __init__(self, services: Services, target: Target, read_at: datetime, tally: Tally) -> None:
        """`read_at`: when the connection was read. It is held as it was then: what changed since speaks against it."""
        self._services, self._target, self._read_at, self._tally = services, target, read_at, tally
        self.is_proven = False
        """Whether the partner has answered about a record in this push."""
        self._silences = 0
        """Calls since the partner's last answer that it left without one."""
        self._faults = 0
        """Calls since then that came to nothing, those without an answer among them."""
        self._noted: Hold | None = None
        """What the breaker knows from earlier pushes."""
        self._hold: Hold | None = None
        """To be put with the next mark."""
        self._is_lifting = False
        """What is noted is to be forgotten with the next mark."""
        self._has_failed = False

    @property
    def is_in_question(self) -> bool:
        """Whether earlier pushes failed as a whole, and nothing has spoken against it since."""
        return self._noted is not None and self._noted.failures > 0

    @property
    def is_unmarked(self) -> bool:
        """Whether a hold has yet to be noted."""
        return self._hold is not None

    def begin(self, tx: Transaction) -> Hold | None:
        """Read what is known from earlier pushes: the hold that is in force."""
        self._noted = holds.last(tx, self._target)
        return holds.hold_in_force(tx, self._target)

    def heed(self, verdicts: Sequence[Verdict]) -> None:
        """Take in what one call's answer, judged for each of its records, means for all others."""
        is_answered = any(each.is_answer for each in verdicts)
        if is_answered:
            self._is_lifting = self._is_lifting or self._noted is not None
            self.is_proven, self._silences, self._faults, self._noted = True, 0, 0, None
        else:
            self._silences += any(each.is_silence for each in verdicts)
            self._faults += any(each.is_fault for each in verdicts)
        if self._silences >= (SILENCES if self.is_proven else 1):
            self.fail(_AWAY, {})
        if self._faults >= FAULTS:
            self.fail(_OUT_OF_ORDER, {})
        for each in verdicts:
            # A partner that answers for one record of a batch is there: what it failed at is the other one's trouble.
            if not (is_answered and each.is_fault):
                self._stop(each)

    def _stop(self, verdict: Verdict) -> None:
        if verdict.stop is not None and verdict.is_failure:
            self.fail(verdict.stop, verdict.params)
        elif verdict.stop is not None and self._tally.stopped in (None, *RUN_OUT):
            # Our own limits name no time here: the ledger says it when it is asked again.
            told = self._tally.classified.told(verdict.stop, verdict.params).code
            self._tally.stop(told, verdict.params, goes_on_in=0.0 if verdict.until is None else None)
            if verdict.until is not None:
                self.stand_still(verdict.stop, verdict.params, verdict.until)

    def fail(self, why: str, params: Mapping[str, str]) -> None:
        """Stop for a fault of the whole connection. What fails besides, in calls under way, tells nothing new.

        The hold keeps the reason as it was answered, as a result does.
        """
        if self._has_failed:
            return
        self._has_failed = True
        told = self._tally.classified.told(why, params)
        self._tally.stop(told.code, params)
        failures = 1 if self._noted is None else self._noted.failures + 1
        away = stays_away(told, failures, self._services.random)
        self.stand_still(why, params, self._services.now() + away, failures)
        self._tally.is_held = bool(away)

    def stand_still(self, why: str, params: Mapping[str, str], until: datetime, failures: int | None = None) -> None:
        """Have the connection send nothing before `until`. `failures`: in a row by now; None: as many as before."""
        noted = self._noted
        before = 0 if noted is None else noted.failures
        since = noted.since if noted is not None and before else self._services.now()
        self._hold = Hold(why, params, before if failures is None else failures, since, until, self._read_at)

    def close(self, until: datetime) -> None:
        """Have it send nothing in closed hours. The fault that held it before is kept, for those who tell of it."""
        noted, params = self._noted, dict[str, str]()
        if noted is not None and noted.failures:
            before = {} if noted.reason == holds.OUTSIDE_WINDOW else {"before": noted.reason}
            params = {**noted.params, **before}
        self.stand_still(holds.OUTSIDE_WINDOW, params, until)

    def mark(self, tx: Transaction) -> None:
        """Note what holds the connection back, or that nothing does any more."""
        if self._hold is not None:
            holds.put(tx, self._target, self._hold)
        elif self._is_lifting:
            holds.lift(tx, self._target)
        self._hold, self._is_lifting = None, False
