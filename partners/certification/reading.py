"""Rows about the way in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

from partners.certification.bench import Bench, BenchIncompleteError, NotOffered
from partners.certification.trial import NotingGate, Trial, broken, require, told, whole
from partners.contract import (
    AfterReadings,
    Command,
    Connector,
    DeleteEvents,
    Entity,
    Gone,
    Master,
    NeverGone,
    Page,
    PointRead,
    Recovery,
    SourceRecord,
    Unmappable,
    Verb,
    VisitRecord,
)
from partners.errors import AuthenticationError, Deferred, PartnerError
from partners.reasons import UnknownReason, reason
from partners.throttling import Told

_MOST_CUTS = 3


def checked(trial: Trial) -> None:
    """The check tells of each entity; a wrong secret is told as one."""
    with trial.connected() as connector:
        report = connector.check()
    spoken_of = {access.entity for access in report.access}
    declared = {*trial.bench.partner.reads, *trial.bench.partner.writes}
    require(declared <= spoken_of, f"the check is silent of {', '.join(sorted(declared - spoken_of))}")
    barred = [access.entity for access in report.access if access.entity in declared and access.may_read is False]
    require(not barred, f"may not read {', '.join(barred)}")
    if trial.bench.wrong_secret is None:
        return
    try:
        with trial.connected(secret=trial.bench.wrong_secret) as connector:
            connector.check()
    except AuthenticationError:
        return
    except PartnerError as error:
        broken(f"a wrong secret is told as {told(error)}")
    broken("a wrong secret passes the check")


def read_all(trial: Trial) -> None:
    """What is there can be read to its end, and each record has an id."""
    for entity in trial.bench.partner.reads:
        pages = trial.full(entity)
        ids = {each.partner_id for page in pages for each in page.records}
        require("" not in ids, f"{entity}: a record without an id came as one")
        whole(pages, ids, trial.capability.proves_absence)
        _mapped(trial, entity, pages)


def since_the_cursor(trial: Trial) -> None:
    """A reading since the cursor of a full one ends, is none of all records, and gives the next cursor."""
    if not trial.capability.is_incremental:
        raise NotOffered("no reading of changes is declared")
    cursors = {entity: trial.full(entity)[-1].cursor for entity in trial.bench.partner.reads}
    require(any(cursor is not None for cursor in cursors.values()), "no reading gives a cursor")
    for entity, cursor in cursors.items():
        if cursor is None:
            continue
        pages = trial.read(entity, cursor)
        require(not any(page.is_full for page in pages), f"{entity}: the reading of changes is a full one")
        require(pages[-1].is_last and pages[-1].cursor is not None, f"{entity}: the changes end without a cursor")


def few(trial: Trial) -> None:
    """None and one."""
    _sized(trial, lambda sizes: {sizes.least, max(1, sizes.least)})


def one_page(trial: Trial) -> None:
    """Exactly one page, and one record more."""
    _sized(trial, lambda sizes: {sizes.page, sizes.page + 1})


def at_the_cap(trial: Trial) -> None:
    """At the cap and one beyond: all come, or an error says that not all did."""
    bench = trial.bench
    for entity in bench.partner.reads:
        sizes = bench.sizes[entity]
        for count in sorted({sizes.cap, sizes.cap + 1} - {sizes.page, sizes.page + 1}):  # those were tried as a page
            ids = bench.hold(entity, count)
            try:
                pages = trial.read(entity)
            except PartnerError:
                continue
            whole(pages, ids, trial.capability.proves_absence)


def incremental(trial: Trial) -> None:
    """Those changed since the cursor come, more than a page of them with equal times."""
    bench = trial.bench
    if not trial.capability.is_incremental:
        raise NotOffered("no reading of changes is declared")
    for entity in bench.partner.reads:
        size = bench.sizes[entity].page
        changed = bench.hold(entity, size + 1)
        cursor = trial.read(entity)[-1].cursor
        if cursor is None:
            continue
        bench.change(entity, changed)
        pages = trial.read(entity, cursor)
        seen = {each.partner_id for page in pages for each in page.records}
        missing = set(changed) - seen
        require(not missing, f"{entity}: {len(missing)} of {len(changed)} with equal times did not come")
        again = trial.read(entity, pages[-1].cursor)
        require(again[-1].is_last, f"{entity}: a reading without changes does not end")


def people(trial: Trial) -> None:
    """Who is read is who is there: each field of each master is what the partner's own people would say."""
    for entity in trial.bench.partner.reads:
        wanted = trial.bench.people(entity)
        if len(set(map(repr, wanted.values()))) < 2:
            raise BenchIncompleteError(f"the bench has no two different {entity}")
        records = [each for page in trial.read(entity) for each in page.records]
        missing = wanted.keys() - {each.partner_id for each in records}
        require(not missing, f"{entity}: {len(missing)} of {len(wanted)} did not come")
        for each in records:
            _is_master(trial, entity, each, wanted.get(each.partner_id))
        with trial.connected() as connector:
            for partner_id, master in wanted.items():
                found = connector.fetch(entity, partner_id)
                if isinstance(found, Gone):
                    broken(f"{entity}: who is there is fetched as gone")
                _is_master(trial, entity, found, master)


