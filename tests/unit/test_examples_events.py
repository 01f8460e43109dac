"""events.md 4: the fields of each code, in their order; which types have a classic line."""

from __future__ import annotations

import pytest

from ecpds.model.events import FIELDS, classic

HEAD = "Monitored TimeStamp DataTransferId DestinationName DestinationType FileName FileSize"
META = "MetaStream MetaType MetaTime"
TEXTS = {
    "PRS": "TimeStamp StatusCode DataStream TimeStep TimeBase Type ScheduleTime LastUpdate",
    "RET": f"{HEAD} Identity ScheduledTime StartTime {META} TimeBase TimeStep Duration HostId "
    "HostLogin HostAddress TransferProtocol MoverName UserId RequestAddress DataOnlyDuration "
    "StandBy RemoteHost",
    "UPH": f"{HEAD} Identity {META} Priority QueueTime RequeueCount ScheduledTime StartTime "
    "PutTime Duration DurationOnClose BytesSent StatusCode RetrievalTime TimeBase TimeStep "
    "FinishTime TransferProtocol TransferServer NetworkCode HostAddress PreSchedule ProxyHost "
    "Proxied SocketStatistics Compressed CompressedOnTheFly",
    "INH": f"{HEAD} ScheduledTime StartTime {META} TimeBase TimeStep Duration UserId CountryCode "
    "UserDescription BytesSent TransferProtocol TransferServer HostAddress Caller ExpiryTime "
    "FileSystem Action",
    "ERR": f"{HEAD} ScheduledTime StartTime {META} TimeBase TimeStep Duration UserId CountryCode "
    "BytesSent TransferProtocol TransferServer HostAddress NetworkCode Message",
    "CPY": f"{HEAD} ScheduledTime StartTime {META} TimeBase TimeStep Duration CountryCode Target "
    "TransferServer Caller ExpiryTime FileSystem Status Message Action",
    "DEA": "TimeStamp UserId Message Context",
}


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_events_4_fields_in_their_order(code: str) -> None:
    assert [name for name, _ in FIELDS[code]] == TEXTS[code].split()
    line = classic({"type": code, "ts": "2031-05-04T10:00:00.000Z"})
    assert line is not None
    assert line.split(";")[0] == code
    names = [part.partition("=")[0] for part in line.split(";")[1:]]
    assert names == TEXTS[code].split()


def test_events_4_no_other_code_has_a_classic_line() -> None:
    assert set(FIELDS) == set(TEXTS)
    for code in ("LOG", "ADM", "DEL", "EXP", "PUB", "QTA", "SYS"):
        assert classic({"type": code, "ts": "2031-05-04T10:00:00.000Z"}) is None


def test_events_1_missing_values_are_a_dash() -> None:
    """Booleans that nobody told are false."""
    line = classic({"type": "UPH", "ts": "2031-05-04T10:00:00.000Z"})
    assert line is not None
    values = dict(part.split("=", 1) for part in line.split(";")[1:])
    assert {values[name] for name in ("MetaStream", "ProxyHost", "RetrievalTime", "PutTime")} == {
        "-"
    }
    assert values["Proxied"] == values["CompressedOnTheFly"] == "false"


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        ("ignored", ";ErrorMessage=Product status already completed (notification ignored)"),
        ("ok", ";LastUpdate=-"),
    ],
)
def test_events_4_an_ignored_notification_says_why(outcome: str, end: str) -> None:
    text = "Product status already completed (notification ignored)"
    line = classic({"type": "PRS", "outcome": outcome, "error": {"message": text}})
    assert line is not None
    assert line.endswith(end)
