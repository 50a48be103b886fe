"""Rows about the way out: visits alone, and in batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from partners.certification.bench import Bench, BenchIncompleteError, NotOffered
from partners.certification.reading import ShutGate
from partners.certification.relay import CLOSED, Instead, Relay, Spoil, plain
from partners.certification.trial import READ_BACK, NotingGate, Trial, broken, following, require, told
from partners.contract import (
    Absent,
    Command,
    Conflict,
    Delivered,
    Entity,
    Found,
    Recovery,
    Refused,
    Retry,
    Unknown,
    Verb,
    Visit,
    VisitRecord,
)
from partners.errors import Deferred, PartnerError
from partners.reasons import ReasonScope, reason

_REPEATED = (Recovery.KEY, Recovery.CLIENT_ID)


def one_record(trial: Trial) -> None:
    """A visit is created, changed and cancelled as one record."""
    one(trial, Entity.VISIT)


def one(trial: Trial, entity: Entity) -> None:
    """Whatever is written."""
    bench, replaces = trial.bench, trial.capability.replaces
    update = trial.delivered(entity)
    _has(trial, update, 1)
    before = bench.copies(update)
    changed = trial.send(update)
    if not isinstance(changed, Delivered):
        broken(f"a change was not delivered: {told(changed)}")
    require(replaces or changed.partner_id == update.partner_id, "a change made another id")
    _has(trial, update, 1)
    require(bench.copies(update) != before, "a change changed nothing")
    cancelled = trial.send(following(update, changed, Verb.CANCEL))
    require(isinstance(cancelled, Delivered), f"a cancellation was not delivered: {told(cancelled)}")
    _has(trial, update, 0 if replaces else 1)


def content(trial: Trial) -> None:
    """A visit stands at the partner's side as it was said, and as it is changed; one that is cancelled does not."""
    as_it_was_said(trial, Entity.VISIT)


def as_it_was_said(trial: Trial, entity: Entity) -> None:
    """Whatever is written. The word of the connector is not asked."""
    there = trial.accepted(trial.new(entity))
    _stands(trial, there)
    changed = replace(there, verb=Verb.UPDATE, version=2, key=str(uuid4()), fields=_otherwise(there.fields))
    there = trial.accepted(changed)
    _stands(trial, there)
    trial.accepted(replace(there, verb=Verb.CANCEL, version=3, key=str(uuid4())))
    left = {str(each.get("status")) for each in trial.bench.said(there)} - {"cancelled"}
    require(not left, f"what was cancelled stands there as {', '.join(sorted(left))}")


def _otherwise(fields: Visit | VisitRecord) -> Visit | VisitRecord:
    """All that can be said differently."""
    if isinstance(fields, Visit):
        starts_at, ends_at = fields.starts_at + timedelta(minutes=40), fields.ends_at + timedelta(minutes=70)
        return replace(fields, starts_at=starts_at, ends_at=ends_at, service_code="131211", note="犬がいます")
    assert fields.started_at is not None
    assert fields.ended_at is not None
    started_at, ended_at = fields.started_at + timedelta(minutes=7), fields.ended_at + timedelta(minutes=17)
    return replace(fields, started_at=started_at, ended_at=ended_at, note="血圧は高め")


def _stands(trial: Trial, command: Command) -> None:
    """Broken unless the partner has it once and in all that the bench tells, as the command says."""
    said = trial.bench.said(command)
    require(len(said) == 1, f"a {command.verb} was delivered, and {len(said)} stand at the partner's side, not 1")
    start = "starts_at" if command.entity is Entity.VISIT else "started_at"
    if not {"client", "status", start} <= said[0].keys():
        raise BenchIncompleteError(f"the bench does not tell client, status and {start} of a {command.entity}")
    wanted = {
        "status": getattr(command.fields, "status", "booked"),
        "service_code": trial.services.get(command.record_id, ""),
        **vars(command.fields),
        **{entity.value: command.links.get(entity, "") for entity in (Entity.CLIENT, Entity.STAFF, Entity.VISIT)},
    }
    wrong = sorted(name for name, value in said[0].items() if value != wanted.get(name))
    require(not wrong, f"after a {command.verb} it is otherwise at the partner's side: {', '.join(wrong)}")


def repeated(trial: Trial) -> None:
    """A change and a cancellation that are sent twice make no second record and are no refusal."""
    sent_twice(trial, Entity.VISIT)


