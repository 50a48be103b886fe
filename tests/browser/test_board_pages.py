"""The board in a real browser, as care staff and support use it: by keyboard, in both languages, day and night."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from board_bench import serving, token_of
from playwright.sync_api import Browser, Page, expect
from way_out import NOON, WayOut, ended, way_out

from partners.contract import Entity
from zest_pipelines.core.outcome import Outcome
from zest_pipelines.store import holds
from zest_pipelines.store.database import Database
from zest_pipelines.store.holds import Hold
from zest_pipelines.store.keys import Key
from zest_pipelines.store.results import Result

WINDOW = {"width": 1280, "height": 800}
ATTACK = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"


@pytest.fixture
def out(database: Database) -> WayOut:
    return way_out(database, partner="fhir")


def refused_among_others(out: WayOut, detail: str) -> Key:
    """The one record that wants something, among some that wait."""
    for _ in range(3):
        out.change(client=uuid4())
    key = out.change()
    asked = {"resourceType": "Appointment", "description": "‹note 6›", "start": "2026-11-02T12:00:00+09:00"}
    answer = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": "‹note 41›"}],
    }
    call = {"method": "POST", "path": "/fhir/Appointment", "asked": asked, "status": 422, "answer": answer}
    refused = ended(
        out.intend(key), Outcome.PARKED, "record_refused", params={"field": "note", "detail": detail}, calls=[call]
    )
    assert out.store(refused) == ()
    another = out.change(Key(key.month, Entity.VISIT, uuid4(), 1))
    out.store(Result(another, Outcome.RETRY, "partner_busy", not_before=datetime.now(UTC) + timedelta(minutes=3)))
    with out.transaction() as tx:
        until = datetime.now(UTC) + timedelta(minutes=5)
        holds.put(tx, out.target, Hold("partner_unreachable", {}, 3, NOON, until, datetime.now(UTC)))
    return key


@pytest.fixture
def parked(out: WayOut) -> Key:
    return refused_among_others(out, "invalid")


@pytest.fixture
def page(browser: Browser, database: Database) -> Iterator[Page]:
    """A fresh tab at the board."""
    with (
        serving(database) as url,
        browser.new_context(viewport=WINDOW, locale="ja-JP", timezone_id="Asia/Tokyo", base_url=url) as context,
    ):
        yield context.new_page()


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("ZEST_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def enter(page: Page, token: str) -> None:
    """By keyboard alone."""
    page.goto("/")
    page.get_by_label("閲覧用トークン").focus()
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("連携の状況")


def contrast(page: Page, selector: str) -> float:
    """The least contrast of the texts of `selector` with what is behind them (WCAG 2.2, 1.4.3)."""
    least: float = page.evaluate(
        """selector => {
            const light = colour => {
                const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(each => {
                    const c = each / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4 })
                return 0.2126 * r + 0.7152 * g + 0.0722 * b }
            const ground = element => {
                for (let at = element; at; at = at.parentElement) {
                    const colour = getComputedStyle(at).backgroundColor
                    if (!/, 0\\)$/.test(colour)) return colour }
                return 'rgb(255, 255, 255)' }
            return Math.min(...[...document.querySelectorAll(selector)].map(element => {
                const [a, b] = [light(getComputedStyle(element).color), light(ground(element))]
                return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) })) }""",
        selector,
    )
    return least


def test_care_staff_find_what_to_do_and_support_what_was_said(
    page: Page, out: WayOut, database: Database, parked: Key
) -> None:
    enter(page, token_of(database, out.tenant))
    expect(page.get_by_role("row").filter(has_text="対応が必要")).to_contain_text("直して保存してください")
    expect(page.get_by_text("自動で再試行中").first).to_be_visible()
    picture(page, "board")
    page.get_by_role("row").filter(has_text="対応が必要").get_by_role("link").click()
    page.get_by_role("link", name=str(parked.record_id)).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("訪問予定")
    expect(page.get_by_text("次にすること").first).to_be_visible()
    picture(page, "board-record")
    page.get_by_role("link", name="送受信の内容を見る").click()
    expect(page.get_by_text("‹note 41›")).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What was asked and answered")
    assert page.locator("html").get_attribute("lang") == "en"
    page.get_by_role("button", name="Close").click()
    page.goto("/")
    expect(page.get_by_label("閲覧用トークン")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_by_day_and_by_night(
    page: Page, out: WayOut, database: Database, parked: Key, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    enter(page, token_of(database, out.tenant))
    for path in ("/", f"/records/visit/{parked.record_id}", f"/records/visit/{parked.record_id}/calls"):
        page.goto(path)
        for selector in ("h1", "h2", "th", "td", "a", "button", ".badge", "p", "pre"):
            if page.locator(selector).count():
                assert contrast(page, selector) >= 4.5, (path, selector)
    if scheme == "dark":
        picture(page, "board-dark")
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # only tables are moved sideways


def test_what_a_partner_wrote_does_not_run(page: Page, out: WayOut, database: Database) -> None:
    said, parked = list[str](), refused_among_others(out, ATTACK)
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    enter(page, token_of(database, out.tenant))
    for path in ("/", f"/records/visit/{parked.record_id}", f"/?lang={ATTACK}"):
        page.goto(path)
        assert page.title() != "taken"
        assert page.locator("main img, main script").count() == 0
    assert said == []
