"""The `ecpds` command: finds the sub-command, imports it, runs it, turns errors into exit codes."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any, Protocol

from ecpds import __version__
from ecpds.cli.codes import CommandError, Exit
from ecpds.model.errors import EcpdsError, InputError

# Name of the sub-command -> file that has it, and its line in the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve", "run the daemon in the foreground"),
    "init": ("serve", "create the data directory, keys and administrator"),
    "config": ("config", "check or show the settings"),
    "apply": ("site", "bring the configuration to what a site file says"),
    "export": ("site", "print the configuration as a site file"),
    "destination": ("objects", "manage destinations"),
    "host": ("objects", "manage hosts"),
    "user": ("objects", "manage data users"),
    "policy": ("objects", "manage policies"),
    "web-user": ("objects", "manage dashboard accounts"),
    "token": ("objects", "manage API tokens"),
    "push": ("push", "store files and queue them for a destination"),
    "get": ("files", "fetch a file of a destination"),
    "ls": ("files", "list the files of a destination"),
    "rm": ("files", "delete files of a destination"),
    "transfer": ("transfer", "look at transfers"),
    "requeue": ("transfer", "give transfers another try"),
    "hold": ("transfer", "hold transfers"),
    "release": ("transfer", "release held transfers"),
    "stop": ("transfer", "stop transfers"),
    "version": ("config", "print the release"),
}


class Command(Protocol):
    """What each file of sub-commands offers."""

    def arguments(self, name: str, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments of the sub-command `name`."""

    def run(self, name: str, args: argparse.Namespace) -> int:
        """Run it; return the exit code."""


def _command(name: str) -> Any:
    return importlib.import_module(f"ecpds.cli.{COMMANDS[name][0]}")


def _parser(wanted: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ecpds", description="A data hub: acquire, store, disseminate, serve, watch."
    )
    parser.add_argument("--version", action="version", version=f"ecpds {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, line) in COMMANDS.items():
        made = commands.add_parser(name, help=line, description=line)
        if name == wanted:
            _command(name).arguments(name, made)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (cli.md section 8)."""
    given = sys.argv[1:] if arguments is None else arguments
    wanted = next((word for word in given if not word.startswith("-")), None)
    try:
        args = _parser(wanted if wanted in COMMANDS else None).parse_args(given)
        return int(_command(args.command).run(args.command, args))
    except CommandError as error:
        return _failed(error, error.exit_code, given)
    except InputError as error:
        return _failed(error, Exit.USAGE, given)
    except EcpdsError as error:
        return _failed(error, Exit.UNEXPECTED, given)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return Exit.DONE


def _failed(error: EcpdsError, code: Exit, given: list[str]) -> int:
    if "json" in given or "--output=json" in given:
        print(json.dumps({"error": error.message, "code": error.code}), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)
    return code
