"""The dashboard of a whole daemon in Chromium: by keyboard, live, without a script, on a phone.

Pictures of every page, wide and narrow, light and dark, are kept in $ECPDS_PICTURES if it is set.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from tests.daemon import DaemonProcess
from tests.peers.programs import find

pytestmark = [pytest.mark.browser, pytest.mark.needs("chromium")]

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
WIDE, NARROW = 1280, 320
LEAST_TARGET = 24  # CSS pixels of a control, WCAG 2.2 AA
ODD_NAME = 'a <b>bold<b> & "q" \u202egpj.bin'
LIMIT = 20_000  # ms for what a loaded machine does slowly

expect.set_options(timeout=LIMIT)


@dataclass
class Dashboard:
    """A daemon with a small site, and a browser in front of it."""

    daemon: DaemonProcess
    browser: Browser
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)  # addresses that are not ours

    @property
    def url(self) -> str:
        return self.daemon.endpoints["monitor"]

    @asynccontextmanager
    async def context(self, **options: Any) -> AsyncIterator[BrowserContext]:
        given: dict[str, Any] = {"viewport": {"width": WIDE, "height": 800}}
        context = await self.browser.new_context(ignore_https_errors=True, **(given | options))
        context.set_default_timeout(LIMIT)
        context.on(
            "console",
            lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None,
        )
        context.on("weberror", lambda e: self.complaints.append(str(e.error)))
        context.on("request", lambda r: self._seen(r.url))
        try:
            yield context
        finally:
            await context.close()

    def _seen(self, address: str) -> None:
        if urlsplit(address).netloc != urlsplit(self.url).netloc:
            self.strangers.append(address)

    async def log_in(self, context: BrowserContext, name: str = "olga") -> Page:
        page = await context.new_page()
        await page.goto(self.url + "/login")
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("Password").fill(f"{name} secret")
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(self.url + "/")
        return page

    def feed(self, name: str, size: int) -> None:
        """Lay a file where the site acquires from."""
        folder = self.daemon.data / "feeds" / "in"
        hidden = folder / f".{len(list(folder.iterdir()))}.part"
        hidden.write_bytes(os.urandom(size))
        hidden.rename(folder / name)


def site(data: Path) -> dict[str, Any]:
    """A feed, a slow remote place, one that refuses us, and one without a host."""
    quick = {"test.delay": "1ms", "test.errorsFrequency": "0"}
    grants = {"olga": "operator", "edna": "editor"}
    return {
        "hosts": [
            {"name": "feed", "role": "acquisition", "method": "genericFile",
             "directory": f"{data}/feeds/in/{{[^.].*}}", "acquisition_frequency": "1s"},
            {"name": "slow", "method": "genericTest", "host": "slow.example.org",
             "latitude": 64.1, "longitude": -21.9,
             "password": "hidden", "max_connections": 4,
             "options": {**quick, "test.bytesPerSec": "200KB"}},
            {"name": "refusing", "method": "genericTest", "host": "no.example.org",
             "options": {**quick, "test.fault": "auth"}},
        ],
        "destinations": [
            {"name": "NORTH", "acquisition": True, "max_connections": 4,
             "comment": "Northern <i>centre</i>", "hosts": ["feed", "slow"],
             "aliases": [{"to": "ISLANDS"}]},
            {"name": "ISLANDS", "hosts": ["refusing"]},
            {"name": "PORTAL", "hosts": []},
        ],
        "web_users": [
            {"name": name, "password": f"{name} secret", "roles": [{"role": role}]}
            for name, role in grants.items()
        ] + [
            {"name": "nora", "password": "nora secret",
             "roles": [{"role": "viewer", "scope": "NORTH"}]},
        ],
    }  # fmt: skip


@asynccontextmanager
async def dashboard(folder: Path) -> AsyncIterator[Dashboard]:
    """Start daemon and browser; afterwards nothing may have been complained about."""
    daemon = DaemonProcess(folder)
    (daemon.data / "feeds" / "in").mkdir(parents=True)
    await daemon.start()
    try:
        await daemon.apply(site(daemon.data))
        async with async_playwright() as play:
            browser = await play.chromium.launch(
                executable_path=find("chromium"), args=list(ARGUMENTS)
            )
            try:
                shown = Dashboard(daemon, browser)
                yield shown
                assert shown.complaints == []
                assert shown.strangers == []
            finally:
                await browser.close()
    finally:
        await daemon.stop()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return once the condition holds."""
    try:
        async with asyncio.timeout(LIMIT / 1000):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"never: {what}")


async def mark(page: Page) -> None:
    """Leave a trace that a new load of the page would remove."""
    await page.evaluate("window.marked = true")


