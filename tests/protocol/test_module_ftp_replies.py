"""What an FTP server may say, and what it means."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecpds.model.entry import Kind
from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTransient,
)
from ecpds.modules.ftp_control import MAX_LINE, MAX_LINES, Reply, ReplyParser, argument, refusal
from ecpds.modules.ftp_data import epsv_port, pasv_address, port_command
from ecpds.modules.ftp_listing import LineSplitter, below, facts_entry, safe_path, stamp

MANY = (
    b"220-hello\r\n220-there\r\n220 welcome\r\n"  # old servers repeat the code
    b"211-Features:\r\n SIZE\r\n 211 is no end\r\n211 End\r\n"
    b"250\r\n"
)


def test_replies_of_one_and_of_many_lines() -> None:
    """RFC 959 4.2: the code with a blank ends it, nothing else."""
    found = ReplyParser().feed(MANY)
    assert found == [
        Reply(220, ("hello", "there", "welcome")),
        Reply(211, ("Features:", " SIZE", " 211 is no end", "End")),
        Reply(250, ("",)),
    ]


@given(st.lists(st.integers(0, len(MANY)), max_size=12))
def test_replies_do_not_depend_on_packets(cuts: list[int]) -> None:
    """However the bytes are cut."""
    parser, found, edges = ReplyParser(), [], [0, *sorted(cuts), len(MANY)]
    for start, end in pairwise(edges):
        found += parser.feed(MANY[start:end])
    assert found == ReplyParser().feed(MANY)
    assert not parser.in_middle


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"\r\n",
        b"999 no such class\r\n",
        b"22\r\n",
        b"220:odd\r\n",
        b"x" * (MAX_LINE + 1),
        b"220 " + b"x" * MAX_LINE + b"\r\n",
        b"220-a\r\n" + b" b\r\n" * MAX_LINES,
    ],
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    """Also what is too long to be one."""
    with pytest.raises(ValueError, match=r"FTP|line"):
        ReplyParser().feed(data)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    """Replies or ValueError."""
    with suppress(ValueError):
        ReplyParser().feed(data)


@pytest.mark.parametrize(
    ("code", "text", "missing", "kind"),
    [
        (421, "bye", False, RemoteTransient),
        (425, "no data connection", False, RemoteTransient),
        (426, "aborted", True, RemoteTransient),
        (450, "busy", False, RemoteTransient),
        (450, "busy", True, RemoteTransient),
        (450, "f: No such file or directory", True, RemoteMissing),
        (451, "local error", False, RemoteTransient),
        (452, "insufficient storage", False, RemoteSpace),
        (530, "not logged in", False, RemoteAuth),
        (530, "Sorry, the maximum number of clients (3) are connected", False, RemoteTransient),
        (534, "policy", False, RemoteConfig),
        (550, "d/f: no such directory", False, RemoteName),
        (550, "nothing there", True, RemoteMissing),
        (550, "Permission denied", True, RemoteName),
        (550, "Disk quota exceeded", False, RemoteSpace),
        (552, "exceeded storage allocation", False, RemoteSpace),
        (553, "bad name", False, RemoteName),
    ],
)
def test_refusals_have_classes(
    code: int, text: str, missing: bool, kind: type[RemoteError]
) -> None:
    """transfer-modules.md section 6."""
    error = refusal(Reply(code, (text,)), "the act", Phase.DATA, missing=missing)
    assert type(error) is kind
    assert (error.remote_code, error.remote_text) == (str(code), text)


def test_the_text_of_a_reply_is_fit_to_be_shown() -> None:
    """Bounded, one line, no control characters."""
    text = Reply(550, ("a\x1b[31m", "b" * 1000)).text
    assert text.startswith("a?[31m / bbb")
    assert len(text) == 500


@pytest.mark.parametrize("name", ["a\rb", "a\nDELE b", "a\0"])
def test_a_name_cannot_smuggle_commands(name: str) -> None:
    with pytest.raises(RemoteName):
        argument(name)


def test_passive_answers() -> None:
    """RFC 2428 and RFC 959; what cannot be read can be tried again."""
    assert epsv_port("Entering Extended Passive Mode (|||6446|)") == 6446
    assert epsv_port("(!!!21!)") == 21
    assert pasv_address("Entering Passive Mode (10,0,0,1,4,1).") == ("10.0.0.1", 1025)
    for text in ("", "(|||0|)", "(|||70000|)", "(||1|)"):
        with pytest.raises(RemoteTransient):
            epsv_port(text)
    for text in ("", "(1,2,3,4,5)", "(256,0,0,1,4,1)", "(10,0,0,1,0,0)"):
        with pytest.raises(RemoteTransient):
            pasv_address(text)


def test_active_commands() -> None:
    """RFC 959 and RFC 2428."""
    assert port_command(2, "10.0.0.1", 1025, extended=False) == "PORT 10,0,0,1,4,1"
    assert port_command(2, "10.0.0.1", 1025, extended=True) == "EPRT |1|10.0.0.1|1025|"
    assert port_command(10, "::1", 1025, extended=True) == "EPRT |2|::1|1025|"


def test_facts() -> None:
    """RFC 3659; names may have blanks in front and semicolons."""
    entry = facts_entry("Type=file;Size=12;Modify=20250304050607.5;UNIX.mode=0644;  a;b =c")
    assert entry is not None
    assert (entry.kind, entry.name, entry.size, entry.mode) == (Kind.FILE, " a;b =c", 12, 0o644)
    assert entry.mtime == datetime(2025, 3, 4, 5, 6, 7, 500_000, tzinfo=UTC)
    link = facts_entry("type=OS.unix=slink:/target;size=7; l")
    assert link is not None
    assert (link.kind, link.link, link.size) == (Kind.LINK, "/target", None)
    assert facts_entry("type=cdir; /d") is None
    assert facts_entry("type=pdir; ..") is None
    for line in ("", "no facts", "type=file;", "just-a-name x"):
        unread = facts_entry(line)
        assert unread is not None
        assert unread.error


@given(st.text(max_size=80))
def test_no_line_breaks_the_facts(line: str) -> None:
    """An entry, or nothing."""
    entry = facts_entry(line)
    assert entry is None or entry.kind in Kind


@pytest.mark.parametrize(
    "text", ["", "2025", "20251304050607", "99999999999999", "\uff120250304050607"]
)
def test_times_that_are_none(text: str) -> None:
    assert stamp(text) is None


def test_lines_are_cut_out_of_blocks() -> None:
    """The last one may lack its end, one with bytes of another encoding is None."""
    splitter = LineSplitter("utf-8")
    assert splitter.feed(b"a\r\nb") == ["a"]
    assert splitter.feed(b"c\n\xff\n") == ["bc", None]
    assert splitter.feed(b"x" * 5_000_000) == []
    (rest,) = splitter.close()
    assert rest == "x" * 8192


def test_names_in_listings_lose_the_directory() -> None:
    assert below("/d/", "/d/f") == "f"
    assert below("/d", "/e/f") == "/e/f"
    assert below("", "f") == "f"
    assert safe_path("-rf") == "./-rf"
