"""land: read an entity from the partner and store what is new.

Nothing is deleted for not having come: absence in a certified reading of everything is a suspicion, and only a point
read proves it. Pages are stored as they come, so a reading that breaks off has lost nothing but its certificate.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cache
from uuid import uuid4

from partners.contract import Entity, Gone, Page, Partner
from partners.errors import PartnerError
from partners.reasons import all_reasons
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.core import certificate
from zest_pipelines.flows.drift import told_once
from zest_pipelines.flows.gate import LedgerGate
from zest_pipelines.flows.opening import Line, connection_row, open_line
from zest_pipelines.flows.reports import Freshness, LandReport, Problem
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.versions import Hashed, Mapper, Taken
from zest_pipelines.store import landing
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Ended, NewVersion, Reading
from zest_pipelines.store.tenants import ConnectionRow

FULL_EVERY = timedelta(days=1)
"""Between them, only what changed is read, where the partner can tell."""
MOST_POINT_READS = 200
"""Absences proved in one reading; more wait for the next one."""
MOST_PROBLEMS = 20
_PATIENCE = timedelta(seconds=30)


@dataclass
class _Progress:
    """What a reading has seen so far."""

    certificate: certificate.Reading = field(default_factory=certificate.Reading)
    seen: dict[str, bytes] = field(default_factory=dict)
    new_versions: int = 0
    unknown_fields: Counter[str] = field(default_factory=Counter)
    """New versions that have it, by the field's name."""
    problems: list[Problem] = field(default_factory=list)
    """The new versions that could become a master but have unknown fields."""
    gone: int = 0
    cursor: str | None = None
    gate: LedgerGate | None = None
    """None: the line was not opened."""


class _SupersededError(Exception):
    """Another reading took this one for dead and goes on in its place."""


def land(services: Services, partner: Partner, tenant: str, entity: Entity) -> LandReport:
    """Read `entity` of one tenant. What the partner does wrong is told in the report; raises StoreError alone."""
    started = time.monotonic()
    row = connection_row(services, partner, tenant, Login.LAND)
    reading = Reading(uuid4(), tenant, partner.name, entity)
    if row.is_paused:
        report = LandReport(entity, "", "failed", reason="connection_paused")
    elif _begin(services, reading):
        report = _read(services, partner, row, reading)
    else:
        report = LandReport(entity, "", "failed", reason="reading_under_way")
    return replace(_with_what_stands(services, reading, report), seconds=time.monotonic() - started)


def freshness(tx: Transaction, reading: Reading) -> Freshness:
    """How old what can be relied on of the reading's entity is. The connection must be there."""
    return Freshness(reading.entity, **asdict(landing.age(tx, reading)))


def _begin(services: Services, reading: Reading) -> bool:
    """Whether the reading may go on: no other one of the same is under way."""
    with services.database.transaction(Login.LAND, reading.tenant) as tx:
        return landing.begin(tx, reading)


def _with_what_stands(services: Services, reading: Reading, report: LandReport) -> LandReport:
    """The report with what cannot be mapped, whenever it came; unless it is certified, with what earlier readings are
    still good for."""
    with services.database.transaction(Login.LAND, reading.tenant) as tx:
        report = told_once(tx, reading, report)
        unmappable = landing.unmappable(tx, reading, MOST_PROBLEMS)
        age = None if report.is_certified else freshness(tx, reading)
        ended = landing.last_ended(tx, reading, _waits()) if report.reason in (*_waits(), "connection_paused") else None
    problems = (
        Problem(reading.entity, f"landed:{each.landed_no}", "unmappable", each.problem, each.params)
        for each in unmappable
    )
    by_reason = {each.problem: each.of_its_reason for each in unmappable}
    return replace(
        report,
        unmappable=sum(by_reason.values()),
        unmappable_for=by_reason,
        problems=(*problems, *report.problems),
        last=None if ended is None else _as_report(reading, ended),
        freshness=age,
    )


def _as_report(reading: Reading, ended: Ended) -> LandReport:
    return LandReport(
        reading.entity,
        str(ended.snapshot),
        ended.state,
        ended.reason,
        ended.params,
        pages=ended.pages,
        records=ended.records,
    )


@cache
def _waits() -> tuple[str, ...]:
    """The reasons for which a reading is put off, with nothing wrong."""
    return tuple(each.code for each in all_reasons() if each.is_wait)


def _read(services: Services, partner: Partner, row: ConnectionRow, reading: Reading) -> LandReport:
    progress = _Progress()
    station = _Station(services, Mapper(partner, reading.entity, row.connection.settings), reading)
    try:
        with open_line(services, partner, row, _PATIENCE) as line:
            progress.gate = line.gate
            cursor = station.cursor()
            for page in line.connector.read(reading.entity, cursor):
                station.take(page, progress)
            verdict = progress.certificate.certify()
            if verdict.casts_suspicion:
                station.prove_absences(line, progress)
    except PartnerError as error:
        return station.end(progress, "failed", error.reason, error.params)
    except VaultError:
        return station.end(progress, "failed", "secret_unreadable", {})
    except _SupersededError:
        return station.report(progress, "failed", "reading_under_way", {})
    if not verdict.is_certified:
        return station.end(progress, "incomplete", "partner_list_incomplete", {"why": ", ".join(verdict.gaps)})
    progress.cursor = progress.cursor or cursor  # nothing changed: the next reading starts where this one did
    return station.end(progress, "certified", None, {})


