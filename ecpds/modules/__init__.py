"""The transfer modules that come with the hub; others use the entry-point group `ecpds.modules`."""

from __future__ import annotations

from typing import Any, Final

from ecpds.modules.local import FileModule
from ecpds.modules.sftp import SftpModule
from ecpds.modules.tester import TestModule
from ecpds.transfer.contract import TransferModule

BUILTIN: Final[tuple[type[TransferModule[Any]], ...]] = (FileModule, SftpModule, TestModule)
"""A tuple in code, so that the single-file binary needs no package metadata."""
