"""From the destination backup document of OpenECPDS to a site document, with a report.

Nothing is stored here: what comes out is what `ecpds apply` takes, every value in today's form, and
a line for each that was changed on the way or could not be taken.  Texts with rules keep their old
meaning by their `legacy` mark.  Spec: rest-api.md A.2, entities.md, decisions.md section 5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ecpds.engine import importtables as tables
from ecpds.engine.host_publish import check_notice
from ecpds.engine.importecauth import METHOD, as_sftp, inactive, is_ecauth
from ecpds.model.decode import Where
from ecpds.model.errors import ConfigError, EcpdsError, InputError
from ecpds.model.names import checked, nearest
from ecpds.model.options import END, Catalogue, parse_properties
from ecpds.model.template import Template

Outcome = Literal["kept", "mapped", "refused", "skipped"]
Document = dict[str, Any]
MOST: Final = 100_000  # objects of one document
SECRETS: Final = ("$host[passwd]", "$host[data]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What became of one value or object."""

    outcome: Outcome
    kind: str
    name: str
    field: str = ""
    text: str = ""


@dataclass(slots=True)
class Imported:
    """The site document and the report."""

    site: Document = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def tell(self, outcome: Outcome, kind: str, name: str, where: str = "", text: str = "") -> None:
        """Add a line to the report."""
        self.lines.append(Line(outcome=outcome, kind=kind, name=name, field=where, text=text))


