"""Where the node is and how to prove who asks.

First match: `--server`/`--token-file`, a profile, `ECPDS_SERVER`/`ECPDS_TOKEN`, then
`endpoints.json` and `admin.token` below the data directory of `--config` or `./ecpds.toml`.  What
one of them leaves open the next may say, but the token of a data directory goes to the node of that
data directory only, unless `--config` says so.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ecpds.cli.codes import CommandError, Exit
from ecpds.model.errors import ConfigError, InputError
from ecpds.model.names import nearest

if TYPE_CHECKING:
    from ecpds.base.settings import Settings

ANSWER_TIME: Final = 60.0  # seconds
SETTINGS: Final = Path("ecpds.toml")
PROFILE_KEYS: Final = ("server", "token", "token_file", "ca", "certificate", "insecure")
DEFAULT: Final = "default"  # profile of commands that nothing else tells their node
_BARE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and after how many seconds to try again."""

    count: int = 0
    delay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A node and a credential; empty texts are not known yet."""

    server: str = ""
    token: str = ""
    ca: Path | None = None
    insecure: bool = False
    own: Path | None = None  # certificate of one node, trusted as it is
    scheme: str = "Bearer"  # of the credential


def add_arguments(parser: ArgumentParser) -> None:
    """Add what all client commands take."""
    group = parser.add_argument_group("connection")
    group.add_argument("--server", metavar="URL", help="address of the monitor")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the API token"
    )
    group.add_argument(
        "--token", help="API token; other users of this machine see it, prefer --token-file"
    )
    group.add_argument("--profile", metavar="NAME", help="~/.config/ecpds/NAME.toml")
    group.add_argument("--config", type=Path, metavar="FILE", help="settings of a node here")
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificate to trust")
    group.add_argument("--insecure", action="store_true", help="do not verify the certificate")
    group.add_argument(
        "--timeout", type=seconds, metavar="TIME", help="longest wait, such as 30s (answers: 1m)"
    )
    group.add_argument(
        "--retry", type=_retry, default=Retry(), metavar="N:DELAY",
        help="try N times more when the node cannot be reached, such as 5:10s",
    )  # fmt: skip


def seconds(text: str) -> float:
    """Read a length of time as seconds; a bare number means seconds."""
    from ecpds.model.units import parse_duration

    try:
        found = float(text) if _BARE.fullmatch(text) else parse_duration(text).total_seconds()
    except InputError as error:
        raise ArgumentTypeError(error.message) from None
    if found <= 0:
        raise ArgumentTypeError(f"{text} is no time to wait")
    return found


def _retry(text: str) -> Retry:
    count, _, delay = text.partition(":")
    if not (count.isascii() and count.isdigit() and len(count) < 5):
        raise ArgumentTypeError(f"{text!r} is not N:DELAY, such as 5:10s")
    return Retry(count=int(count), delay=seconds(delay or "1s"))


def settings_path(args: Namespace) -> Path | None:
    """Return the settings file of `--config` or the current directory, None without one."""
    path: Path | None = args.config
    return path or (SETTINGS if SETTINGS.exists() else None)


def is_elsewhere(args: Namespace) -> bool:
    """Tell whether a server is named, so that the data directory does not say it."""
    return bool(args.server or args.profile or os.environ.get("ECPDS_SERVER"))


def find(args: Namespace) -> Access:
    """Return server and credential for the arguments; CommandError tells what is missing."""
    found = Access(
        server=args.server or "",
        token=read_text(args.token_file) if args.token_file else args.token or "",
        ca=args.ca,
        insecure=args.insecure,
    )
    if args.profile:
        found = _with_profile(found, args.profile)
    environment = os.environ
    found = replace(
        found,
        server=found.server or environment.get("ECPDS_SERVER", ""),
        token=found.token or environment.get("ECPDS_TOKEN", ""),
    )
    if not found.server or (not found.token and args.server and args.config):
        found = _with_data_directory(found, args)
    return _checked(found)


def _checked(found: Access) -> Access:
    try:
        parts = urlsplit(found.server)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        message = f"{found.server!r} is no address such as https://host:8443"
        raise CommandError(message, Exit.USAGE)
    if not found.token:
        message = "no credential: use --token-file, ECPDS_TOKEN or a profile"
        raise CommandError(message, Exit.DENIED)
    if not (found.token.isascii() and found.token.isprintable() and " " not in found.token):
        raise CommandError("the token has characters that no token has", Exit.USAGE)
    return found


def profile_path(name: str) -> Path:
    """Return the file of a profile."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "ecpds" / f"{name}.toml"


def _with_profile(found: Access, name: str) -> Access:
    path = profile_path(name)
    try:
        profile: dict[str, Any] = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"no valid TOML: {error}", file=str(path)) from None
    for key, value in profile.items():
        if key not in PROFILE_KEYS:
            near = nearest(key, PROFILE_KEYS)
            raise ConfigError(f"{key}: unknown key", file=str(path), key=key, nearest=near)
        if not isinstance(value, bool if key == "insecure" else str):
            raise ConfigError(f"{key}: {value!r} is not usable", file=str(path), key=key)
    token = profile.get("token", "")
    if not token and "token_file" in profile:
        token = read_text(path.parent / profile["token_file"])
    ca = path.parent / profile["ca"] if "ca" in profile else None
    own = path.parent / profile["certificate"] if "certificate" in profile else None
    return replace(
        found,
        server=found.server or profile.get("server", ""),
        token=found.token or token,
        ca=found.ca or ca,
        own=None if found.server or found.ca or found.insecure else own,
        insecure=found.insecure or profile.get("insecure", False),
    )


def _with_data_directory(found: Access, args: Namespace) -> Access:
    from ecpds.base.settings import load  # 20 ms that a named server does not cost

    path = settings_path(args)
    settings = load(path)
    data_dir = settings.data_dir
    if path is None and not data_dir.exists():
        if not found.server and profile_path(DEFAULT).exists():
            return _with_profile(found, DEFAULT)
        raise CommandError("no server given: use --server, ECPDS_SERVER or --config", Exit.USAGE)
    if not found.server:
        server = _endpoint(data_dir)
        own = None if found.ca or found.insecure else _certificate(settings)
        found = replace(found, server=server, own=own)
    return replace(found, token=found.token or read_text(data_dir / "admin.token"))


def _endpoint(data_dir: Path) -> str:
    path = data_dir / "endpoints.json"
    try:
        server = json.loads(path.read_text(encoding="utf-8")).get("monitor", "")
    except FileNotFoundError:
        message = f"no node runs with data directory {data_dir}"
        raise CommandError(message, Exit.UNREACHABLE) from None
    except (OSError, ValueError, AttributeError) as error:
        raise CommandError(f"{path} cannot be read: {error}", Exit.UNEXPECTED) from None
    if not server:
        raise CommandError("the node's monitor is switched off", Exit.UNREACHABLE)
    return str(server)


def _certificate(settings: Settings) -> Path | None:
    named = settings.tls.certificate
    path = Path(named) if named else settings.data_dir / "tls" / "certificate.pem"
    return path if path.exists() else None


def read_text(path: Path) -> str:
    """Return a small file's text without the spaces around it; CommandError when unreadable."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except PermissionError:
        raise CommandError(f"{path} cannot be read: not permitted", Exit.DENIED) from None
    except (OSError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(f"{path} cannot be read: {text}", Exit.USAGE) from None
