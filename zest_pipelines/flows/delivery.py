"""One record's way to the partner, a step at a time.

The order is what keeps the promises: slot, then lease held and intent committed in one transaction, then the call with
no transaction open, then the result. Whatever dies in between leaves an intent without an end. That is doubt, and a
record in doubt is read back before anything of it is sent again: there is no other recovery.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never
from uuid import UUID, uuid4

from partners.contract import (
    Absent,
    Command,
    Conflict,
    Delivered,
    Entity,
    Found,
    Partner,
    Recovery,
    Refused,
    Reply,
    Retry,
    Unknown,
    Verb,
)
from partners.errors import Deferred, PartnerError, RetryableError
from partners.reasons import ReasonScope, reason
from resources.logins import Login
from zest_pipelines.core.backoff import delay
from zest_pipelines.core.coalesce import Op, Version, decide
from zest_pipelines.core.commands import command, idempotency_key
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows.opening import Line
from zest_pipelines.flows.places import place_of
from zest_pipelines.flows.services import Services
from zest_pipelines.store import deliveries, tenants
from zest_pipelines.store.deliveries import Doubt, Due, Intent, Key, Result, Target
from zest_pipelines.store.errors import ConstraintError, StoreError


class LeaseLostError(Exception):
    """The lease ran out and may be another's: nothing more is sent under it."""


class PausedError(Exception):
    """Somebody paused the connection: nothing more is sent."""


@dataclass(frozen=True)
class Delivery:
    """The acts of one push on one open line."""

    services: Services
    partner: Partner
    target: Target
    epoch: int
    """Of the lease."""
    lease_seconds: float
    line: Line

    def due(
        self,
        most: int,
        blocked: Collection[Entity],
        done: Collection[tuple[Entity, UUID]],
        days: Days | None = None,
    ) -> Sequence[Due]:
        """Up to `most` records whose time has come, without the kinds in `blocked` and the records in `done`.

        Of these days alone, if any are given; what a person has asked for comes first.
        """
        entities = [entity for entity in self.partner.writes if entity not in blocked]
        with self.services.database.transaction(Login.PUSH, self.target.tenant) as tx:
            return deliveries.due(tx, self.target, entities, most, tuple(done), self.services.under_way, days)

    def advance(self, due: Due) -> Result:
        """Bring one record one step on, out of doubt or to the partner, and store how that ended.

        Raises LeaseLostError and PausedError before anything is sent, Deferred if the limits allow no call for now.
        """
        result = self._send(due) if due.doubt is None else self._read_back(due, due.doubt)
        self._store(result)
        return result

    def _send(self, due: Due) -> Result:
        decision = decide(Version(due.key.version, Op(due.op)), due.settled_version, _standing(due))
        if isinstance(decision, Outcome):
            return Result(due.key, decision)
        self.line.gate.reserve(self.partner.writes[due.key.entity])
        intent = _intent(due, decision)
        try:
            sent = _command(intent, due.image)
        except Exception as error:  # noqa: BLE001  # before the intent: what we cannot build must not leave doubt
            return Result(due.key, Outcome.PARKED, "internal_error", {"detail": place_of(error)})
        last_moment = self._commit(intent)
        try:
            with self.line.gate.open_until(last_moment):
                reply = self.line.connector.send(sent)
        except Deferred as error:  # before its write, says the contract
            return Result(due.key, Outcome.RETRY, error.reason, intent_id=intent.intent_id, not_before=error.until)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # a fault of ours in one record must not hold up its neighbours
            reply = Unknown("internal_error", {"detail": place_of(error)})
        return self._ended(due, intent, sent, reply)

    def _commit(self, intent: Intent) -> float:
        """Hold the lease and store the intent. Returns the last moment (monotonic) for a call to begin under it.

        A process that was stopped beyond it finds the gate closed, and does not send what another may have sent since.
        """
        last_moment = time.monotonic() + self.lease_seconds - self.services.http.total_seconds
        with self.services.database.transaction(Login.PUSH, self.target.tenant) as tx:
            if not deliveries.hold_lease(tx, self.target, self.epoch, self.lease_seconds):
                raise LeaseLostError
            if tenants.is_paused(tx, self.target.tenant, self.target.partner):
                raise PausedError
            deliveries.add_intent(tx, self.target, self.epoch, intent)
        return last_moment

    def _ended(self, due: Due, intent: Intent, sent: Command, reply: Reply) -> Result:
        match reply:
            case Delivered():
                return _delivered(intent.key, intent.intent_id, sent.verb, reply)
            case Retry(why, params, not_before):
                if not_before is not None:
                    self.line.gate.close_until(not_before)
                when = not_before or self._backoff(due)
                return Result(due.key, Outcome.RETRY, why, params, intent.intent_id, not_before=when)
            case Refused(why, params):
                return Result(due.key, Outcome.PARKED, why, params, intent.intent_id)
            case Conflict(why, params):
                return self._conflict(intent, sent, why, params)
            case Unknown(why, params):
                later = self._read_back_at(due, why)
                return Result(due.key, Outcome.UNKNOWN, why, params, intent.intent_id, not_before=later)
            case _:
                assert_never(reply)

    def _conflict(self, intent: Intent, sent: Command, why: str, params: Mapping[str, str]) -> Result:
        """The partner's copy is not the one we knew. It may be as we want it: then an earlier call of ours did that."""
        held = Result(intent.key, Outcome.CONFLICT, why, params, intent.intent_id)
        try:
            with self.line.heeding_partner():
                found = self.line.connector.find(sent)
        except PartnerError:
            return held
        if isinstance(found, Absent):
            return held
        if found.matches:
            there = Delivered(found.partner_id, found.partner_version)
            return _delivered(intent.key, intent.intent_id, sent.verb, there)
        # Whoever releases it, by a new version or by hand, has decided against this copy.
        return Result(
            intent.key,
            Outcome.CONFLICT,
            why,
            params,
            intent.intent_id,
            partner_id=found.partner_id,
            partner_version=found.partner_version,
        )

    def _read_back(self, due: Due, doubt: Doubt) -> Result:
        if self.partner.capability.recovery is Recovery.NONE:
            return Result(doubt.key, Outcome.PARKED, "delivery_unsure", intent_id=doubt.intent_id)
        try:
            asked = _command(doubt, doubt.image)
            with self.line.heeding_partner():
                found = self.line.connector.find(asked)
        except (Deferred, StoreError):
            raise
        except PartnerError as error:
            return self._still_in_doubt(due, doubt, error)
        except Exception as error:  # noqa: BLE001  # as in sending
            return self._still_in_doubt(due, doubt, RetryableError("internal_error", {"detail": place_of(error)}))
        match found:
            case Found(partner_id, partner_version, matches=True):
                there = Delivered(partner_id, partner_version)
                return _delivered(doubt.key, doubt.intent_id, doubt.verb, there)
            case Found(partner_id, partner_version):
                return Result(
                    doubt.key,
                    Outcome.RETRY,
                    "found_different",
                    intent_id=doubt.intent_id,
                    partner_id=partner_id,
                    partner_version=partner_version,
                )
            case Absent():
                return Result(doubt.key, Outcome.RETRY, "not_arrived", intent_id=doubt.intent_id)
            case _:
                assert_never(found)

    def _still_in_doubt(self, due: Due, doubt: Doubt, error: PartnerError) -> Result:
        """It could not be read back: tried again later, unless the fault is the record's own."""
        if not isinstance(error, RetryableError) and reason(error.reason).scope is ReasonScope.RECORD:
            return Result(doubt.key, Outcome.PARKED, error.reason, error.params, doubt.intent_id)
        later = (error.not_before if isinstance(error, RetryableError) else None) or self._backoff(due)
        return Result(doubt.key, Outcome.UNKNOWN, error.reason, error.params, doubt.intent_id, not_before=later)

    def _read_back_at(self, due: Due, why: str) -> datetime | None:
        """The earliest time to look what became of a doubtful call; None: at once, since its answer was whole."""
        match why:
            case "found_different":
                return None
            case "internal_error":
                return self._backoff(due)
        return self.services.now() + self.services.under_way

    def _backoff(self, due: Due) -> datetime:
        return self.services.now() + delay(due.attempts + 1, self.services.random)

    def _store(self, result: Result) -> None:
        try:
            with self.services.database.transaction(Login.PUSH, self.target.tenant) as tx:
                deliveries.add_result(tx, self.target, result)
                if result.outcome.is_terminal:
                    deliveries.supersede_older(tx, self.target, result.key)
        except ConstraintError as error:
            # Another push took our lease while we waited for the answer, and has ended this intent or version already:
            # no other rule of uniqueness can be broken here.
            if not error.is_duplicate:
                raise


