"""The pages of a reading, stored as they come.

What a page brings, what it showed and how far the reading has come are stored in one transaction, and with the last
page how it ended, where the next one starts and who is suspect: whatever dies in between has stored whole pages and
nothing else. In memory is one page. What all pages together tell (how many ids, one that came twice with different
content, who did not come) is asked of the sightings in the database.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, assert_never

from partners.contract import AfterReadings, DeleteEvents, NeverGone, Page, PointRead, SourceRecord
from resources.logins import Login
from zest_pipelines.core import certificate
from zest_pipelines.flows.reports import MOST_PROBLEMS
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.versions import Hashed, Mapper, Taken
from zest_pipelines.store import drift, landed, landing, sightings, suspicions
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landed import NewVersion
from zest_pipelines.store.landing import Begun, Conclusion, Reading

_INCOMPLETE = "partner_list_incomplete"
_STILL_SECONDS = 60.0
"""For so long a reading is alive without a word."""


class SupersededError(Exception):
    """Another process took this reading for dead and goes on in its place."""


@dataclass(frozen=True)
class Stored:
    """What became of some records that were shown or told to be gone."""

    new: Sequence[Taken] = ()
    gone: int = 0
    odd: Mapping[str, str] = field(default_factory=dict)
    """Landed numbers of what is new, has unknown fields and is well otherwise, and these; the first ones."""


@dataclass(frozen=True)
class Progress:
    """What a reading has seen so far: all that it keeps, whatever its length."""

    seen: certificate.Seen = field(default_factory=certificate.Seen)
    new_versions: int = 0
    gone: int = 0
    odd: Mapping[str, str] = field(default_factory=dict)
    """Landed numbers of new versions that have unknown fields and are well otherwise, and these; the first ones."""

    @classmethod
    def restored(cls, kept: Mapping[str, Any]) -> Progress:
        """What `kept` said; of nothing, the start."""
        if not kept:
            return cls()
        totals = frozenset(kept["seen"]["totals"])
        told = {name: value for name, value in kept.items() if name != "shape"}
        return cls(**{**told, "seen": certificate.Seen(**{**kept["seen"], "totals": totals})})

    def kept(self) -> dict[str, Any]:
        """As JSON, beside the pages, for who takes the reading up."""
        return {**vars(self), "seen": {**vars(self.seen), "totals": sorted(self.seen.totals)}, "shape": SHAPE}

    def with_stored(self, stored: Stored) -> Progress:
        """With what was stored besides."""
        if not stored.new and not stored.gone:
            return self
        return replace(
            self,
            new_versions=self.new_versions + len(stored.new),
            gone=self.gone + stored.gone,
            odd=dict([*self.odd.items(), *stored.odd.items()][:MOST_PROBLEMS]),
        )


SHAPE = " ".join(each.name for kind in (Progress, certificate.Seen) for each in fields(kind))
"""What a progress consists of: one that a process of another version kept is not taken up."""


class Pages:
    """One reading's acts on the store."""

    def __init__(self, services: Services, mapper: Mapper, begun: Begun) -> None:
        self._database = services.database
        self._mapper = mapper
        self._since = begun.since
        self._resume = begun.resume
        self.reading: Reading = begun.reading
        self.progress = Progress.restored(begun.progress)
        self.verdict: Conclusion | None = None
        """How it ended; None: it goes on."""
        self._alive_until = time.monotonic() + _STILL_SECONDS

    def take(self, page: Page, *, is_end: bool) -> None:
        """Store a page, and with the last one, or one too many, how the reading ended.

        Raises SupersededError, and then nothing is stored.
        """
        shown, twice = self._hashed(page.records)
        gone = [partner_id for partner_id in dict.fromkeys(page.gone) if partner_id not in shown]
        seen = self.progress.seen.with_page(
            total=page.total,
            is_full=page.is_full,
            is_last=page.is_last,
            rows=len(page.records),
            changed_duplicates=twice,
            nameless=page.nameless,
        )
        is_end = is_end or seen.is_endless
        with self._database.transaction(Login.LAND, self.reading.tenant) as tx:
            if suspicions.are_there(tx, self.reading):
                suspicions.lift(tx, self.reading, [*shown, *gone])
            stored = self._store(tx, shown, gone, seen.pages)
            progress = replace(self.progress.with_stored(stored), seen=seen)
            self._go_on(tx, progress, page)
            verdict = None
            if is_end:
                progress, verdict = self._concluded(tx, progress, page.cursor)
        self.progress, self.verdict, self._resume = progress, verdict, page.resume
        self._alive_until = time.monotonic() + _STILL_SECONDS

    def stay_alive(self) -> None:
        """Note now and then that the reading goes on, while no page comes: what is joined to it may take many calls."""
        if time.monotonic() < self._alive_until:
            return
        with self._database.transaction(Login.LAND, self.reading.tenant) as tx:
            landing.touch(tx, self.reading)
        self._alive_until = time.monotonic() + _STILL_SECONDS

    def conclude(self) -> None:
        """The pages came to an end without a last one. Raises SupersededError."""
        with self._database.transaction(Login.LAND, self.reading.tenant) as tx:
            progress, verdict = self._concluded(tx, self.progress, None)
        self.progress, self.verdict = progress, verdict

    def break_off(
        self, reason: str, params: Mapping[str, str], calls: Sequence[Mapping[str, Any]], *, may_go_on: bool
    ) -> None:
        """It broke off; `may_go_on`: nothing speaks against taking it up where it stands. Raises SupersededError.

        `calls`: the last ones, as they are kept.
        """
        with self._database.transaction(Login.LAND, self.reading.tenant) as tx:
            ids = sightings.count(tx, self.reading).ids
            progress = replace(self.progress, seen=replace(self.progress.seen, ids=ids))
            is_list = reason == _INCOMPLETE  # what it is worth is known, and its next page is no better
            verdict = _verdict(progress, "incomplete" if is_list else "failed", reason, params, None)
            may_go_on = may_go_on and not is_list and self._resume is not None
            self._end(tx, replace(verdict, may_go_on=may_go_on))
            if calls:
                landing.keep_calls(tx, self.reading, calls)
        self.progress, self.verdict = progress, verdict

    def take_answer(self, partner_id: str, found: SourceRecord | None) -> None:
        """The partner was asked for a suspect: what it has, None where it says that it has none. Once seen again or
        answered for in another process, the answer is out of date and comes to nothing."""
        with self._database.transaction(Login.LAND, self.reading.tenant) as tx:
            if not suspicions.lift(tx, self.reading, [partner_id]):
                return
            shown = {} if found is None else {found.partner_id: self._mapper.hashed(found)}
            stored = self._store(tx, shown, [partner_id] if found is None else [], None)
        self.progress = self.progress.with_stored(stored)

    def _hashed(self, records: Iterable[SourceRecord]) -> tuple[dict[str, Hashed], int]:
        """The records by id, the last of each, and how many came again on the page with other content."""
        shown: dict[str, Hashed] = {}
        twice = 0
        for hashed in map(self._mapper.hashed, records):
            before = shown.get(hashed.record.partner_id, hashed)
            twice += before.mark != hashed.mark
            shown[hashed.record.partner_id] = hashed
        return shown, twice

    def _store(self, tx: Transaction, shown: Mapping[str, Hashed], gone: Sequence[str], page: int | None) -> Stored:
        """Store what is new of it: mapped after it was found to be so, since that costs more than the rest."""
        changed = landed.changed(tx, self.reading, {each: hashed.mark for each, hashed in shown.items()}, page)
        new = [self._mapper.taken(hashed) for partner_id, hashed in shown.items() if partner_id in changed]
        live = landed.live(tx, self.reading, gone)
        absent = [NewVersion(each, None) for each in gone if each in live]
        odd = {each.partner_id: ", ".join(unknown) for each, unknown in new if unknown and not each.problem}
        asked = list(odd)[:MOST_PROBLEMS]
        numbers = landed.add(tx, self.reading, [*(each.version for each in new), *absent], page, asked)
        drift.note(tx, self.reading, Counter(name for each in new for name in each.unknown))
        return Stored(new, len(absent), {str(numbers[each]): odd[each] for each in asked})

    def _go_on(self, tx: Transaction, progress: Progress, page: Page) -> None:
        goes_on = landing.go_on(
            tx,
            self.reading,
            pages=progress.seen.pages,
            new_versions=progress.new_versions,
            resume=page.resume,
            progress=progress.kept(),
        )
        if not goes_on:
            raise SupersededError

    def _concluded(self, tx: Transaction, progress: Progress, cursor: str | None) -> tuple[Progress, Conclusion]:
        count = sightings.count(tx, self.reading)
        seen = progress.seen.counted(ids=count.ids, changed_duplicates=count.changed)
        judged = seen.certify()
        gone = self._suspect(tx) if judged.casts_suspicion else 0
        progress = replace(progress, seen=seen, gone=progress.gone + gone)
        if judged.is_certified:  # nothing changed: the next reading starts where this one did
            verdict = _verdict(progress, "certified", None, {}, cursor or self._since)
        else:
            params = {"why": ", ".join(judged.gaps)}
            verdict = _verdict(progress, "incomplete", _INCOMPLETE, params, cursor)
        self._end(tx, verdict)
        return progress, verdict

    def _suspect(self, tx: Transaction) -> int:
        """Suspect who did not come; how many that proves to be gone."""
        suspicions.raise_unseen(tx, self.reading)
        match self._mapper.partner.capability.proves_absence:
            case AfterReadings(count):
                return suspicions.land_absent(tx, self.reading, count)
            case PointRead() | DeleteEvents() | NeverGone():
                return 0
            case other:
                assert_never(other)

    def _end(self, tx: Transaction, verdict: Conclusion) -> None:
        if not landing.end(tx, self.reading, verdict):
            raise SupersededError
        if not verdict.may_go_on:
            sightings.forget(tx, self.reading)


def _verdict(
    progress: Progress, state: str, reason: str | None, params: Mapping[str, str], cursor: str | None
) -> Conclusion:
    seen = progress.seen
    return Conclusion(state, reason, params, seen.is_full, seen.pages, seen.ids, progress.new_versions, cursor)