def sent_twice(trial: Trial, entity: Entity) -> None:
    """Whatever is written."""
    update = command = trial.delivered(entity)
    for _ in range(2):
        first = trial.send(command)
        if not isinstance(first, Delivered):
            broken(f"a {command.verb} was not delivered: {told(first)}")
        second = trial.send(command)
        require(isinstance(second, Delivered | Conflict), f"a repeated {command.verb} is {told(second)}")
        require(len(trial.bench.copies(update)) <= 1, f"a repeated {command.verb} made a second record")
        command = following(update, first, Verb.CANCEL)


def duplicate(trial: Trial) -> None:
    """A creation that is sent twice makes no second record, where the recovery that is declared says so; nor does one
    that says something else meanwhile, where it is kept under our own id."""
    recovery = trial.capability.recovery
    if recovery not in _REPEATED:
        instead = "a person looks there" if recovery is Recovery.NONE else "it is read back"
        raise NotOffered(f"a repeat is not promised with recovery {recovery}: {instead} instead")
    command = trial.bench.visit()
    replies = [trial.send(command), trial.send(command)]
    require(all(isinstance(each, Delivered) for each in replies), f"the repeat is {told(replies[1])}")
    require(len({each.partner_id for each in replies if isinstance(each, Delivered)}) == 1, "the repeat has another id")
    _has(trial, command, 1)
    if recovery is Recovery.CLIENT_ID:  # of a record whose first answer was lost, another version may come
        trial.send(replace(command, version=2, key=str(uuid4()), fields=_otherwise(command.fields)))
        _has(trial, command, 1, "repeated with another content")


def found(trial: Trial) -> None:
    """Where records can be found, absence and difference are told; elsewhere it is said that they cannot be."""
    read_back(trial, Entity.VISIT)


def read_back(trial: Trial, entity: Entity) -> None:
    """Whatever is written. A partner may have no place for a record's note."""
    if trial.capability.recovery not in READ_BACK:
        with trial.connected() as connector, suppress(PartnerError):
            connector.find(trial.new(entity))
            broken("finds without a declared way to find")
        return
    update = trial.delivered(entity)
    differing_then = ("note",) if entity is Entity.VISIT else ("note", "started_at")
    with trial.connected() as connector:
        require(connector.find(trial.new(entity)) == Absent(), "what was never sent is found")
        differing = connector.find(update)
        if not isinstance(differing, Found):
            broken("what was delivered is not found")
        require(differing.partner_id == update.partner_id, "found under another id")
        is_told = set(differing_then[-1:]) <= set(differing.differing) <= set(differing_then)
        told_ = ", ".join(differing.differing)
        require(is_told, f"the {' and '.join(differing_then)} alone differs; told: {told_}")
        note = getattr(update.fields, "note", "")
        require(not note or note not in repr(differing), "what is found shows its content")
        cancel = replace(update, verb=Verb.CANCEL)
        uncancelled = connector.find(cancel)
        is_told = isinstance(uncancelled, Found) and uncancelled.differing == ("status",)
        require(is_told, f"a {entity} that is not cancelled is found as one that is")
        trial.note(connector.send(cancel))
        after = connector.find(cancel)
        require(isinstance(after, Found) and after.matches, f"a cancelled {entity} is not found as cancelled")
        again = connector.find(update)
        require(isinstance(again, Found) and "status" in again.differing, "that it is cancelled there is not told")


def outdated(trial: Trial) -> None:
    """The write of an outdated version is a Conflict and changes nothing, exactly where that is declared."""
    for entity in trial.bench.writes:
        update = trial.delivered(entity)
        require(isinstance(trial.send(update), Delivered), "a change was not delivered")
        late = replace(update, version=3, key=str(uuid4()), fields=replace(update.fields, note="late"))
        _conflict(trial, late)


def edited_there(trial: Trial) -> None:
    """A copy that its own people changed is not written over where versions are declared to be checked."""
    _checks_versions(trial)
    update = trial.delivered()
    trial.bench.edit_copy(update)
    _conflict(trial, update)


