"""The pages of the operations side, in Chromium: forms, many transfers at once, hosts, products.

Each page by mouse and keyboard, with and without a script, narrow and wide, light and dark.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from ecpds.base.clock import SystemClock
from tests.browser.test_dashboard import (
    NARROW,
    WIDE,
    Dashboard,
    check_page,
    dashboard,
    is_marked,
    keep,
    live,
    mark,
    row,
    until,
)

pytestmark = [pytest.mark.browser, pytest.mark.needs("chromium")]

REFUSED = re.compile(r"the server responded with a status of 4(12|22)")  # told by the browser too


@asynccontextmanager
async def operated(folder: Path) -> AsyncIterator[Dashboard]:
    """A dashboard in which forms may be refused."""
    async with dashboard(folder) as shown:
        yield shown
        shown.complaints[:] = [one for one in shown.complaints if not REFUSED.search(one)]


def ask(shown: Dashboard, method: str, path: str, document: Any = None) -> Any:
    """Ask the API with the bootstrap token."""
    token = (shown.daemon.data / "admin.token").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(
        f"{shown.url}/api/v2{path}",
        data=json.dumps(document).encode() if document is not None else None,
        method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        return json.loads(answer.read() or b"null")


async def asked(shown: Dashboard, method: str, path: str, document: Any = None) -> Any:
    return await asyncio.to_thread(ask, shown, method, path, document)


async def fed(shown: Dashboard, page: Page, number: int, size: int = 200) -> None:
    """Lay files where the site acquires from; return when NORTH has delivered them all."""
    for one in range(number):
        shown.feed(f"batch_{one:02}.grib2", size)

    async def all_there() -> bool:
        await page.goto(shown.url + "/transfers?dest=NORTH&status=done&limit=100")
        return await page.locator("tbody tr").count() == number

    await until(all_there, "the files are delivered")


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_destination_from_its_form_to_its_end(tmp_path: Path, *, javascript: bool) -> None:
    """Wrong fields are told beside themselves, all at once; then made, cloned, changed, deleted."""
    async with (
        operated(tmp_path) as shown,
        shown.context(java_script_enabled=javascript) as context,
    ):
        page = await shown.log_in(context, "edna")
        await page.goto(shown.url + "/destinations")
        await page.get_by_role("link", name="New destination").click()
        await page.get_by_label("Name", exact=True).fill("EAST")
        await page.get_by_label("Pause between rounds").fill("soon")
        await page.get_by_label("Parallel transfers").fill("many")
        await page.get_by_label("Options", exact=True).fill('scheduler.dely = "5m"')
        await page.get_by_role("button", name="Create").click()
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("2 things are not right; nothing was changed")
        await expect(page.locator("#f-retry_frequency-error")).to_contain_text("is no duration")
        await expect(page.get_by_label("Parallel transfers")).to_have_attribute(
            "aria-invalid", "true"
        )
        await alert.get_by_role("link", name="max connections").click()
        await page.get_by_label("Parallel transfers").fill("3")
        await page.get_by_label("Pause between rounds").fill("45s")
        await page.get_by_role("button", name="Create").click()
        await expect(page.locator("#f-options-error")).to_contain_text("scheduler.delay")
        await page.get_by_label("Options", exact=True).fill('scheduler.delay = "5m"')
        await page.get_by_label("Hosts 1").fill("slow")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_text("EAST was created.")).to_be_visible()
        await expect(page.get_by_text("at most 3", exact=True)).to_be_visible()
        await _stale(page, await context.new_page(), shown)
        await _parts(page, shown)
        await _carried(page, shown)
        await page.goto(shown.url + "/destinations/EAST/delete")
        await page.get_by_label("Type the name").fill("WEST")
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("alert")).to_contain_text("nothing was deleted")
        await page.get_by_label("Type the name").fill("EAST")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("EAST was deleted.")).to_be_visible()
        await expect(row(page, "EAST")).to_have_count(1)
        await expect(row(page, "EAST")).to_contain_text("EAST2")


async def _stale(page: Page, other: Page, shown: Dashboard) -> None:
    """Two people change the same: the second is told, and loses nothing."""
    await page.goto(shown.url + "/destinations/EAST/edit")
    await page.get_by_label("Comment").fill("mine")
    await other.goto(shown.url + "/destinations/EAST/edit")
    await other.get_by_label("Country").fill("no")
    await other.get_by_role("button", name="Save").click()
    await expect(other.get_by_text("EAST was changed.")).to_be_visible()
    await other.close()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("alert")).to_contain_text("Somebody changed EAST")
    await expect(page.get_by_role("alert")).to_contain_text("comment, country")
    await expect(page.get_by_label("Comment")).to_have_value("mine")
    await page.get_by_role("button", name="Save anyway").click()
    await expect(page.get_by_text("EAST was changed.")).to_be_visible()
    await page.get_by_role("link", name="Changes").click()
    await expect(page.locator(".changes")).to_contain_text("mine")
    await expect(page.locator(".changes li")).to_have_count(3)


async def _parts(page: Page, shown: Dashboard) -> None:
    """Hosts are moved, copies are made and refused."""
    await page.goto(shown.url + "/destinations/EAST/hosts")
    await page.get_by_label("Add a host").fill("refusing")
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.get_by_text("refusing was added")).to_be_visible()
    await page.get_by_role("button", name="Move refusing up").click()
    await expect(page.locator("tbody tr").first).to_contain_text("refusing")
    await page.get_by_role("button", name="Take refusing out").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("link", name="Aliases").click()
    add = page.locator("form", has=page.get_by_label("New copy to"))
    await add.get_by_label("New copy to").fill("NOWHERE")
    await add.get_by_role("button", name="Add").click()
    await expect(page.get_by_role("alert")).to_contain_text("there is no destination 'NOWHERE'")
    await add.get_by_label("New copy to").fill("PORTAL")
    await add.get_by_label("Rule").fill("pattern=.*\\.grib2")
    await add.get_by_role("button", name="Add").click()
    await expect(page.get_by_text("What comes is copied to PORTAL")).to_be_visible()
    await expect(page.locator("svg.graph text")).to_have_text(["EAST", "PORTAL"])
    await page.goto(shown.url + "/destinations/new?from=EAST")
    await page.get_by_label("Name", exact=True).fill("EAST2")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_text("EAST2 was created.")).to_be_visible()
    await page.goto(shown.url + "/destinations/PORTAL/aliases")
    await expect(row(page, "EAST2")).to_contain_text("grib2")


async def _carried(page: Page, shown: Dashboard) -> None:
    """What is exported can be brought in; first it is only told."""
    answer = await page.context.request.get(shown.url + "/destinations/EAST/export")
    document = await answer.json()
    assert [one["name"] for one in document["destinations"]] == ["EAST"]
    document["destinations"][0]["comment"] = "brought in"
    await page.goto(shown.url + "/destinations/import")
    await page.get_by_label("Document").fill(json.dumps(document))
    await page.get_by_role("button", name="Show what would change").click()
    await expect(row(page, "EAST")).to_contain_text("'mine' -> 'brought in'")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.get_by_text("1 objects were created or changed")).to_be_visible()
    await page.goto(shown.url + "/destinations/import")
    await page.get_by_label("Document").fill('{"web_users": []}')
    await page.get_by_role("button", name="Show what would change").click()
    await expect(page.get_by_role("alert")).to_contain_text("nothing else")


async def test_options_are_completed_by_keyboard(tmp_path: Path) -> None:
    """A few letters, arrow, Enter: the option stands there with its default."""
    async with operated(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context, "edna")
        await page.goto(shown.url + "/destinations/NORTH/edit")
        area = page.get_by_label("Options", exact=True)
        await area.focus()
        await page.keyboard.type("scheduler.forceSt")
        proposals = page.get_by_role("listbox", name="Options that fit")
        await expect(proposals.get_by_role("option")).to_have_count(1)
        await page.keyboard.press("ArrowDown")
        await expect(proposals.get_by_role("option")).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("Enter")
        await expect(area).to_have_value('scheduler.forceStop = "no"')
        await expect(page.locator(".about")).to_contain_text("yes/no, default no")
        await page.keyboard.type("yes")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("NORTH was changed.")).to_be_visible()
        await expect(page.locator("main")).to_contain_text('scheduler.forceStop = "yes"')


@pytest.mark.parametrize("javascript", [True, False])
async def test_many_transfers_at_once(tmp_path: Path, *, javascript: bool) -> None:
    """Ticked ones at once, all that was found after a question; the job tells how far it is."""
    async with (
        operated(tmp_path) as shown,
        shown.context(java_script_enabled=javascript) as context,
    ):
        page = await shown.log_in(context, "edna")
        await fed(shown, page, 6)
        await page.goto(shown.url + "/transfers?dest=NORTH&sort=target")
        await expect(page.locator("th.target a.file").first).to_have_text("batch_00.grib2")
        await page.get_by_role("button", name="Go").click()
        await expect(page).to_have_url(re.compile("/transfers"))  # the browser asks for the verb
        await page.locator("select[name=verb]").select_option("hold")
        await page.get_by_role("button", name="Go").click()
        await expect(page.get_by_role("alert")).to_contain_text("Tick the transfers first")
        boxes = page.locator("td.ticks input")
        await boxes.nth(0).check()
        await boxes.nth(1).check()
        if javascript:
            await expect(page.locator("[data-ticked]")).to_have_text("2 ticked")
        await page.locator("select[name=verb]").select_option("hold")
        await page.get_by_role("button", name="Go").click()
        await page.wait_for_url(re.compile(r"/jobs/\d+$"))
        await _ended(page, javascript)
        done = page.get_by_label("Figures").locator(".figure").first
        await expect(done).to_contain_text("2")
        await page.goto(shown.url + "/transfers?dest=NORTH&status=standby")
        await expect(page.locator("tbody tr")).to_have_count(2)
        await page.goto(shown.url + "/transfers?q=batch_0*&dest=NORTH")
        await page.get_by_label("all that the list finds").check()
        await page.locator("select[name=verb]").select_option("requeue")
        await page.get_by_role("button", name="Go").click()
        heading = page.get_by_role("heading", level=1)
        await expect(heading).to_contain_text("Requeue: 6 transfers?")
        await page.get_by_role("button", name="Requeue").click()
        await page.wait_for_url(re.compile(r"/jobs/\d+$"))
        await _ended(page, javascript)
        await page.get_by_role("link", name="Jobs").click()
        await expect(page.locator("tbody tr")).to_have_count(2)
        await expect(page.locator("tbody tr").first).to_contain_text("6 of 6")
        await _other_lists(page, shown)


async def _ended(page: Page, javascript: bool) -> None:
    if javascript:  # the page hears of it by itself
        await expect(page.locator(".head .state")).to_contain_text("Done")
        return

    async def is_done() -> bool:
        await page.reload()
        return "Done" in (await page.locator(".head .state").text_content() or "")

    await until(is_done, "the job ends")


async def _other_lists(page: Page, shown: Dashboard) -> None:
    await page.goto(shown.url + "/outstanding")
    assert page.url.endswith("/transfers/outstanding")
    await expect(row(page, "the login is refused").first).to_be_visible()
    await page.get_by_role("link", name="ISLANDS").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("at ISLANDS")
    await page.goto(shown.url + "/history?")
    await page.get_by_label("errors only").check()
    await page.get_by_role("button", name="Filter").click()
    await expect(row(page, "the login is refused").first).to_be_visible()
    await expect(row(page, "Done")).to_have_count(0)
    answer = await page.context.request.get(shown.url + "/transfers/history?format=csv")
    assert "batch" not in (await answer.text()).partition("\n")[0]
    assert "NORTH" in await answer.text()
    answer = await page.context.request.get(
        shown.url + "/transfers/history", params={"from": "yesterday"}
    )
    assert "neither a time" in await answer.text()


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_host_from_its_form_to_its_end(tmp_path: Path, *, javascript: bool) -> None:
    """Made for a destination, tested, looked into, tried with a rule and a script, deleted."""
    async with (
        operated(tmp_path) as shown,
        shown.context(java_script_enabled=javascript) as context,
    ):
        page = await shown.log_in(context, "edna")
        await page.goto(shown.url + "/destinations/PORTAL/hosts")
        await page.get_by_role("link", name="New host").click()
        await page.get_by_label("Nickname").fill("third")
        await page.get_by_role("button", name="Create").click()
        await expect(page.locator("#f-method-error")).to_be_visible()
        await page.get_by_label("Method").select_option("genericTest")
        await page.get_by_label("Address", exact=True).fill("third.example.org")
        await page.get_by_label("Password").fill("very secret")
        await page.get_by_label("Directory").fill("/in/$targt")
        await page.get_by_label("Options", exact=True).fill('test.delay = "1ms"')
        await page.get_by_role("button", name="Create").click()
        await expect(page.locator("#f-directory-error")).to_contain_text("unknown token $targt")
        await page.get_by_label("Directory").fill("/in/$dataTransfer[name]")
        await page.get_by_label("Password").fill("very secret")  # no page gives it back
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_text("third was created and added to PORTAL")).to_be_visible()
        await page.get_by_role("link", name="Test", exact=True).click()
        await page.get_by_role("button", name="Run the test").click()
        await expect(page.get_by_text("It works")).to_be_visible()
        await expect(row(page, "Log in")).to_contain_text("ok")
        await page.goto(shown.url + "/hosts/third/edit")
        assert "very secret" not in await page.content()
        await page.get_by_label("Parallel transfers").fill("0x")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#f-max_connections-error")).to_be_visible()
        await page.get_by_label("Parallel transfers").fill("7")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("third was changed.")).to_be_visible()
        await page.get_by_role("link", name="Changes").click()
        await expect(page.locator(".changes")).to_contain_text("max_connections")
        assert "very secret" not in await page.content()
        await _bench(page)
        await _console(page, shown)
        await page.goto(shown.url + "/hosts/third/delete")
        await page.get_by_label("Type the name").fill("third")
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("alert")).to_contain_text("is used by PORTAL")
        await page.goto(shown.url + "/destinations/PORTAL/hosts")
        await page.get_by_role("button", name="Take third out").click()
        await page.goto(shown.url + "/hosts/third/delete")
        await page.get_by_label("Type the name").fill("third")
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("third was deleted.")).to_be_visible()


async def _bench(page: Page) -> None:
    await page.get_by_role("link", name="Rules and scripts").click()
    rules = page.locator("form[action$='/script/rules']")
    await rules.get_by_label("Target").fill("model.grib2")
    await rules.get_by_role("button").click()
    await expect(page.locator("#answer")).to_contain_text("What the rules make of model.grib2")
    await expect(page.get_by_text("/in/model.grib2").first).to_be_visible()
    script = page.locator("form[action$='/script/run']")
    await script.get_by_label("Script", exact=True).fill("'<b>' + 6 * 7")
    await script.get_by_role("button").click()
    await expect(page.get_by_text("It ran")).to_be_visible()
    await expect(page.locator("pre").first).to_have_text("<b>42")
    script = page.locator("form[action$='/script/run']")
    await script.get_by_label("Script", exact=True).fill("nothing()")
    await script.get_by_role("button").click()
    await expect(page.get_by_text("It failed")).to_be_visible()


async def _console(page: Page, shown: Dashboard) -> None:
    await page.goto(shown.url + "/hosts/feed/console")
    await page.get_by_role("button", name="Run now").click()
    await expect(page.get_by_text("Discovery begins for NORTH")).to_be_visible()
    await page.get_by_label("the lines pasted below").check()
    await page.get_by_label("Pasted listing").fill(
        "-rw-r--r-- 1 ops ops 1000 Jan  1 10:00 model.grib2\n"
        "-rw-r--r-- 1 ops ops 1000 Jan  1 10:00 .hidden\n"
        "no listing line"
    )
    await page.get_by_role("button", name="Show what would be taken").click()
    await expect(row(page, "model.grib2")).to_contain_text("Taken")
    await expect(row(page, ".hidden")).to_contain_text("Wrong pattern")
    await expect(page.get_by_text("1 of 3 taken; nothing was stored")).to_be_visible()
    answer = await page.context.request.get(shown.url + "/transfers?q=model.grib2&format=json")
    assert (await answer.json())["items"] == []


async def test_products_tell_what_is_late_and_what_is_to_be_expected(tmp_path: Path) -> None:
    """A report changes the page by itself; a prediction says how many samples it has."""
    async with operated(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context)
        base = SystemClock().now().replace(microsecond=0) - timedelta(hours=3)
        late = {"schedule": (base + timedelta(hours=1)).isoformat(), "base": base.isoformat()}
        early = {"schedule": (base + timedelta(hours=9)).isoformat(), "base": base.isoformat()}
        expected = {"status": "expected"}
        await asked(shown, "PUT", "/products/wave/00/steps/0/fc", expected | late)
        await asked(shown, "PUT", "/products/wave/00/steps/6/fc", expected | early)
        await page.goto(shown.url + "/products")
        await expect(row(page, "00-wave")).to_contain_text("Missing")
        await expect(row(page, "00-wave").get_by_role("img")).to_have_attribute(
            "aria-label", "2 steps, 1 late"
        )
        await live(page)
        await mark(page)
        await asked(shown, "PUT", "/products/wave/00/steps/0/fc", {"status": "completed"})
        await expect(row(page, "00-wave")).to_contain_text("In time")
        assert await is_marked(page)
        await page.get_by_role("link", name="00-wave").click()
        await expect(page.locator("tbody tr").first).to_contain_text("1 sample, too few to judge")
        await page.get_by_role("link", name="0", exact=True).click()
        await expect(page.locator("tbody tr")).to_have_count(2)
        await page.goto(shown.url + "/")
        await expect(page.locator("[data-region=late]")).to_have_count(0)


async def test_metadata_is_a_form_of_the_fields_of_the_site(tmp_path: Path) -> None:
    async with operated(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context, "edna")
        contact = {"name": "duty", "label": "On duty", "type": "contact", "category": "People",
                   "max_occurrences": -1}  # fmt: skip
        await asked(shown, "POST", "/metadata/fields", contact)
        site = {"name": "home", "label": "Home page", "type": "url", "category": "People"}
        await asked(shown, "POST", "/metadata/fields", site)
        await page.goto(shown.url + "/destinations/NORTH/metadata")
        await page.get_by_label("Home page", exact=True).fill("ftp://x")
        await page.get_by_label("On duty 1").fill("name: Ola\nemail: ola@example.org")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert")).to_contain_text("a URL begins with https://")
        await expect(page.get_by_label("On duty 1")).to_have_value(
            "name: Ola\nemail: ola@example.org"
        )
        await page.get_by_label("Home page", exact=True).fill("https://example.org/")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("The metadata was stored.")).to_be_visible()
        found = await asked(shown, "GET", "/destinations/NORTH/metadata")
        assert found["metadata"]["People"] == {
            "duty": [{"name": "Ola", "email": "ola@example.org"}],
            "home": "https://example.org/",
        }


async def test_a_viewer_sees_pages_and_may_change_nothing(tmp_path: Path) -> None:
    """Forms are refused without the right, and what lies outside of the scope is not there."""
    async with operated(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context, "nora")
        for path in ("/destinations/NORTH/hosts", "/destinations/NORTH/aliases",
                     "/destinations/NORTH/changes", "/destinations/NORTH/metadata",
                     "/hosts/feed/console", "/transfers", "/transfers/outstanding"):  # fmt: skip
            await page.goto(shown.url + path)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert await page.locator("main form[method=post]").count() == 0, path
            if not path.endswith(("/aliases", "/changes")):  # whom NORTH copies to is its own
                await expect(page.locator("main")).not_to_contain_text("ISLANDS")
        csrf = await page.locator("[name=csrf]").first.get_attribute("value") or ""
        for path in ("/destinations/NORTH/edit", "/destinations/NORTH/delete", "/hosts/feed/edit",
                     "/destinations/NORTH/hosts/up", "/destinations/new", "/hosts/new",
                     "/transfers/bulk", "/hosts/feed/console",
                     "/destinations/import"):  # fmt: skip
            answer = await context.request.post(shown.url + path, form={"csrf": csrf})
            assert answer.status == 403, path
        for path in ("/destinations/ISLANDS/hosts", "/hosts/refusing/test", "/jobs/1"):
            assert (await context.request.get(shown.url + path)).status == 404
    await _replayed(tmp_path / "again")


async def _replayed(folder: Path) -> None:
    """A form that another session made changes nothing, whoever sends it."""
    folder.mkdir()
    async with operated(folder) as shown, shown.context() as context:
        await shown.log_in(context, "edna")
        for path in ("/destinations/NORTH/edit", "/hosts/feed/delete", "/transfers/bulk"):
            answer = await context.request.post(shown.url + path, form={"csrf": "replayed"})
            assert answer.status == 403, path


async def test_the_day_of_an_operator(tmp_path: Path) -> None:
    """What fails, why, the host mended and tested, sent again, watched, and a note left."""
    async with operated(tmp_path) as shown, shown.context() as context:
        page = await shown.log_in(context, "edna")
        shown.feed("obs.bufr", 1000)
        attention = page.locator("[data-region=attention]")
        await attention.get_by_role("link", name="the login is refused").click()
        await expect(page.locator("[data-region=why]")).to_contain_text("refusing is not used")
        await page.locator("[data-region=why]").get_by_role("link", name="refusing").first.click()
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Options", exact=True).fill('test.delay = "1ms"')
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Test").click()
        await expect(page.get_by_text("It works")).to_be_visible()
        await page.goto(shown.url + "/transfers/outstanding")
        await page.get_by_label("all that the list finds").check()
        await page.locator("select[name=verb]").select_option("schedule_now")
        await page.get_by_role("button", name="Go").click()
        await page.get_by_role("button", name="Schedule now").click()
        await expect(page.locator(".head .state")).to_contain_text("Done")
        await page.goto(shown.url + "/transfers?dest=ISLANDS")
        await live(page)
        await mark(page)
        await expect(row(page, "obs.bufr")).to_contain_text("Done")
        await page.goto(shown.url + "/")
        await expect(attention).to_contain_text("Nothing.")
        await page.goto(shown.url + "/destinations/ISLANDS")
        await page.get_by_text("Hold for a while").click()
        await page.get_by_label("Until").fill("2h")
        await page.get_by_label("Reason").fill("tested by hand today")
        await page.get_by_role("button", name="Hold", exact=True).click()
        await expect(page.get_by_text("ISLANDS is held until")).to_be_visible()
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_text("ISLANDS was started")).to_be_visible()


PAGES = {
    "destination-new": "/destinations/new",
    "destination-edit": "/destinations/NORTH/edit",
    "destination-hosts": "/destinations/NORTH/hosts",
    "destination-aliases": "/destinations/NORTH/aliases",
    "destination-users": "/destinations/NORTH/users",
    "destination-rates": "/destinations/NORTH/rates",
    "destination-changes": "/destinations/NORTH/changes",
    "destination-metadata": "/destinations/NORTH/metadata",
    "destination-delete": "/destinations/NORTH/delete",
    "destination-import": "/destinations/import",
    "options": "/options?scope=host",
    "transfers": "/transfers",
    "outstanding": "/transfers/outstanding",
    "history": "/transfers/history",
    "jobs": "/jobs",
    "job": "/jobs/1",
    "groups": "/groups",
    "group": "/groups/GROUP",
    "host-new": "/hosts/new",
    "host-edit": "/hosts/feed/edit",
    "host-test": "/hosts/slow/test",
    "host-console": "/hosts/feed/console",
    "host-script": "/hosts/slow/script",
    "host-network": "/hosts/slow/network",
    "host-map": "/hosts?view=map",
    "host-changes": "/hosts/slow/changes",
    "products": "/products",
    "product": "/products/wave/00",
    "product-step": "/products/wave/00/0/fc",
    "statistics": "/stats/rates",
    "statistics-hosts": "/stats/hosts",
    "statistics-portal": "/stats/portal",
    "storage": "/storage",
    "overview": "/",
}


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "dark"), (WIDE, "light"), (WIDE, "dark")])
async def test_every_page_fits_and_can_be_used(tmp_path: Path, width: int, scheme: str) -> None:
    """No page scrolls sideways; controls can be hit; tables have captions; fields have labels."""
    async with (
        operated(tmp_path) as shown,
        shown.context(viewport={"width": width, "height": 640}, color_scheme=scheme) as context,
    ):
        page = await shown.log_in(context, "edna")
        await fed(shown, page, 3)
        late = {"status": "expected", "schedule": "2020-01-01T00:00:00Z"}
        await asked(shown, "PUT", "/products/wave/00/steps/0/fc", late)
        await asked(shown, "POST", "/transfers/actions/hold", {"ids": [1]})
        group = (await asked(shown, "GET", "/groups"))["items"][0]["name"]
        for name, path in PAGES.items():
            await page.goto(shown.url + path.replace("GROUP", group))
            await expect(page.get_by_role("heading", level=1)).to_have_count(1)
            await check_page(page, name)
            bare = await page.evaluate(
                """[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
                    .filter(one => !one.labels.length && !one.ariaLabel).map(one => one.name)"""
            )
            assert bare == [], f"{name} has fields without a label"
            await keep(page, f"{name}-{width}-{scheme}")