async def is_marked(page: Page) -> bool:
    return bool(await page.evaluate("window.marked === true"))


async def live(page: Page) -> None:
    """Return once the page hears of changes."""
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


# --- tests --------------------------------------------------------------------------------------


async def test_an_operator_logs_in_by_keyboard(tmp_path: Path) -> None:
    """Every step without a mouse: form, skip link, menu, logout; and back to the page asked for."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await context.new_page()
        await page.goto(shown.url + "/destinations?q=NOR")
        assert urlsplit(page.url).path == "/login"
        await page.keyboard.type("olga")
        await page.keyboard.press("Tab")
        await page.keyboard.type("olga secret")
        await page.keyboard.press("Enter")
        await page.wait_for_url(shown.url + "/destinations?q=NOR")
        await expect(row(page, "NORTH")).to_be_visible()
        await expect(row(page, "ISLANDS")).to_have_count(0)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.get_by_role("link", name="Hosts").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url(shown.url + "/hosts")
        await page.get_by_title("Log out olga").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url(shown.url + "/login")
        await page.goto(shown.url + "/")
        assert urlsplit(page.url).path == "/login"


async def test_rows_change_without_a_reload(tmp_path: Path) -> None:
    """A file comes, is sent byte by byte and is done, on one and the same page."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context)
        await page.goto(shown.url + "/destinations/NORTH")
        await live(page)
        await mark(page)
        shown.feed("model.grib2", 1_500_000)
        running = page.locator("#running").locator("xpath=ancestor::section")
        bar = running.get_by_role("progressbar")
        await expect(bar).to_be_visible()
        seen: set[str] = set()

        async def moves() -> bool:
            if await bar.count():
                seen.add(str(await bar.first.evaluate("bar => bar.value")))
            return len(seen) >= 3

        await until(moves, "three different levels of the bar")
        latest = page.locator("#latest").locator("xpath=ancestor::section")
        await expect(latest.get_by_role("row").filter(has_text="model.grib2")).to_contain_text(
            "Done"
        )
        await expect(running).to_contain_text("Nothing is being sent")
        await expect(page.get_by_label("Figures")).to_contain_text("1 files")
        assert await is_marked(page)


