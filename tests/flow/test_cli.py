"""Commands as processes beside a daemon: words, access, objects."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecpds.cli.main import COMMANDS, verbs_of
from tests.commandline import LIMIT, CommandLine, command_line, interrupted

Cli = CommandLine
FAST = 0.25  # seconds of processor time; wall time is that of whatever else runs here
HEAVY = {"ecpds.node", "ecpds.daemon", "ecpds.store", "ecpds.engine.core", "ecpds.modules",
         "aiohttp", "asyncssh", "asyncio", "cryptography", "jinja2", "rich", "sqlite3",
         "prometheus_client"}  # fmt: skip


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon that all tests of this file share."""
    with command_line(tmp_path_factory.mktemp("cli")) as found:
        yield found


@pytest.fixture
def alone(tmp_path: Path) -> CommandLine:
    """Give the command in an empty folder, without any daemon."""
    return CommandLine(tmp_path)


# --- the command itself --------------------------------------------------------------------------


def test_help_lists_every_command(alone: Cli) -> None:
    """Without words the help is an error, asked for it is none."""
    assert alone(code=2).text == ""
    overview = alone("--help").text
    assert all(re.search(rf"^  {name} ", overview, re.MULTILINE) for name in COMMANDS)
    assert "acquire " in alone("host", "--help").text
    assert alone("host", code=2).text == ""
    assert "KEY=VALUE" in alone("host", "set", "--help").text
    assert alone("--version").text == alone("version").text
    assert set(alone("version", "--output", "json").json) == {"release"}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["destinatoin"], "did you mean 'destination'?"),
        (["destination", "lits"], "did you mean 'list'?"),
        (["push", "D", "f", "--taget", "x"], "did you mean --target?"),
        (["push", "D", "f", "--tar", "x"], "--tar"),
        (["push", "D"], "ecpds push --help"),
        (["transfer", "show", "x"], "invalid int value"),
        (["ls", "D", "--retry", "often"], "5:10s"),
        (["ls", "D", "--timeout", "0"], "no time to wait"),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
def test_wrong_words_are_named(alone: Cli, words: list[str], hint: str) -> None:
    """Exit 2, with the nearest word there is."""
    assert hint in alone(*words, code=2).error


def test_every_command_has_help() -> None:
    """Each verb of each command can be asked for."""
    for command in COMMANDS:
        assert all(verb.help for verb in verbs_of(command).values()), command


@pytest.mark.parametrize("words", [["ls", "MET"], ["push", "MET", "ecpds.toml", "--force"],
                                   ["transfer", "list"], ["apply", "empty.json"]])  # fmt: skip
