"""What the original command does, through today's API and with the original's texts."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from ecpds.cli.client import Client, connect, segment
from ecpds.cli.codes import CommandError, Exit
from ecpds.cli.legacy import (
    PRODUCT,
    Options,
    UsageError,
    duration_of,
    limit_of,
    names_in,
    time_of,
)
from ecpds.cli.product import place_of, step_of
from ecpds.cli.upload import Form
from ecpds.model.metadata import parse_metadata, product_of

Found = dict[str, Any]
STDIN: Final = "stdin"
LIVE: Final = {"limit": 500}


def push(options: Options, args: Namespace) -> int:
    """Store a file now; `-requeue` and `-force` replace one that is there."""
    source = options.text("source")
    fields = _fields(options, _target(options))
    with connect(args) as client:
        _check_destination(client, options)
        if "requeue" in options and not _present(client, options):
            raise CommandError("No corresponding DataTransfer(s) to requeue", Exit.NOT_FOUND)
        if not source:
            answer = _upload(client, fields, STDIN, sys.stdin.buffer, None)
        else:
            size = _checked_size(options, Path(source))
            with Path(source).open("rb") as file:
                answer = _upload(client, fields, Path(source).name, file, size)
    print(_said(answer["transfers"], answer["data_file"]["id"], answer["updated"]))
    if "remove" in options and source:
        Path(source).unlink()
    return Exit.DONE


def _upload(client: Client, fields: Found, name: str, file: IO[bytes], size: int | None) -> Found:
    texts = {
        key: json.dumps(value) if isinstance(value, dict) else str(value)
        for key, value in fields.items()
    }
    try:
        found: Found = client.upload("/files", Form(texts, name, file, size=size))
    except CommandError as error:
        if error.exit_code is Exit.UNREACHABLE:
            raise CommandError(f"connection failed to {error}", Exit.UNREACHABLE) from None
        if error.reason == "duplicate":
            hint = f"{error.message}, please use the '-requeue/force/purge' option!"
            raise CommandError(hint, error.exit_code, reason=error.reason) from None
        raise
    return found


def _checked_size(options: Options, path: Path) -> int:
    try:
        state = path.stat()
    except OSError as error:
        text = f"getting source file status - {error.strerror}"
        raise CommandError(text, Exit.USAGE) from None
    if not path.is_file():
        raise CommandError("named pipe supported in groupby mode only", Exit.USAGE)
    _check_limits(options, state.st_size)
    return state.st_size


def _check_limits(options: Options, size: int) -> None:
    exact, most = limit_of(options, "s"), limit_of(options, "M")
    if most is not None and size > most:
        raise CommandError("size of file exceeds maximum specified", Exit.LIMIT)
    if exact is not None and size != exact:
        raise CommandError("size of file differs from specified value", Exit.LIMIT)


def register(options: Options, args: Namespace) -> int:
    """Queue a file that the node fetches; one that is there already is accepted silently."""
    source = options.text("source")
    if not source:
        raise UsageError("-source is mandatory with -groupby")
    body = _fields(options, _target(options)) | {"group": options.text("groupby")}
    body["source"] = source if "://" in source else os.path.abspath(source)  # noqa: PTH100 - a name
    if "index" in options:
        names = names_in(Path(source))
        if len(names) > 1:
            body |= {"index": True, "size": _total(options, names)}
        else:
            body["source"] = names[0]
    if "noretrieval" in options:
        body["no_store"] = True
    if body["on_duplicate"] == "fail":
        body["on_duplicate"] = "skip"
    with connect(args) as client:
        _check_destination(client, options)
        answer = client.call("POST", "/files", body=body)
    number, transfers = answer["data_file"]["id"], answer["transfers"]
    if answer["skipped"]:
        print(f"DataFile already exist with {len(transfers)} DataTransfer(s) (DataFileId={number})")
        return Exit.DONE
    when = "standby mode" if "standby" in options else _when(transfers)
    print(f"{len(transfers)} DataTransfer(s) initialized for group {options.text('groupby')}: "
          f"{when} (DatafileId={number})")  # fmt: skip
    return Exit.DONE


def _total(options: Options, names: list[str]) -> int:
    """Return the sum of the sizes of listed files that are here, -1 when one is not."""
    total = 0
    for name in names:
        try:
            total += Path(name).stat().st_size
        except OSError:
            return -1
    _check_limits(options, total)
    return total


def _target(options: Options) -> str:
    target = options.text("target")
    base = options.text("source").rstrip("/").rpartition("/")[2]
    return target + base if not target or target.endswith("/") else target


def _fields(options: Options, target: str) -> Found:
    duplicates = {"force": "overwrite", "requeue": "overwrite"}
    given: Found = {
        "destination": options.text("destination"),
        "target": target,
        "original": options.text("original") or options.text("source") or target,
        "identity": options.text("identity"),
        "priority": options.number("priority"),
        "lifetime": duration_of(options, "lifetime"),
        "delay": duration_of(options, "delay"),
        "at": time_of(options),
        "version": options.text("version"),
        "metadata": parse_metadata(options.text("metadata")) or None,
        "on_duplicate": next((duplicates[one] for one in duplicates if one in options), "fail"),
    }
    for flag in ("standby", "asap", "event"):
        if flag in options:
            given[flag] = True
    return {key: value for key, value in given.items() if value not in (None, "")}


def _said(transfers: list[Found], number: int, updated: bool) -> str:
    held = all(one["status"] == "standby" for one in transfers)
    when = "in standby" if held else f"will start at: {_when(transfers)}"
    end = " (updated)" if updated else ""
    return f"{len(transfers)} DataTransfer(s) {when} (DatafileId={number}){end}"


def _when(transfers: list[Found]) -> str:
    first = min(one["scheduled"] for one in transfers)
    return f"{datetime.fromisoformat(first):%b %d %H:%M:%S}"


def _check_destination(client: Client, options: Options) -> None:
    name = options.text("destination")
    try:
        client.call("GET", f"/destinations/{segment(name)}", query={"fields": "name"})
    except CommandError as error:
        if error.exit_code is Exit.NOT_FOUND:
            raise CommandError(f"Destination {name} not found", Exit.NOT_FOUND) from None
        if error.reason != "denied":
            raise


def _present(client: Client, options: Options) -> list[Found]:
    """Return the live transfers of the key that the options name."""
    target = _target(options).lstrip("/")
    literal = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in target)
    query = LIVE | {"destination": options.text("destination"), "target": literal}
    version = options.text("version") or None
    return [one for one in client.items("/transfers", query) if one["version"] == version]


def purge(options: Options, args: Namespace) -> int:
    """Delete a file with all its transfers, by its key or by `-reqid`."""
    with connect(args) as client:
        _check_destination(client, options)
        if "reqid" in options:
            files = {options.number("reqid") or 0}
        else:
            files = {one["data_file_id"] for one in _present(client, options)}
        if not files:
            raise CommandError("No corresponding DataTransfer(s) to purge", Exit.NOT_FOUND)
        if len(files) > 1:
            text = f"{len(files)} DataFiles found, please use the '-reqid' option"
            raise CommandError(text, Exit.CONFLICT)
        number = files.pop()
        found = client.call("GET", f"/files/{number}")
        count = sum(not one["deleted"] for one in found["transfers"])
        client.call("DELETE", f"/files/{number}", match="*")
    print(f"Purge completed with {count} DataTransfer(s) deleted")
    return Exit.DONE


def wait_for_group(options: Options, args: Namespace) -> int:
    """Wait for a batch."""
    from ecpds.cli import group

    args.name, args.fail_fast, args.quiet = options.text("waitfor"), False, False
    wait = next(verb for verb in group.VERBS if verb.words == "group wait")
    return wait.run(args)


def product(options: Options, args: Namespace) -> int:
    """Report or forget the product that the metadata name."""
    verb = next(name for name in PRODUCT if name in options)
    values = parse_metadata(options.text("metadata"))
    if verb == "reset":
        return _reset(values, args)
    if not all(values.get(key) for key in ("stream", "time", "step")):
        raise UsageError("Missing metadata value(s) (stream, time and/or step)")
    now = datetime.fromtimestamp(0).astimezone()
    known = product_of(values, file_time=None, now=now)
    body: Found = {"status": verb, "schedule": time_of(options)}
    if "date" in values:
        body["base"] = known.time_base.isoformat()
    if options.text("buffer") not in {"", "0"}:
        body["buffer"] = duration_of(options, "buffer")
    path = step_of(known.stream, known.time, known.time_step, known.type)
    with connect(args) as client:
        found = client.call("PUT", path, body=_given(body))
    print(found["message"])
    return Exit.DONE


def _given(body: Found) -> Found:
    return {key: value for key, value in body.items() if value is not None}


def _reset(values: dict[str, str], args: Namespace) -> int:
    stream, time = values.get("domain", "") + values.get("stream", ""), values.get("time", "")
    if bool(stream) != bool(time):
        raise UsageError("Missing metadata value(s) (stream and/or time)")
    query = {"step": values["step"]} if stream and values.get("step") else {}
    with connect(args) as client:
        path = place_of(stream, time) if stream else "/products"
        print(client.call("DELETE", path, query=query)["message"])
    return Exit.DONE


def scheduler(options: Options, args: Namespace) -> int:
    """Pause, resume or tune retrieval; with `-destination` start or stop that destination."""
    name = options.text("destination")
    verb = next(one for one in ("start", "stop", "check") if one in options)
    with connect(args) as client:
        if name and verb != "check":
            client.call("POST", f"/destinations/{segment(name)}/actions/{verb}", body={})
            print(f"Destination {'started' if verb == 'start' else 'stopped'}")
            return Exit.DONE
        if name:
            _check_destination(client, options)
            print("Destination found")
            return Exit.DONE
        if verb != "check":
            found = client.call("POST", f"/retrieval/actions/{verb}", body={})
        else:
            found = _tuned(client, options)
    state = "stopped" if found["stopped"] else "started"
    timeout = found["stream_timeout"] or "-"
    print(f"Scheduler {state} (streams={found['streams']},timeout={timeout})")
    return Exit.DONE


def _tuned(client: Client, options: Options) -> Found:
    timeout = options.text("timeout")
    if timeout.isascii() and timeout.isdigit():
        timeout += "ms"
    body = _given({"streams": options.number("streams"), "stream_timeout": timeout or None})
    found: Found = client.call("PATCH" if body else "GET", "/retrieval", body=body or None)
    return found
