"""The account under which the servers of the tests serve."""

from __future__ import annotations

import os
import pwd

from ecpds.conformance.peer import Account as Account
from ecpds.conformance.peer import Peer as Peer
from ecpds.conformance.peer import own_account
from ecpds.conformance.peer import reach as reach
from tests.peers.programs import ProgramMissing, peers_folder

PEER_USER = "ecpds-peer"  # made by tests/install-peers.sh when run by root


def serving_account() -> Account:
    """Return the unprivileged test account when root, else the account that runs the tests.

    Raises:
        ProgramMissing: root, and tests/install-peers.sh has not made the account.
    """
    if os.geteuid() != 0:
        return own_account()
    try:
        entry = pwd.getpwnam(PEER_USER)
        password = (peers_folder() / "password").read_text().strip()
    except (KeyError, FileNotFoundError):
        raise ProgramMissing(f"user {PEER_USER}") from None
    return Account(name=PEER_USER, uid=entry.pw_uid, gid=entry.pw_gid, password=password)
