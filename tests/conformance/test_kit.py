"""A module of another package: found by its entry point, tried with the suite as its author would.

The example is the one of docs/modules.md.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

from ecpds.conformance.results import Row, page

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/shelf"


async def run(*words: str | Path, place: Path, folder: Path) -> str:
    """Run a command with the installed example; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, words), cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{place}:{ROOT}", "PIP_ROOT_USER_ACTION": "ignore"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    text = (await process.communicate())[0].decode()
    assert process.returncode == 0, text
    return text


async def test_a_module_of_another_package_is_found_and_passes(tmp_path: Path) -> None:
    """Installed, listed among the methods, conforming."""
    package, place = tmp_path / "package", tmp_path / "site"
    shutil.copytree(EXAMPLE, package, ignore=shutil.ignore_patterns("__pycache__"))
    await run(
        "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "--target", place, package, place=place, folder=tmp_path,
    )  # fmt: skip
    found = await run(
        "-c",
        "from ecpds.modules import BUILTIN\n"
        "from ecpds.transfer.registry import Registry\n"
        "registry = Registry(BUILTIN, installed=True)\n"
        "print(*registry.methods())\n"
        "print(*(family.prefix for family in registry.families()))\n",
        place=place,
        folder=tmp_path,
    )
    methods, families = found.splitlines()
    assert "genericShelf" in methods.split()
    assert "shelf" in families.split()
    (package / "ecpds_shelf.py").unlink()  # the installed one is tried
    results = tmp_path / "results.md"
    told = await run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "ecpds.conformance.plugin",
        "-p", "ecpds.conformance.results", "--conformance-page", results, "--rootdir", package,
        "-c", "/dev/null", package / "test_ecpds_shelf.py", place=place, folder=package,
    )  # fmt: skip
    assert " passed" in told
    assert "failed" not in told
    assert "| shelf | genericShelf |" in results.read_text()


def test_the_results_page() -> None:
    """Cases, counts, features and quirks."""
    facts = {
        "case": "a-b", "module": "genericA", "server": "B 1.2", "features": ["GET", "PUT"],
        "quirks": ["it limps"],
    }  # fmt: skip
    text = page([Row(facts, {"passed": 3, "failed": 1})])
    assert "| a-b | genericA | B 1.2 | 3 | 1 | 0 |" in text
    assert "| a-b |  | yes | yes |" in text
    assert "- a-b: it limps" in text