def _is_master(trial: Trial, entity: Entity, record: SourceRecord, said: Master | None) -> None:
    """Broken unless it is mapped to what the bench says."""
    master = trial.bench.partner.map(entity, record.content, trial.bench.settings)
    if isinstance(master, Unmappable):
        broken(f"{entity}: a sound one is quarantined for {master.reason}")
    require(type(master) is type(said), f"{entity}: one came that is nobody, or as another kind of master")
    wrong = [name for name, value in vars(said).items() if getattr(master, name) != value]
    require(not wrong, f"{entity}: otherwise than the partner has it: {', '.join(wrong)}")


def unreadable(trial: Trial) -> None:
    """Where something that is read from cannot be read at all, no reading ends well, and nobody is said to be gone."""
    bench = trial.bench
    for entity in bench.partner.readings:
        _hold(bench, entity)
        bench.spoil_list(entity)
        try:
            _never_ends(trial, entity)
        finally:
            _hold(bench, entity)
        _read_any(trial, entity)


def _never_ends(trial: Trial, entity: Entity) -> None:
    with suppress(PartnerError):
        _read_any(trial, entity)
        broken(f"{entity}: a reading ends well though something in it cannot be read")
    if entity is Entity.PLAN:
        return
    with trial.connected() as connector, suppress(PartnerError):
        found = connector.fetch(entity, "nobody")
        broken(f"{entity}: {'gone' if found == Gone() else 'there'} is who may be in what cannot be read")


def _hold(bench: Bench, entity: Entity) -> None:
    if entity is Entity.PLAN:
        bench.hold_plans(3)
    else:
        bench.hold(entity, 3)


def _read_any(trial: Trial, entity: Entity) -> Sequence[object]:
    return trial.read_plans() if entity is Entity.PLAN else trial.read(entity)


def deletes(trial: Trial) -> None:
    """A deleted record comes no more, and is known to be gone in the way that is declared; nobody else is."""
    bench = trial.bench
    for entity in bench.partner.reads:
        kept, *_, gone = sorted(bench.hold(entity, max(3, bench.sizes[entity].least)))
        cursor = trial.read(entity)[-1].cursor
        if isinstance(trial.capability.proves_absence, NeverGone):
            _nobody_goes(trial, entity, gone, cursor)
            continue
        bench.remove(entity, gone)
        pages = trial.read(entity)
        seen = {each.partner_id for page in pages for each in page.records}
        require(gone not in seen, f"{entity}: a deleted record still comes")
        require(kept in seen, f"{entity}: a record that is there does not come")
        _known_as_gone(trial, entity, (kept, gone), cursor)


