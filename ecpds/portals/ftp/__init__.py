"""The FTP and FTPS portal: a server of our own, as no library has the speed and the verbs."""

from __future__ import annotations

from ecpds.portals.ftp.server import FtpPortal

__all__ = ["FtpPortal"]