def edited_meanwhile(trial: Trial) -> None:
    """Nor if they change it between two calls of the write: it is the partner who checks, not a look before."""
    _checks_versions(trial)
    update = trial.delivered()
    for number in range(1, trial.counted(lambda url, first=update: trial.send(first, url=url)) + 1):  # type: ignore[misc]
        update, edited = trial.delivered(), list[object]()
        with trial.relay() as relay:

            def edit(call: int, nth: int = number, whose: Command = update, into: list[object] = edited) -> None:
                if call == nth:
                    trial.bench.edit_copy(whose)
                    into.extend(trial.bench.copies(whose))

            relay.fault = edit
            reply = trial.send(update, url=relay.url)
        require(bool(edited), "its calls are not always the same")
        at = f"edited just before call {number}"
        require(trial.bench.copies(update) == edited, f"{at}: it was written over")
        require(isinstance(reply, Conflict), f"{at}: it is {told(reply)}")


def _checks_versions(trial: Trial) -> None:
    if not trial.capability.has_version_check:
        raise NotOffered("no version check is declared: what changed there is seen by comparing alone")


def refused(trial: Trial) -> None:
    """A record that is refused is Refused, and nothing of it is there."""
    command = trial.bench.refused_visit()
    reply = trial.send(command)
    require(isinstance(reply, Refused), f"a refused record is {told(reply)}")
    trial.bench.heal()
    _has(trial, command, 0)


def not_reached(trial: Trial) -> None:
    """Where nobody listens it is a Retry, and named as unreachable."""
    for entity in trial.bench.writes:
        reply = trial.send(trial.new(entity), url=trial.bench.nobody)
        require(reply == Retry("partner_unreachable"), f"it is {told(reply)}")


def put_off(trial: Trial) -> None:
    """What the gate puts off is not written, nor is its absence told."""
    for entity in trial.bench.writes:
        update = trial.delivered(entity)
        cancel = replace(update, verb=Verb.CANCEL)
        for command in (trial.new(entity), update, cancel):
            before = trial.bench.copies(command)
            try:
                trial.send(command, gate=ShutGate())
            except Deferred:
                require(trial.bench.copies(command) == before, f"a {command.verb} was written")
                continue
            broken(f"a {command.verb} was not put off")
        if trial.capability.recovery in READ_BACK:
            with suppress(Deferred), trial.connected(gate=ShutGate()) as connector:
                broken(f"a {entity} is {type(connector.find(update)).__name__} though the gate put the look off")


def gate_asked(trial: Trial) -> None:
    """The gate is asked before each call, for the declared endpoint; so it is for each call of a read-back."""
    bench = trial.bench
    for entity in bench.writes:
        endpoint = bench.partner.writes[entity]
        for command in (trial.delivered(entity), trial.new(entity)):
            gate = NotingGate()
            with trial.relay() as relay:
                trial.send(command, gate=gate, url=relay.url)
                _asked_as_called(gate, relay, command.verb)
                require(set(gate.admitted) == {endpoint}, f"a {command.verb} is asked for as another endpoint")
                if trial.capability.recovery in READ_BACK:
                    with trial.connected(gate=gate, url=relay.url) as connector:
                        connector.find(command)
                    _asked_as_called(gate, relay, "read-back")
    if bench.batch_settings is not None:
        gate = NotingGate()
        with trial.relay() as relay, trial.connected(gate=gate, url=relay.url, batches=True) as connector:
            connector.send_batch([trial.delivered(), bench.visit()])
            _asked_as_called(gate, relay, "batch")