def _standing(due: Due) -> Op | None:
    """What the partner was last made to have of the record, as far as we know."""
    if due.known is None:
        return None
    return Op.CANCEL if due.known.is_cancelled else Op.UPSERT


def _intent(due: Due, verb: Verb) -> Intent:
    links = {Entity.CLIENT: due.client, Entity.STAFF: due.staff, Entity.VISIT: due.visit}
    if verb is Verb.CANCEL and due.known is not None:
        # The last edit before a cancellation may name people whom the partner does not know.
        links = {entity: link or due.known.links.get(entity.value) for entity, link in links.items()}
    return Intent(
        uuid4(),
        due.key,
        verb,
        idempotency_key(due.key.entity, due.key.record_id, due.key.version),
        {entity.value: partner_id for entity, partner_id in links.items() if partner_id is not None},
        partner_id=due.known.partner_id if due.known else None,
        partner_version=due.known.partner_version if due.known else None,
    )


def _command(intent: Intent | Doubt, image: Mapping[str, object]) -> Command:
    return command(
        intent.key.entity,
        intent.verb,
        intent.key.record_id,
        intent.key.version,
        key=intent.idempotency_key,
        image=image,
        links=intent.links,
        partner_id=intent.partner_id,
        partner_version=intent.partner_version,
    )


def _delivered(key: Key, intent_id: UUID, verb: Verb, reply: Delivered) -> Result:
    return Result(
        key,
        Outcome.DELIVERED if reply.warning is None else Outcome.DELIVERED_WITH_WARNING,
        reply.warning,
        intent_id=intent_id,
        partner_id=reply.partner_id,
        partner_version=reply.partner_version,
        is_cancelled=verb is Verb.CANCEL,
    )
