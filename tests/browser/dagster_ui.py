"""Dagster's UI as its people use it: pages by their address, everything on them by what can be read there.

It has neither test ids nor class names that stay. Its lists draw only what fits the window, so a list is filtered
before something is picked from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Locator, Page, Response, expect

WINDOW = {"width": 1280, "height": 800}
RUN_SECONDS = 180
"""How long a run or a backfill may take: the backfill daemon looks every 30 s, and the machine may be busy."""
_SHOWN_SECONDS = 30
_LAUNCHES = ("LaunchPipelineExecution", "LaunchPartitionBackfill")
_RUN_IS_OVER = re.compile("^(Success|Failure|Canceled)$")
_BACKFILL_IS_OVER = re.compile("^(Succeeded|Failed|Canceled)$")

expect.set_options(timeout=_SHOWN_SECONDS * 1000)


@dataclass
class DagsterUi:
    """One tab of a browser."""

    page: Page
    url: str
    pictures: Path | None = None
    """Where pictures of it go; None: nobody wants any."""
    shown: list[str] = field(default_factory=list)
    """Everything that could be read on the pages that were left or read."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(_SHOWN_SECONDS * 1000)

    def open(self, path: str) -> None:
        self.read()
        self.page.goto(self.url + path)

    def read(self) -> str:
        """All that can be read on the page now."""
        text = self.page.locator("body").inner_text()
        self.shown.append(text)
        return text

    def sees(self, *words: str) -> None:
        """Wait until each of the words can be read somewhere."""
        for each in words:
            expect(self.page.get_by_text(each).first).to_be_visible()

    def take_picture(self, name: str) -> None:
        if self.pictures is not None:
            self.page.mouse.move(0, 0)  # nothing is pointed at
            self.page.wait_for_timeout(1000)  # what still fades in
            self.page.screenshot(path=self.pictures / f"{name}.png")

    # Assets -----------------------------------------------------------------------------------------------------------

    def open_group(self, name: str) -> None:
        """The assets of a group, as a graph."""
        self.open(f"/locations/zest/asset-groups/{name}")

    def open_asset(self, key: str, view: str, partition: str = "") -> None:
        """An asset's tab: overview, partitions, events, checks or lineage; of its partitions, one."""
        self.open(f"/assets/{key}?view={view}" + (f"&partition={partition}" if partition else ""))

    def open_materialize(self, key: str) -> MaterializeDialog:
        """The dialog in which partitions are chosen and runs launched."""
        self.open_asset(key, "partitions")
        self.page.get_by_role("button", name="Materialize").first.click()
        dialog = self.page.get_by_role("dialog").filter(has_text="Partition selection")
        expect(dialog.get_by_text("Add a partition")).to_be_visible()
        expect(self.page.get_by_text("Loading pipeline and partition sets")).to_have_count(0)
        return MaterializeDialog(self, dialog)

    def metadata(self, containing: str) -> dict[str, str]:
        """The page's table of metadata that has the entry."""
        table = self.page.get_by_role("table").filter(has=self.page.get_by_text(containing, exact=True)).first
        expect(table).to_be_visible()
        self.read()
        rows = [row.locator(":scope > td").all_inner_texts() for row in table.locator(":scope > tbody > tr").all()]
        return {row[0].strip(): row[1].strip() for row in rows}

    def open_plots(self, key: str) -> None:
        """How an asset's numbers stand, tenant by tenant."""
        self.open_asset(key, "overview")
        self.page.get_by_role("button", name="Plots").click()

    def open_check(self, key: str, check: str) -> None:
        """A check of an asset, from the asset's tab."""
        self.open_asset(key, "checks")
        self.page.get_by_text(check, exact=True).first.click()
        self.sees("Latest execution")

    # Jobs -------------------------------------------------------------------------------------------------------------

    def open_launchpad(self, job: str) -> Launchpad:
        """The editor in which a job's config is changed."""
        self.open(f"/locations/zest/jobs/{job}/playground")
        editor = self.page.locator(".CodeMirror").first
        self.sees("No errors")
        return Launchpad(self, editor)

    # Runs -------------------------------------------------------------------------------------------------------------

    def watch_run(self, run: str) -> str:
        """Open the run's page and wait for its end: Success, Failure or Canceled."""
        self.open(f"/runs/{run}")
        return self._ending(self.page.get_by_text(_RUN_IS_OVER).first)

    def watch_backfill(self, backfill: str) -> str:
        """The same for a backfill: Succeeded, Failed or Canceled."""
        self.open(f"/runs/b/{backfill}")
        status = self.page.get_by_text("Status", exact=True).locator("..")  # the table has such words in its head
        return self._ending(status.get_by_text(_BACKFILL_IS_OVER))

    def _ending(self, told: Locator) -> str:
        expect(told).to_be_visible(timeout=RUN_SECONDS * 1000)
        self.read()
        return told.inner_text()