_CUTS: tuple[tuple[str, Spoil], ...] = (
    ("before its first byte", lambda answer: b""),
    ("in its first line", lambda answer: answer[:12]),
    ("before its body", lambda answer: answer[: answer.find(b"\r\n\r\n") + 4]),
    ("in the middle of its body", lambda answer: answer[: (answer.find(b"\r\n\r\n") + 4 + len(answer)) // 2]),
    ("before its last byte", lambda answer: answer[:-1]),
)
FEW_CUTS = _CUTS[::3]


def answer_lost(trial: Trial) -> None:
    """A creation whose answer is lost is Unknown if it took effect, and the declared recovery ends with one record."""
    lost(trial, trial.bench.visit)


def change_lost(trial: Trial) -> None:
    """So it is with a change, whichever of its calls the answer was lost of."""
    lost(trial, trial.delivered, FEW_CUTS)


def cancel_lost(trial: Trial) -> None:
    """And with a cancellation."""
    lost(trial, trial.cancellation, FEW_CUTS)


def throttled(trial: Trial) -> None:
    """A 429 is a Retry with nothing written, and the gate hears for how long."""
    for entity in trial.bench.writes:
        command, gate = trial.new(entity), NotingGate()
        with trial.relay() as relay:
            relay.fault = lambda _: Instead(plain(429, b"", "retry-after: 7"))
            reply = trial.send(command, gate=gate, url=relay.url)
            require(relay.calls == 1, "it was called again after a 429")
        require(isinstance(reply, Retry), f"it is {told(reply)}")
        heard = [each.rest.total_seconds() for each in gate.told if each.is_refusal and each.rest is not None]
        require(heard == [7], "the gate did not hear of the seconds that were named")


def throttled_there(trial: Trial) -> None:
    """Too many calls in the partner's own dialect: a Retry with nothing written, and the gate hears of it."""
    for entity in trial.bench.writes:
        command, gate = trial.new(entity), NotingGate()
        trial.bench.throttle()
        try:
            reply = trial.send(command, gate=gate)
        finally:
            trial.bench.heal()
        if not isinstance(reply, Retry):
            broken(f"it is {told(reply)}")
        require(reason(reply.reason).retried, f"{reply.reason} is not retried")
        is_heard = any(each.is_refusal for each in gate.told) or not trial.bench.tells_gate
        require(is_heard, "the gate did not hear of it")
        _has(trial, command, 0)


def closed(trial: Trial) -> None:
    """Closed for the night (503, a web page): no success, no refusal of the record, and afterwards it is delivered."""
    for entity in trial.bench.writes:
        command = trial.new(entity)
        with trial.relay() as relay:
            relay.fault = lambda _: Instead(CLOSED)
            reply = trial.send(command, url=relay.url)
            require(relay.calls == 1, "it was called again though it is closed")
            if not isinstance(reply, Retry | Unknown):
                broken(f"it is {told(reply)}")
            is_of_all = isinstance(reply, Unknown) or reason(reply.reason).scope is ReasonScope.CONNECTION
            require(is_of_all, f"{reply.reason} is not of the whole connection")
            relay.fault = lambda _: None
            opened = trial.send(command, url=relay.url)
        require(isinstance(opened, Delivered), f"after it has opened: {told(opened)}")


# --- Batches ----------------------------------------------------------------------------------------------------------


def no_batches(trial: Trial) -> None:
    """There are no batches unless the connection says so."""
    if trial.bench.batch_settings == {}:
        raise NotOffered("it has batches unasked")
    with trial.connected() as connector:
        require(connector.batch_size == 1, "it has batches unasked")


def batch_in_order(trial: Trial) -> None:
    """A batch is answered in order, and one that is refused stops no other."""
    bench = _batching(trial)
    commands = [bench.visit(), bench.refused_visit(), trial.delivered(), bench.visit()]
    with trial.connected(batches=True) as connector:
        require(connector.batch_size > len(commands), "it takes no batches although it is set to")
        replies = connector.send_batch(commands)
    kinds = [type(each).__name__ for each in replies]
    require(kinds == ["Delivered", "Refused", "Delivered", "Delivered"], f"answered {', '.join(kinds)}")
    bench.heal()
    require([len(bench.copies(each)) for each in commands] == [1, 0, 1, 1], "what is there is not what was answered")
    ids = [each.partner_id for each in replies if isinstance(each, Delivered)]
    require(ids[1] == commands[2].partner_id and len(set(ids)) == 3, "an id is another one's")


def batch_content(trial: Trial) -> None:
    """What is written in a batch stands at the partner's side as it was said, each for itself."""
    _batching(trial)
    for entity in trial.bench.writes:
        commands = [trial.new(entity), trial.delivered(entity), trial.new(entity)]
        with trial.connected(batches=True) as connector:
            replies = connector.send_batch(commands)
        is_delivered = all(isinstance(each, Delivered) for each in replies)
        require(is_delivered, f"{entity}: {', '.join(map(told, replies))}")
        for command in commands:
            require(len(trial.bench.copies(command)) == 1, f"{entity}: it was delivered, and is not there once")
            with suppress(NotOffered):  # it may be told to nobody yet
                _stands(trial, command)


def batch_refused(trial: Trial) -> None:
    """A batch that is refused as a whole says so of each, and nothing of it is there; smaller ones go through."""
    bench = _batching(trial)
    commands = [bench.visit() for _ in range(3)]
    bench.reject_batch(commands[1])
    try:
        with trial.connected(batches=True) as connector:
            replies = list(connector.send_batch(commands))
            require(replies == [Refused("batch_refused")] * 3, f"it is {told(replies[0])}")
            require(not any(bench.copies(each) for each in commands), "something of it was written")
            halves = connector.send_batch([commands[0], commands[2]])
    finally:
        bench.heal()
    require(all(isinstance(each, Delivered) for each in halves), "the others do not go through without it")


def batch_lost(trial: Trial) -> None:
    """A batch whose answer is lost is Unknown in all, and was sent once."""
    bench = _batching(trial)
    commands = [bench.visit() for _ in range(3)]
    with trial.relay() as relay:
        relay.fault = lambda _: lambda answer: b""
        with trial.connected(batches=True, url=relay.url) as connector:
            replies = list(connector.send_batch(commands))
        require(relay.calls == 1, "it was sent again")
    require(replies == [Unknown("connection_cut_unsure")] * 3, f"it is {told(replies[0])}")
    require([len(bench.copies(each)) for each in commands] == [1, 1, 1], "not each is there once")


# ----------------------------------------------------------------------------------------------------------------------


def lost(trial: Trial, prepared: Callable[[], Command], cuts: tuple[tuple[str, Spoil], ...] = _CUTS) -> None:
    """Each answer to each call of the write is cut at each of these places, and what is declared recovers it."""
    bench, first = trial.bench, prepared()
    calls = trial.counted(lambda url: trial.send(first, url=url))
    has_effect = False
    for number in range(1, calls + 1):
        for where, cut in cuts:
            command = prepared()
            before = bench.copies(command)
            with trial.relay() as relay:
                relay.fault = lambda call, nth=number, cut=cut: cut if call == nth else None  # type: ignore[misc]
                reply = trial.send(command, url=relay.url)
            after = bench.copies(command)
            at = f"{command.verb}: the answer to call {number} of {calls} cut {where}"
            require(len(after) <= 1, f"{at}: {len(after)} records are there")
            is_done = before != after
            has_effect |= is_done
            require(not isinstance(reply, Delivered), f"{at}: Delivered without an answer")
            require(not is_done or isinstance(reply, Unknown), f"{at}: it took effect and is {told(reply)}")
            _recovered(trial, command, at)
    require(has_effect, "no call had an effect: nothing was tried")


def _recovered(trial: Trial, command: Command, at: str) -> None:
    """Do what the platform does after a doubt; Broken unless the record is there once and as it should be."""
    recovery = trial.capability.recovery
    if recovery is Recovery.NONE:
        return  # a person looks there
    if recovery is Recovery.KEY:
        reply = trial.send(command)
        require(isinstance(reply, Delivered), f"{at}: repeated with its key it is {told(reply)}")
    else:
        with trial.connected() as connector:
            there = connector.find(command)
            if not isinstance(there, Found) or not there.matches:
                again = command
                if isinstance(there, Found):
                    verb = Verb.UPDATE if command.verb is Verb.CREATE else command.verb
                    again = replace(following(command, there, verb), version=command.version)
                reply = connector.send(again)
                if not isinstance(reply, Delivered):
                    broken(f"{at}: sent again after the read-back it is {told(reply)}")
                there = connector.find(replace(command, partner_id=reply.partner_id))
        require(isinstance(there, Found) and there.matches, f"{at}: after the recovery it is not there as it should be")
        if recovery is Recovery.CLIENT_ID and command.verb is Verb.CREATE:
            require(isinstance(trial.send(command), Delivered), f"{at}: a repeat under our id is not taken")
    is_nothing = command.verb is Verb.CANCEL and trial.capability.replaces
    _has(trial, command, 0 if is_nothing else 1, at)


def _conflict(trial: Trial, command: Command) -> None:
    before = trial.bench.copies(command)
    reply = trial.send(command)
    if trial.capability.has_version_check:
        require(isinstance(reply, Conflict), f"it is {told(reply)}")
        require(trial.bench.copies(command) == before, "it was written over")
    else:
        require(isinstance(reply, Delivered), f"no version check is declared, and it is {told(reply)}")


def _batching(trial: Trial) -> Bench:
    if trial.bench.batch_settings is None:
        raise NotOffered("it has no batches")
    return trial.bench


def _asked_as_called(gate: NotingGate, relay: Relay, what: str) -> None:
    require(relay.calls > 0, f"a {what} made no call")
    require(len(gate.admitted) == relay.calls, f"{what}: {len(gate.admitted)} asked for, {relay.calls} calls made")


def _has(trial: Trial, command: Command, count: int, at: str = "") -> None:
    there = len(trial.bench.copies(command))
    require(there == count, f"{at + ': ' if at else ''}{there} records are there, not {count}")
