"""Users of the v1 API: a password, and a regular expression on the services that they may call."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ecpds.model.errors import InputError

LONGEST: Final = 1000  # characters of the expression


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiUser:
    """One user; `services` must match the whole name of a service."""

    name: str
    active: bool = True
    comment: str = ""
    services: str = ""
    has_password: bool = False

    def may(self, service: str) -> bool:
        """Tell whether the user may call that service; an expression that is none allows none."""
        try:
            return re.fullmatch(self.services, service) is not None
        except re.error:
            return False


def check_services(text: str) -> str:
    """Return an expression on service names; InputError when it cannot be read."""
    if len(text) > LONGEST:
        raise InputError(f"services: more than {LONGEST} characters", pointer="services")
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(
            f"services: {text!r} is no regular expression: {error}", pointer="services"
        ) from None
    return text