def _nobody_goes(trial: Trial, entity: Entity, partner_id: str, cursor: str | None) -> None:
    with suppress(NotOffered):
        trial.bench.remove(entity, partner_id)
        broken(f"{entity}: nobody is deleted there by the declaration, and its people delete")
    trial.bench.hold(entity, max(1, trial.bench.sizes[entity].least))
    pages = [page for start in (cursor, None) for page in trial.read(entity, start)]
    require(not any(page.gone for page in pages), f"{entity}: told as deleted, where its people delete nobody")
    require(not any(page.is_full for page in pages), f"{entity}: who is missing in a reading is suspect")


def _known_as_gone(trial: Trial, entity: Entity, ids: tuple[str, str], cursor: str | None) -> None:
    kept, gone = ids
    match trial.capability.proves_absence:
        case PointRead():
            with trial.connected() as connector:
                found = connector.fetch(entity, kept)
                is_there = isinstance(found, SourceRecord) and found.partner_id == kept
                require(is_there, f"{entity}: a record that is there is not found by its id")
                require(connector.fetch(entity, gone) == Gone(), f"{entity}: a deleted record is not told as gone")
        case DeleteEvents():
            told_gone = {each for page in trial.read(entity, cursor) for each in page.gone}
            require(gone in told_gone, f"{entity}: the delete was not told")
            require(kept not in told_gone, f"{entity}: a record that is there is told as deleted")
        case AfterReadings() | NeverGone():
            pass  # that it came no more is all that there is


def point_reads(trial: Trial) -> None:
    """A record that was read is found by its id."""
    if not isinstance(trial.capability.proves_absence, PointRead):
        raise NotOffered("no proof by reading one record is declared")
    for entity in trial.bench.partner.reads:
        listed = next((each for page in trial.full(entity) for each in page.records), None)
        if listed is None:
            raise NotOffered(f"it has no {entity}: have the bench begin with one at least")
        with trial.connected() as connector:
            found = connector.fetch(entity, listed.partner_id)
        is_same = isinstance(found, SourceRecord) and found.partner_id == listed.partner_id
        require(is_same, f"{entity}: what was read is not found by its id")


def dirty(trial: Trial) -> None:
    """A record full of dirt is read and mapped or quarantined alone; its neighbours are masters."""
    bench = trial.bench
    for entity in bench.partner.reads:
        ids = sorted(bench.hold(entity, max(3, bench.sizes[entity].least)))
        bench.spoil(entity, ids[1])
        pages = trial.read(entity)
        require(pages[-1].is_last, f"{entity}: the reading does not end")
        quarantined = _mapped(trial, entity, pages)
        neighbours = {each.partner_id for page in pages for each in page.records} - {ids[1]}
        require(set(ids) - {ids[1]} <= neighbours, f"{entity}: a neighbour of the dirty record did not come")
        require(quarantined <= {ids[1]}, f"{entity}: a neighbour of the dirty record cannot be mapped")
        bench.hold(entity, len(ids))


def gate_asked(trial: Trial) -> None:
    """The gate is asked once before each call, whatever it is for, and for an endpoint that is declared."""
    endpoints = trial.bench.partner.endpoints
    for entity in trial.bench.partner.reads:
        for name, act in _ACTS.items():
            gate = NotingGate()
            with trial.relay() as relay:
                with trial.connected(gate=gate, url=relay.url) as connector:
                    act(connector, entity)
                calls = relay.calls
            require(calls > 0, f"{entity}: to {name} makes no call")
            require(len(gate.admitted) == calls, f"{name} {entity}: {len(gate.admitted)} asked for, {calls} calls made")
            unknown = set(gate.admitted) - set(endpoints or gate.admitted)
            require(not unknown, f"{entity}: the gate is asked for undeclared {', '.join(sorted(unknown))}")


_ACTS: Mapping[str, Callable[[Connector, Entity], object]] = {
    "check": lambda connector, _: connector.check(),
    "read": lambda connector, entity: list(connector.read(entity, None)),
    "fetch": lambda connector, entity: connector.fetch(entity, "1"),
}


