"""Commands that bring a configuration in and out, and the node itself."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commandline import CommandLine, command_line

Cli = CommandLine


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Give the command beside a daemon that all tests of this file share."""
    with command_line(tmp_path_factory.mktemp("cli")) as found:
        yield found


@pytest.fixture
def alone(tmp_path: Path) -> CommandLine:
    """Give the command in an empty folder, without any daemon."""
    return CommandLine(tmp_path)


# --- site files ----------------------------------------------------------------------------------

SITE = """
[[hosts]]
name = "north"
role = "dissemination"
method = "genericSftp"
host = "sftp.example.org"
login = "feed"
password = { env = "NORTH_PASSWORD" }
directory = "/in/$dataTransfer[name]"
[hosts.options]
"sftp.port" = 22

[[destinations]]
name = "NORTH"
comment = 'quotes " and \\\\ backslashes, ünïcode'
hosts = ["north"]
[[destinations.aliases]]
to = "ARCHIVE"
rule = 'pattern=.*\\.grib2,priority=80'

[[destinations]]
name = "ARCHIVE"

[[policies]]
name = "public"
destinations = ["NORTH"]
operations = ["dir", "get"]
options = { "portal.maxConnections" = 50 }

[[data_users]]
login = "bob"
password = { file = "bob.secret" }
policies = ["public"]

[[web_users]]
name = "otto"
password = { file = "bob.secret" }
roles = [{ role = "operator", scope = "NORTH*" }]
"""
NAMES = {"north", "NORTH", "ARCHIVE", "public", "bob", "otto"}
SECRET = {"NORTH_PASSWORD": "hush"}


def site_life(cli: Cli, *exports: list[str]) -> None:
    """Apply, change, prune one site; export it in each of those ways."""
    site = cli.folder / "site.toml"
    site.write_text(SITE)
    (cli.folder / "bob.secret").write_text("long enough 3\n")
    dry = cli("apply", site, "--dry-run", environment=SECRET)
    assert dry.text.endswith("6 object(s) would change\n")
    assert "NORTH" not in cli("export").text
    made = cli("apply", site, "--output", "json", environment=SECRET).lines
    assert {one["name"] for one in made} == NAMES
    assert {one["action"] for one in made} == {"create"}
    again = cli("apply", site, "--output", "json", environment=SECRET).lines
    assert {one["action"] for one in again} == {"unchanged"}
    # a change is told as it is, secrets are not
    site.write_text(SITE.replace('"feed"', '"other"').replace("= 50", "= 60"))
    changed = cli("apply", site, environment=SECRET | {"NORTH_PASSWORD": "secret2"}).text
    assert "login 'feed' -> 'other'" in changed
    assert "secret2" not in changed
    # what export writes changes nothing when it is applied, with stars and with clear text
    for words in exports:
        text = cli("export", *words).text
        name = "export.json" if "json" in words else "export.toml"
        assert ("secret2" in text) is ("--secrets" in words)
        (cli.folder / name).write_text(text)
        lines = cli("apply", name, "--output", "json").lines
        assert {one["action"] for one in lines} == {"unchanged"}, lines
        assert {one["name"] for one in lines} >= NAMES
    # what the file does not name any more goes with --prune only
    site.write_text('[[destinations]]\nname = "NORTH"\n')
    assert "delete" not in cli("apply", site).text
    site.write_text(SITE)
    cli("apply", site, environment=SECRET)
    site.write_text('[[destinations]]\nname = "NORTH"\n')
    gone = cli("apply", site, "--prune", "--dry-run", "--output", "json").lines
    assert {one["name"] for one in gone if one["action"] == "delete"} == NAMES - {"NORTH"}
    cli("apply", site, "--prune")
    left = tomllib.loads(cli("export").text)
    assert [one["name"] for one in left["destinations"]] == ["NORTH"]
    assert "hosts" not in left
    site.write_text("")
    cli("apply", site, "--prune")


def test_a_site_lives_on_a_running_node(tmp_path: Path) -> None:
    """Create, change, export, prune through the API."""
    with command_line(tmp_path) as cli:
        site_life(cli, [], ["--secrets"], ["--format", "json"])


