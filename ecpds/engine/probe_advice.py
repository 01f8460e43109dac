"""What to do about a failed step of a probe, in plain words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemotePin,
    RemoteSpace,
    RemoteTimeout,
    RemoteVerify,
)
from ecpds.transfer.contract import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a step was about."""

    host: str
    port: int | None = None
    login: str = ""
    directory: str = ""
    identity: Identity | None = None

    @property
    def door(self) -> str:
        """Return host and port as people write them."""
        return f"{self.host} port {self.port}" if self.port else self.host

    @property
    def folder(self) -> str:
        """Return the directory as people name it."""
        return self.directory or "the login's own directory"


def advice_on(error: EcpdsError, place: Place) -> str:
    """Return what a person can do about `error`."""
    if isinstance(error, RemoteError):
        for cls, phases, tell in _ADVICE:
            if isinstance(error, cls) and (not phases or error.phase in phases):
                return tell(error, place)
    return "Look into the log of this node for more."


def _pin(error: RemoteError, place: Place) -> str:
    shown = place.identity
    if shown is None:
        return "Ask the operator of the server whether its key or certificate has changed."
    sure = f"If the operator of {place.host} confirms that it is theirs, set {shown.pin_option}"
    if shown.kind == "host key":
        return f'{sure} = "{shown.fingerprint}"; if it changed without notice, do not.'
    return (
        f"Name its authority in ectrans.tlsCa if that is a private one; a certificate that has"
        f" expired or names another host is for the server's operator to replace."
        f' {sure} = "{shown.fingerprint}".'
    )


def _refused(error: RemoteError, place: Place) -> str:
    if error.remote_code == "ECONNREFUSED":
        return (
            f"Nothing listens at {place.door}: check the port, and that the server is running;"
            " a firewall may refuse us as well."
        )
    return f"Check the way to {place.door}: address, routes and firewalls on both sides."


_ADVICE: Final[
    tuple[
        tuple[type[RemoteError], frozenset[Phase], Callable[[RemoteError, Place], str]],
        ...,
    ]
] = (
    (
        RemoteError,
        frozenset({Phase.RESOLVE}),
        lambda e, p: (
            f"Check the spelling of {p.host!r}, and that the name service of this node knows it."
        ),
    ),
    (RemotePin, frozenset(), _pin),
    (
        RemoteAuth,
        frozenset({Phase.DATA, Phase.MKDIR, Phase.LIST, Phase.RENAME, Phase.VERIFY}),
        lambda e, p: (
            f"The login {p.login!r} works, but may not do this in {p.folder}: ask for the right."
        ),
    ),
    (
        RemoteAuth,
        frozenset(),
        lambda e, p: (
            f"Check login {p.login!r} and its password or key; it may be locked, expired"
            " or not allowed from this address."
        ),
    ),
    (RemoteConfig, frozenset(), lambda e, p: "Correct the options of the host."),
    (
        RemoteTimeout,
        frozenset({Phase.CONNECT}),
        lambda e, p: (
            f"{p.door} does not answer: check the address, and whether a firewall drops"
            " what we send."
        ),
    ),
    (
        ConnectionLost,
        frozenset({Phase.TLS, Phase.CONNECT}),
        lambda e, p: (
            f"Check that {p.door} speaks this protocol, with or without TLS as the host's"
            " options say."
        ),
    ),
    (RemoteError, frozenset({Phase.CONNECT}), _refused),
    (
        RemoteError,
        frozenset({Phase.TLS}),
        lambda e, p: f"Check that {p.door} speaks this protocol with TLS, and which versions.",
    ),
    (
        RemoteTimeout,
        frozenset(),
        lambda e, p: "The server is slow or hangs; try again, then ask its operator.",
    ),
    (
        RemoteSpace,
        frozenset(),
        lambda e, p: "The server has no room, or the login's quota is used up.",
    ),
    (
        RemoteMissing,
        frozenset(),
        lambda e, p: f"Create {p.folder} at the server, or correct the directory of the host.",
    ),
    (
        RemoteName,
        frozenset(),
        lambda e, p: f"Check that {p.folder} exists and that {p.login!r} may use it.",
    ),
    (
        RemoteVerify,
        frozenset(),
        lambda e, p: (
            "What arrives there is not what was sent: something on the way or at the"
            " server changes files."
        ),
    ),
    (
        ConnectionLost,
        frozenset(),
        lambda e, p: (
            "The server or something on the way cuts connections; try again, then look"
            " into the server's log."
        ),
    ),
    (RemoteError, frozenset(), lambda e, p: "Try again; if it stays, look into the server's log."),
)
