"""The Dagster UI in a real browser, as the two kinds of people who live in it use it: ops and data engineers.

One installation serves all tests of this file. The partners' own logs say what really happened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pytest
from dagster_ui import WINDOW, DagsterUi
from playwright.sync_api import Browser, ConsoleMessage
from running_platform import Platform, Tenant, Visit, running_platform
from sandbox_process import CLIENTS
from zest_process import LONG, wait_for

from zest_pipelines.core.weeks import week_of
from zest_pipelines.local.demo_product import Product
from zest_pipelines.orchestration.partitions import JAPAN, today_in_japan

pytestmark = pytest.mark.acceptance

LANDED, PUSHED, READ_BACK = "fhir/landed_clients", "fhir/pushed_weeks", "fhir/reconciled_weeks"
REMARK = "鍵は植木鉢の下"
"""Of the partner's people; nothing that Dagster may show."""
PICTURES_VARIABLE = "ZEST_SCREENSHOTS"
"""Names a folder; what the tests see is then left there as pictures."""
OURS = ("zest", "fhir")
"""What a complaint of the page names if it is about something of ours; Dagster's own noise is not judged here."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Platform]:
    """Both tenants are on week timing: nothing of theirs goes out before somebody asks for it."""
    with running_platform(tmp_path_factory.mktemp("browser"), timing="week") as running:
        yield running


@pytest.fixture(scope="module")
def tenants(platform: Platform) -> list[Tenant]:
    """Both tenants with their masters in."""
    for tenant in platform.tenants:
        assert wait_for(tenant.has_masters, 150, 1), platform.told()
    return platform.tenants


@pytest.fixture(scope="module")
def sakura(tenants: list[Tenant]) -> Tenant:
    return tenants[0]


@pytest.fixture(scope="module")
def hinoki(tenants: list[Tenant]) -> Tenant:
    return tenants[1]


@pytest.fixture
def ui(browser: Browser, platform: Platform) -> Iterator[DagsterUi]:
    """A fresh tab. When it is closed, it has shown nothing about a person, and nothing of ours was complained about."""
    pictures, complaints = os.environ.get(PICTURES_VARIABLE), list[str]()

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and any(word in message.text for word in OURS):
            complaints.append(message.text)

    with browser.new_context(viewport=WINDOW, locale="en-GB", timezone_id="Asia/Tokyo") as context:
        page = context.new_page()
        page.on("console", listen)
        tab = DagsterUi(page, platform.ui, Path(pictures) if pictures else None)
        yield tab
        tab.read()
    shown = "\n".join(tab.shown)
    assert not [each for tenant in platform.tenants for each in tenant.personal_data() if each in shown]
    assert not complaints


def _monday(weeks: int) -> date:
    """The Monday that begins the week so many weeks from now."""
    return week_of(today_in_japan()).first + timedelta(weeks=weeks)


def _plan(tenant: Tenant, monday: date, days: Iterable[int]) -> list[Visit]:
    """A visit at ten, Japanese time, on each of these days of the week (0: Monday)."""
    return [tenant.add_visit(datetime.combine(monday + timedelta(days=day), time(10), JAPAN)) for day in days]


def _wait_until_queued(tenant: Tenant, changes: int) -> None:
    """Wait until the background has taken in the edits, and could have sent them."""
    open_changes = Product(tenant.platform.logins, tenant.name).open_changes
    assert wait_for(lambda: open_changes() >= changes, 90, 1), tenant.platform.told()


def _now(tenant: Tenant) -> int:
    """Where the partner's log ends."""
    last: int = tenant.partner.running.health()["journal"]
    return last


def _done(tenant: Tenant, after: int = 0) -> dict[str, list[str]]:
    """By visit: what the partner's log says was done to it."""
    effects: dict[str, list[str]] = {}
    for row in tenant.partner.writes(after):
        effects.setdefault(row["identifier"], []).append(row["effect"])
    return effects


def _created_once(visits: Iterable[Visit]) -> dict[str, list[str]]:
    return {str(visit): ["created"] for visit in visits}


def _paused(platform: Platform) -> dict[str, bool]:
    told = platform.zest("status", "--json").json
    return {each["tenant"]: each["paused"] for each in told["connections"]}


def test_a_tenant_made_up_in_the_dialog_ends_in_an_error_that_says_what_to_do(ui: DagsterUi) -> None:
    dialog = ui.open_materialize(LANDED)
    dialog.add("nobody")
    dialog.holds(1)
    assert ui.watch_run(dialog.launch()) == "Failure"
    ui.sees("nobody", "zest connect")


def test_a_data_engineer_materializes_a_tenants_clients_and_reads_the_numbers(ui: DagsterUi, sakura: Tenant) -> None:
    dialog = ui.open_materialize(LANDED)
    dialog.pick(sakura.name)
    dialog.holds(1)
    assert ui.watch_run(dialog.launch()) == "Success"

    ui.open_asset(LANDED, "partitions", sakura.name)
    told = ui.metadata("records")
    assert (told["records"], told["new_versions"], told["state"]) == (str(CLIENTS), "0", "certified")
    assert int(told["calls"]) > 0
    assert sakura.rows("SELECT 1 FROM sync.snapshot WHERE snapshot_id = %s", told["snapshot"], login="operator")
    ui.open_plots(LANDED)
    ui.sees("calls", "new_versions")
    ui.take_picture("landed-clients")


