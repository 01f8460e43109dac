"""The options of the original command: `ecpds -destination D -source F`, with its texts.

A first argument with one `-` comes here.  Exit codes are those of all our commands; with
`--legacy-exit` a wrong use ends with 1 and whatever fails later with 255.  Spec: cli.md 1 and 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ecpds.cli.access import Retry, add_arguments
from ecpds.cli.codes import CommandError, Exit
from ecpds.model.errors import EcpdsError, InputError

FLAGS: Final = frozenset({
    "standby", "dontsend", "asap", "event", "noretrieval", "index", "remove", "requeue", "force",
    "purge", "expected", "started", "completed", "reset", "scheduler", "start", "stop", "check",
    "verbose", "debug", "help", "v",
})  # fmt: skip
VALUES: Final = frozenset({
    "destination", "source", "target", "original", "identity", "priority", "lifetime", "delay",
    "at", "format", "metadata", "version", "group", "groupby", "reqid", "s", "M", "waitfor",
    "buffer", "streams", "timeout", "echost", "ecport", "user", "pass", "caller", "opts",
    "buffsize", "connectTimeoutSec", "tryCount", "tryDelaySec",
})  # fmt: skip
PRODUCT: Final = ("completed", "expected", "reset", "started")  # the first one that is set counts
LONGEST: Final[Mapping[str, int]] = {"target": 255, "identity": 255, "groupby": 64}
POSITIVE: Final = ("buffsize", "connectTimeoutSec", "tryCount", "tryDelaySec")
PORT: Final = 8443
HOSTS: Final = "localhost"
MOST_HOSTS: Final = 10
USAGE: Final = """usage: ecpds -destination D -source FILE [-option [value] ...]
       ecpds -waitfor GROUP | -expected|-started|-completed|-reset -metadata M [-at T]
       ecpds -scheduler -start|-stop|-check [-streams N -timeout TIME] [-destination D]
The options of the original command; `ecpds --help` lists today's."""


class UsageError(CommandError):
    """Wrong options."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.USAGE)


class Options:
    """What was given, by option name without its `-`."""

    def __init__(self, values: Mapping[str, str], flags: frozenset[str]) -> None:
        self._values, self._flags = values, flags

    def __contains__(self, name: str) -> bool:
        return name in self._values or name in self._flags

    def text(self, name: str, default: str = "") -> str:
        """Return the value of an option."""
        return self._values.get(name, default)

    def number(self, name: str) -> int | None:
        """Return the value of an option that is a whole number, None without it."""
        text = self._values.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise UsageError(f"-{name} must be a positive integer")
        return int(text)


def is_legacy(given: Sequence[str]) -> bool:
    """Tell whether the first argument is an option of the original command."""
    first = given[0] if given else ""
    return first[:1] == "-" and first[:2] != "--" and first not in {"-h", "-"}


def run(given: Sequence[str]) -> int:
    """Run one command of the original; return its exit code."""
    words = list(given)
    legacy_exit = "--legacy-exit" in words
    if legacy_exit:
        words.remove("--legacy-exit")
    try:
        options, args = parse(words)
        if "help" in options or "v" in options:
            return _tell_about(options, legacy_exit=legacy_exit)
        return _chosen(options)(options, args)
    except EcpdsError as error:
        if not legacy_exit:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, UsageError) else 255


def _tell_about(options: Options, *, legacy_exit: bool) -> int:
    from ecpds import __version__

    print(f"ecpds {__version__}" if "v" in options else USAGE)
    return Exit.UNEXPECTED if legacy_exit else Exit.DONE


def parse(words: Sequence[str]) -> tuple[Options, Namespace]:
    """Return the options, and the connection that they and today's options name."""
    values: dict[str, str] = {}
    flags: set[str] = set()
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name = word[1:]
        if word.startswith("--"):
            rest = [word, *waiting]
            break
        if not word.startswith("-") or name not in FLAGS | VALUES:
            raise UsageError(f"illegal option {word}")
        if name in FLAGS:
            flags.add("standby" if name == "dontsend" else name)
        elif not waiting:
            raise UsageError(f"option requires an argument {word}")
        else:
            values[name] = waiting.pop(0)
    options = Options(values, frozenset(flags))
    if not {"help", "v"} & flags:
        check(options)
    return options, _connection(options, rest)


