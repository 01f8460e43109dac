"""Accounts, notifications, events, incidents and the system of a whole daemon in Chromium.

By mouse and by keyboard, with and without a script, on a phone, in both colours; axe-core finds
nothing serious.  Pictures are kept in $ECPDS_PICTURES if it is set.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from ecpds.base.clock import SystemClock
from ecpds.base.totp import STEP, code_of
from ecpds.model.secret import Secret
from tests.browser.test_dashboard import NARROW, WIDE, Dashboard, dashboard, keep, row, until

pytestmark = [pytest.mark.browser, pytest.mark.needs("chromium")]

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PASSWORD = "olga secret, long"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeKeyForTheTest alice"
PAGES = {
    "users": "/portal/users",
    "user": "/portal/users/alice",
    "user-new": "/portal/users/new",
    "user-edit": "/portal/users/alice/edit",
    "policies": "/portal/policies",
    "policy": "/portal/policies/public",
    "policy-edit": "/portal/policies/public/edit",
    "sessions": "/portal/sessions",
    "subscribers": "/portal/subscribers",
    "bans": "/portal/bans",
    "portal-history": "/portal/history",
    "notify": "/notify",
    "notify-clients": "/notify/clients",
    "notify-retained": "/notify/retained",
    "notify-try": "/notify/try?transfer=1",
    "incidents": "/incidents",
    "incident": "/incidents/1",
    "events": "/events",
    "audit": "/audit",
    "web-users": "/system/web-users",
    "web-user": "/system/web-users/olga/edit",
    "roles": "/system/roles",
    "tokens": "/system/tokens",
    "certificates": "/system/certificates",
    "mail": "/system/mail",
    "tasks": "/system/tasks",
    "config": "/system/config",
    "overview": "/",
    "host-map": "/hosts?view=map",
    "host-network": "/hosts/slow/network",
    "statistics-portal": "/stats/portal",
}


def more(data: Path) -> dict[str, Any]:
    """A policy, a portal user, one for self-service, and an administrator."""
    del data
    return {
        "policies": [{"name": "public", "comment": "for all", "destinations": ["NORTH"],
                      "operations": ["dir", "get"]}],
        "data_users": [
            {"login": "alice", "password": "alice secret", "comment": "Alice <i>A.</i>",
             "destinations": ["PORTAL"], "policies": ["public"], "operations": ["dir", "put"],
             "ssh_keys": [SSH]},
            {"login": "open-door", "service": "self-service", "destinations": ["NORTH"],
             "operations": ["dir", "get"]},
        ],
        "web_users": [{"name": "anna", "password": "anna secret", "roles": [{"role": "admin"}]}],
    }  # fmt: skip


async def opened(shown: Dashboard, context: Any) -> Page:
    """Apply the accounts and log the administrator in."""
    await shown.daemon.apply(more(shown.daemon.data))
    return await shown.log_in(context, "anna")


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_portal_user_from_the_form_to_its_keys(tmp_path: Path, *, javascript: bool) -> None:
    """Create, see the secret once, edit, key pair, one-time code, subscriber, delete."""
    async with (
        dashboard(tmp_path) as shown,
        shown.context(java_script_enabled=javascript) as context,
    ):
        page = await opened(shown, context)
        await page.goto(shown.url + "/portal/users")
        await page.get_by_role("link", name="New user").click()
        await page.get_by_label("Login").fill("bob")
        await page.get_by_label("Password").fill("short")
        await page.get_by_label("Destinations 1").fill("NORTH")
        await page.get_by_label("Public keys").fill(SSH)
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_role("alert")).to_contain_text("at least 12 characters")
        assert await page.get_by_label("Login").input_value() == "bob"
        await page.get_by_label("Password").fill("long enough for bob")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_text("bob was created.")).to_be_visible()
        await page.get_by_role("button", name="New password").click()
        await expect(page.locator("[data-secret='New password']")).to_have_text(
            re.compile("^[A-Za-z0-9]{20}$")
        )
        await page.get_by_label("Prefix").fill("NORTH/in")
        await page.get_by_role("button", name="New key pair").click()
        secret = await page.locator("[data-secret='Secret key']").inner_text()
        await page.goto(shown.url + "/portal/users/bob")
        await expect(page.locator("main")).to_contain_text("NORTH/in")
        assert secret not in await page.content()
        await page.get_by_role("button", name="Set up").click()
        await _enter_code(page)
        await expect(page.get_by_text("A one-time code is needed")).to_be_visible()
        await page.get_by_role("link", name="Delete").click()
        await page.get_by_label("Type the name to confirm").fill("bobby")
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("alert")).to_contain_text("nothing was deleted")
        await page.get_by_label("Type the name to confirm").fill("bob")
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("bob was deleted.")).to_be_visible()
        await page.goto(shown.url + "/portal/users/open-door")
        await page.locator("[name=name]").fill("Sue S.")
        await page.locator("[name=email]").fill("sue@example.org")
        await page.get_by_role("button", name="Add subscriber").click()
        await expect(page.locator("[data-secret='Password']")).to_be_visible()
        await page.goto(shown.url + "/portal/subscribers")
        await expect(row(page, "sue@example.org")).to_contain_text("Active")
        await page.goto(shown.url + "/audit?kind=user&name=bob")
        await expect(page.locator("tbody")).to_contain_text("***")
        await expect(page.locator("tbody")).not_to_contain_text("long enough")
        forget_refusals(shown)


async def _enter_code(page: Page) -> None:
    secret = await page.locator("[data-secret='TOTP secret']").inner_text()
    now = int(SystemClock().now().timestamp())
    await page.get_by_label("Present code").fill(code_of(Secret(secret), now // STEP))
    await page.get_by_role("button", name="Confirm").click()


async def test_an_incident_comes_is_looked_after_and_goes(tmp_path: Path) -> None:
    """The refusing host opens one by itself; acknowledged by keyboard, noted, muted, over."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await opened(shown, context)
        await page.goto(shown.url + "/incidents")
        await expect(page.locator("main")).to_contain_text("Nothing is wrong")
        shown.feed("obs.bufr", 1000)
        incident = row(page, "Host is not used")
        await expect(incident).to_contain_text("the login is refused")
        button = incident.get_by_role("button", name="Acknowledge")
        await button.focus()
        await page.keyboard.press("Enter")
        await expect(row(page, "Host is not used")).to_contain_text("anna")
        await page.get_by_role("link", name="Host is not used").click()
        await page.get_by_label("What others should know").fill("called <b>them</b>")
        await page.get_by_role("button", name="Store the note").click()
        await expect(page.get_by_text("The note was stored.")).to_be_visible()
        await page.get_by_label("Quiet for").fill("a while")
        await page.get_by_role("button", name="Mute").click()
        await expect(page.get_by_role("alert")).to_contain_text("no length of time")
        await page.get_by_label("Quiet for").fill("2h")
        await page.get_by_role("button", name="Mute").click()
        await expect(page.get_by_text("Quiet until").first).to_be_visible()
        await page.goto(shown.url + "/incidents")
        await expect(page.locator("[data-region=quiet]")).to_contain_text("called <b>them</b>")
        change = {"hosts": [{"name": "refusing", "method": "genericTest", "active": False}]}
        await shown.daemon.apply(change)
        await expect(page.locator("[data-region=quiet]")).not_to_contain_text("Host is not used")
        await page.get_by_role("link", name="Over", exact=True).click()
        await expect(row(page, "Host is not used")).to_contain_text("Over")


