"""Settings: every mistake names file, line, key and the nearest known name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ecpds.base.settings import Settings, effective, load
from ecpds.model.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    """Write a settings file."""
    path = folder / "ecpds.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    """All keys have one."""
    assert load(write(tmp_path, ""), {}) == load(None, {})


def test_the_reference_file_is_the_defaults_with_the_demo() -> None:
    """Every key of ecpds.toml is known and has its default."""
    reference = load(Path(__file__).parents[2] / "ecpds.toml", {})
    assert reference.demo.enabled
    shown = effective(reference)
    shown["demo"]["enabled"] = False
    assert shown == effective(load(None, {}))


@pytest.mark.parametrize(
    ("text", "line", "key", "nearest"),
    [
        ("[node]\nnam = 'x'\n", 2, "node.nam", "name"),
        ("[nodes]\nname = 'x'\n", 1, "nodes", "node"),
        ("[portal.ftp]\n\nlisten = 7021\n", 3, "portal.ftp.listen", ""),
        ("[portal.ftp]\ntls = 'optionl'\n", 2, "portal.ftp.tls", "optional"),
        ("[scheduler]\nhousekeeping_interval = '30'\n", 2, "scheduler.housekeeping_interval", ""),
        ("[scheduler]\nhousekeeping_interval = 30\n", 2, "scheduler.housekeeping_interval", ""),
        ("[store]\nreaders = 0\n", 2, "store.readers", ""),
        ("[store]\nurl = 'mysql://x'\n", 2, "store.url", ""),
        (
            "[[volumes]]\nname = 'a'\npath = '/x'\nreserv = '1GB'\n",
            4,
            "volumes[0].reserv",
            "reserve",
        ),
        ("[security]\nallow = ['10.0.0.0/33']\n", 2, "security.allow", ""),
        ("[node]\ntimezone = 'Mars/Olympus'\n", 2, "node.timezone", ""),
        ("[monitor]\nlisten = '8443'\n", 2, "monitor.listen", ""),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, line: int, key: str, nearest: str) -> None:
    """File, line, key and nearest name."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    error = caught.value
    assert (error.file, error.line, error.key, error.nearest) == (str(path), line, key, nearest)
    assert str(error).startswith(f"{path}:{line}: ")


def test_text_that_is_no_toml_names_its_line(tmp_path: Path) -> None:
    """The line of the parser."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "[node]\nname = \n"), {})
    assert caught.value.line == 2


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """ECPDS_<TABLE>__<KEY>, nested tables with one more pair of underscores."""
    path = write(tmp_path, "[monitor]\nlisten = '127.0.0.1:1'\n")
    environment = {
        "ECPDS_MONITOR__LISTEN": "127.0.0.1:2",
        "ECPDS_PORTAL__FTP__ACTIVE": "yes",
        "ECPDS_SCHEDULER__TRANSFERS": "7",
        "ECPDS_FAILPOINTS": "",
    }
    settings = load(path, environment)
    assert settings.monitor.listen == "127.0.0.1:2"
    assert settings.portal.ftp.active is True
    assert settings.scheduler.transfers == 7


def test_an_unknown_variable_is_an_error() -> None:
    """A typo in the environment is no silence."""
    with pytest.raises(ConfigError, match="ECPDS_MONITR__LISTEN"):
        load(None, {"ECPDS_MONITR__LISTEN": "x"})


def test_secrets_in_addresses_are_masked() -> None:
    """`config show` prints no password."""
    settings = load(None, {"ECPDS_MAIL__URL": "smtp://user:hunter2@mail.example.org"})
    assert "hunter2" not in str(effective(settings))


def test_settings_are_values() -> None:
    """Frozen, comparable, typed."""
    assert isinstance(load(None, {}), Settings)
    assert load(None, {}).scheduler.housekeeping_interval == timedelta(seconds=30)
