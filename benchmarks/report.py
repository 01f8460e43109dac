"""Results as a table for people and as JSON for machines.

Each case keeps one file, `results/<case>.json`, with the machine and the date, so that two commits
can be compared with `git diff`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import US, Reach, Result, spread

HEADINGS = ("case", "work", "ecpds", "beside", "ratio", "reach", "")


def as_json(result: Result) -> dict[str, object]:
    """Return the result as plain values, figures rounded to four significant digits."""
    comparison = result.comparison
    return {
        "work": comparison.work,
        "unit": comparison.unit,
        "better": comparison.better,
        "rounds": {name: [_digits(v) for v in vs] for name, vs in result.figures.items()},
        "median": {name: _digits(value) for name, value in result.medians.items()},
        "spread": {name: _digits(spread(vs)) for name, vs in result.figures.items() if vs},
        "ratio": {name: _digits(value) for name, value in result.ratios.items()},
        "reach": _reach_json(comparison.reach),
        "reached": result.reached,
        "failures": dict(result.failures),
        "skipped": result.skipped,
    }


def save(
    folder: Path, results: Iterable[Result], *, machine: Mapping[str, object], date: str, full: bool
) -> list[Path]:
    """Write one file a case into `folder` and return the paths; older files are replaced."""
    cases: dict[str, list[Result]] = {}
    for result in results:
        cases.setdefault(result.comparison.case, []).append(result)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for case, of_case in cases.items():
        path = folder / f"{case}.json"
        content = {
            "case": case,
            "date": date,
            "machine": dict(machine),
            "full": full,
            "results": [as_json(result) for result in of_case],
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def table(results: Iterable[Result]) -> str:
    """Return a Markdown table, one line a pair of us and a peer, columns aligned."""
    rows = [row for result in results for row in _rows(result)]
    widths = [max(len(line[i]) for line in [HEADINGS, *rows]) for i in range(len(HEADINGS))]
    lines = [_line(HEADINGS, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _rows(result: Result) -> list[tuple[str, ...]]:
    """Return the lines of one result: the peer of the reach first, then the others."""
    comparison = result.comparison
    ours = figure(result.medians.get(US), comparison.unit)
    if US in result.failures:
        ours = "failed"
    head = (comparison.case, comparison.work, ours)
    if result.skipped:
        return [(*head, f"not measured: {result.skipped}", "", "", "")]
    reach = comparison.reach
    peers = [name for name in result.medians if name != US]
    peers.sort(key=lambda name: reach is None or name != reach.against)
    rows: list[tuple[str, ...]] = []
    if not peers or (reach is not None and reach.against is None):
        rows.append((*head, "", "", *_verdict(result, None)))
    for name in peers:
        beside = f"{name} {figure(result.medians[name], comparison.unit)}"
        found = result.ratios.get(name)
        rows.append((*head, beside, f"{found:.2f}" if found else "", *_verdict(result, name)))
    rows.extend((*head, f"{name} failed", "", "", "") for name in result.failures if name != US)
    return rows


def _verdict(result: Result, peer: str | None) -> tuple[str, str]:
    """Return the cells `reach` and its verdict for the line of `peer` (None: our own figure)."""
    reach = result.comparison.reach
    wanted = None if reach is None else reach.limit_of(peer)
    if wanted is None:
        return "", ""
    sign = "≤" if peer is None and result.comparison.better == "lower" else "≥"
    limit = figure(wanted, result.comparison.unit) if peer is None else f"{wanted:g}"
    verdict = {True: "yes", False: "NO", None: "?"}[_met(result, peer, wanted)]
    return f"{sign} {limit}", verdict


def _met(result: Result, peer: str | None, wanted: float) -> bool | None:
    if peer is None:
        return result.reached
    found = result.ratios.get(peer)
    return None if found is None else found >= wanted


def figure(value: float | None, unit: str) -> str:
    """Return a figure with its unit, three significant digits, never in powers of ten."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return f"{value} {unit}"
    digits = 0 if abs(value) >= 100 or value == 0 else 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, min(digits, 6))}f} {unit}"


def failures(results: Iterable[Result]) -> list[str]:
    """Return one line a failed contender or unmet time, for the end of the output."""
    lines = []
    for result in results:
        where = f"{result.comparison.case}: {result.comparison.work}"
        if result.skipped:
            lines.append(f"{where}: not measured: {result.skipped}")
        lines.extend(f"{where}: {name}: {text}" for name, text in result.failures.items())
    return lines


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _reach_json(reach: Reach | None) -> dict[str, object] | None:
    if reach is None:
        return None
    others = {"others": dict(reach.others)} if reach.others else {}
    return {"limit": reach.limit, "against": reach.against, **others}


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
