"""Every command of portal.md 3.1, reply by reply."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ecpds.model import errors
from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import EcpdsError
from ecpds.portals.ftp.answers import ANSWERS, LOGIN_ANSWERS, answer, text
from ecpds.portals.ftp.commands import COMMANDS
from tests.protocol.diskgate import Account
from tests.protocol.ftprig import running

CODES = {421, 425, 426, 450, 451, 452, 501, 503, 504, 530, 550, 552, 553, 554}


def _tree(kind: type[EcpdsError]) -> list[type[EcpdsError]]:
    """Return the tree of the model; what other parts derive for themselves never gets here."""
    below = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(found for child in below for found in _tree(child))]


def test_every_error_has_a_reply() -> None:
    for kind in _tree(EcpdsError):
        error = kind("text\r\nof it")
        for login in (False, True):
            row = answer(error, login=login)
            assert row.code in CODES, kind
            assert "\r" not in text(error, row)
            assert row.final == (row.code == 421), kind


def test_the_table_has_no_dead_rows() -> None:
    known = set(_tree(EcpdsError))
    assert set(ANSWERS) <= known
    assert set(LOGIN_ANSWERS) <= known


def test_inner_errors_keep_their_text() -> None:
    error = errors.StoreError("/var/lib/secret.db is locked")
    assert "secret" not in text(error, answer(error))


async def test_login_and_its_refusals(tmp_path: Path) -> None:
    accounts = {
        "alice": Account(),
        "web": Account(protocols=frozenset({Protocol.HTTPS})),
        "one": Account(max_connections=0),
        "open": Account(open_access=True),
    }
    async with running(tmp_path, accounts=accounts) as rig, rig.client(login=False) as c:
        rig.gate.welcome = "Hello\nyou"
        assert await c.expect(220) == "ecpds test"
        assert await c("PWD") == (530, "Not logged in")
        assert (await c("PASS secret"))[0] == 503
        assert (await c("USER"))[0] == 501
        assert (await c("USER alice"))[0] == 331
        assert await c("PASS wrong") == (530, "Login failed")
        assert (await c("PASS secret"))[0] == 503  # the name has to come again
        assert (await c("USER web"))[0] == 331
        assert (await c("PASS secret"))[0] == 530
        assert (await c("USER open"))[0] == 331
        assert await c("PASS whatever") == (230, "Hello\nyou")
        assert (await c("USER alice"))[0] == 503
        assert (await c("QUIT"))[0] == 221
        assert await c.reader.read() == b""
        async with rig.client(login=False) as full:
            await full.expect(220)
            assert (await full("USER one"))[0] == 331
            code, words = await full("PASS secret")
            assert (code, words) == (421, "Maximum number of connections exceeded (0)")
            assert await full.reader.read() == b""
    assert rig.portal.counts.logins == 1
    assert rig.portal.counts.refused_logins == 3
    assert rig.portal.counts.sessions == 0


async def test_the_fourth_failure_closes(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client(login=False) as c:
        await c.expect(220)
        for _ in range(4):
            assert (await c("USER mallory"))[0] == 331
            assert (await c("PASS guess"))[0] == 530
        assert await c.reader.read() == b""
    assert len(rig.gate.logins) == 4


async def test_a_banned_address_is_turned_away(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.gate.banned.add("127.0.0.1")
        async with rig.client(login=False) as c:
            assert await c.reply() == (421, "Address banned")
            assert await c.reader.read() == b""


async def test_the_start_domain_is_part_of_the_name(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        for name, directory in (("alice@NORTH", "/NORTH"), ("alice@DATA", "/"), ("alice@", "/")):
            async with rig.client(login=False) as c:
                await c.login(name)
                assert (await c("PWD"))[1] == f'"{directory}" is the current directory'
        async with rig.client(login=False) as c:
            await c.expect(220)
            for name in ("alice@NOWHERE", "alice@../x"):
                assert (await c(f"USER {name}"))[0] == 331
                assert (await c("PASS secret"))[0] == 530
        assert rig.gate.sessions == []


async def test_parameters(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert await c("SYST") == (215, "UNIX Type: L8")
        features = (await c("FEAT"))[1]
        for feature in (
            "AUTH TLS", "EPSV", "HASH SHA-256*;SHA-512;SHA-1;MD5;CRC32", "MDTM", "MFMT",
            "MLST type*;size*;modify*;perm*;unique*;", "PASV", "PBSZ", "PROT", "REST STREAM",
            "SIZE", "TVFS", "UTF8", "XCRC", "XMD5", "XSHA1", "XSHA256",
        ):  # fmt: skip
            assert f"\n {feature}\n" in features
        assert "EPRT" not in features
        expected = {
            "TYPE I": 200, "TYPE A": 200, "TYPE A N": 200, "TYPE L 8": 200, "TYPE E": 504,
            "TYPE": 501, "MODE S": 200, "mode s": 200, "MODE B": 504, "STRU F": 200, "STRU R": 504,
            "OPTS UTF8 ON": 200, "OPTS UTF8 OFF": 504, "OPTS UTF8": 200, "OPTS X": 501,
            "NOOP": 200, "CLNT lftp": 200, "HELP": 214, "HELP STOR": 214, "HELP NONE": 214,
            "ALLO 10": 200, "ALLO 10 R 4": 200, "ALLO x": 501, "ALLO -1": 501, "ALLO": 501,
            "REST 5": 350, "REST 0": 350, "REST -1": 501, "REST x": 501, "REST ٣": 501,
            f"REST {2**63}": 501, f"REST {2**63 - 1}": 350,
            "SITE CHMOD 644 x": 200, "SITE UMASK 022": 200, "SITE IDLE 60": 200, "SITE HELP": 214,
            "SITE EXEC rm": 504, "ACCT x": 502, "SMNT x": 502, "REIN": 502, "STOE x": 500,
            "XYZZY": 500, "": 500, "ABOR": 226, "RNTO x": 503,
        }  # fmt: skip
        for line, code in expected.items():
            assert (await c(line))[0] == code, line
        assert await c("OPTS MLST size;Type;nonsense;") == (200, "MLST OPTS type;size;")
        assert await c("OPTS MLST") == (200, "MLST OPTS")
        assert await c("OPTS HASH") == (200, "SHA-256")
        assert await c("OPTS HASH md5") == (200, "MD5")
        assert (await c("OPTS HASH crc64"))[0] == 501
        code, words = await c("STAT")
        assert code == 211
        assert "Logged in as alice" in words


async def test_every_command_needs_what_the_table_says(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        for verb, command in COMMANDS.items():
            async with rig.client(login=False) as c:
                await c.expect(220)
                code = (await c(f"{verb} x"))[0]
                assert (code == 530) == command.needs_login, verb
            if command.needs_argument:
                async with rig.client() as c:
                    assert (await c(verb))[0] == 501, verb


async def test_directories(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert await c("PWD") == (257, '"/" is the current directory')
        assert (await c("CWD NORTH"))[0] == 250
        assert (await c("CWD /DATA/NORTH"))[0] == 250
        assert await c("XPWD") == (257, '"/NORTH" is the current directory')
        assert await c('MKD a "b" é') == (257, '"/NORTH/a ""b"" é" created')
        assert (await c('CWD a "b" é'))[0] == 250
        assert (await c("PWD"))[1].startswith('"/NORTH/a ""b"" é" ')
        assert (await c("CDUP"))[0] == 250
        assert (await c("XCUP"))[0] == 250
        assert (await c("PWD"))[1].startswith('"/" ')
        assert (await c("CDUP"))[0] == 550
        assert (await c("CWD ../.."))[0] == 550
        assert (await c("CWD N*"))[0] == 451
        assert (await c("CWD nowhere"))[0] == 550
        assert (await c('MKD /NORTH/a "b" é'))[0] == 550  # exists
        assert (await c('XMKD /NORTH/a "b" é/c'))[0] == 257
        assert (await c('RMD /NORTH/a "b" é'))[0] == 550  # not empty
        assert (await c('XRMD /NORTH/a "b" é/c'))[0] == 250
        assert (await c('RMD /NORTH/a "b" é'))[0] == 250
        assert (await c("RMD /NORTH/a"))[0] == 550
        assert (await c("MKD /NORTH/a\tb"))[0] == 500
        assert (await c("MKD /NORTH/" + "x" * 256))[0] == 553


async def test_a_path_cannot_grow_for_ever(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("CWD NORTH"))[0] == 250
        codes = []
        for _ in range(30):
            code = (await c("MKD " + "d" * 205))[0]
            codes.append(code)
            if code == 257:
                assert (await c("CWD " + "d" * 205))[0] == 250
        assert codes == [257] * 19 + [553] * 11


async def test_rename_and_delete(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        (rig.north / "one").write_bytes(b"1")
        (rig.north / "two").write_bytes(b"2")
        assert (await c("RNFR /NORTH/none"))[0] == 550
        assert (await c("RNFR /NORTH/one"))[0] == 350
        assert (await c("RNTO /NORTH/two"))[0] == 550  # nothing is replaced
        assert (await c("RNTO /NORTH/three"))[0] == 503  # the name is used up
        assert (await c("RNFR /NORTH/one"))[0] == 350
        assert (await c("NOOP"))[0] == 200
        assert (await c("RNTO /NORTH/three"))[0] == 503  # not the next command
        assert (await c("RNFR /NORTH/one"))[0] == 350
        assert (await c("RNTO /SOUTH/one"))[0] == 504
        assert (await c("RNFR /NORTH/one"))[0] == 350
        assert (await c("RNTO /NORTH/three"))[0] == 250
        assert (await c("DELE /NORTH/one"))[0] == 550
        assert (await c("DELE /NORTH"))[0] == 550
        assert (await c("DELE /NORTH/three"))[0] == 250
        assert [p.name for p in rig.north.iterdir()] == ["two"]


async def test_facts_of_a_file(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        (rig.north / "f").write_bytes(b"hello")
        when = datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC).timestamp()
        os.utime(rig.north / "f", (when, when))
        assert await c("SIZE /NORTH/f") == (213, "5")
        assert (await c("SIZE /NORTH"))[0] == 550
        assert (await c("SIZE /NORTH/g"))[0] == 550
        assert await c("MDTM /NORTH/f") == (213, "20240229235958")
        assert (await c("MDTM /NORTH"))[0] == 550
        code, words = await c("MLST /NORTH/f")
        assert code == 250
        assert re.fullmatch(
            r"Listing /NORTH/f\n type=file;size=5;modify=20240229235958;perm=dfrw;"
            r"unique=f[0-9a-f]+; /NORTH/f\nEnd",
            words,
        )
        code, words = await c("MLST")
        assert re.search(r"\n type=dir;perm=cdeflmp;unique=d[0-9a-f]{16}; /\n", words)
        assert (await c("MLST /NORTH/g"))[0] == 550
        assert await c("MFMT 20200102030405 /NORTH/f") == (213, "Modify=20200102030405; /NORTH/f")
        assert rig.gate.source_times["/NORTH/f"] == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
        for wrong in ("MFMT x /NORTH/f", "MFMT 20200102030405", "MFMT 20201302030405 /NORTH/f"):
            assert (await c(wrong))[0] == 501
        assert (await c("MFMT 20200102030405.25 /NORTH"))[0] == 550


async def test_digests(tmp_path: Path) -> None:
    content = os.urandom(5000)
    async with running(tmp_path) as rig, rig.client() as c:
        (rig.north / "a b").write_bytes(content)
        sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
        assert await c("HASH /NORTH/a b") == (213, f"SHA-256 0-5000 {sha256} /NORTH/a b")
        assert (await c("OPTS HASH MD5"))[0] == 200
        assert await c("HASH /NORTH/a b") == (213, f"MD5 0-5000 {md5} /NORTH/a b")
        assert await c("XMD5 /NORTH/a b") == (250, md5.upper())
        assert await c('XMD5 "/NORTH/a b"') == (250, md5.upper())
        assert await c("XSHA256 /NORTH/a b") == (250, sha256.upper())
        assert (await c("XSHA1 /NORTH/a b"))[1] == hashlib.sha1(content).hexdigest().upper()
        assert (await c("XCRC /NORTH/a b"))[1] == f"{zlib.crc32(content):08X}"
        assert (await c("XCRC /NORTH"))[0] == 550
        assert (await c("HASH /NORTH/none"))[0] == 550


async def test_listings(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        for name in ("b.grib", "a é.grib", "c[1].txt", "-dash"):
            (rig.north / name).write_bytes(b"12345")
        os.utime(rig.north / "b.grib", (0, 0))
        (rig.north / "sub").mkdir()
        (rig.north / "sub" / "in").write_bytes(b"")
        assert (await c("LIST"))[0] == 425
        assert (await c.get("NLST")).decode() == "NORTH\r\nSOUTH\r\n"
        names = ["-dash", "a é.grib", "b.grib", "c[1].txt", "sub"]
        assert (await c.get("NLST NORTH")).decode().split("\r\n")[:-1] == [
            f"NORTH/{name}" for name in names
        ]
        assert (await c("CWD NORTH"))[0] == 250
        assert (await c.get("NLST -a")).decode().split("\r\n")[:-1] == names
        assert (await c.get("NLST .")).decode().split("\r\n")[:-1] == names
        assert (await c.get("NLST *.grib")).decode() == "a é.grib\r\nb.grib\r\n"
        assert (await c.get("NLST c[1].*")).decode() == "c[1].txt\r\n"
        assert (await c.get("NLST c[1].txt")).decode() == "c[1].txt\r\n"
        assert (await c.get("NLST sub/")).decode() == "sub/in\r\n"
        assert (await c.get("NLST sub/?n")).decode() == "sub/in\r\n"
        assert (await c.get("NLST none*")).decode() == ""
        lines = (await c.get("LIST -la")).decode().split("\r\n")[:-1]
        assert len(lines) == 5
        assert re.fullmatch(
            r"-rw-r--r--   1 ecpds    ecpds               5 \w{3} [ \d]\d \d\d:\d\d a é.grib",
            lines[1],
        )
        assert lines[2].endswith(" 5 Jan  1  1970 b.grib")
        assert lines[4].startswith("drwxr-x---   2 ")
        assert (await c.get("LIST b.grib")).decode() == lines[2] + "\r\n"
        assert (await c.get("LIST b*")).decode() == lines[2] + "\r\n"
        facts = (await c.get("MLSD")).decode().split("\r\n")[:-1]
        assert facts[2].startswith("type=file;size=5;modify=19700101000000;perm=dfrw;unique=f")
        assert facts[2].endswith("; b.grib")
        assert facts[4].startswith("type=dir;modify=")
        assert (await c("OPTS MLST size;"))[0] == 200
        assert (await c.get("MLSD /NORTH/sub")).decode() == "size=0; in\r\n"
        code, words = await c("STAT /NORTH")
        assert code == 213
        assert [line.strip() for line in words.split("\n")[1:-1]] == lines
        assert (await c("STAT none*"))[0] == 213
        assert (await c("STAT /NONE"))[0] == 550
        for command in ("LIST /NONE", "NLST none", "MLSD /NORTH/b.grib", "MLSD none"):
            await c.passive()
            assert (await c(command))[0] == 550, command


async def test_rights_are_those_of_the_session(tmp_path: Path) -> None:
    """Ex 21: no `dir`, so LIST is refused while a known path can be read."""
    reader = Account(operations=frozenset({Permission.GET, Permission.SIZE, Permission.MTIME}))
    async with running(tmp_path, accounts={"alice": reader}) as rig, rig.client() as c:
        (rig.north / "f").write_bytes(b"content")
        await c.passive()
        assert (await c("LIST /NORTH"))[0] == 550
        assert await c.get("RETR /NORTH/f") == b"content"
        assert (await c("MLST /NORTH/f"))[1].split(";")[3] == "perm=r"
        await c.passive()
        assert (await c("STOR /NORTH/g"))[0] == 550
        for command in ("DELE /NORTH/f", "MKD /NORTH/d", "RMD /NORTH", "RNFR /NORTH/none"):
            assert (await c(command))[0] == 550, command
        assert (await c("RNFR /NORTH/f"))[0] == 350
        assert (await c("RNTO /NORTH/g"))[0] == 550


@pytest.mark.parametrize("prefix", ["", "/DATA"])
async def test_data_is_the_root(tmp_path: Path, prefix: str) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c.put(f"STOR {prefix}/NORTH/x", b"abc"))[0] == 226
        assert (await c.get(f"NLST {prefix}/")).decode().split() == [
            f"{prefix}/NORTH",
            f"{prefix}/SOUTH",
        ]
        assert await c.get("RETR /DATA/NORTH/x") == b"abc"
        assert await c.get("RETR /NORTH/x") == b"abc"
