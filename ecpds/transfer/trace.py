"""Telling every act of a session in the log, for Hosts with `ectrans.debug`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ecpds.base.logs import get_logger
from ecpds.model.errors import root_message
from ecpds.transfer.contract import TransferModule

log = get_logger(__name__)

ACTS: Final = (
    "stat", "size", "open_local", "put", "rename", "delete", "mkdir", "rmdir", "checksum",
)  # fmt: skip
STREAMS: Final = ("list", "get")


def trace(module: TransferModule[Any]) -> None:
    """Make a session tell its acts: name, arguments, outcome and duration; contents never."""
    log.info("session opened", module=module.name, peer=module.peer)
    for name in ACTS:
        setattr(module, name, _told(name, getattr(module, name)))
    for name in STREAMS:
        setattr(module, name, _begun(name, getattr(module, name)))


def _told(name: str, act: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def told(*args: Any, **kwargs: Any) -> Any:
        begun = time.monotonic()
        outcome = "ok"
        try:
            return await act(*args, **kwargs)
        except BaseException as error:
            outcome = root_message(error)
            raise
        finally:
            seconds = round(time.monotonic() - begun, 6)
            log.info("act", act=name, names=_names(args), outcome=outcome, seconds=seconds)

    return told


def _begun(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    def begun(*args: Any, **kwargs: Any) -> Any:
        log.info("act", act=name, names=_names(args), outcome="begun")
        return act(*args, **kwargs)

    return begun


def _names(args: tuple[Any, ...]) -> list[str]:
    return [arg for arg in args if isinstance(arg, str)]