def check(options: Options) -> None:
    """Raise UsageError, in the words of the original, for options that do not go together."""
    has = options.__contains__
    for is_wrong, text in (
        (has("noretrieval") and not has("groupby"), "-noretrieval can only be used with -groupby"),
        (has("index") and not has("groupby"), "-index is only available with -groupby"),
        (has("groupby") and has("remove"), "-groupby and -remove are incompatible"),
        (
            has("force") and has("requeue"),
            "-force and -requeue are incompatible" + (" with -purge" if has("purge") else ""),
        ),
        (has("s") and has("M"), "-s and -M are incompatible"),
        *_scheduler_rules(options),
    ):
        if is_wrong:
            raise UsageError(text)
    priority = options.number("priority")
    if priority is not None and priority > 99:
        raise UsageError("-priority must be in 0..99")
    for name in POSITIVE:
        if name in options and not options.number(name):
            raise UsageError(f"-{name} must be a positive integer")
    for name, most in LONGEST.items():
        if len(options.text(name)) > most:
            text = f"Invalid value specified for the -{name} option (max length is {most})"
            raise UsageError(text)


def _scheduler_rules(options: Options) -> list[tuple[bool, str]]:
    acts = [name for name in ("start", "stop", "check") if name in options]
    scheduler = "scheduler" in options
    tunes = "timeout" in options or "streams" in options
    return [
        (scheduler and not acts, "-scheduler requires -start, -stop, or -check"),
        (len(acts) > 1, f"-{' and -'.join(acts)} are incompatible"),
        (bool(acts) and not scheduler, f"-{acts[0] if acts else ''} requires -scheduler"),
        (tunes and "check" not in acts, "-timeout and -streams require -check"),
    ]


def _connection(options: Options, rest: list[str]) -> Namespace:
    parser = argparse.ArgumentParser(prog="ecpds", add_help=False, exit_on_error=False)
    add_arguments(parser)
    parser.set_defaults(output="text", quiet=True)
    try:
        args = parser.parse_args(rest)
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from None
    except SystemExit:
        raise UsageError(f"illegal option {rest[0]}") from None
    hosts = options.text("echost") or os.environ.get("ECHOST", "")
    port = options.text("ecport") or os.environ.get("ECPORT", "")
    if (hosts or port) and not (args.server or args.profile):
        names = (hosts or HOSTS).split(",")
        if len(names) > MOST_HOSTS:
            raise UsageError(f"-echost names at most {MOST_HOSTS} hosts")
        args.server = f"https://{names[0].strip()}:{port or PORT}"
    if "pass" in options and not args.token_file:
        args.token = options.text("pass")
    if "tryCount" in options:
        count, delay = options.number("tryCount") or 1, options.number("tryDelaySec") or 10
        args.retry = Retry(count=count - 1, delay=float(delay))
    return args


def _chosen(options: Options) -> Callable[[Options, Namespace], int]:
    from ecpds.cli import legacyacts

    if "scheduler" in options:
        return legacyacts.scheduler
    if any(name in options for name in PRODUCT):
        return legacyacts.product
    if "waitfor" in options:
        return legacyacts.wait_for_group
    if "destination" not in options:
        raise UsageError("Destination not specified")
    if "source" not in options and "target" not in options:
        raise UsageError("-target option is mandatory when expecting input from stdin")
    if "purge" in options:
        return legacyacts.purge
    return legacyacts.register if "groupby" in options else legacyacts.push


def duration_of(options: Options, name: str) -> str | None:
    """Return a length of time with its unit; a number alone means hours."""
    from ecpds.model.units import iso_duration, parse_duration

    if name not in options:
        return None
    try:
        found = parse_duration(options.text(name), legacy_unit="h")
    except InputError:
        raise UsageError(f"-{name} must be a positive integer") from None
    if found.total_seconds() <= 0:
        raise UsageError(f"-{name} must be a positive integer")
    return iso_duration(found)


def time_of(options: Options) -> str | None:
    """Return `-at` as RFC 3339, UTC unless its text names a zone."""
    from ecpds.model.dates import DatePattern

    if "at" not in options:
        return None
    form = options.text("format", "yyyyMMddHHmmss")
    try:
        return DatePattern.parse(form).read(options.text("at")).isoformat()
    except InputError:
        raise UsageError(f"Invalid date format for the -at option ({form})") from None


def limit_of(options: Options, name: str) -> int | None:
    """Return `-s` or `-M` in bytes."""
    text = options.text(name)
    if not text:
        return None
    factor = {"k": 1024, "m": 1024 * 1024}.get(text[-1:].lower(), 1)
    digits = text[:-1] if factor > 1 else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise UsageError(f"-{name} must be a positive integer")
    return int(digits) * factor


def names_in(index: Path) -> list[str]:
    """Return the files that a local list names."""
    try:
        text = index.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise CommandError("getting source file status", Exit.USAGE) from None
    names = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = [name for name in names if name]
    if not found:
        raise CommandError("no file(s) found in index", Exit.USAGE)
    return found
