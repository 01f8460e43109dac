"""Pages of the dashboard: one file a noun; every one works without a script."""

from __future__ import annotations

from typing import Final

from ecpds.web.pages import (
    bulk,
    destination_form,
    destination_tabs,
    destinations,
    events,
    files,
    frame,
    groups,
    history,
    host_console,
    host_form,
    host_network,
    host_script,
    host_test,
    hosts,
    incidents,
    jobs,
    metadata,
    notify,
    options,
    outstanding,
    overview,
    portal_stats,
    products,
    sessions,
    statistics,
    storage,
    system,
    transfer,
    transfers,
    users,
    users_form,
    webusers,
    wis2,
)
from ecpds.web.pages.rows import READ as READ_TRANSFERS
from ecpds.web.rights import OPEN
from ecpds.web.routes import Handle, Route


def _get(path: str, right: str, handle: Handle, summary: str) -> Route:
    return Route(method="GET", path=path, right=right, handle=handle, kind="page", summary=summary)


def _post(path: str, right: str, handle: Handle, summary: str) -> Route:
    return Route(method="POST", path=path, right=right, handle=handle, kind="page", summary=summary)


routes: Final = (
    _get("/", destinations.READ, overview.index, "Health, alarms, running transfers, errors."),
    _get("/destinations", destinations.READ, destinations.index, "All destinations."),
    *destination_form.ROUTES,
    *destination_tabs.ROUTES,
    _get("/destinations/{name}", destinations.READ, destinations.detail, "One destination."),
    _post(
        "/destinations/{name}/actions/{verb}", destinations.ACT, destinations.act,
        "start, stop, restart.",
    ),
    _get("/transfers", READ_TRANSFERS, transfers.index, "Transfers of all destinations."),
    *metadata.ROUTES,
    *options.ROUTES,
    *products.ROUTES,
    *groups.ROUTES,
    *statistics.ROUTES,
    *portal_stats.ROUTES,
    *bulk.ROUTES,
    *outstanding.ROUTES,
    *history.ROUTES,
    *jobs.ROUTES,
    _get("/transfers/{id}", READ_TRANSFERS, transfer.detail, "One transfer."),
    _get("/transfers/{id}/delete", transfer.DELETE, transfer.confirm, "Ask before deleting."),
    _post("/transfers/{id}/actions/{verb}", transfer.ACT, transfer.act, "requeue, stop, hold …"),
    _get("/hosts", hosts.READ, hosts.index, "All hosts."),
    *host_form.ROUTES,
    *host_test.ROUTES,
    *host_network.ROUTES,
    *host_console.ROUTES,
    *host_script.ROUTES,
    _post("/hosts/{name}/actions/test", hosts.ACT, host_test.run, "Try it out, step by step."),
    _get("/hosts/{name}", hosts.READ, hosts.detail, "One host."),
    _post("/hosts/{name}/actions/{verb}", hosts.ACT, hosts.act, "test, acquire."),
    _get("/files", files.READ, files.index, "Data files."),
    _get("/files/{id}", files.READ, files.detail, "One data file."),
    _post("/files/{id}/actions/{verb}", files.READ, files.act, "digest."),
    _get("/storage", "stats:read", storage.index, "Volumes."),
    *users_form.ROUTES,
    *users.ROUTES,
    *sessions.ROUTES,
    *notify.ROUTES,
    *wis2.ROUTES,
    *events.ROUTES,
    *incidents.ROUTES,
    *system.ROUTES,
    *webusers.ROUTES,
    _post("/theme", OPEN, frame.set_theme, "Light or dark colours."),
)  # fmt: skip
