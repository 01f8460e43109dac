"""The portal's pages in Chromium: upload, rename and delete, with and without JavaScript.

Pictures of every page, wide and narrow, light and dark, are kept in $ECPDS_PICTURES if it is set.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright

from tests.peers.programs import find
from tests.protocol.https_site import Site, site

pytestmark = [pytest.mark.browser, pytest.mark.needs("chromium")]

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
WIDE, NARROW = 1280, 320


@asynccontextmanager
async def browsing(
    *, javascript: bool = True, width: int = WIDE, scheme: str = "light"
) -> AsyncIterator[tuple[BrowserContext, list[str]]]:
    """Give a browser without cookies, and what it complains about."""
    complaints: list[str] = []
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=find("chromium"), args=list(ARGUMENTS))
        context = await browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=javascript,
            ignore_https_errors=True,
        )
        context.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        context.on("weberror", lambda e: complaints.append(str(e.error)))
        try:
            yield context, complaints
        finally:
            await context.close()
            await browser.close()


async def log_in(page: Page, s: Site) -> None:
    """Come as a newcomer does: to the address of the node, without a path."""
    await page.goto(s.url + "/")
    await page.get_by_label("User name").fill("alice")
    await page.get_by_label("Password").fill("secret")
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("**/ecpds/file/")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_person_uploads_renames_and_deletes(tmp_path: Path, *, javascript: bool) -> None:
    async with site(tmp_path, tls=True) as s, browsing(javascript=javascript) as (context, wrong):
        page = await context.new_page()
        await log_in(page, s)
        await page.get_by_role("link", name="NORTH/").click()
        files = [tmp_path / name for name in ("a b.txt", "é.bin")]
        for file in files:
            file.write_bytes(b"content of " + file.name.encode())
        await page.get_by_label("Files to upload").set_input_files(files)
        await page.get_by_role("button", name="Upload", exact=True).click()
        await page.get_by_role("link", name="é.bin").wait_for()
        await until(lambda: len(s.gate.uploads) == 2)
        assert s.content("/NORTH/a b.txt") == b"content of a b.txt"
        await page.get_by_title("Details of this file").first.click()
        await page.get_by_label("New name").fill("renamed & <b>.txt")
        await page.get_by_role("button", name="Rename").click()
        await page.get_by_role("link", name="renamed & <b>.txt").wait_for()
        assert s.content("/NORTH/renamed & <b>.txt") == b"content of a b.txt"
        await page.get_by_title("Details of this file").last.click()
        await page.get_by_role("checkbox").check()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_text("Deleted.").wait_for()
        assert not s.has("/NORTH/é.bin") or not s.has("/NORTH/renamed & <b>.txt")
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url("**/ecpds/login")
        await page.goto(s.url + "/ecpds/file/NORTH/")
        assert "/ecpds/login?next=" in page.url
        assert wrong == []


async def test_a_browser_downloads(tmp_path: Path) -> None:
    async with site(tmp_path, tls=True) as s, browsing() as (context, wrong):
        s.put("/NORTH/é 1.bin", b"content" * 1000)
        page = await context.new_page()
        await log_in(page, s)
        await page.goto(s.url + "/ecpds/file/NORTH/")
        async with page.expect_download() as waiting:
            await page.get_by_role("link", name="é 1.bin").click()
        download = await waiting.value
        assert download.suggested_filename == "é 1.bin"
        assert Path(await download.path()).read_bytes() == b"content" * 1000
        assert wrong == []


async def test_a_refused_upload_is_told_beside_its_name(tmp_path: Path) -> None:
    async with site(tmp_path, tls=True) as s, browsing() as (context, wrong):
        s.gate.max_file_size = 10
        page = await context.new_page()
        await log_in(page, s)
        await page.goto(s.url + "/ecpds/file/NORTH/")
        name = "<img src=x onerror=alert(1)>.txt"
        file = tmp_path / name
        file.write_bytes(b"x" * 100)
        await page.get_by_label("Files to upload").set_input_files(file)
        await page.get_by_role("button", name="Upload", exact=True).click()
        await page.get_by_text("files may have 10 bytes here").wait_for()
        await page.get_by_text(name).wait_for()
        assert [text for text in wrong if "413" not in text] == []


async def test_hostile_names_do_nothing(tmp_path: Path) -> None:
    """No script runs, no style is applied, nothing is loaded from elsewhere."""
    async with site(tmp_path, tls=True) as s, browsing() as (context, wrong):
        for name in (
            "<img src=x onerror=document.title='evil'>",
            '"><svg onload=alert(1)>',
            "</td>",
        ):
            s.put(f"/NORTH/{name.replace('/', '')}", b"x")
        s.put("/NORTH/evil.html", b"<script>document.title='evil'</script>")
        page = await context.new_page()
        await log_in(page, s)
        for address in ("/ecpds/file/NORTH/", "/ecpds/file/NORTH/evil.html"):
            await page.goto(s.url + address)
            assert await page.title() != "evil"
            assert await page.locator("img").count() == 0
        assert [
            text for text in wrong if "sandbox" not in text and "Content Security" not in text
        ] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_every_page_fits(tmp_path: Path, scheme: str, width: int) -> None:
    """Nothing is wider than the window, in either colour scheme."""
    async with (
        site(tmp_path, tls=True) as s,
        browsing(width=width, scheme=scheme) as (context, _),
    ):
        for number in range(5):
            s.put(f"/NORTH/fields/2031050400_{number:03}_operational_forecast.grib2", b"x" * 5000)
        s.put(f"/NORTH/fields/{'a-very-long-name-' * 12}", b"x")
        page = await context.new_page()
        pages = {"login": "/ecpds/login"}
        await shot(page, s, pages, f"{scheme}-{width}")
        await log_in(page, s)
        details = "/ecpds/file/NORTH/fields/2031050400_000_operational_forecast.grib2?view=details"
        pages = {"root": "/ecpds/file/", "list": "/ecpds/file/NORTH/fields/", "details": details,
                 "error": "/ecpds/file/none"}  # fmt: skip
        await shot(page, s, pages, f"{scheme}-{width}")


async def shot(page: Page, s: Site, pages: dict[str, str], label: str) -> None:
    """Look at pages; keep their pictures when somebody wants them."""
    folder = os.environ.get("ECPDS_PICTURES")
    for name, address in pages.items():
        await page.goto(s.url + address)
        sizes = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert sizes[0] <= sizes[1], name
        if folder:
            await page.screenshot(path=f"{folder}/portal-{name}-{label}.png", full_page=True)