async def test_the_overview_names_what_needs_somebody(tmp_path: Path) -> None:
    """A login that is refused comes to the first page by itself, with its reason."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context)
        await live(page)
        await expect(page.locator("[data-region=attention]")).to_contain_text("Nothing.")
        await mark(page)
        shown.feed("obs.bufr", 1000)
        attention = page.locator("[data-region=attention]")
        islands = attention.locator("[data-live='dest:ISLANDS']")
        await expect(islands).to_contain_text("the login is refused")
        await expect(attention.locator("[data-live='host:refusing']")).to_contain_text("Paused")
        await expect(page.locator("[data-region=errors]")).to_contain_text("obs.bufr")
        assert await is_marked(page)
        await islands.get_by_role("link", name="the login is refused").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("obs.bufr")
        await expect(page.locator("[data-region=why]")).to_contain_text("refusing is not used")


@pytest.mark.parametrize("javascript", [True, False])
async def test_actions_do_what_they_say(tmp_path: Path, *, javascript: bool) -> None:
    """Hold, release, priority, delete; stop and start; digest, test and discovery."""
    async with (
        dashboard(tmp_path) as shown,
        shown.context(java_script_enabled=javascript) as context,
    ):
        page = await shown.log_in(context, "edna")
        await page.goto(shown.url + "/destinations/NORTH")
        await page.get_by_role("button", name="Stop", exact=True).click()
        await expect(page.get_by_text("NORTH was stopped")).to_be_visible()
        await expect(page.locator(".head .state")).to_contain_text("Stopped")
        await page.goto(shown.url + "/destinations/ISLANDS")
        await page.get_by_role("button", name="Stop now").click()
        await page.goto(shown.url + "/destinations/NORTH")
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_text("NORTH was started")).to_be_visible()
        shown.feed("long.grib2", 4_000_000)

        async def is_sent() -> bool:
            await page.goto(shown.url + "/transfers?dest=NORTH&status=transferring")
            return await row(page, "long.grib2").count() > 0

        await until(is_sent, "the transfer runs")
        await page.get_by_role("link", name="long.grib2").click()
        await page.get_by_role("button", name="Hold").click()
        await expect(page.locator(".head .state")).to_contain_text("StandBy")
        await page.get_by_label("Priority, 0 first").fill("7")
        await page.get_by_role("button", name="Set priority").click()
        await expect(page.get_by_text("Priority 7 now.")).to_be_visible()
        await page.get_by_role("button", name="Extend").click()
        await expect(page.get_by_text("Expires at")).to_be_visible()
        await page.get_by_role("button", name="Release").click()
        await expect(page.get_by_text("Released.", exact=True)).to_be_visible()
        history = page.locator("#history").locator("xpath=ancestor::section")
        await expect(history).to_contain_text("by edna")
        await page.get_by_role("link", name="Delete").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Delete this transfer?")
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_text(re.compile(r"Transfer \d+ was deleted"))).to_be_visible()
        await expect(row(page, "long.grib2")).to_have_count(0)
        await _files_and_hosts(page, shown)


async def _files_and_hosts(page: Page, shown: Dashboard) -> None:
    await page.goto(shown.url + "/files")
    await page.get_by_role("link", name="long.grib2").click()
    await page.get_by_role("button", name="sha256").click()
    digests = page.locator("#digests").locator("xpath=ancestor::section")
    await expect(digests.locator("code", has_text=re.compile("^[0-9a-f]{64}$"))).to_be_visible()
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="Download").click()
    assert Path(await (await waiting.value).path()).stat().st_size == 4_000_000
    await page.goto(shown.url + "/hosts/refusing")
    await page.get_by_role("button", name="Test").click()
    await expect(page.get_by_role("heading", name="Test of refusing")).to_be_visible()
    await expect(page.get_by_text("It does not work")).to_be_visible()
    await expect(page.get_by_text("Log in", exact=True).first).to_be_visible()
    await page.goto(shown.url + "/hosts/feed")
    await page.get_by_role("button", name="List now").click()
    await expect(page.get_by_text("Discovery begins for NORTH")).to_be_visible()


async def test_an_action_that_is_not_possible_tells_why(tmp_path: Path) -> None:
    """A form from before the transfer was done gives a sentence, not an error page."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context)
        shown.feed("short.csv", 100)

        async def is_done() -> bool:
            await page.goto(shown.url + "/transfers?dest=NORTH&status=done")
            return await row(page, "short.csv").count() > 0

        await until(is_done, "the transfer is done")
        await page.get_by_role("link", name="short.csv").click()
        assert await page.get_by_role("button", name="Stop").count() == 0
        assert await page.get_by_role("link", name="Delete").count() == 0  # operators may not
        requeue = page.locator("form[action$='/actions/requeue']")
        await requeue.evaluate(
            "form => { form.action = form.action.replace('requeue', 'stop'); form.requestSubmit() }"
        )
        await expect(page.get_by_role("alert")).to_contain_text("the transfer is done")
        await page.reload()
        await expect(page.get_by_role("alert")).to_have_count(0)


async def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Markup in a name is shown, an override of the writing direction is made visible."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context)
        shown.feed(ODD_NAME, 100)

        async def is_there() -> bool:
            await page.goto(shown.url + "/transfers?q=bold")
            return await page.locator("tbody tr").count() > 0

        await until(is_there, "the file is acquired")
        link = page.locator("th.target a.file").first
        await expect(link).to_contain_text('a <b>bold<b> & "q" U+202Egpj.bin')
        assert await page.locator("main b").count() == 0
        await link.click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("<b>bold<b>")
        answer = await context.request.get(
            shown.url + "/transfers?q=bold", headers={"Accept": "text/csv"}
        )
        assert "text/csv" in answer.headers["content-type"]
        assert ODD_NAME.replace('"', '""') in await answer.text()


