"""The `ecpds` command: finds the sub-command, imports it, runs it, turns errors into exit codes."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from ecpds.cli import legacy
from ecpds.cli.codes import CommandError, Exit, exit_of
from ecpds.cli.verbs import Parser, Verb, reason_of
from ecpds.model.errors import EcpdsError
from ecpds.model.names import nearest

# First word of a command -> file that has it, and its line in the help.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("serve", "run the daemon in the foreground"),
    "init": ("serve", "create data directory, keys and administrator"),
    "config": ("config", "check or show the settings"),
    "apply": ("site", "bring the configuration to what site files say"),
    "export": ("site", "print the configuration as a site file"),
    "import-openecpds": ("importing", "take over the configuration of an OpenECPDS"),
    "destination": ("objects", "manage destinations"),
    "host": ("objects", "manage hosts"),
    "user": ("objects", "manage data users"),
    "policy": ("objects", "manage policies"),
    "web-user": ("objects", "manage dashboard accounts"),
    "token": ("objects", "manage API tokens"),
    "role": ("objects", "manage roles of the dashboard and API"),
    "push": ("push", "store files and queue them for a destination"),
    "register": ("register", "queue files that the node fetches from a host of its own"),
    "group": ("group", "follow batches of registered files"),
    "product": ("product", "report products as expected, started, completed"),
    "retrieval": ("retrieval", "pause, resume and tune the fetching of files"),
    "get": ("files", "fetch files of a destination"),
    "ls": ("files", "list the files of a destination"),
    "rm": ("files", "delete files of a destination"),
    "mv": ("files", "give a file of a destination another name"),
    "transfer": ("transfer", "look at transfers, wait for them"),
    "explain": ("explain", "tell why transfers wait or failed"),
    "rules": ("rules", "try rules on a name"),
    "script": ("script", "try scripts"),
    "requeue": ("transfer", "give transfers another try"),
    "hold": ("transfer", "hold transfers"),
    "release": ("transfer", "release held transfers"),
    "stop": ("transfer", "stop transfers"),
    "purge": ("transfer", "delete transfers and the content that no other one needs"),
    "job": ("job", "do something with many transfers in the background"),
    "subscriber": ("people", "manage the people behind a self-service user"),
    "session": ("people", "list and end logins at the portal"),
    "sftp-stdio": ("sftpstdio", "serve SFTP on standard input and output, as sftp-server does"),
    "bans": ("portal", "list addresses that are kept out"),
    "unban": ("portal", "let an address in again"),
    "broker": ("broker", "write the files of a Mosquitto that carries publications"),
    "certificate": ("certificate", "manage the certificate of the listeners"),
    "reload": ("certificate", "read the settings anew"),
    "status": ("portal", "tell whether the node is ready"),
    "backup": ("backup", "make, check and restore backups of a node"),
    "fsck": ("fsck", "compare the store of a node with its disks"),
    "doctor": ("doctor", "look at everything that a node needs"),
    "login": ("login", "keep address and token of a node under a name"),
    "logout": ("login", "forget a node"),
    "completion": ("completion", "complete words in a shell"),
    "version": ("version", "print the release"),
}


def verbs_of(command: str) -> dict[str, Verb]:
    """Return the commands that begin with that word, by their other words."""
    found: Sequence[Verb] = importlib.import_module(f"ecpds.cli.{COMMANDS[command][0]}").VERBS
    return {
        verb.words[len(command) :].strip(): verb
        for verb in found
        if verb.words.split()[0] == command
    }


def parser_of(verb: Verb) -> Parser:
    """Return the parser of one command."""
    parser = Parser(prog=f"ecpds {verb.words}", description=f"{verb.help}.", allow_abbrev=False)
    verb.arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (cli.md section 8)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--script-worker"]:  # the single executable as a process for scripts
        importlib.import_module("ecpds.scripting.worker").main()
        return Exit.DONE
    try:
        code = _run(given)
        sys.stdout.flush()
    except EcpdsError as error:
        return _failed(error, given)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:  # who read our output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.UNEXPECTED
    except OSError as error:
        return _failed(CommandError(_told(error), Exit.UNEXPECTED), given)
    return code


def _run(given: list[str]) -> int:
    command = given[0] if given else "--help"
    if legacy.is_legacy(given):
        return legacy.run(given)
    if command in {"-h", "--help", "help"}:
        print(overview(), file=sys.stdout if given else sys.stderr)
        return Exit.DONE if given else Exit.USAGE
    if command == "--version":
        command = "version"
    if command not in COMMANDS:
        raise _unknown("command", command, COMMANDS)
    verbs = verbs_of(command)
    rest = given[1:]
    if "" not in verbs:
        word = rest[0] if rest else "--help"
        if word in {"-h", "--help"}:
            print(family(command), file=sys.stdout if rest else sys.stderr)
            return Exit.DONE if rest else Exit.USAGE
        if word not in verbs:
            raise _unknown(f"{command} command", word, verbs)
        verb, rest = verbs[word], rest[1:]
    else:
        verb = verbs[""]
    parser = parser_of(verb)
    # with a -- the intermixed way takes what stands behind it for options (Python 3.11)
    return verb.run(parser.parse_args(rest) if "--" in rest else parser.parse_intermixed_args(rest))


def _unknown(what: str, word: str, known: Mapping[str, Any]) -> CommandError:
    near = nearest(word, known)
    hint = f" (did you mean {near!r}?)" if near else ""
    return CommandError(f"there is no {what} {word!r}{hint}; see ecpds --help", Exit.USAGE)


def overview() -> str:
    """Return the help of all commands."""
    lines = [
        "usage: ecpds COMMAND ...",
        "",
        "A data hub: acquire, store, disseminate, serve, watch.",
    ]
    lines += ["", "commands:"]
    lines += [f"  {name:<13} {line}" for name, (_, line) in COMMANDS.items()]
    lines += [
        "",
        "`ecpds COMMAND --help` tells more.  Options with one - are those of the original",
    ]
    return "\n".join([*lines, "command, such as `ecpds -destination D -source F`."])


def family(command: str) -> str:
    """Return the help of the commands that share their first word."""
    lines = [f"usage: ecpds {command} COMMAND ...", "", f"{COMMANDS[command][1]}:"]
    lines += [f"  {word:<15} {verb.help}" for word, verb in verbs_of(command).items()]
    return "\n".join([*lines, "", f"`ecpds {command} COMMAND --help` tells more."])


def _told(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text


def _failed(error: EcpdsError, given: list[str]) -> int:
    code = exit_of(error)
    if _wants_json(given):
        facts = {"error": error.message, "code": reason_of(error), "exit": int(code)}
        print(json.dumps(facts, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)
    return code


def _wants_json(given: list[str]) -> bool:
    return "--output=json" in given or ("--output", "json") in pairwise(given)
