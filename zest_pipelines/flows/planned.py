"""planned: read what somebody else has planned, store what is new, and compare what stands with the confirmed visits.

Nothing of a plan is ever written to the product or sent to a partner: where the two differ, people settle it. What is
compared are this month and later ones, in Japan.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from datetime import time as clock
from uuid import UUID, uuid4

from partners.contract import Entity, Partner, Plan, PlanPage
from partners.errors import PartnerError
from partners.windows import JAPAN
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.core.agreement import Agreement, Confirmed, Planned, compare, takes_its_place
from zest_pipelines.core.identifiers import plan_id
from zest_pipelines.flows.land import PATIENCE, with_what_was
from zest_pipelines.flows.opening import connection_row, not_now, open_line
from zest_pipelines.flows.pages import SupersededError
from zest_pipelines.flows.reports import MOST_PROBLEMS, LandReport, PlanReport, Problem
from zest_pipelines.flows.services import Services
from zest_pipelines.store import landing
from zest_pipelines.store import plans as store
from zest_pipelines.store.keys import Target
from zest_pipelines.store.landing import Begun, Conclusion, Reading
from zest_pipelines.store.plans import ConfirmedVisit, NewPlan, StandingPlan
from zest_pipelines.store.tenants import ConnectionRow

_SHAPE = "plans"
"""Of a reading's progress: there is none, so none is taken up."""


def take_plans(services: Services, partner: Partner, tenant: str) -> PlanReport:
    """Land one tenant's plans and compare them. What the partner does wrong is told in the report; raises StoreError
    alone. The partner must give plans."""
    started = time.monotonic()
    row = connection_row(services, partner, tenant, Login.LAND)
    reading = Reading(uuid4(), tenant, partner.name, Entity.PLAN)
    if (reason := not_now(services, partner, row)) is not None:
        report = LandReport(Entity.PLAN, "", "failed", reason=reason)
    elif (begun := _begin(services, partner, reading)) is not None:
        report = _read(services, partner, row, begun)
    else:
        report = LandReport(Entity.PLAN, "", "failed", reason="reading_under_way")
    with services.database.transaction(Login.LAND, tenant) as tx:
        report = with_what_was(tx, reading, report)
    compared, standing = _compared(services, Target(tenant, partner.name))
    report = replace(_with_bad_lines(report, standing), seconds=time.monotonic() - started)
    return replace(compared, landing=report)


def _begin(services: Services, partner: Partner, reading: Reading) -> Begun | None:
    full_before = services.now() - partner.full_every
    with services.database.transaction(Login.LAND, reading.tenant) as tx:
        return landing.begin(tx, reading, mapping=partner.mapping_version, full_before=full_before, shape=_SHAPE)


def _read(services: Services, partner: Partner, row: ConnectionRow, begun: Begun) -> LandReport:
    taking, calls = _Taking(services, begun), 0
    try:
        try:
            with open_line(services, partner, row, PATIENCE) as line:
                try:
                    assert partner.read_plans is not None  # only then are they asked for
                    taking.take_all(partner.read_plans(line.connector, begun.since))
                finally:
                    calls = line.gate.calls
        except PartnerError as error:
            taking.end("failed", error.reason, dict(error.params))
        except VaultError:
            taking.end("failed", "secret_unreadable", {})
    except SupersededError:
        return replace(taking.report, state="failed", reason="reading_under_way", params={}, calls=calls)
    return replace(taking.report, calls=calls)


class _Taking:
    """One reading's acts on the store."""

    def __init__(self, services: Services, begun: Begun) -> None:
        self._database, self._reading, self._since = services.database, begun.reading, begun.since
        self.report = LandReport(Entity.PLAN, str(begun.reading.snapshot), "failed", is_full=begun.since is None)

    def take_all(self, pages: Iterator[PlanPage]) -> None:
        """Store the pages that come, and that all of them came. Raises PartnerError and SupersededError midway."""
        cursor = self._since
        for page in pages:
            self._take(page.plans)
            cursor = page.cursor or cursor
        self.end("certified", None, {}, cursor)

    def _take(self, plans: Sequence[Plan]) -> None:
        with self._database.transaction(Login.LAND, self._reading.tenant) as tx:
            known = store.newest(tx, self._reading, [(each.client, each.month) for each in plans])
            new, changed = list[NewPlan](), 0
            for each in map(_as_stored, plans):
                said_at, fingerprint = known.get((each.partner_id, each.month), ("", b""))
                is_same = fingerprint == each.fingerprint
                if takes_its_place(each.said_at, said_at, is_same=is_same):
                    new.append(each)
                    changed += not is_same
            store.add(tx, self._reading, new)
            report = replace(
                self.report,
                pages=self.report.pages + 1,
                records=self.report.records + len(plans),
                new_versions=self.report.new_versions + changed,
            )
            goes_on = landing.go_on(
                tx, self._reading, pages=report.pages, new_versions=report.new_versions, resume=None, progress={}
            )
            if not goes_on:
                raise SupersededError
        self.report = report

    def end(self, state: str, reason: str | None, params: dict[str, str], cursor: str | None = None) -> None:
        """Note how it ended. Raises SupersededError."""
        told = self.report
        ended = Conclusion(state, reason, params, told.is_full, told.pages, told.records, told.new_versions, cursor)
        with self._database.transaction(Login.LAND, self._reading.tenant) as tx:
            if not landing.end(tx, self._reading, ended):
                raise SupersededError
        self.report = replace(told, state=state, reason=reason, params=params)