async def test_lists_are_pages_csv_or_json_by_accept(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as shown, shown.context() as context:
        await shown.log_in(context)
        for path in ("/destinations", "/transfers", "/hosts", "/files"):
            for accept in ("text/csv", "application/json", "text/html"):
                answer = await context.request.get(shown.url + path, headers={"Accept": accept})
                assert answer.status == 200
                assert answer.headers["content-type"].startswith(accept)
        answer = await context.request.get(shown.url + "/hosts?format=json")
        text = await answer.text()
        assert "slow.example.org" in text
        assert "hidden" not in text
        answer = await context.request.get(shown.url + "/transfers?q=colour%3Dred")
        assert "there is no key" in await answer.text()


async def test_a_scope_hides_what_is_outside(tmp_path: Path) -> None:
    """A viewer of one destination sees that one, and no button."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context, "nora")
        shown.feed("both.csv", 100)

        async def is_there() -> bool:
            await page.goto(shown.url + "/transfers")
            return await row(page, "both.csv").count() > 0

        await until(is_there, "the file is acquired")
        await expect(row(page, "both.csv")).to_have_count(1)
        for path in ("/", "/destinations", "/transfers?dest=ISLANDS", "/hosts", "/files"):
            await page.goto(shown.url + path)
            await expect(page.locator("main")).not_to_contain_text("ISLANDS")
            await expect(page.locator("main")).not_to_contain_text("refusing")
        await page.goto(shown.url + "/destinations/NORTH")
        assert await page.locator("main").get_by_role("button").count() == 0
        for path in ("/destinations/ISLANDS", "/hosts/refusing", "/transfers/2"):
            assert (await context.request.get(shown.url + path)).status == 404
        csrf = await page.locator("[name=csrf]").first.get_attribute("value") or ""
        for path in ("/destinations/NORTH/actions/stop", "/transfers/1/actions/requeue"):
            answer = await context.request.post(shown.url + path, form={"csrf": csrf})
            assert answer.status == 403
        answer = await context.request.post(shown.url + "/logout", form={"csrf": "wrong"})
        assert answer.status == 403


async def test_colours_are_remembered_with_and_without_a_script(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as shown:
        for javascript in (True, False):
            async with shown.context(java_script_enabled=javascript) as context:
                page = await shown.log_in(context)
                await page.goto(shown.url + "/hosts?role=acquisition")
                await page.get_by_role("button", name="Dark colours").click()
                await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
                await page.goto(shown.url + "/files")
                await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
                await page.get_by_role("button", name="Light colours").click()
                await expect(page.locator("html")).to_have_attribute("data-theme", "light")


async def test_the_live_view_can_be_paused(tmp_path: Path) -> None:
    """Nothing moves while somebody reads; what was missed is there afterwards."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context)
        await page.goto(shown.url + "/transfers?dest=NORTH")
        await live(page)
        button = page.locator("#live")
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "false")
        other = await context.new_page()
        shown.feed("late.csv", 100)

        async def is_there() -> bool:
            await other.goto(shown.url + "/transfers?dest=NORTH")
            return await row(other, "late.csv").count() > 0

        await until(is_there, "the file is acquired")
        assert await row(page, "late.csv").count() == 0
        await page.bring_to_front()
        await button.click()
        await expect(row(page, "late.csv")).to_be_visible()
        await live(page)


PAGES = {
    "overview": "/",
    "destinations": "/destinations",
    "destination": "/destinations/NORTH",
    "transfers": "/transfers",
    "hosts": "/hosts",
    "host": "/hosts/feed",
    "files": "/files",
    "file": "/files/1",
    "transfer": "/transfers/1",
    "storage": "/storage",
}


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "light"), (NARROW, "dark"), (WIDE, "dark")])
async def test_every_page_fits_and_can_be_used(tmp_path: Path, width: int, scheme: str) -> None:
    """No page scrolls sideways; controls can be hit; tables have captions; headings are there."""
    async with (
        dashboard(tmp_path) as shown,
        shown.context(viewport={"width": width, "height": 640}, color_scheme=scheme) as context,
    ):
        page = await shown.log_in(context, "edna")
        shown.feed("x" * 200 + ".grib2", 3_000_000)
        shown.feed(ODD_NAME, 100)

        async def both_there() -> bool:
            await page.goto(shown.url + "/transfers")
            return await page.locator("tbody tr").count() >= 4

        await until(both_there, "the files are acquired")
        for name, path in PAGES.items():
            await page.goto(shown.url + path)
            await expect(page.get_by_role("heading", level=1)).to_have_count(1)
            await check_page(page, name)
            await keep(page, f"{name}-{width}-{scheme}")


async def check_page(page: Page, name: str) -> None:
    wide = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0, f"{name} scrolls sideways by {wide} px"
    small = await page.evaluate(
        """least => [...document.querySelectorAll(
            'button, input:not([type=hidden], [type=checkbox]), select, .menu a, summary')]
            .map(one => [one.outerHTML.slice(0, 100), one.getBoundingClientRect()])
            .filter(([_, box]) => box.height && (box.height < least || box.width < least))
            .map(([text]) => text)""",
        LEAST_TARGET,
    )
    assert small == [], f"{name} has controls that are too small"
    bare = await page.evaluate(
        "[...document.querySelectorAll('table')].filter(one => !one.caption).length"
    )
    assert bare == 0, f"{name} has a table without a caption"
    inline = await page.locator("[style], script:not([src]), style, [onclick]").count()
    assert inline == 0, f"{name} has inline styles or scripts"


async def keep(page: Page, name: str) -> None:
    folder = os.environ.get("ECPDS_PICTURES")
    if folder:
        await page.screenshot(path=Path(folder) / f"dashboard-{name}.png", full_page=True)
