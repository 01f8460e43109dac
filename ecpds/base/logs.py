"""The daemon's own log: constant messages, facts as fields, context from where the code runs."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

_CONTEXT: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("log_context")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
MOST_TEXT = 2000  # characters of one field


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add fields to every line logged inside the block."""
    token = _CONTEXT.set({**_CONTEXT.get(_NOTHING), **fields})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


class Logger:
    """Logs a constant message with named facts."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def _log(
        self, level: int, message: str, fields: dict[str, Any], exc: BaseException | None
    ) -> None:
        if self._logger.isEnabledFor(level):
            facts = {**_CONTEXT.get(_NOTHING), **fields}
            self._logger.log(level, message, extra={"facts": facts}, exc_info=exc)

    def debug(self, message: str, **fields: Any) -> None:
        """Protocol lines and the like; secrets masked by the caller."""
        self._log(logging.DEBUG, message, fields, None)

    def info(self, message: str, **fields: Any) -> None:
        """What an operator would tell a colleague."""
        self._log(logging.INFO, message, fields, None)

    def warning(self, message: str, **fields: Any) -> None:
        """Went wrong and will be tried again."""
        self._log(logging.WARNING, message, fields, None)

    def error(self, message: str, *, exc: BaseException | None = None, **fields: Any) -> None:
        """A person is needed; `exc` adds the trace."""
        self._log(logging.ERROR, message, fields, exc)


def get_logger(name: str) -> Logger:
    """Return the logger of a file."""
    return Logger(logging.getLogger(name))


def _plain(value: Any) -> Any:
    text = value if isinstance(value, (int, float, bool)) or value is None else str(value)
    return text[:MOST_TEXT] if isinstance(text, str) else text


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts = getattr(record, "facts", _NOTHING)
        line.update({key: _plain(value) for key, value in facts.items() if key not in line})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For people: time, level, message, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; control characters in facts are escaped."""
        facts = getattr(record, "facts", _NOTHING)
        tail = "".join(f" {key}={_shown(value)}" for key, value in facts.items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}{tail}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _shown(value: Any) -> str:
    text = str(_plain(value))
    if text and text.isprintable() and not any(c in text for c in ' "='):
        return text
    return json.dumps(text, ensure_ascii=False)


def set_up(
    level: str, form: str, *, path: Path | None = None, stream: TextIO | None = None
) -> list[logging.Handler]:
    """Send the log to `stream` (default standard error) and `path`; return the handlers."""
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    handlers: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    if path is not None:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8", delay=True))
    root = logging.getLogger("ecpds")
    root.setLevel(level.upper())
    root.propagate = False
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    return handlers


def adjust(level: str, form: str) -> None:
    """Change level and form of the log where it goes already."""
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    root = logging.getLogger("ecpds")
    root.setLevel(level.upper())
    for handler in root.handlers:
        handler.setFormatter(formatter)
