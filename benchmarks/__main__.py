"""`python -m benchmarks [--full] [--size F] [CASE …]`: measure, print the table, save JSON."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.cases import ALL
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Budget, Comparison, Result, compare
from benchmarks.machine import machine, machine_line
from benchmarks.scene import Case, Scene

HERE = Path(__file__).resolve().parent
TEN_MINUTES = 600.0
SETTING_UP = 60.0
"""Seconds of the ten minutes that go to material, starting and stopping servers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when everything was measured, 1 when a contender failed or time ran out."""
    options = _parse(arguments)
    began = time.monotonic()
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{date}  {machine_line()}", flush=True)
    cases = [case for case in ALL if not options.cases or case.name in options.cases]
    try:
        results = asyncio.run(_measure(cases, options))
    finally:
        if not options.keep:
            shutil.rmtree(options.work, ignore_errors=True)
    print(f"\n{report.table(results)}\n")
    print(f"ratio: above 1 ecpds does better; {time.monotonic() - began:.0f} s in all")
    if not options.peers_only:
        report.save(options.results, results, machine=machine(), date=date, full=options.full)
    wrong = report.failures(results)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(c.name for c in ALL))
    parser.add_argument("--full", action="store_true", help="more rounds, the long runs, no limit")
    parser.add_argument(
        "--size", type=float, default=1.0, help="multiplies counts of the mqtt and wis2 cases"
    )
    parser.add_argument("--peers-only", action="store_true", help="without ecpds; nothing saved")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="scratch folder")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of JSON")
    parser.add_argument("--keep", action="store_true", help="do not remove the scratch folder")
    options = parser.parse_args(arguments)
    unknown = set(options.cases) - {case.name for case in ALL}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return options


async def _measure(cases: Sequence[Case], options: Namespace) -> list[Result]:
    budget = Budget(float("inf") if options.full else TEN_MINUTES)
    results: list[Result] = []
    for number, case in enumerate(cases):
        wanted = sum(each.share for each in cases[number:])
        left = budget.left - SETTING_UP * (len(cases) - number) / len(cases)
        scene = Scene(
            work=options.work.resolve(),
            full=options.full,
            ours=not options.peers_only,
            scale=max(0.0, min(1.0, left / wanted)),
            size=options.size,
        )
        results += await _case(case, scene, budget)
    return results


async def _case(case: Case, scene: Scene, budget: Budget) -> list[Result]:
    print(f"\n{case.name} …", flush=True)
    results = []
    try:
        async with case.open(scene) as comparisons:
            for comparison in comparisons:
                result = await compare(comparison, budget)
                print(f"  {_short(result)}", flush=True)
                results.append(result)
    except MeasurementFailed as error:
        failed = Comparison(case=case.name, work="setting up", unit="", contenders=())
        results.append(Result(comparison=failed, failures={US: str(error)}))
    return results


def _short(result: Result) -> str:
    unit = result.comparison.unit
    parts = [
        f"{name} {report.figure(value, unit)} ({len(result.figures[name])})"
        for name, value in result.medians.items()
    ]
    parts += [f"{name} failed" for name in result.failures]
    return f"{result.comparison.work}: {'; '.join(parts) or result.skipped}"


if __name__ == "__main__":
    sys.exit(main())