def read_document(text: str) -> Document:
    """Return the backup inside of an answer of the original's API, or of a bare document.

    Raises ConfigError for what is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"no JSON: {error}") from None
    for key in ("backup", "destinationBackup"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not isinstance(found.get("destinations"), list):
        raise ConfigError("this is no destination backup: there is no list of destinations")
    return found


def translate(
    document: Mapping[str, Any], catalogue: Catalogue, methods: Sequence[str]
) -> Imported:
    """Return the site document for a backup; `methods` are those that this node has."""
    return _Import(catalogue, methods).run(document)


class _Import:
    """One translation."""

    def __init__(self, catalogue: Catalogue, methods: Sequence[str]) -> None:
        self._types = {entry.key.lower(): entry for entry in catalogue.entries()}
        self._catalogue = catalogue
        self._methods = {method.lower(): method for method in methods}
        self._modules: dict[str, str] = {}
        self._out = Imported()
        self._hosts: dict[str, Document] = {}
        self._by_id: dict[str, str] = {}

    def run(self, document: Mapping[str, Any]) -> Imported:
        for method in _listed(document, "methods"):
            self._method(method)
        for host in _listed(document, "hosts"):
            self._host(host)
        destinations = [self._destination(entry) for entry in _listed(document, "destinations")]
        named = {one["name"]: one for one in destinations if one is not None}
        self._aliases(_listed(document, "aliases"), named)
        self._check_sources(named)
        users = [self._user(one) for key in tables.USER_LISTS for one in _listed(document, key)]
        policies = [self._policy(one) for one in _listed(document, "policies")]
        for key, value in document.items():
            if key not in tables.KNOWN_LISTS and value:
                self._out.tell("skipped", "document", key, text=tables.SKIPPED.get(key, "unknown"))
        self._out.site = {
            key: found
            for key, found in {
                "hosts": list(self._hosts.values()),
                "destinations": list(named.values()),
                "policies": [one for one in policies if one],
                "data_users": [one for one in users if one],
            }.items()
            if found
        }
        return self._out

    # --- methods and hosts ------------------------------------------------------------------

    def _method(self, given: Mapping[str, Any]) -> None:
        """Remember which module a method of their own names."""
        plain = _folded(given)
        name = str(plain.get("name") or "")
        module = plain.get("module") or plain.get("ectransmodule") or plain.get("transfermodule")
        if isinstance(module, Mapping):
            module = module.get("name")
        if name and module:
            self._modules[name.lower()] = str(module)

    def _method_of(self, name: str, host: str) -> str:
        known = self._methods.get(name.lower())
        if known is not None:
            return known
        module = self._modules.get(name.lower(), name)
        known = self._methods.get(f"generic{module}".lower())
        if known is not None:
            self._out.tell("mapped", "host", host, "method", f"{name} is {known}")
            return known
        near = nearest(name, list(self._methods.values()))
        hint = f", the nearest is {near}" if near else ""
        self._out.tell("refused", "host", host, "method", f"{name} is not available here{hint}")
        return ""

    def _host(self, given: Mapping[str, Any]) -> str:
        """Take a host once; return its name, empty when it cannot be taken."""
        plain = _folded(given)
        number = str(plain.get("name") or plain.get("id") or "")
        if number and number in self._by_id:
            return self._by_id[number]
        name = self._free_name(str(plain.get("nickname") or number), number)
        if not name:
            return ""
        method = (
            plain.get("transfermethod") or plain.get("method") or plain.get("transfermethodname")
        )
        if isinstance(method, Mapping):
            method = method.get("name")
        was_ecauth = is_ecauth(str(method or ""), self._modules)
        if was_ecauth:
            self._out.tell("mapped", "host", name, "method", f"{method} is {METHOD}, inactive")
            method = METHOD
        method = self._method_of(str(method or ""), name)
        self._by_id[number or name] = name if method else ""
        if not method:
            return ""
        host = {"name": name, "method": method, "role": self._role(plain, name)}
        host |= self._fields("host", name, plain, tables.HOST)
        host |= self._options("host", name, str(plain.get("properties") or plain.get("data") or ""),
                              str(plain.get("script") or ""))  # fmt: skip
        if was_ecauth:
            host = inactive(host)
        self._directory(host)
        if host.get("script"):
            self._out.tell("kept", "host", name, "script",
                           "runs only where the host is a broker that announces files")  # fmt: skip
        self._hosts[name] = host
        self._out.tell("kept", "host", name)
        return name

    def _free_name(self, wanted: str, number: str) -> str:
        name = tables.safe_name(wanted)
        if name in self._hosts:
            name = tables.safe_name(f"{wanted}-{number}")
        try:
            checked("host", name)
        except EcpdsError as error:
            self._out.tell("refused", "host", wanted, "nickname", error.message)
            return ""
        if name != wanted:
            self._out.tell("mapped", "host", name, "nickname", f"was {wanted!r}")
        return name

    def _role(self, plain: Mapping[str, Any], name: str) -> str:
        text = str(plain.get("type") or "Dissemination").lower()
        if text not in tables.ROLES:
            self._out.tell("mapped", "host", name, "type", f"{text!r} is unknown: dissemination")
            return "dissemination"
        return text

    def _directory(self, host: Document) -> None:
        """Mark a directory text that would mean something else today."""
        text = host.get("directory", "")
        for token in SECRETS:
            if token.lower() in text.lower():
                self._out.tell("refused", "host", host["name"], "dir",
                               f"{token} shows a secret: the text stays as it is")  # fmt: skip
        if host["role"] != "dissemination" or not text:
            return
        if any(line.lstrip().startswith("(") for line in text.splitlines()) or not _is_new(text):
            host["legacy"] = ["directory"]
            self._out.tell("mapped", "host", host["name"], "dir", "keeps its old meaning (legacy)")

    # --- destinations -----------------------------------------------------------------------

    def _destination(self, entry: Mapping[str, Any]) -> Document | None:
        plain = _folded(entry)
        inner = plain.get("destination")
        facts = _folded(inner) if isinstance(inner, Mapping) else plain
        name = str(facts.get("name") or "")
        try:
            checked("destination", name)
        except EcpdsError as error:
            self._out.tell("refused", "destination", name, "name", error.message)
            return None
        found: Document = {"name": name}
        found |= self._fields("destination", name, facts, tables.DESTINATION)
        if str(facts.get("statuscode") or facts.get("status") or "") in {"STOP", "HOLD"}:
            found["active"] = False
            self._out.tell("mapped", "destination", name, "status", "stopped there: not active")
        found["hosts"] = self._associated(name, plain)
        properties = str(facts.get("properties") or facts.get("data") or "")
        found |= self._options("destination", name, properties, str(facts.get("script") or ""))
        source = facts.get("hostforsource") or facts.get("hostforsourcename")
        if source:
            found["source_host"] = (
                self._host(source) if isinstance(source, Mapping) else str(source)
            )
        self._out.tell("kept", "destination", name)
        return {key: value for key, value in found.items() if value not in ("", [], {})}

    def _associated(self, name: str, plain: Mapping[str, Any]) -> list[str]:
        pairs = []
        for one in _listed(plain, "associations"):
            inner = _folded(one)
            host = inner.get("host")
            taken = self._host(host) if isinstance(host, Mapping) else self._known(str(host or ""))
            if taken:
                pairs.append((_number(inner.get("priority")), taken))
            elif host and not isinstance(host, Mapping):
                self._out.tell("refused", "destination", name, "hosts", f"no host {host!r}")
        return list(dict.fromkeys(host for _, host in sorted(pairs, key=lambda pair: pair[0])))

    def _known(self, text: str) -> str:
        return self._by_id.get(text) or (text if text in self._hosts else "")

    def _check_sources(self, named: Mapping[str, Document]) -> None:
        for one in named.values():
            source = one.get("source_host")
            if source and not (known := self._known(source)):
                del one["source_host"]
                self._out.tell("refused", "destination", one["name"], "hostForSource",
                               f"there is no host {source!r}")  # fmt: skip
            elif source:
                one["source_host"] = known

    def _aliases(self, given: Iterable[Mapping[str, Any]], named: Mapping[str, Document]) -> None:
        """Rules stand beside the alias or as option `alias.<COPY>` of its source."""
        for one in given:
            plain = _folded(one)
            source = tables.name_of(plain.get("aliasfrom") or plain.get("desname"))
            copy = tables.name_of(plain.get("aliasto") or plain.get("destinationname"))
            if source not in named or copy not in named:
                text = f"{source} -> {copy}: both must be in the document"
                self._out.tell("refused", "alias", f"{source}->{copy}", text=text)
                continue
            rules = named[source].get("_rules", {})
            rule = str(plain.get("conditions") or rules.get(copy.lower()) or "")
            alias: Document = {"to": copy}
            if rule:
                alias |= {"rule": rule, "legacy": True}
            named[source].setdefault("aliases", []).append(alias)
            self._out.tell("kept", "alias", f"{source}->{copy}", text=rule)
        for destination in named.values():
            destination.pop("_rules", None)

    # --- people -----------------------------------------------------------------------------

    def _user(self, given: Mapping[str, Any]) -> Document | None:
        plain = _folded(given)
        login = str(plain.get("id") or plain.get("login") or "")
        if not login:
            self._out.tell("refused", "data user", "?", text="it has no id")
            return None
        found: Document = {"login": login} | self._fields("data user", login, plain, tables.USER)
        found["operations"] = tables.operations(plain.get("permissions"))
        for key in ("destinations", "policies"):
            found[key] = [tables.name_of(one) for one in plain.get(key) or []]
        found |= self._options("user", login, str(plain.get("properties") or ""), "")
        if plain.get("password"):
            self._out.tell("mapped", "data user", login, "password", "stored as a hash")
        self._out.tell("kept", "data user", login)
        return {key: value for key, value in found.items() if value not in ("", [], {})}

    def _policy(self, given: Mapping[str, Any]) -> Document | None:
        plain = _folded(given)
        name = str(plain.get("id") or plain.get("name") or "")
        if not name:
            return None
        found: Document = {"name": name} | self._fields("policy", name, plain, tables.POLICY)
        found["destinations"] = [tables.name_of(one) for one in plain.get("destinations") or []]
        found |= self._options("policy", name, str(plain.get("properties") or ""), "")
        self._out.tell("kept", "policy", name)
        return {key: value for key, value in found.items() if value not in ("", [], {})}

    # --- values -----------------------------------------------------------------------------

    def _fields(
        self, kind: str, name: str, plain: Mapping[str, Any], table: tables.Table
    ) -> Document:
        found: Document = {}
        for key, value in plain.items():
            how = table.get(key)
            if how is None:
                if key not in tables.PASSED_OVER and value not in (None, "", [], {}, False):
                    self._out.tell("skipped", kind, name, key, "has no place here")
                continue
            if value is None:
                continue
            try:
                found[how.key] = how.read(value)
            except InputError as error:
                self._out.tell("refused", kind, name, key, error.message)
        return found

    def _options(self, scope: str, name: str, text: str, script: str) -> Document:
        """Return `options`, `script` and `legacy` of a properties text."""
        given, own = self._parsed(scope, name, text)
        given, left = as_sftp(given) if scope == "host" else (given, {})
        for key, why in left.items():
            self._out.tell("skipped", scope, name, key, why)
        options: Document = {}
        rules: Document = {}
        for key, value in given.items():
            if scope == "destination" and key.lower().startswith("alias."):
                rules[key[6:].lower()] = value
                continue
            taken = self._option(scope, name, key, value)
            if taken is not None:
                options[taken[0]] = taken[1]
        found: Document = {"options": options, "script": script or own}
        legacy = [key for key in options if key in tables.LEGACY.get(scope, ())]
        if legacy:
            found["legacy"] = legacy
            self._out.tell("mapped", scope, name, ", ".join(legacy), "old meaning kept (legacy)")
        if rules:
            found["_rules"] = rules
        return {key: value for key, value in found.items() if value}

    def _parsed(self, scope: str, name: str, text: str) -> tuple[dict[str, str], str]:
        """Read as much as the original would have read, and tell where it stopped."""
        try:
            return parse_properties(text)
        except InputError as error:
            self._out.tell("refused", scope, name, "properties", error.message)
        body, _, script = text.partition(END)
        lines = body.splitlines()
        for count in range(len(lines) - 1, 0, -1):
            try:
                return parse_properties("\n".join(lines[:count]))[0], script.strip("\n")
            except InputError:
                continue
        return {}, script.strip("\n")

    def _option(self, scope: str, name: str, key: str, value: str) -> tuple[str, str] | None:
        entry = self._types.get(key.lower())
        if entry is None:
            near = nearest(key, [one.key for one in self._types.values()])
            hint = f", the nearest is {near}" if near else ""
            outcome: Outcome = "skipped" if key.lower() in tables.GONE else "refused"
            text = tables.GONE.get(key.lower(), f"unknown option{hint}")
            self._out.tell(outcome, scope, name, key, text)
            return None
        written = tables.today(entry.type, entry.key, value)
        try:
            self._catalogue.check({entry.key: written}, scope)
            check_notice({entry.key: written}, Where())
        except ConfigError as error:
            self._out.tell("refused", scope, name, key, error.message)
            return None
        if written != value:
            self._out.tell("mapped", scope, name, key, f"{value} is {written}")
        return entry.key, written


def _is_new(text: str) -> bool:
    """Tell whether a directory text can be read by today's grammar."""
    try:
        Template.parse(text)
    except InputError:
        return False
    return True


def _folded(given: Any) -> dict[str, Any]:
    """Return a mapping with its keys in one spelling: both camelCase and snake_case are met."""
    if not isinstance(given, Mapping):
        return {}
    return {str(key).replace("_", "").lower(): value for key, value in given.items()}


def _listed(given: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = given.get(key) or []
    if isinstance(found, Mapping):  # by name
        found = [{"name": name} | dict(one) for name, one in found.items()]
    if len(found) > MOST:
        raise ConfigError(f"{key}: more than {MOST} objects")
    return [one for one in found if isinstance(one, Mapping)]


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0