def test_an_ops_person_pauses_and_resumes_a_tenant_by_changing_its_name_alone(
    ui: DagsterUi, platform: Platform, hinoki: Tenant
) -> None:
    pad = ui.open_launchpad("fhir_pause")
    pad.replace("TENANT", hinoki.name)
    ui.take_picture("launchpad")
    assert ui.watch_run(pad.launch()) == "Success"
    assert _paused(platform) == {"sakura": False, "hinoki": True}

    pad = ui.open_launchpad("fhir_resume")
    pad.replace("TENANT", hinoki.name)
    assert ui.watch_run(pad.launch()) == "Success"
    assert _paused(platform) == {"sakura": False, "hinoki": False}


def test_an_ops_person_pushes_a_tenants_week_and_pressing_twice_changes_nothing(ui: DagsterUi, sakura: Tenant) -> None:
    week = _monday(1)
    asked, others = _plan(sakura, week, days=(0, 2, 6)), _plan(sakura, _monday(2), days=[0])
    _wait_until_queued(sakura, len(asked + others))
    assert not _done(sakura)

    dialog = ui.open_materialize(PUSHED)
    dialog.pick(sakura.name, weeks=str(week))
    dialog.holds(1)
    ui.take_picture("week-dialog")
    assert ui.watch_run(dialog.launch()) == "Success"
    assert _done(sakura) == _created_once(asked)
    ui.open_asset(PUSHED, "partitions", f"{sakura.name}|{week}")
    told = ui.metadata("visits_delivered")
    assert (told["visits_delivered"], told["visits_waiting"], told["visits_refused"]) == ("3", "0", "0")
    ui.sees("next action")  # of the summary, a table of its own
    ui.take_picture("week-pushed")

    before = _now(sakura)
    dialog = ui.open_materialize(PUSHED)
    dialog.pick(sakura.name, weeks=str(week))
    dialog.holds(1)
    assert ui.watch_run(dialog.launch()) == "Success"
    ui.open_asset(PUSHED, "partitions", f"{sakura.name}|{week}")
    told = ui.metadata("visits_delivered")
    assert (told["visits_delivered"], told["visits_unchanged"]) == ("0", "3")
    assert not _done(sakura, before)


def test_the_weeks_are_found_in_the_partners_graph(ui: DagsterUi, sakura: Tenant) -> None:
    ui.page.set_viewport_size({"width": 1920, "height": 640})  # where all of it fits with its states
    ui.open_group("fhir")
    ui.sees("landed_clients", "client_changes", "applied_clients", "visit_changes", "pushed_visits", "reconciled_weeks")
    ui.take_picture("asset-graph")
    ui.page.get_by_text("pushed_weeks", exact=True).click()
    ui.sees("Choose a tenant and a week")


@LONG
def test_three_weeks_of_a_tenant_and_a_week_of_two_tenants_go_as_backfills(
    ui: DagsterUi, sakura: Tenant, hinoki: Tenant
) -> None:
    *three, last = (_monday(number) for number in (3, 4, 5, 6))
    planned = {tenant.name: _plan(tenant, last, days=[3]) for tenant in (sakura, hinoki)}
    planned[sakura.name] += [visit for week in three for visit in _plan(sakura, week, days=(0, 1))]
    before = {tenant.name: _now(tenant) for tenant in (sakura, hinoki)}

    dialog = ui.open_materialize(PUSHED)
    dialog.pick(sakura.name, weeks=f"[{three[0]}...{three[-1]}]")
    dialog.holds(3)
    backfills = [dialog.launch()]
    dialog = ui.open_materialize(PUSHED)
    dialog.pick(sakura.name, hinoki.name, weeks=str(last))
    dialog.holds(2)
    backfills.append(dialog.launch())

    assert [ui.watch_backfill(each) for each in backfills] == ["Succeeded", "Succeeded"]
    for tenant in (sakura, hinoki):
        assert _done(tenant, before[tenant.name]) == _created_once(planned[tenant.name])


def test_a_visit_that_the_partners_people_changed_is_found_by_its_red_check(
    ui: DagsterUi, platform: Platform, hinoki: Tenant
) -> None:
    week = _monday(7)
    changed, _ = _plan(hinoki, week, days=(1, 2))
    pushed = platform.zest("push-week", hinoki.name, "fhir", str(week), "--wait")
    assert pushed.code == 0, pushed.err
    hinoki.partner.running.put({**hinoki.appointment(changed), "comment": REMARK})

    dialog = ui.open_materialize(READ_BACK)
    dialog.pick(hinoki.name, weeks=str(week))
    dialog.holds(1)
    assert ui.watch_run(dialog.launch()) == "Failure"
    ui.open_check(READ_BACK, "equals_read_back")
    ui.sees("Failed", f"{hinoki.name}|{week}", f"visit {changed}: note", "correct it there")
    assert REMARK not in ui.read()
    ui.take_picture("red-check")
