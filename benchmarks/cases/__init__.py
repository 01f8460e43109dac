"""One file a case; `ALL` gives their order in the table."""

from __future__ import annotations

from benchmarks.cases import ftp, https, sftp
from benchmarks.scene import Case

ALL: tuple[Case, ...] = (
    Case(name="https", share=150, open=https.comparisons),
    Case(name="ftp", share=125, open=ftp.comparisons),
    Case(name="sftp", share=150, open=sftp.comparisons),
)