async def test_web_users_tokens_and_the_certificate(tmp_path: Path) -> None:
    """An operator with a one-time code logs in; a token is shown once; a certificate is renewed."""
    async with dashboard(tmp_path) as shown, shown.context() as context:
        page = await opened(shown, context)
        await page.goto(shown.url + "/system")
        await page.get_by_role("link", name="New web user").click()
        await page.get_by_label("Name").fill("oscar")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_label("Role 1").select_option("operator")
        await page.get_by_role("button", name="Create").click()
        await row(page, "oscar").get_by_role("link").click()
        await page.get_by_role("button", name="Set up one-time code").click()
        secret = await page.locator("[data-secret='TOTP secret']").inner_text()
        await _enter_code(page)
        await expect(row(page, "oscar")).to_contain_text("one-time code")
        await _log_in_with_code(shown, secret)
        await page.get_by_role("link", name="Tokens").click()
        await page.get_by_label("Name").fill("nightly")
        await page.get_by_label("Networks").fill("nowhere")
        await page.get_by_role("button", name="Make the token").click()
        await expect(page.get_by_role("alert")).to_contain_text("no network")
        await page.get_by_label("Networks").fill("127.0.0.0/8")
        await page.get_by_role("button", name="Make the token").click()
        await expect(page.locator("[data-secret='Token']")).to_contain_text("ddt_")
        await page.get_by_role("link", name="Certificates").click()
        before = await page.locator("dt:has-text('Serial') + dd").inner_text()
        await page.get_by_role("button", name="Make the request").click()
        await expect(page.locator("pre")).to_contain_text("BEGIN CERTIFICATE REQUEST")
        await page.get_by_label("Certificate with its chain").fill("rubbish")
        await page.get_by_role("button", name="Put it in").click()
        await expect(page.get_by_role("alert")).to_contain_text("no PEM certificate")
        await page.get_by_role("button", name="New self-signed").click()
        await expect(page.get_by_text("new self-signed certificate")).to_be_visible()
        assert await page.locator("dt:has-text('Serial') + dd").inner_text() != before
        await page.get_by_role("link", name="Mail").click()
        await page.get_by_label("To", exact=True).fill("ops@example.org")
        await page.get_by_role("button", name="Send a mail").click()
        await expect(page.get_by_text("is a file below")).to_be_visible()
        await page.get_by_role("link", name="Configuration").click()
        await page.get_by_role("button", name="Read the settings anew").click()
        await expect(page.get_by_text("were read anew")).to_be_visible()
        forget_refusals(shown)


