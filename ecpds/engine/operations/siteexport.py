"""The configuration as a document, in the form that `apply` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ecpds.engine.operations.apiusers import api_user_facts
from ecpds.engine.operations.destinations import KEEP, secret_keys
from ecpds.engine.operations.sitefile import KINDS
from ecpds.engine.supervisor import Engine
from ecpds.model.account import DataUser
from ecpds.model.destination import Destination
from ecpds.model.host import Host
from ecpds.store import accounts, apiusers, destinations, hosts
from ecpds.store.codec import plain
from ecpds.store.db import Connection


def user_facts(user: DataUser) -> dict[str, Any]:
    """Return what a document says of a data user."""
    facts: dict[str, Any] = plain(user)
    for runtime in ("has_password", "last_login_at", "last_login_from"):
        del facts[runtime]
    return facts


def export(db: Connection, engine: Engine, *, secrets: bool) -> dict[str, Any]:
    """Build the document from the store; default values are left out."""
    opened = engine.core.configuration.opened
    hidden = secret_keys(engine.core)

    def options_of(options: Mapping[str, Any]) -> dict[str, str]:
        clear = opened(options)
        return {k: v if secrets or k not in hidden or not v else KEEP for k, v in clear.items()}

    document: dict[str, Any] = {kind: [] for kind in KINDS}
    for row in hosts.everything(db):
        table = _table(row.host, Host(), skip={"id", "password"})
        table["options"] = options_of(row.host.options)
        if row.host.password:
            clear = engine.core.vault.open(row.host.password.reveal()).reveal()
            table["password"] = clear if secrets else KEEP
        document["hosts"].append(_without_empty(table))
    for destination, _ in destinations.everything(db):
        table = _table(destination, Destination(), skip=set())
        table["options"] = options_of(destination.options)
        table["aliases"] = [
            _without_empty({"to": a.to, "rule": a.rule, "comment": a.comment,
                            "legacy": a.legacy or None})
            for a in destination.aliases
        ]  # fmt: skip
        document["destinations"].append(_without_empty(table))
    for policy in accounts.policies(db):
        table = plain(policy) | {"options": options_of(policy.options)}
        document["policies"].append(_without_empty(table, keep={"active"}))
    for stored in accounts.users(db):
        table = user_facts(stored.user) | {"options": options_of(stored.user.options)}
        document["data_users"].append(_without_empty(table, keep={"active"}))
    for web in accounts.web_users(db):
        table = {"name": web.user.name, "active": web.user.active, "comment": web.user.comment}
        table["roles"] = plain(web.user.grants)
        document["web_users"].append(_without_empty(table, keep={"active"}))
    document["api_users"] = [
        _without_empty(api_user_facts(one.user), keep={"active"}) for one in apiusers.everyone(db)
    ]
    return {kind: tables for kind, tables in document.items() if tables}


def _table(value: Any, default: Any, *, skip: set[str]) -> dict[str, Any]:
    return {
        item.name: plain(getattr(value, item.name))
        for item in fields(value)
        if item.name not in skip
        and (item.name == "name" or getattr(value, item.name) != getattr(default, item.name))
    }


def _without_empty(table: dict[str, Any], keep: set[str] | None = None) -> dict[str, Any]:
    return {
        key: value
        for key, value in table.items()
        if key in (keep or ()) or value not in (None, "", [], {})
    }
