"""land: read an entity from the partner and store what is new.

Pages are stored as they come, and a reading whose process died, or that partner or network broke off, is taken up by
the next one after the last page that was stored. Nothing is deleted for not having come: absence in a certified
reading of everything is a suspicion, to be proved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from functools import cache, partial
from uuid import uuid4

from partners.contract import Connector, Entity, Page, Partner
from partners.errors import PartnerError, RejectedError, RetryableError
from partners.reasons import all_reasons
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.core.alarm import detail_of
from zest_pipelines.core.classification import UNKNOWN
from zest_pipelines.core.identifiers import landed_id
from zest_pipelines.flows.absence import ask_for_suspects
from zest_pipelines.flows.calls import Calls, kept_calls
from zest_pipelines.flows.drift import told_once
from zest_pipelines.flows.gate import LedgerGate
from zest_pipelines.flows.opening import NOT_NOW, connection_row, not_now, open_line
from zest_pipelines.flows.pages import SHAPE, Pages, SupersededError
from zest_pipelines.flows.reports import MOST_PROBLEMS, Freshness, LandReport, Problem
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.versions import Mapper
from zest_pipelines.store import classifications, landed, landing, suspicions
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.landing import Begun, EndedReading, Reading
from zest_pipelines.store.tenants import ConnectionRow

PATIENCE = timedelta(seconds=30)
"""How long a call of a reading may wait for its slot."""


def land(services: Services, partner: Partner, tenant: str, entity: Entity) -> LandReport:
    """Read `entity` of one tenant. What the partner does wrong is told in the report; raises StoreError alone."""
    started = time.monotonic()
    row = connection_row(services, partner, tenant, Login.LAND)
    mapper = Mapper(partner, entity, row.connection.settings)
    reading = Reading(uuid4(), tenant, partner.name, entity)
    if (reason := not_now(services, partner, row)) is not None:
        report = LandReport(entity, "", "failed", reason=reason)
    elif (begun := _begin(services, mapper, reading)) is not None:
        report = _read(services, mapper, row, begun)
    else:
        report = LandReport(entity, "", "failed", reason="reading_under_way")
    return replace(_with_what_stands(services, reading, report), seconds=time.monotonic() - started)


def freshness(tx: Transaction, reading: Reading, why_not: str | None) -> Freshness:
    """How old what can be relied on of the reading's entity is; `why_not`: none is made now. The connection must be
    there."""
    return Freshness(reading.entity, **asdict(landing.age(tx, reading)), not_now=why_not)


def _begin(services: Services, mapper: Mapper, reading: Reading) -> Begun | None:
    """The reading, or the one that it takes up; None: another one goes on."""
    full_before = services.now() - mapper.partner.full_every
    with services.database.transaction(Login.LAND, reading.tenant) as tx:
        return landing.begin(tx, reading, mapping=mapper.version, full_before=full_before, shape=SHAPE)


def _read(services: Services, mapper: Mapper, row: ConnectionRow, begun: Begun) -> LandReport:
    pages = Pages(services, mapper, begun)
    gate: LedgerGate | None = None
    calls: Calls | None = None
    try:
        try:
            with open_line(services, mapper.partner, row, PATIENCE) as line:
                gate, calls = line.gate, line.calls
                gate.before_call = partial(_before_call, services, mapper.partner, row, pages)
                calls.begin()
                _take_all(line.connector, begun, pages)
                if pages.verdict is not None and pages.verdict.state == "certified":
                    ask_for_suspects(services, mapper, line.connector, pages)
        except PartnerError as error:
            heard = () if calls is None else calls.taken()
            kept = kept_calls(heard, mapper.partner, begun.reading.tenant, is_of_one=True)
            pages.break_off(error.reason, error.params, kept, may_go_on=not isinstance(error, RejectedError))
        except VaultError:
            pages.break_off("secret_unreadable", {}, (), may_go_on=False)
    except SupersededError:
        return replace(_report(pages, gate), state="failed", reason="reading_under_way", params={})
    return _report(pages, gate)


def _before_call(services: Services, partner: Partner, row: ConnectionRow, pages: Pages) -> None:
    """Raises RetryableError once the partner has closed: what came has landed, and the next reading goes on there."""
    if (reason := not_now(services, partner, row)) is not None:
        raise RetryableError(reason)
    pages.stay_alive()


def _take_all(connector: Connector, begun: Begun, pages: Pages) -> None:
    """Store the pages that come. Raises PartnerError and SupersededError midway."""
    entity = begun.reading.entity
    if begun.resume is None:
        coming = connector.read(entity, begun.since)
    else:
        coming = connector.read(entity, begun.since, begun.resume)
    for page, is_end in _with_end(coming):
        pages.take(page, is_end=is_end)
        if pages.verdict is not None:
            return
    pages.conclude()


def _with_end(pages: Iterator[Page]) -> Iterator[tuple[Page, bool]]:
    """Each page, and whether it is the last one and said so. A page that does not say so is handed on before the next
    one is asked for: that may fail, and what came before it has come."""
    page = next(pages, None)
    while page is not None:
        following = next(pages, None) if page.is_last else None
        yield page, page.is_last and following is None
        page = following if page.is_last else next(pages, None)


def _report(pages: Pages, gate: LedgerGate | None) -> LandReport:
    """What was seen, and how it ended."""
    reading, progress, verdict = pages.reading, pages.progress, pages.verdict
    seen = progress.seen
    return LandReport(
        reading.entity,
        str(reading.snapshot),
        "failed" if verdict is None else verdict.state,
        None if verdict is None else verdict.reason,
        {} if verdict is None else verdict.params,
        is_full=seen.is_full,
        pages=seen.pages,
        records=seen.ids,
        new_versions=progress.new_versions,
        gone=progress.gone,
        problems=tuple(
            Problem(reading.entity, landed_id(number), "landed", "fields_unknown", {"fields": fields})
            for number, fields in progress.odd.items()
        ),
        calls=0 if gate is None else gate.calls,
    )


def _with_what_stands(services: Services, reading: Reading, report: LandReport) -> LandReport:
    """The report with what cannot be mapped and who is suspect, whenever that came."""
    with services.database.transaction(Login.LAND, reading.tenant) as tx:
        unmappable = landed.unmappable(tx, reading, MOST_PROBLEMS)
        suspects = suspicions.count(tx, reading)
        report = with_what_was(tx, reading, told_once(tx, reading, report))
    problems = (
        Problem(reading.entity, landed_id(each.landed_no), "unmappable", each.problem, each.params)
        for each in unmappable
    )
    by_reason = {each.problem: each.of_its_reason for each in unmappable}
    return replace(
        report,
        unmappable=sum(by_reason.values()),
        unmappable_for=by_reason,
        suspects=suspects,
        problems=(*problems, *report.problems),
    )


def with_what_was(tx: Transaction, reading: Reading, report: LandReport) -> LandReport:
    """The report; unless it is certified, with what earlier readings are still good for."""
    report = _as_classified(tx, reading, report)
    why = report.reason if report.reason in NOT_NOW else None
    age = None if report.is_certified else freshness(tx, reading, why)
    ended = landing.last_ended(tx, reading, _waits()) if report.reason in (*_waits(), *NOT_NOW) else None
    return replace(report, last=None if ended is None else _as_report(reading, ended), freshness=age)


def _as_classified(tx: Transaction, reading: Reading, report: LandReport) -> LandReport:
    """The report; of an unknown error, with the reason that it is by an operator's word."""
    if report.reason != UNKNOWN:
        return report
    return replace(report, reason=classifications.told_of_reading(tx, reading.partner, detail_of(report.params)))


def _as_report(reading: Reading, ended: EndedReading) -> LandReport:
    return LandReport(
        reading.entity,
        str(ended.snapshot),
        ended.state,
        ended.reason,
        ended.params,
        is_full=ended.is_full,
        pages=ended.pages,
        records=ended.records,
    )


@cache
def _waits() -> tuple[str, ...]:
    """The reasons for which a reading is put off, with nothing wrong."""
    return tuple(each.code for each in all_reasons() if each.is_wait)
