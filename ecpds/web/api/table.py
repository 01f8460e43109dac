"""All routes of the API."""

from __future__ import annotations

from typing import Final

from ecpds.web.api import (
    accesskeys,
    acquire,
    api_users,
    catalogue,
    destinations,
    explain,
    files,
    groups,
    hosts,
    incidents,
    jobs,
    leftovers,
    metadata,
    node,
    notify,
    policies,
    products,
    rules,
    scripts,
    sessions,
    site,
    subscribers,
    tokens,
    transfers,
    users,
    web_users,
)
from ecpds.web.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *catalogue.ROUTES,
    *destinations.ROUTES,
    *hosts.ROUTES,
    *acquire.ROUTES,
    *leftovers.ROUTES,
    *transfers.ROUTES,
    *explain.ROUTES,
    *rules.ROUTES,
    *scripts.ROUTES,
    *files.ROUTES,
    *groups.ROUTES,
    *jobs.ROUTES,
    *products.ROUTES,
    *users.ROUTES,
    *policies.ROUTES,
    *sessions.ROUTES,
    *subscribers.ROUTES,
    *accesskeys.ROUTES,
    *web_users.ROUTES,
    *api_users.ROUTES,
    *metadata.ROUTES,
    *tokens.ROUTES,
    *site.ROUTES,
    *node.ROUTES,
    *notify.ROUTES,
    *incidents.ROUTES,
)
