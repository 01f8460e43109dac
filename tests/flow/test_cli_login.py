"""`ecpds login`: profiles that only their owner reads, and that commands use."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commandline import CommandLine, command_line

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon that takes passwords at the API."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECPDS_API__PASSWORD_LOGIN", "true")
        with command_line(tmp_path_factory.mktemp("login")) as found:
            yield found


@pytest.fixture
def alone(tmp_path: Path) -> CommandLine:
    """Give the command in an empty folder."""
    return CommandLine(tmp_path)


def fingerprint(cli: CommandLine) -> str:
    """Return the fingerprint of the daemon's certificate."""
    assert cli.daemon is not None
    pem = (cli.daemon.data / "tls" / "certificate.pem").read_text()
    return f"SHA256:{hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()}"


def test_a_token_is_kept_for_later_commands(cli: CommandLine, alone: CommandLine) -> None:
    """From standard input; the default profile needs no word, another one its name."""
    assert cli.daemon is not None
    server, token = cli.daemon.endpoints["monitor"], cli.daemon.token.encode()
    assert "no server given" in alone("destination", "list", code=2).error
    alone("login", server, stdin=token, code=8)  # nobody knows the certificate
    wrong = alone("login", server, "--fingerprint", "SHA256:00", stdin=token, code=3)
    assert fingerprint(cli) in wrong.error
    given = ["login", server, "--fingerprint", fingerprint(cli)]
    alone(*given, stdin=b"ddt_wrong", code=3)
    assert not list(alone.folder.rglob("*.token"))
    told = alone(*given, "--output", "json", stdin=token).json
    assert told == {"profile": "default", "server": server, "user": "admin"}
    folder = alone.folder / ".config" / "ecpds"
    assert {one.name for one in folder.iterdir()} == {
        "default.toml", "default.token", "default.pem"
    }  # fmt: skip
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in folder.iterdir())
    alone("destination", "list")
    ca = cli.daemon.data / "tls" / "certificate.pem"
    alone("login", server, "--profile", "work", "--ca", ca, stdin=token)
    alone("destination", "list", "--profile", "work")
    assert "forgotten" in alone("logout").text
    alone("destination", "list", code=2)
    alone("logout", code=6)
    alone("login", server, "--profile", "../x", stdin=token, code=2)
    alone("login", "localhost", stdin=token, code=2)
    alone("login", server, "--ca", ca, stdin=b"", code=2)


def test_a_password_makes_a_token(cli: CommandLine, alone: CommandLine) -> None:
    """From a file or standard input; the token may not more than the account."""
    assert cli.daemon is not None
    secret = alone.folder / "secret"
    secret.write_text(PASSWORD)
    site = alone.folder / "site.toml"
    site.write_text(
        '[[web_users]]\nname = "olga"\nroles = [{ role = "operator", scope = "*" }]\n'
        f'password = "{PASSWORD}"\n'
    )
    cli("apply", site)
    server = cli.daemon.endpoints["monitor"]
    given = ["login", server, "--user", "olga", "--fingerprint", fingerprint(cli)]
    alone(*given, environment={"ECPDS_PASSWORD_FILE": str(secret)})
    alone("destination", "list")
    alone("destination", "add", "X", code=3)
    alone(*given, stdin=b"wrong\n", code=3)
    assert "olga at" in alone(*given, stdin=f"{PASSWORD}\n".encode()).text
    names = [one["name"] for one in cli("token", "list", "--output", "json").lines]
    assert sum(name.startswith("login from ") for name in names) == 2
