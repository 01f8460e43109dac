"""Transfer modules: clients of remote systems, one protocol a file.

Others come by the entry-point group `ecpds.modules`.
"""

from __future__ import annotations

from typing import Any

from ecpds.modules.azure import AzureModule
from ecpds.modules.exec import ExecModule
from ecpds.modules.ftp import FtpModule
from ecpds.modules.ftps import FtpsModule
from ecpds.modules.gcs import GcsModule
from ecpds.modules.http import HttpModule
from ecpds.modules.local import FileModule
from ecpds.modules.mqtt import MqttModule
from ecpds.modules.portal import PortalModule
from ecpds.modules.s3 import S3Module
from ecpds.modules.sftp import SftpModule
from ecpds.modules.tester import TestModule
from ecpds.modules.webdav import WebdavModule
from ecpds.transfer.contract import TransferModule

# A tuple in code, so that the single-file binary needs no package metadata.
BUILTIN: tuple[type[TransferModule[Any]], ...] = (
    AzureModule,
    ExecModule,
    FileModule,
    FtpModule,
    FtpsModule,
    GcsModule,
    HttpModule,
    MqttModule,
    PortalModule,
    S3Module,
    SftpModule,
    TestModule,
    WebdavModule,
)