class ShutGate(NotingGate):
    """Puts everything off."""

    def admit(self, endpoint: str) -> None:
        """Never."""
        raise Deferred(datetime(2026, 11, 24, 12, 0, tzinfo=UTC))

    def heard(self, endpoint: str, told: Told) -> None:
        """Nothing can be heard: nothing was sent."""
        broken("the gate heard of a call that it did not admit")


def put_off(trial: Trial) -> None:
    """What the gate puts off ends as Deferred, whatever it is."""
    for entity in trial.bench.partner.reads:
        for name, act in _ACTS.items():
            try:
                with trial.connected(gate=ShutGate()) as connector:
                    act(connector, entity)
            except Deferred:
                continue
            broken(f"{entity}: {name} went on although the gate put it off")


def only_read(trial: Trial) -> None:
    """What is only read refuses to write and to look for what was written, without a call."""
    if trial.bench.partner.writes:
        raise NotOffered("it is written to")
    require(trial.capability.recovery is Recovery.NONE, "it declares how a write is recovered")
    command = Command(Entity.VISIT, Verb.CREATE, uuid4(), 1, "k", VisitRecord(None, None, "done", ""))
    with trial.connected(gate=ShutGate()) as connector:
        require(connector.batch_size == 1, "it has batches")
        acts: Mapping[str, Callable[[], object]] = {
            "sends": lambda: connector.send(command),
            "sends batches": lambda: connector.send_batch([command, command]),
            "looks for writes": lambda: connector.find(command),
        }
        for name, act in acts.items():
            try:
                act()
            except ValueError:
                continue
            broken(f"it {name}")


def broken_off(trial: Trial) -> None:
    """A reading whose answer is cut raises; what came before it is gone on with by its token."""
    bench = trial.bench
    for entity in bench.partner.reads:
        ids = set(bench.hold(entity, bench.sizes[entity].page + 1))
        calls = trial.counted(lambda url, entity=entity: trial.read(entity, url=url))  # type: ignore[misc]
        for number in sorted({1 + round(step * (calls - 1) / (_MOST_CUTS - 1)) for step in range(_MOST_CUTS)}):
            arrived: list[Page] = []
            with trial.relay() as relay:
                relay.fault = lambda call, cut=number: _half if call == cut else None  # type: ignore[misc]
                try:
                    with trial.connected(url=relay.url) as connector:
                        arrived.extend(connector.read(entity, None))
                except PartnerError:
                    pass
                else:
                    broken(f"{entity}: read to its end though answer {number} of {calls} was cut")
                token = arrived[-1].resume if arrived else None
                if token is None:
                    continue
                relay.fault = lambda _: None
                rest = trial.read(entity, None, token, url=relay.url)
            seen = {each.partner_id for page in (*arrived, *rest) for each in page.records}
            require(rest[-1].is_last and seen >= ids, f"{entity}: what came after the token is not the rest")


def _half(answer: bytes) -> bytes:
    return answer[: len(answer) // 2]


def _sized(trial: Trial, counts: object) -> None:
    bench = trial.bench
    for entity in bench.partner.reads:
        for count in sorted(counts(bench.sizes[entity])):  # type: ignore[operator]
            ids = bench.hold(entity, count)
            require(len(set(ids)) == count, "the bench does not hold what was asked for")
            whole(trial.read(entity), ids, trial.capability.proves_absence)


def _mapped(trial: Trial, entity: Entity, pages: list[Page]) -> set[str]:
    """The ids of what cannot be mapped. Broken where the reason is none."""
    partner, refused = trial.bench.partner, set()
    for each in (record for page in pages for record in page.records):
        master = partner.map(entity, each.content, trial.bench.settings)
        if isinstance(master, Unmappable):
            trial.reasons[master.reason] = master.params
            refused.add(each.partner_id)
            try:
                reason(master.reason)
            except UnknownReason:
                broken(f"{entity}: quarantined for {master.reason}, which the catalogue does not have")
    return refused
