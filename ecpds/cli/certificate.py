"""`ecpds certificate …` and `ecpds reload`: what the listeners show, and the settings anew."""

from __future__ import annotations

import base64
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.verbs import Verb, add_output, as_json, card

ACTIONS: Final = "/certificates/actions"


def _arguments(parser: ArgumentParser) -> None:
    add_output(parser, ids=False)
    add_arguments(parser)


def _csr_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="host names; default this node's")
    _arguments(parser)


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, help="PEM: the certificate and those above it; or PKCS #12 (.p12, .pfx)"
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="PEM; default that of the last request"
    )
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="opens the PKCS #12 file"
    )
    _arguments(parser)


def _tell(args: Namespace, found: dict[str, Any]) -> int:
    if args.output == "json":
        as_json(found)
    else:
        card(found)
    return Exit.DONE


def _show(args: Namespace) -> int:
    with connect(args) as client:
        return _tell(args, client.call("GET", "/certificates")["items"][0])


def _csr(args: Namespace) -> int:
    with connect(args) as client:
        found = client.call("POST", f"{ACTIONS}/csr", body={"names": args.names})
    if args.output == "json":
        as_json(found)
    else:
        sys.stdout.write(found["request"])
    return Exit.DONE


def _import(args: Namespace) -> int:
    data = _read(args.file)
    body: dict[str, str] = {}
    if args.file.suffix.lower() in {".p12", ".pfx"}:
        body["pkcs12"] = base64.b64encode(data).decode()
        if args.password_file is not None:
            body["password"] = _text(args.password_file).rstrip("\r\n")
    else:
        body["certificate"] = _text(args.file)
        if args.key is not None:
            body["key"] = _text(args.key)
    with connect(args) as client:
        return _tell(args, client.call("POST", f"{ACTIONS}/import", body=body))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise CommandError(message, Exit.USAGE) from None


def _text(path: Path) -> str:
    try:
        return _read(path).decode()
    except UnicodeError:
        raise CommandError(f"{path} is no text", Exit.USAGE) from None


def _self_signed(args: Namespace) -> int:
    with connect(args) as client:
        return _tell(args, client.call("POST", f"{ACTIONS}/self_signed", body={}))


def _again(args: Namespace) -> int:
    with connect(args) as client:
        return _tell(args, client.call("POST", f"{ACTIONS}/reload", body={}))


def _reload(args: Namespace) -> int:
    with connect(args) as client:
        client.call("POST", "/config/actions/reload", body={})
    if args.output == "json":
        as_json({"reloaded": True})
    else:
        print("settings and certificate were read anew")
    return Exit.DONE


VERBS: Final = (
    Verb(words="certificate show", help="print the certificate of the listeners",
         arguments=_arguments, run=_show),
    Verb(words="certificate csr", help="make a key, kept by the node, and print its request",
         arguments=_csr_arguments, run=_csr),
    Verb(words="certificate import", help="put a certificate in place, without a pause",
         arguments=_import_arguments, run=_import),
    Verb(words="certificate self-sign", help="make a new self-signed certificate",
         arguments=_arguments, run=_self_signed),
    Verb(words="certificate reload", help="read the files of the certificate anew",
         arguments=_arguments, run=_again),
    Verb(words="reload", help="read the settings anew, as SIGHUP does; sessions go on",
         arguments=_arguments, run=_reload),
)  # fmt: skip