def test_a_site_lives_on_a_node_at_rest(tmp_path: Path) -> None:
    """The same directly on the data directory; the first password is told, for it is made here."""
    cli = CommandLine(tmp_path)
    (tmp_path / "ecpds.toml").write_text(f'[node]\ndata_dir = "{tmp_path}/data"\n')
    (tmp_path / "first.toml").write_text("")
    assert "administrator 'admin', password " in cli("apply", "first.toml").error
    assert cli("apply", "first.toml").error == ""
    site_life(cli, ["--secrets"])
    assert "no node runs" in cli("destination", "list", code=8).error
    # what a killed daemon leaves points nowhere: the data directory is still reached
    (tmp_path / "data" / "endpoints.json").write_text('{"monitor": "https://127.0.0.1:1"}')
    assert "admin" in cli("export").text


def test_a_node_that_listens_not_yet_is_not_there(cli: Cli) -> None:
    """Its data directory is held, its endpoints are not told: 8, and nothing is touched."""
    assert cli.daemon is not None
    endpoints = cli.daemon.data / "endpoints.json"
    text = endpoints.read_text()
    endpoints.unlink()
    try:
        assert "another ecpds runs" in cli("export", code=8).error
    finally:
        endpoints.write_text(text)


def test_a_data_directory_is_not_made_by_mistake(alone: Cli) -> None:
    """Without settings and without a data directory nothing is created."""
    (alone.folder / "site.toml").write_text("")
    assert "no server given" in alone("apply", "site.toml", code=2).error
    assert not (alone.folder / "data").exists()


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("[[destinatons]]\nname = 'A'\n", ["site.toml:1:", "did you mean 'destinations'?"]),
        ("[[destinations]]\nname = 'A'\n\nmax_conections = 3\n",
         ["site.toml:4:", "max_conections", "did you mean 'max_connections'?"]),
        ("[[destinations]]\nname = 'A'\nmax_connections = 'x'\n", ["site.toml:3:", "'x'"]),
        ("[[destinations]]\nname = 'A'\nhosts = ['nroth']\n", ["site.toml:3:", "no host 'nroth'"]),
        ("[[destinations]]\nname = 'A'\n[[destinations.aliases]]\nto = 'NOWHERE'\n",
         ["site.toml:4:", "NOWHERE"]),
        ("[[hosts]]\nname = 'h'\nmethod = 'genericSftpp'\n",
         ["site.toml:3:", "did you mean 'genericSftp'?"]),
        ("[[hosts]]\nname = 'h'\nmethod = 'genericSftp'\n[hosts.options]\n'sftp.prot' = 22\n",
         ["site.toml:5:", "did you mean 'sftp.port'?"]),
        ("[[hosts]]\nname = 'h'\nmethod = 'genericSftp'\n[hosts.options]\n'sftp.port' = 'x'\n",
         ["site.toml:5:", "'x'"]),
        ("[[hosts]]\nname = 'h'\nretry_frequency = 15\n", ["site.toml:3:", "no unit"]),
        ("[[hosts]]\nname = 'h'\npassword = { env = 'NOT_THERE' }\n",
         ["site.toml:3:", "NOT_THERE is not set"]),
        ("[[hosts]]\nname = 'h'\npassword = { file = 'nowhere' }\n", ["site.toml:3:", "nowhere"]),
        ("[[destinations]]\nname = 'A'\n[[destinations]]\nname = 'A'\n",
         ["site.toml:4:", "twice"]),
        ("[[destinations]]\n", ["site.toml:1:", "needs a name"]),
        ("[[destinations]]\nname = 'A'\nname = 'B'\n", ["site.toml:3:", "no valid TOML"]),
        ("[[destinations]\n", ["site.toml:1:", "no valid TOML"]),
    ],
)  # fmt: skip
def test_a_wrong_site_file_changes_nothing(cli: Cli, text: str, hints: list[str]) -> None:
    """File, line, key and the nearest name; a good file before it is not applied either."""
    (cli.folder / "good.json").write_text('{"destinations": [{"name": "GOOD"}]}')
    (cli.folder / "site.toml").write_text(text)
    error = cli("apply", "site.toml", code=2).error
    assert [hint for hint in hints if hint not in error] == []
    assert "GOOD" not in cli("destination", "list").text