def test_client_commands_start_fast(cli: Cli, words: list[str]) -> None:
    """They import what talks to the node, not the node."""
    cli("destination", "add", "MET", code=5 if "MET" in cli("destination", "list").text else 0)
    (cli.folder / "empty.json").write_text("{}")
    code = "\n".join(
        ["import sys", "from ecpds.cli.main import main", f"code = main({words!r})",
         "print(*sorted(sys.modules), file=sys.stderr)", "raise SystemExit(code)"]
    )  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True,
                           cwd=cli.folder, env=cli.variables(), timeout=LIMIT)  # fmt: skip
    assert HEAVY & set(ended.stderr.decode().split()) == set()
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        cli(*words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < FAST


def test_a_reader_that_goes_is_no_crash(cli: Cli) -> None:
    """`ecpds … | head -0` ends without a trace."""
    with subprocess.Popen(
        cli.command("destination", "list"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=cli.folder, env=cli.variables(),
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(LIMIT) == 1


def test_ctrl_c_ends_a_command(cli: Cli) -> None:
    """130, whatever it waits for."""
    ended = interrupted(cli, ["web-user", "add", "x", "--password-file", "-"])
    assert ended == (130, "interrupted\n")
    cli("web-user", "exists", "x", code=6)


def test_bash_completes_words(alone: Cli) -> None:
    """Commands, verbs, options and their choices, asked from the program itself."""
    shim = alone.folder / "ecpds"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m ecpds "$@"\n')
    shim.chmod(0o755)

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in ("ecpds", *words))
        script = f"""eval "$(ecpds completion bash)"
            COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _ecpds
            printf '%s\\n' "${{COMPREPLY[@]}}" """
        path = f"{alone.folder}:/usr/bin:/bin"
        found = subprocess.run(["bash", "-c", script], capture_output=True, check=True,
                               env=alone.variables({"PATH": path}), timeout=LIMIT)  # fmt: skip
        assert found.stderr == b""
        return found.stdout.decode().split()

    assert completed("tra") == ["transfer"]
    assert completed("transfer", "") == ["list", "show", "history", "wait"]
    assert completed("push", "D", "--out") == ["--output"]
    assert completed("push", "D", "--output", "") == ["text", "json", "id"]
    assert completed("nothing", "") == []
    for shell in ("zsh", "fish"):
        assert "ecpds completion words" in alone("completion", shell).text


# --- where the node is, and who asks --------------------------------------------------------------


def test_the_data_directory_says_everything(cli: Cli, alone: Cli) -> None:
    """`./ecpds.toml` or `--config` is enough beside the node; its own certificate is trusted."""
    assert cli.daemon is not None
    assert cli("status").text.startswith("ready\n")
    assert alone("status", "--config", cli.daemon.config, "--output", "json").json["ready"] is True
    assert "no server given" in alone("status", code=2).error


@pytest.fixture
def access(cli: Cli) -> dict[str, str]:
    """Give server and token of the daemon as environment variables."""
    assert cli.daemon is not None
    return {"ECPDS_SERVER": cli.daemon.endpoints["monitor"], "ECPDS_TOKEN": cli.daemon.token}


def test_a_named_server_must_show_a_trusted_certificate(
    cli: Cli, alone: Cli, access: dict[str, str]
) -> None:
    """`--ca` trusts one, `--insecure` any; without them the error tells of both."""
    assert cli.daemon is not None
    refused = alone("status", code=8, environment=access).error
    assert "CERTIFICATE_VERIFY_FAILED" in refused
    assert "--ca" in refused
    alone("status", "--ca", cli.daemon.data / "tls" / "certificate.pem", environment=access)
    alone("status", "--insecure", environment=access)
    assert "no usable certificate" in alone("status", "--ca", "x", code=2, environment=access).error


def test_the_nearest_word_names_the_node(
    cli: Cli, alone: Cli, access: dict[str, str], nobody: str
) -> None:
    """Arguments, then a profile, then the environment, then the data directory."""
    assert cli.daemon is not None
    secret = alone.folder / "secret"
    secret.write_text(f"{access['ECPDS_TOKEN']}\n")
    profiles = alone.folder / ".config" / "ecpds"
    profiles.mkdir(parents=True)
    good = {"server": access["ECPDS_SERVER"], "token_file": str(secret), "insecure": True}
    wrong = {"ECPDS_SERVER": nobody, "ECPDS_TOKEN": "wrong"}
    (profiles / "good.toml").write_text(
        "\n".join(f"{k} = {json.dumps(v)}" for k, v in good.items())
    )
    (profiles / "dead.toml").write_text(f'server = "{nobody}"\ntoken = "wrong"\n')
    named = ["--server", access["ECPDS_SERVER"], "--token-file", secret, "--insecure"]
    config = ["--config", cli.daemon.config]
    alone("destination", "list", *named, "--profile", "dead", environment=wrong)
    alone("destination", "list", "--profile", "good", *config, environment=wrong)
    alone("destination", "list", "--profile", "dead", *config, environment=access, code=8)
    alone("destination", "list", *config, environment=wrong, code=8)
    alone("destination", "list", *config)
    alone("destination", "list", "--token", "wrong", *config, code=3)
    (profiles / "typo.toml").write_text('sever = "x"\n')
    typo = alone("destination", "list", "--profile", "typo", code=2).error
    assert "did you mean 'server'?" in typo
    assert "cannot be read" in alone("status", "--profile", "none", code=2).error


def test_a_token_of_a_data_directory_stays_with_its_node(cli: Cli, access: dict[str, str]) -> None:
    """`--server` elsewhere does not get the administrator's token of `./ecpds.toml`."""
    words = ["status", "--server", access["ECPDS_SERVER"], "--insecure"]
    assert "no credential" in cli(*words, code=3).error


def test_a_wrong_token_is_told_apart_from_a_dead_node(
    alone: Cli, access: dict[str, str], nobody: str
) -> None:
    """3 and 8; and what is no address at all is 2."""
    wrong = access | {"ECPDS_TOKEN": "ddt_wrong"}
    words = ["destination", "list", "--insecure"]
    failure = alone(*words, "--output", "json", code=3, environment=wrong)
    assert json.loads(failure.error)["code"] == "unauthenticated"
    assert json.loads(failure.error)["exit"] == 3
    dead = access | {"ECPDS_SERVER": nobody}
    assert "cannot be reached" in alone(*words, "--retry", "2:1ms", code=8, environment=dead).error
    for text in ("localhost:8443", "https://", "ftp://x", "https://x:y"):
        alone(*words, code=2, environment=access | {"ECPDS_SERVER": text})
    alone(*words, code=2, environment=access | {"ECPDS_TOKEN": "two words"})


@pytest.fixture
def nobody() -> Iterator[str]:
    """Give the address of a port that refuses."""
    with socket.socket() as bound:  # bound, not listening
        bound.bind(("127.0.0.1", 0))
        yield f"https://127.0.0.1:{bound.getsockname()[1]}"


def test_the_credential_bounds_what_a_command_may(cli: Cli, access: dict[str, str]) -> None:
    """A token with one scope may that and nothing else; deleted, nothing at all."""
    reader = cli.folder / "reader"
    cli("token", "add", "reader", "--scope", "destinations:read", "--into", reader)
    assert reader.stat().st_mode & 0o777 == 0o600
    own = access | {"ECPDS_TOKEN": reader.read_text().strip()}
    cli("destination", "list", "--insecure", environment=own)
    denied = cli("destination", "add", "X", "--insecure", environment=own, code=3)
    assert "no destinations:write" in denied.error
    assert "exists" in cli("token", "add", "reader", "--into", reader, code=2).error
    cli("token", "delete", "reader")
    cli("destination", "list", "--insecure", environment=own, code=3)


# --- objects -------------------------------------------------------------------------------------


def test_a_destination_is_made_changed_worked_and_deleted(cli: Cli) -> None:
    """Every verb, in every form of output."""
    assert cli("destination", "add", "A1", "--dry-run").text == "destination A1 would be created\n"
    cli("destination", "exists", "A1", code=6)
    assert cli("destination", "add", "A1", "comment=first", "--output", "id").text == "A1\n"
    assert "exists" in cli("destination", "add", "A1", code=5).error
    assert cli("destination", "exists", "A1").text == "found\n"
    # options between the words, as people type them
    cli("destination", "set", "A1", "max_connections=3", "--timeout", "30s", "incoming.event=yes")
    shown = cli("destination", "show", "A1", "--output", "json").json
    assert (shown["comment"], shown["max_connections"]) == ("first", 3)
    assert shown["options"] == {"incoming.event": "yes"}
    cli("destination", "set", "A1", "incoming.event=")
    assert cli("destination", "show", "A1", "--output", "json").json["options"] == {}
    assert re.search(r"^comment +first$", cli("destination", "show", "A1").text, re.MULTILINE)
    for verb, status in (("stop", "stopped"), ("start", "idle"), ("hold", "stopped"),
                         ("release", "idle"), ("restart", "idle")):  # fmt: skip
        extra = ["--immediate"] if verb in {"stop", "hold", "restart"} else []
        extra += ["--reason", "maintenance"] if verb == "hold" else []
        found = cli("destination", verb, "A1", *extra, "--output", "json").json
        assert found["status"] == status
        if verb == "hold":
            assert found["state_reason"] == "maintenance"
    assert cli("destination", "status", "A1", "--output", "id").text == "A1\n"
    assert "A1" in cli("destination", "list").text
    assert "A1" in cli("destination", "list", "--output", "id").text.split()
    assert {"name": "A1"}.items() <= cli("destination", "list", "--output", "json").lines[0].items()
    cli("destination", "delete", "A1", "--dry-run")
    assert cli("destination", "delete", "A1").text == "destination A1 deleted\n"
    cli("destination", "delete", "A1", code=6)


def test_mistakes_change_nothing(cli: Cli) -> None:
    """An unknown key or option names the nearest; a word that says nothing is refused."""
    cli("destination", "add", "A2")
    for words, hint in (
        (["max_conections=3"], "did you mean 'max_connections'?"),
        (["incoming.evnt=yes"], "did you mean 'incoming.event'?"),
        (["max_connections=many"], "'many'"),
        (["comment"], "is not KEY=VALUE"),
        (["aliases:=["], "no JSON"),
        (["aliases:=" + "[" * 10000], "no JSON"),
        (["hosts=nowhere"], "nowhere"),
        ([], "KEY=VALUE"),
    ):
        assert hint in cli("destination", "set", "A2", *words, code=2).error
    before = cli("destination", "show", "A2", "--output", "json").json
    assert (before["max_connections"], before["options"]) == (1, {})
    cli("destination", "delete", "A2")


def test_a_host_is_tested_and_acquired_from(cli: Cli) -> None:
    """`test` exits with 1 when the login fails; the password never stands among the words."""
    assert cli.daemon is not None
    (cli.daemon.data / "feeds" / "in").mkdir()
    folder = cli.daemon.data / "feeds" / "in"
    cli(
        "host",
        "add",
        "feed",
        "role=acquisition",
        "method=genericFile",
        f"directory={folder}/{{.*}}",
    )
    assert "visible" in cli("host", "set", "feed", "password=x", code=2).error
    cli("host", "set", "feed", "--password-file", "-", stdin=b"hush\n")
    assert cli("host", "show", "feed", "--output", "json").json["has_password"] is True
    cli("host", "set", "feed", "--password-file", "nowhere", code=2)
    assert cli("host", "test", "feed", "--output", "json").json["ok"] is True
    assert "no active destination" in cli("host", "acquire", "feed", code=5).error
    cli("destination", "add", "A3", "acquisition=yes", "hosts=feed")
    found = cli("host", "acquire", "feed", "--output", "json").json
    assert found == {"host": "feed", "destinations": ["A3"]}
    assert "is used by A3" in cli("host", "delete", "feed", code=5).error
    cli("host", "add", "shut", "method=genericFtp", "host=127.0.0.1", "ftp.port=1", "login=x")
    told = cli("host", "test", "shut", code=1).text
    assert "Connect call failed" in told
    assert "Nothing listens at 127.0.0.1 port 1" in told
    cli("destination", "delete", "A3")
    cli("host", "delete", "feed")
    cli("host", "delete", "shut")


def test_accounts_of_people_and_programs(cli: Cli) -> None:
    """Users with key pairs, policies, dashboard accounts with roles."""
    cli("destination", "add", "A4")
    cli("policy", "add", "readers", "destinations=A4", "operations=dir,get")
    cli(
        "user", "add", "alice", "policies=readers", "--password-file", "-", stdin=b"long enough 1\n"
    )
    assert cli("user", "show", "alice", "--output", "json").json["policies"] == ["readers"]
    cli("user", "set", "alice", "comment=Alice", "portal.sort=time", "active=no")
    assert re.search(r"alice +standard-login +no +Alice", cli("user", "list").text)
    pair = cli("user", "s3-key", "alice", "--output", "json").json
    assert {"login", "access_key", "secret"} <= set(pair)
    assert cli("user", "reset-password", "alice", "--output", "json").json["password"]
    assert cli("policy", "list", "--output", "id").text == "readers\n"
    cli("web-user", "add", "olga", "roles=operator:A*,viewer", "--password-file", "-",
        stdin=b"long enough 2\n")  # fmt: skip
    roles = cli("web-user", "show", "olga", "--output", "json").json["roles"]
    assert [(one["role"], one["scope"]) for one in roles] == [("operator", "A*"), ("viewer", "*")]
    cli("web-user", "set", "olga", "active=no")
    assert "last administrator" in cli("web-user", "delete", "admin", code=5).error
    made = cli("token", "add", "ci", "--object", "A*", "--expires", "2099-01-01T00:00:00Z",
               "--output", "json").json  # fmt: skip
    assert made["token"].startswith("ddt_")
    assert made["objects"] == ["A*"]
    assert "token" not in cli("token", "show", made["id"], "--output", "json").json
    assert str(made["id"]) in cli("token", "list", "--output", "id").text.split()
    cli("token", "set", "ci", code=2)
    cli("token", "exists", "ci")
    for words in (["token", "delete", "ci"], ["web-user", "delete", "olga"],
                  ["user", "delete", "alice"], ["policy", "delete", "readers"],
                  ["destination", "delete", "A4"]):  # fmt: skip
        cli(*words)


def test_who_is_kept_out_is_let_in_again(cli: Cli) -> None:
    """`bans` lists nobody here; an address that is not kept out is not found."""
    assert cli("bans").text == ""
    assert "not banned" in cli("unban", "192.0.2.1", code=6).error
