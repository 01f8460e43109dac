"""A Host: one remote system and how to use it.

The fields are the keys of a site file; defaults are those of entities.md section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from ecpds.model.decode import opt
from ecpds.model.secret import Secret


class HostRole(StrEnum):
    """What a Host is for."""

    DISSEMINATION = "dissemination"
    ACQUISITION = "acquisition"
    SOURCE = "source"
    BACKUP = "backup"
    PROXY = "proxy"
    REPLICATION = "replication"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Configuration of one Host."""

    id: int = opt(0, "Number given by the store.")
    name: str = opt("", "Nickname, unique.")
    role: HostRole = opt(HostRole.DISSEMINATION, "dissemination, acquisition, source, …")
    method: str = opt("", "Protocol: genericSftp, genericFtp, genericHttp, genericFile, …")
    active: bool = opt(True, "Only active hosts are used.")
    host: str = opt("", "Name or address of the remote system.")
    login: str = opt("", "User name there.")
    password: Secret = opt(Secret(""), "Password there; { file = … } or { env = … } or text.")
    directory: str = opt("", "Target template (dissemination) or listing lines (acquisition).")
    comment: str = opt("", "Free text.")
    max_connections: int = opt(1, "Parallel transfers; below 0 unlimited, 0 blocks.", low=-1)
    retry_count: int = opt(15, "Failures in a row before the next host is used.", low=0)
    retry_frequency: timedelta = opt(timedelta(seconds=15), "Pause between those.", low=0)
    acquisition_frequency: timedelta = opt(
        timedelta(minutes=10), "From the end of one discovery to the start of the next.", low=0
    )
    network_name: str = opt("Internet", "Network as shown.")
    network_code: str = opt("I", "Letter of the network.")
    filter_name: str = opt("none", "Compression of what is sent.")
    transfer_group: str = opt("", "Storage group of what is acquired.")
    check: bool = opt(False, "Test the host regularly.")
    check_frequency: timedelta = opt(timedelta(minutes=10), "How often.", low=0)
    check_filename: str = opt("ecpds.tst", "File written by the test.")
    user_mail: str = opt("", "Addresses for test results.")
    mail_on_success: bool = opt(False, "Mail when a test succeeds.")
    mail_on_error: bool = opt(False, "Mail when a test fails.")
    notify_once: bool = opt(False, "Mail only when the result changes.")
    latitude: float | None = opt(None, "Degrees north.", low=-90, high=90)
    longitude: float | None = opt(None, "Degrees east.", low=-180, high=180)
    options: dict[str, Any] = opt(dict, "Options such as sftp.port, by full key.")
    script: str = opt(
        "", "Script behind the options: reads the messages of a broker; kept for other hosts."
    )
    legacy: tuple[str, ...] = opt(
        (), "Texts that were imported and keep their old meaning: directory …"
    )
