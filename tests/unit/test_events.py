"""Classic event lines: examples of events.md by number."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ecpds.model.events import FIELDS, classic, classic_text, classic_time


def test_ex_1_times_keep_one_digit_of_the_fraction() -> None:
    """Trailing zeros are cut."""
    assert classic_time(datetime(2031, 5, 4, 10, 0, 0, 500000, UTC)) == "2031-05-04 10:00:00.5"
    assert classic_time(datetime(2031, 5, 4, 10, 0, 0, 0, UTC)) == "2031-05-04 10:00:00.0"


def test_ex_2_separators_in_values_are_escaped() -> None:
    """A file named a;b does not break the line."""
    assert classic_text("a;b") == "a%3Bb"
    assert classic_text("a%\r\nb") == "a%25%0D%0Ab"


def test_ex_3_a_refused_login() -> None:
    """DEA."""
    record = {
        "type": "DEA",
        "ts": "2031-05-04T10:00:00.500Z",
        "user": {"id": "bob"},
        "error": {"message": "Disabled"},
        "context": "Using ftp on DataMover=m1 from bob@198.51.100.7",
    }
    assert classic(record) == (
        "DEA;TimeStamp=2031-05-04 10:00:00.5;UserId=bob;Message=Disabled;"
        "Context=Using ftp on DataMover=m1 from bob@198.51.100.7"
    )


def test_ex_4_a_download() -> None:
    """INH, every field in its order."""
    record = {
        "type": "INH",
        "ts": "2031-05-04T10:00:01.000Z",
        "transfer_id": 901,
        "destination": {"name": "MET", "type": "Gold", "monitored": True, "country": "fr"},
        "file": {"name": "a.grb", "size": 42},
        "meta": {
            "stream": "WAVE",
            "type": None,
            "time": "00",
            "base": "2031-05-04T00:00:00Z",
            "step": 12,
        },
        "scheduled": "2031-05-04T09:00:00Z",
        "started": "2031-05-04T10:00:00Z",
        "expires": "2031-05-06T09:00:00Z",
        "duration_ms": 7,
        "user": {"id": "bob", "description": "Bob", "country": "fr"},
        "bytes": 42,
        "net": {"protocol": "sftp", "client": "198.51.100.7", "server": "m1"},
        "volume": 0,
        "action": "download",
    }
    assert classic(record) == (
        "INH;Monitored=true;TimeStamp=2031-05-04 10:00:01.0;DataTransferId=901;"
        "DestinationName=MET;DestinationType=Gold;FileName=a.grb;FileSize=42;"
        "ScheduledTime=2031-05-04 09:00:00.0;StartTime=2031-05-04 10:00:00.0;MetaStream=WAVE;"
        "MetaType=-;MetaTime=00;TimeBase=2031-05-04 00:00:00.0;TimeStep=12;Duration=7;UserId=bob;"
        "CountryCode=fr;UserDescription=Bob;BytesSent=42;TransferProtocol=sftp;TransferServer=m1;"
        "HostAddress=198.51.100.7;Caller=-;ExpiryTime=2031-05-06 09:00:00.0;FileSystem=0;"
        "Action=download"
    )


@pytest.mark.parametrize("code", sorted(FIELDS))
def test_no_classic_field_is_named_twice(code: str) -> None:
    """Readers look fields up by name."""
    names = [name for name, _ in FIELDS[code]]
    assert len(names) == len(set(names))


def test_types_of_the_json_form_have_no_classic_line() -> None:
    """ADM, DEL, EXP and their like."""
    assert classic({"type": "ADM"}) is None


def test_a_failed_retrieval_says_so_at_the_end() -> None:
    """RET with Status and Message."""
    line = classic({"type": "RET", "outcome": "failed", "error": {"message": "gone"}})
    assert line is not None
    assert line.endswith(";Status=false;Message=gone")