@dataclass(frozen=True)
class _Station:
    """One reading's acts on the store."""

    services: Services
    mapper: Mapper
    reading: Reading

    def cursor(self) -> str | None:
        """Where to start; None: read everything."""
        with self.services.database.transaction(Login.LAND, self.reading.tenant) as tx:
            last = landing.cursor(tx, self.reading)
        is_due = last.last_full_at is None or last.last_full_at <= self.services.now() - FULL_EVERY
        return None if is_due else last.cursor

    def take(self, page: Page, progress: _Progress) -> None:
        """Store what is new on a page and add the page to the progress."""
        fresh: list[Hashed] = []
        moved = 0
        for hashed in map(self.mapper.hashed, page.records):
            partner_id = hashed.record.partner_id
            if partner_id not in progress.seen:
                progress.seen[partner_id] = hashed.mark
                fresh.append(hashed)
            elif progress.seen[partner_id] != hashed.mark:
                moved += 1
        progress.certificate = progress.certificate.with_page(
            ids=len(fresh), total=page.total, is_full=page.is_full, is_last=page.is_last, changed_duplicates=moved
        )
        progress.cursor = page.cursor
        self._store(fresh, page.gone, progress)

    def prove_absences(self, line: Line, progress: _Progress) -> None:
        """Ask for each record that did not come; only the partner's own "not there" makes it gone."""
        with self.services.database.transaction(Login.LAND, self.reading.tenant) as tx:
            suspects = landing.live_partner_ids(tx, self.reading) - progress.seen.keys()
        # In any order: the first ones may be there all the time, and would keep the others from being asked for.
        for partner_id in sorted(suspects, key=lambda _: self.services.random())[:MOST_POINT_READS]:
            try:
                found = line.connector.fetch(self.reading.entity, partner_id)
            except PartnerError:
                return  # the reading stands; who is left is a suspect in the next one too
            if isinstance(found, Gone):
                self._store((), (partner_id,), progress)
            else:
                self._store([self.mapper.hashed(found)], (), progress)

    def end(self, progress: _Progress, state: str, reason: str | None, params: Mapping[str, str]) -> LandReport:
        """Note how the reading ended."""
        seen = progress.certificate
        with self.services.database.transaction(Login.LAND, self.reading.tenant) as tx:
            has_ended = landing.end(
                tx,
                self.reading,
                state=state,
                is_full=seen.is_full,
                reason=reason,
                params=params,
                pages=seen.pages,
                records=seen.ids,
                new_versions=progress.new_versions,
                cursor=progress.cursor,
            )
        if not has_ended:
            return self.report(progress, "failed", "reading_under_way", {})
        return self.report(progress, state, reason, params)

    def report(self, progress: _Progress, state: str, reason: str | None, params: Mapping[str, str]) -> LandReport:
        """What was seen, and how it ended."""
        seen = progress.certificate
        return LandReport(
            self.reading.entity,
            str(self.reading.snapshot),
            state,
            reason,
            params,
            is_full=seen.is_full,
            pages=seen.pages,
            records=seen.ids,
            new_versions=progress.new_versions,
            gone=progress.gone,
            unknown_fields=dict(progress.unknown_fields.most_common(MOST_PROBLEMS)),
            problems=tuple(progress.problems),
            calls=0 if progress.gate is None else progress.gate.calls,
        )

    def _store(self, records: Iterable[Hashed], gone: Iterable[str], progress: _Progress) -> None:
        candidates = {hashed.record.partner_id: hashed for hashed in records}
        gone = [partner_id for partner_id in gone if partner_id not in candidates]
        with self.services.database.transaction(Login.LAND, self.reading.tenant) as tx:
            if not landing.is_alive(tx, self.reading):
                raise _SupersededError
            known = landing.known_fingerprints(tx, self.reading, [*candidates, *gone])
            taken = [
                self.mapper.taken(hashed)
                for partner_id, hashed in candidates.items()
                if known.get(partner_id) != hashed.mark
            ]
            absent = [NewVersion(partner_id, None) for partner_id in gone if known.get(partner_id) is not None]
            landing.add(tx, self.reading, [*(each.version for each in taken), *absent])
            problems = self._problems(tx, taken, MOST_PROBLEMS - len(progress.problems))
        progress.new_versions += len(taken)
        progress.unknown_fields.update(name for each in taken for name in each.unknown)
        progress.problems += problems
        progress.gone += len(absent)

    def _problems(self, tx: Transaction, taken: Iterable[Taken], most: int) -> list[Problem]:
        """What is odd about the first `most` of those that can be mapped; the others are told by what stands."""
        odd = {each.version.partner_id: each.unknown for each in taken if each.unknown and not each.version.problem}
        shown = list(odd)[:most]
        numbers = landing.newest_numbers(tx, self.reading, shown) if shown else {}
        return [
            Problem(
                self.reading.entity,
                f"landed:{numbers[partner_id]}",
                "landed",
                "fields_unknown",
                {"fields": ", ".join(odd[partner_id])},
            )
            for partner_id in shown
        ]
