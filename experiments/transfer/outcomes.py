"""Results of runs: written whole with commit and versions, read back, and turned into savings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from math import inf, isinf
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from provenance import commit

from transfer.runs import RESULTS, RUNS, SCRATCH, Run, list_methods, list_rows, load_run
from wavescale.card import versions

Measure = Literal["flops", "total flops", "seconds"]


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write a result with the commit and the versions that made it; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {**found, "commit": commit(), "versions": {**versions(), "accelerate": version("accelerate")}}
    part = path.with_suffix(".part")
    part.write_text(_compact(whole) + "\n", encoding="utf-8")
    part.replace(path)


def read(path: Path) -> dict[str, Any]:
    """A result."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _compact(found: Mapping[str, Any]) -> str:
    """JSON with one line for each entry, and one for each point of a curve."""
    lines = []
    for name, value in found.items():
        if name in ("curve", "probes"):
            points = ",\n  ".join(json.dumps(point) for point in value)
            lines.append(f' "{name}": [\n  {points}\n ]')
        else:
            lines.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(lines) + "\n}"


def crossing(curve: Sequence[Mapping[str, float]], quality: str, wanted: float, greater: bool) -> float | None:
    """The step at which a curve first has a quality, linear between its points; None where it never does.

    Parameters
    ----------
    curve
        Points with the quality and the step.
    quality
        Its name in the points.
    wanted
        The quality.
    greater
        Whether greater is better.

    Examples
    --------
    >>> crossing([{"step": 0, "loss": 5.0}, {"step": 10, "loss": 4.0}], "loss", 4.5, False)
    5.0
    """
    sign = 1.0 if greater else -1.0
    before: Mapping[str, float] | None = None
    for point in curve:
        gap = sign * (point[quality] - wanted)
        if gap >= 0:
            if before is None:
                return float(point["step"])
            below = sign * (before[quality] - wanted)
            return float(before["step"] + (point["step"] - before["step"]) * -below / (gap - below))
        before = point
    return None


def quality_at(curve: Sequence[Mapping[str, float]], quality: str, step: float) -> float:
    """The quality at a step, linear between the points."""
    return float(np.interp(step, [point["step"] for point in curve], [point[quality] for point in curve]))


def cost(result: Mapping[str, Any], step: float, with_source: bool = False) -> float:
    """FLOPs up to a step, with those that the start took; and those of the source's own training, if asked."""
    source = float(result["source_flops"]) if with_source else 0.0
    return source + float(result["start_flops"]) + step * float(result["flops_per_step"])


def pace(curve: Sequence[Mapping[str, float]]) -> float:
    """Seconds a step, the median over the stretches between marks: what else a machine does seldom lasts so long.

    Examples
    --------
    >>> pace([{"step": 2 * mark, "seconds": seconds} for mark, seconds in enumerate([0, 4, 99, 103])])
    2.0
    """
    return median((b["seconds"] - a["seconds"]) / (b["step"] - a["step"]) for a, b in pairwise(curve))


def seconds(run: Run, step: float, results: Path = RESULTS) -> float:
    """Seconds up to a step, with those that the start took.

    The pace is the median over all runs of the row whose steps do the same work on as many threads and processes:
    what they differ by is what else the machine did.
    """
    mine = read(run.result(results))
    same = [
        pace(other["curve"])
        for other in map(read, sorted(run.result(results).parent.glob("*-seed*.json")))
        if all(other.get(name) == mine.get(name) for name in ("flops_per_step", "threads", "processes"))
    ]
    return float(mine.get("start_seconds", 0.0)) + step * median(same)


def saving(run: Run, results: Path = RESULTS, share: float = 1.0, measure: Measure = "flops") -> float | None:
    """The saving ratio r = (φ_scratch − φ)/φ_scratch of a run (BoT, arXiv 2603.07506).

    φ is what it takes to come to the quality that scratch, in the same order of data, has at a share of its
    budget.

    Parameters
    ----------
    run, results
        Which, and where results lie.
    share
        Of scratch's budget; 1 for its end.
    measure
        `flops`; `total flops`, with those of the source's training; or `seconds` (see `seconds`).

    Returns
    -------
    None where one of the two results is missing, or where the run has no target; −∞ where it never came to that
    quality.
    """
    mine, scratch = run.result(results), replace(run, method=SCRATCH).result(results)
    if not mine.is_file() or not scratch.is_file() or run.stop != "target":
        return None
    found, base = read(mine), read(scratch)
    step = share * base["run"]["steps"]
    wanted = quality_at(base["curve"], run.quality, step)
    whole, part = (crossing(c["curve"], run.quality, wanted, run.greater_is_better) for c in (base, found))
    assert whole is not None
    if part is None:
        return -inf
    if measure == "seconds":
        return 1 - seconds(run, part, results) / seconds(replace(run, method=SCRATCH), whole, results)
    return 1 - cost(found, part, measure == "total flops") / cost(base, whole)


def summary(
    scale: str = "cpu", results: Path = RESULTS, runs: Path = RUNS, share: float = 1.0, measure: Measure = "flops"
) -> list[dict[str, Any]]:
    """The table of r: for each row and method the mean over the seeds that are there, and how many they are."""
    found = []
    for row in list_rows(scale, runs):
        for method in list_methods(scale, row, runs):
            run = load_run(scale, row, method, runs=runs)
            values = [saving(replace(run, seed=seed), results, share, measure) for seed in run.seeds]
            savings = [value for value in values if value is not None]
            if savings:
                mean = sum(savings) / len(savings)
                value = None if isinf(mean) else round(mean, 4)
                found.append({"row": row, "method": method, "saving": value, "seeds": len(savings)})
    return found


def write_summary(scale: str = "cpu", results: Path = RESULTS, runs: Path = RUNS) -> None:
    """Write `summary.json` beside the results: a list of row, method, saving and seeds."""
    path = (results if scale == "cpu" else results / scale) / "summary.json"
    lines = ",\n".join(f" {json.dumps(entry)}" for entry in summary(scale, results, runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