def test_files_are_all_read_before_the_first_is_applied(cli: Cli) -> None:
    """A mistake that can be seen without the node stops all of them; a missing file, too."""
    (cli.folder / "good.json").write_text('{"destinations": [{"name": "GOOD"}]}')
    (cli.folder / "wrong.json").write_text('{"destinations": [\n{"name": "A", "activ": true}]}')
    assert "did you mean 'active'?" in cli("apply", "good.json", "wrong.json", code=2).error
    (cli.folder / "broken.json").write_text('{"destinations": [\n}')
    assert "broken.json:2:" in cli("apply", "good.json", "broken.json", code=2).error
    assert "no such file" in cli("apply", "good.json", "nowhere.toml", code=2).error
    assert "GOOD" not in cli("destination", "list").text


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("[node]\nnmae = 'x'\n", [":2:", "node.nmae", "did you mean 'name'?"]),
        ("[nod]\nname = 'x'\n", [":1:", "nod", "did you mean 'node'?"]),
        ("[store]\nreaders = 'many'\n", [":2:", "store.readers", "'many'"]),
        ("[store]\n\nreaders = 0\n", [":3:", "store.readers"]),
        ("[store]\ndurability = 'ful'\n", [":2:", "did you mean 'full'?"]),
        ("[portal.ftp]\nidle_timeout = 5\n", [":2:", "portal.ftp.idle_timeout", "no unit"]),
        ("[monitor]\nlisten = '8443'\n", [":2:", "monitor.listen", "host:port"]),
        ("[security]\nallow = ['10.0.0.0/33']\n", [":2:", "security.allow", "no network"]),
        ("[node]\ntimezone = 'Nowhere'\n", [":2:", "node.timezone"]),
        ("[node]\nname = \n", [":2:", "no valid TOML"]),
        ("node = 5\n", [":1:", "a table is expected"]),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(alone: Cli, text: str, hints: list[str]) -> None:
    """By `config check` as by every command that reads it; nothing is created."""
    path = alone.folder / "x.toml"
    path.write_text(text)
    for words in (["config", "check"], ["config", "show"], ["serve"], ["init"]):
        error = alone(*words, "--config", path, code=2).error
        assert [hint for hint in ["x.toml", *hints] if hint not in error] == []
    assert {entry.name for entry in alone.folder.iterdir()} == {"x.toml"}


def test_settings_are_shown_as_they_are(alone: Cli) -> None:
    """The environment overrules the file; what is shown can be read again; secrets are masked."""
    path = alone.folder / "ecpds.toml"
    path.write_text(
        '[mail]\nurl = "smtp://me:hush@localhost:25"\n[[volumes]]\nname = "a"\npath = "/b"'
    )
    assert alone("config", "check").text == "ecpds.toml: ok\n"
    given = {"ECPDS_STORE__READERS": "7"}
    shown = alone("config", "show", environment=given).text
    assert "hush" not in shown
    document = tomllib.loads(shown)
    assert (document["store"]["readers"], document["volumes"][0]["path"]) == (7, "/b")
    (alone.folder / "again.toml").write_text(shown)
    assert alone("config", "show", "again.toml").text == shown
    assert alone("config", "show", "--output", "json", environment=given).json == document
    wrong = alone("config", "check", environment={"ECPDS_STOR__READERS": "7"}, code=2).error
    assert "ECPDS_STOR__READERS" in wrong
    assert "no such file" in alone("config", "check", "nowhere.toml", code=2).error
    path.unlink()
    assert alone("config", "check").text == "defaults: ok\n"


# --- the node itself -----------------------------------------------------------------------------


def test_init_makes_a_node_that_serves(alone: Cli) -> None:
    """Once; the second time there is nothing left to do."""
    (alone.folder / "ecpds.toml").write_text('[node]\ndata_dir = "data"\n')
    assert "password " in alone("init").text
    assert "password " not in alone("init").text
    for name in ("ecpds.db", "admin.token", "keys/master.key", "tls/key.pem"):
        assert (alone.folder / "data" / name).stat().st_mode & 0o077 == 0, name


def test_a_second_node_and_a_taken_port_are_told(cli: Cli, alone: Cli) -> None:
    """In one line, not as a trace."""
    assert cli.daemon is not None
    error = cli("serve", code=2).error
    assert error.count("\n") == 1
    assert "another ecpds runs" in error
    port = cli.daemon.port("monitor")
    lines = [f'{table}listen = ""' for table in ("portal.https.", "portal.ftp.", "portal.sftp.")]
    lines += ['mqtt.tls_listen = ""', f'monitor.listen = "127.0.0.1:{port}"']
    (alone.folder / "ecpds.toml").write_text("\n".join(lines))
    error = alone("serve", code=2).error
    assert f"cannot listen on 127.0.0.1:{port}" in error.splitlines()[-1]
    assert "Traceback" not in error
