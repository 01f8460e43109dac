"""Site files as documents: decoded strictly, every mistake with file, line and key."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecpds.base.settings import read_toml
from ecpds.model.account import Grant, Permission, Role, S3Key, Service
from ecpds.model.decode import Where, decode, opt
from ecpds.model.destination import Destination
from ecpds.model.errors import ConfigError
from ecpds.model.host import Host
from ecpds.model.names import nearest
from ecpds.model.secret import Secret

KINDS = ("hosts", "destinations", "policies", "data_users", "web_users", "api_users")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """One table of [[policies]]."""

    name: str = opt("", "Name.")
    active: bool = opt(True, "An inactive policy gives nothing.")
    comment: str = opt("", "Free text.")
    destinations: tuple[str, ...] = opt((), "Destinations given.")
    operations: tuple[Permission, ...] = opt((), "Operations given.")
    options: dict[str, Any] = opt(dict, "portal.* options.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUserSpec:
    """One table of [[data_users]]; a missing credential keeps the stored one."""

    login: str = opt("", "Login.")
    service: Service = opt(Service.STANDARD, "standard-login, open-access, self-service.")
    password: Secret | None = opt(None, "Password.")
    totp: Secret | None = opt(None, "TOTP secret, base32.")
    active: bool = opt(True, "May log in.")
    comment: str = opt("", "Free text.")
    country: str = opt("", "ISO code.")
    operations: tuple[Permission, ...] = opt((), "Operations.")
    destinations: tuple[str, ...] = opt((), "Destinations.")
    policies: tuple[str, ...] = opt((), "Policies.")
    ssh_keys: tuple[str, ...] = opt((), "Public keys, OpenSSH lines.")
    s3_keys: tuple[S3Key, ...] | None = opt(None, "Key pairs.")
    options: dict[str, Any] = opt(dict, "portal.* options.")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebUserSpec:
    """One table of [[web_users]]."""

    name: str = opt("", "Login name.")
    password: Secret | None = opt(None, "Password.")
    totp: Secret | None = opt(None, "TOTP secret, base32; empty: none.")
    active: bool = opt(True, "May log in.")
    comment: str = opt("", "Free text.")
    roles: tuple[Grant, ...] = opt((Grant(role=Role.VIEWER),), "Roles with scopes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiUserSpec:
    """One table of [[api_users]]."""

    name: str = opt("", "Login name.")
    password: Secret | None = opt(None, "Password.")
    active: bool = opt(True, "May log in.")
    comment: str = opt("", "Free text.")
    services: str = opt("", "Regular expression on the whole names of v1 services.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """A Host of the document, and whether it says a password."""

    host: Host
    has_password: bool
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A decoded document."""

    hosts: tuple[HostSpec, ...]
    destinations: tuple[tuple[Destination, Where], ...]
    policies: tuple[tuple[PolicySpec, Where], ...]
    users: tuple[tuple[DataUserSpec, Where], ...]
    web_users: tuple[tuple[WebUserSpec, Where], ...]
    api_users: tuple[tuple[ApiUserSpec, Where], ...] = ()

    def names(self) -> set[tuple[str, str]]:
        """Return kind and name of every object."""
        found = {("host", one.host.name) for one in self.hosts}
        found |= {("destination", one.name) for one, _ in self.destinations}
        found |= {("policy", one.name) for one, _ in self.policies}
        found |= {("user", one.login) for one, _ in self.users}
        found |= {("api_user", one.name) for one, _ in self.api_users}
        return found | {("web_user", one.name) for one, _ in self.web_users}


def resolve_secrets(data: Any, where: Where, folder: Path, environment: Mapping[str, str]) -> Any:
    """Replace `{ file = … }` and `{ env = … }` by the text they name; ConfigError if missing."""
    if isinstance(data, Mapping):
        if set(data) == {"env"} and isinstance(data["env"], str):
            if data["env"] not in environment:
                raise where.error(f"the environment variable {data['env']} is not set")
            return environment[data["env"]]
        if set(data) == {"file"} and isinstance(data["file"], str):
            try:
                return (folder / data["file"]).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise where.error(f"{data['file']} cannot be read: {error}") from None
        return {
            key: resolve_secrets(value, where.at(key), folder, environment)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [
            resolve_secrets(value, where.at(number), folder, environment)
            for number, value in enumerate(data)
        ]
    return data


def read_file(path: Path) -> tuple[dict[str, Any], Where]:
    """Read a site file, TOML or JSON by its ending, secrets resolved."""
    if path.suffix == ".json":
        where = Where(file=str(path))
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise where.error("there is no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise where.error(f"cannot be read: {error}") from None
        except json.JSONDecodeError as error:
            raise ConfigError(error.msg, file=str(path), line=error.lineno) from None
    else:
        data, where = read_toml(path)
    resolved = resolve_secrets(data, where, path.absolute().parent, os.environ)
    return resolved, where


def read_site(data: Mapping[str, Any], where: Where) -> Site:
    """Decode a document; ConfigError for unknown tables and keys, wrong values, double names."""
    for key in data:
        if key not in KINDS:
            raise where.at(key).error("unknown table", nearest(key, KINDS))
    found_hosts = []
    for table, place in _tables(data, "hosts", where, "name"):
        host = decode(Host, table, place)
        found_hosts.append(HostSpec(host=host, has_password="password" in table, where=place))
    return Site(
        hosts=tuple(found_hosts),
        destinations=tuple(
            (decode(Destination, table, place), place)
            for table, place in _tables(data, "destinations", where, "name")
        ),
        policies=tuple(
            (decode(PolicySpec, table, place), place)
            for table, place in _tables(data, "policies", where, "name")
        ),
        users=tuple(
            (decode(DataUserSpec, table, place), place)
            for table, place in _tables(data, "data_users", where, "login")
        ),
        web_users=tuple(
            (decode(WebUserSpec, table, place), place)
            for table, place in _tables(data, "web_users", where, "name")
        ),
        api_users=tuple(
            (decode(ApiUserSpec, table, place), place)
            for table, place in _tables(data, "api_users", where, "name")
        ),
    )


def _tables(
    data: Mapping[str, Any], kind: str, where: Where, key: str
) -> list[tuple[Mapping[str, Any], Where]]:
    tables = data.get(kind, [])
    if not isinstance(tables, list):
        raise where.at(kind).error(f"write [[{kind}]], a list of tables")
    seen: set[str] = set()
    found = []
    for number, table in enumerate(tables):
        place = where.at(kind).at(number)
        name = table.get(key) if isinstance(table, Mapping) else None
        if not isinstance(name, str) or not name:
            raise place.error(f"each of [[{kind}]] needs a {key}")
        if name in seen:
            raise place.at(key).error(f"{name!r} is there twice")
        seen.add(name)
        found.append((table, place))
    return found
