"""Texts about how long an account is good and from where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network

from ecpds.model.errors import InputError

Network = IPv4Network | IPv6Network


def read_until(text: str) -> datetime:
    """Return the end of an account: a date (it is good on that day) or a time, UTC if unsaid.

    Raises InputError.
    """
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no date such as 2031-05-04 or 2031-05-04T12:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if ":" in text else moment + timedelta(days=1)


def read_networks(text: str) -> tuple[Network, ...]:
    """Return networks separated by commas or spaces; raise InputError for what is none."""
    try:
        return tuple(ip_network(word, strict=False) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise InputError(str(error)) from None