async def _log_in_with_code(shown: Dashboard, secret: str) -> None:
    async with shown.context() as context:
        page = await context.new_page()
        await page.goto(shown.url + "/login")
        await page.get_by_label("Name").fill("oscar")
        await page.get_by_label("Password").fill(PASSWORD)
        now = int(SystemClock().now().timestamp())
        # the step after: that of the enrolment might be the present one still
        await page.get_by_label("One-time code").fill(code_of(Secret(secret), now // STEP + 1))
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(shown.url + "/")


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "dark"), (WIDE, "light")])
async def test_every_page_fits_and_axe_finds_nothing(
    tmp_path: Path, width: int, scheme: str
) -> None:
    """No page scrolls sideways; no serious or critical issue, by WCAG 2.2 AA."""
    async with (
        dashboard(tmp_path) as shown,
        shown.context(
            viewport={"width": width, "height": 640}, color_scheme=scheme, bypass_csp=True
        ) as context,
    ):
        page = await opened(shown, context)
        shown.feed("x" * 150 + ".grib2", 1000)

        async def is_there() -> bool:
            await page.goto(shown.url + "/incidents")
            return await row(page, "Host is not used").count() > 0

        await until(is_there, "the incident is there")
        wrong = []
        for name, path in PAGES.items():
            await page.goto(shown.url + path)
            await expect(page.get_by_role("heading", level=1)).to_have_count(1)
            wide = await page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            wrong += [f"{name} scrolls sideways by {wide} px"] if wide > 0 else []
            wrong += [f"{name}: {issue}" for issue in await issues(page)]
            await keep(page, f"{name}-{width}-{scheme}")
        assert wrong == []
        forget_refusals(shown)


def forget_refusals(shown: Dashboard) -> None:
    """Forget what Chromium says of forms that were refused on purpose."""
    shown.complaints[:] = [text for text in shown.complaints if "422" not in text]


async def issues(page: Page) -> list[str]:
    """Return what axe-core finds that is serious or critical."""
    await page.add_script_tag(path=AXE)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