@dataclass(frozen=True)
class MaterializeDialog:
    """What *Materialize* opens."""

    ui: DagsterUi
    dialog: Locator

    def pick(self, *tenants: str, weeks: str = "") -> None:
        """`weeks`: Mondays as people type them, `2026-11-23` or a range `[2026-11-09...2026-11-23]`."""
        box = self.dialog.get_by_placeholder("ex: ")
        if weeks:
            expect(box).to_be_visible()  # before that, the weeks look like another list of tenants
        self.dialog.get_by_text("Select a partition or create one").click()
        for tenant in tenants:
            self.ui.page.get_by_placeholder("Filter partitions").fill(tenant)
            named = self.ui.page.get_by_title(tenant, exact=True)
            self.ui.page.get_by_role("menuitem").filter(has=named).click()
        self.ui.page.keyboard.press("Escape")
        if weeks:
            box.fill(weeks)
            box.press("Enter")

    def add(self, tenant: str) -> None:
        """Make up a partition key and choose it."""
        self.dialog.get_by_text("Add a partition").click()
        asked = self.ui.page.get_by_role("dialog").filter(has_text="Partition name")
        asked.get_by_role("textbox").fill(tenant)
        asked.get_by_role("button", name="Save").click()
        expect(asked).to_have_count(0)

    def holds(self, partitions: int) -> None:
        """Wait until it says that it would make so many; a week that is not there would leave the former choice."""
        expect(self.dialog.get_by_text(f"{partitions} partition" + "s" * (partitions != 1), exact=True)).to_be_visible()

    def launch(self) -> str:
        """The run, or the backfill if there are several partitions."""
        return _launched(self.ui.page, self.dialog.get_by_role("button", name="Launch"))


@dataclass(frozen=True)
class Launchpad:
    """A job's config in YAML, ready to be changed and launched."""

    ui: DagsterUi
    editor: Locator

    def replace(self, word: str, by: str) -> None:
        """Double-click on the word and type. Returns when the config has been checked."""
        self.editor.get_by_text(word, exact=True).first.dblclick()
        with self.ui.page.expect_response(lambda response: _asked(response) == "PreviewConfigQuery"):
            self.ui.page.keyboard.insert_text(by)
        expect(self.editor.get_by_text(by, exact=True)).to_be_visible()

    def launch(self) -> str:
        return _launched(self.ui.page, self.ui.page.get_by_role("button", name="Launch Run"))


def _launched(page: Page, button: Locator) -> str:
    with page.expect_response(lambda response: _asked(response) in _LAUNCHES) as answer:
        button.click()
    told = answer.value.json()["data"]
    if "launchPartitionBackfill" in told:
        return str(told["launchPartitionBackfill"]["backfillId"])
    return str(told["launchPipelineExecution"]["run"]["id"])


def _asked(response: Response) -> str | None:
    """The name of the GraphQL operation that it answers."""
    request = response.request
    return request.post_data_json.get("operationName") if request.method == "POST" else None
