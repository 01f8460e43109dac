"""`ecpds login` and `logout`: keep the address of a node and a credential under a short name.

A profile is `~/.config/ecpds/NAME.toml` (0600), its token `NAME.token` beside it.  The profile
`default` serves every command that nothing else tells its node.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import re
import ssl
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ecpds.cli.access import DEFAULT, Access, profile_path, read_text, seconds
from ecpds.cli.client import Client
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.tomltext import toml_text
from ecpds.cli.verbs import Verb, add_output, as_json

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("server", metavar="URL", help="address of the monitor, https://host:8443")
    parser.add_argument("--profile", default=DEFAULT, metavar="NAME", help="its name here")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE",
        help="file with the token; else it is asked for or read from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--user", metavar="NAME",
        help="make a token with the password of a dashboard account (api.password_login);"
        " ECPDS_PASSWORD_FILE names a file with it",
    )  # fmt: skip
    parser.add_argument(
        "--scope", action="append", default=[], metavar="AREA:VERB",
        help="what the token for --user may do at most; may be repeated; default what the user may",
    )  # fmt: skip
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificate to trust")
    parser.add_argument(
        "--fingerprint", metavar="SHA256:HEX", help="trust the certificate that has it"
    )
    parser.add_argument("--timeout", type=seconds, default=30.0, metavar="TIME", help="of answers")
    add_output(parser, ids=False)


def _login(args: Namespace) -> int:
    path = _place(args.profile)
    access = _trusted(args, Access(server=args.server.rstrip("/")))
    if args.user:
        token, name = _made_token(args, access)
    else:
        token = read_text(args.token_file) if args.token_file else _asked("token: ")
        name = _whose(replace(access, token=token), args.timeout)
    _keep(path, access, token)
    if args.output == "json":
        as_json({"profile": args.profile, "server": access.server, "user": name})
    else:
        print(f"{path}: {name} at {access.server}")
    return Exit.DONE


def _place(name: str) -> Path:
    if not NAME.fullmatch(name):
        raise CommandError(f"{name!r} is no name of a profile", Exit.USAGE)
    return profile_path(name)


def _trusted(args: Namespace, access: Access) -> Access:
    """Return the access with a certificate to trust, when the system does not know it."""
    try:
        address = urlsplit(access.server)
        place = (address.hostname or "", address.port or 443)
    except ValueError:
        address, place = urlsplit(""), ("", 0)
    if address.scheme not in {"http", "https"} or not place[0]:
        message = f"{access.server!r} is no address such as https://host:8443"
        raise CommandError(message, Exit.USAGE)
    if args.ca is not None:
        return replace(access, ca=args.ca.absolute())
    if not args.fingerprint or address.scheme == "http":
        return access
    try:
        pem = ssl.get_server_certificate(place, timeout=args.timeout)
    except OSError as error:
        text = f"{access.server} cannot be reached: {error}"
        raise CommandError(text, Exit.UNREACHABLE) from None
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    wanted = args.fingerprint.partition(":")[2] if ":" in args.fingerprint[:7] else args.fingerprint
    if wanted.replace(":", "").lower() != found:
        message = f"the certificate has the fingerprint SHA256:{found}"
        raise CommandError(message, Exit.DENIED, reason="fingerprint")
    place_of = profile_path(args.profile).with_suffix(".pem")
    _write(place_of, pem)
    return replace(access, own=place_of)


def _asked(what: str) -> str:
    text = getpass.getpass(what) if sys.stdin.isatty() else sys.stdin.readline()
    if not text.strip():
        raise CommandError(f"no {what.rstrip(': ')} was given", Exit.USAGE)
    return text.strip()


def _whose(access: Access, timeout: float) -> str:
    """Return who the token makes us; CommandError (denied) when it is not valid."""
    if not (access.token.isascii() and access.token.isprintable() and " " not in access.token):
        raise CommandError("the token has characters that no token has", Exit.USAGE)
    with Client(access, timeout=timeout) as client:
        return str(client.call("GET", "/whoami")["name"])


def _made_token(args: Namespace, access: Access) -> tuple[str, str]:
    file = os.environ.get("ECPDS_PASSWORD_FILE")
    password = read_text(Path(file)) if file else _asked("password: ")
    both = base64.b64encode(f"{args.user}:{password}".encode()).decode()
    name = f"login from {os.uname().nodename}"[:128]
    body = {"name": name, "scopes": args.scope or ["*:*"]}
    with Client(replace(access, token=both, scheme="Basic"), timeout=args.timeout) as client:
        made: dict[str, Any] = client.call("POST", "/tokens", body=body)
    return made["token"], args.user


def _keep(path: Path, access: Access, token: str) -> None:
    _write(path.with_suffix(".token"), token + "\n")
    profile: dict[str, Any] = {"server": access.server, "token_file": f"{path.stem}.token"}
    if access.ca is not None:
        profile["ca"] = str(access.ca)
    if access.own is not None:
        profile["certificate"] = access.own.name
    _write(path, toml_text(profile))


def _write(path: Path, text: str) -> None:
    """Write a file that nobody else can read, not even for a moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def _logout_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--profile", default=DEFAULT, metavar="NAME", help="its name here")
    parser.add_argument("--timeout", type=seconds, default=30.0, metavar="TIME", help="of answers")
    add_output(parser, ids=False)


def _logout(args: Namespace) -> int:
    path = _place(args.profile)
    if not path.exists():
        raise CommandError(f"there is no profile {args.profile}", Exit.NOT_FOUND)
    for one in (path, path.with_suffix(".token"), path.with_suffix(".pem")):
        one.unlink(missing_ok=True)
    if args.output == "json":
        as_json({"profile": args.profile})
    else:
        print(f"{args.profile}: forgotten here; `ecpds token delete` ends a token at the node")
    return Exit.DONE


VERBS: Final = (
    Verb(words="login", arguments=_arguments, run=_login,
         help="keep address and token of a node as a profile"),
    Verb(words="logout", arguments=_logout_arguments, run=_logout, help="forget a profile"),
)  # fmt: skip