def _as_stored(plan: Plan) -> NewPlan:
    services = None if plan.services is None else store.spelled([_document(asdict(each)) for each in plan.services])
    problems = store.spelled([{"reason": each.reason, "params": dict(each.params)} for each in plan.bad])
    mark = hashlib.sha256(store.spelled([services, problems]).encode()).digest()
    return NewPlan(plan.client, plan.month, plan.said_at, mark, services, problems)


def _document(service: dict[str, object]) -> dict[str, object]:
    return service | {"day": str(service["day"])}


def _with_bad_lines(report: LandReport, standing: Sequence[StandingPlan]) -> LandReport:
    """The report with the lines of what stands that could not be taken, whenever it came."""
    problems = [
        Problem(Entity.PLAN, plan_id(plan.landed_no), "unmappable", each["reason"], each["params"])
        for plan in standing
        for each in plan.problems
    ]
    return replace(
        report,
        unmappable=len(problems),
        unmappable_for=Counter(each.reason for each in problems),
        problems=tuple(problems[:MOST_PROBLEMS]),
    )


def _compared(services: Services, target: Target) -> tuple[PlanReport, Sequence[StandingPlan]]:
    """How what stands agrees, and what stands. Of the report, the landing is still to be said."""
    this_month = services.now().astimezone(JAPAN).date().replace(day=1)
    with services.database.transaction(Login.DIFF, target.tenant) as tx:
        standing = store.standing(tx, target, this_month)
        planned = [each for each in standing if each.services is not None]
        months = {each.month for each in planned}
        until = _begins(_next(max(months))) if months else _begins(this_month)
        visits = store.confirmed(tx, target.tenant, _begins(this_month), until)
    of_client: dict[tuple[UUID, date], list[Confirmed]] = defaultdict(list)
    for visit in visits:
        shown = _as_confirmed(visit)
        of_client[visit.client_id, shown.day.replace(day=1)].append(shown)
    report = PlanReport(LandReport(Entity.PLAN, "", "failed"))
    findings, unlinked = list[Problem](), list[Problem]()
    for plan in planned:
        if plan.client_id is None:
            unlinked.append(_problem(plan_id(plan.landed_no), "plan_client_unlinked"))
            continue
        agreement = compare(_lines(plan), of_client.pop((plan.client_id, plan.month), ()))
        report, found = _counted(report, plan, agreement)
        findings += found
    return replace(
        report,
        unlinked=len(unlinked),
        without_plan=sum(len(left) for (_, month), left in of_client.items() if month in months),
        problems=(*findings[:MOST_PROBLEMS], *unlinked[:MOST_PROBLEMS]),
    ), standing


def _counted(report: PlanReport, plan: StandingPlan, agreement: Agreement) -> tuple[PlanReport, list[Problem]]:
    """With one plan's comparison, and what was found in it.

    Where a line could not be taken, a visit that no line stands for may stand there: that is no finding.
    """
    differing = [pair for pair in agreement.pairs if pair.differing]
    missing_there = () if plan.problems else agreement.missing_there
    found = [
        *(_problem(str(pair.confirmed.visit), "plan_differs", fields=", ".join(pair.differing)) for pair in differing),
        *(_problem(plan_id(plan.landed_no, each.line), "plan_not_confirmed") for each in agreement.missing_here),
        *(_problem(str(each.visit), "visit_not_planned") for each in missing_there),
    ]
    return replace(
        report,
        plans=report.plans + 1,
        agreeing=report.agreeing + len(agreement.pairs) - len(differing),
        differing=report.differing + len(differing),
        missing_here=report.missing_here + len(agreement.missing_here),
        no_visits=report.no_visits + len(agreement.no_visits),
        missing_there=report.missing_there + len(missing_there),
        unsure=report.unsure + len(agreement.missing_there) - len(missing_there),
    ), found


def _problem(record: str, reason: str, **params: str) -> Problem:
    return Problem(Entity.PLAN if record.startswith("plan:") else Entity.VISIT, record, "compared", reason, params)


def _lines(plan: StandingPlan) -> Iterator[Planned]:
    for line, each in enumerate(plan.services or (), start=1):
        one = Planned(date.fromisoformat(each["day"]), each["starts"], each["ends"], each["service_code"], line)
        yield from [one] * each["count"]


def _as_confirmed(visit: ConfirmedVisit) -> Confirmed:
    starts, ends = visit.starts_at.astimezone(JAPAN), visit.ends_at.astimezone(JAPAN)
    return Confirmed(starts.date(), f"{starts:%H:%M}", f"{ends:%H:%M}", visit.service_code, visit.visit_id)


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _begins(month: date) -> datetime:
    return datetime.combine(month, clock.min, JAPAN)
