"""Hosts of the original's `ecauth` module, whose helper no other site has, as SFTP hosts.

Both log in by SSH with the same identity, so that address, account, key and names carry over; what
belongs to the helper does not.  Such a host stays inactive until somebody has looked at it: its
host key has to be pinned, and its directory is not the helper's.

Spec: transfer-modules-protocols.md section 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

METHOD: Final = "genericSftp"
PREFIX: Final = "ecauth."

SAME: Final = frozenset({
    "cipher", "compression", "connecttimeout", "cwd", "execcmd", "execcode", "fingerprint",
    "ignorecheck", "ignoredelete", "ignoremkdirscmderrors", "keepalive", "listenaddress",
    "mkdirs", "mkdirscmdindex", "mksuffix", "passphrase", "port", "postmkdirscmd", "prefix",
    "premkdirscmd", "privatekey", "privatekeyfile", "serveralivecountmax", "serveraliveinterval",
    "sessiontimeout", "suffix", "usecleanpath", "usenoop", "usetmp",
})  # fmt: skip
"""Keys that `sftp` has under the same name."""

OTHER: Final[Mapping[str, str]] = {"user": "login", "pass": "password", "chmodoncopy": "chmod"}
NONE: Final = "belongs to the helper of ecauth: an SFTP server has no such thing"


def is_ecauth(name: str, modules: Mapping[str, str]) -> bool:
    """Tell whether a method (its module is looked up) is one of ecauth."""
    module = modules.get(name.lower(), name).lower()
    return module.removeprefix("generic") == "ecauth"


def as_sftp(options: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the options of the SFTP host, and why others are left out, by their key."""
    taken: dict[str, str] = {}
    left: dict[str, str] = {}
    for key, value in options.items():
        if not key.lower().startswith(PREFIX):
            taken[key] = value
            continue
        own = key[len(PREFIX) :]
        if own.lower() in SAME:
            taken[f"sftp.{own}"] = value
        elif own.lower() in OTHER:
            taken[f"sftp.{OTHER[own.lower()]}"] = value
        else:
            left[key] = NONE
    return taken, left


def inactive(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return the host, not to be used before somebody has looked at it."""
    note = "was an ecauth host: pin its key (ecpds host test), check its directory, then activate"
    comment = str(host.get("comment") or "")
    return {**host, "active": False, "comment": f"{comment}; {note}" if comment else note}
