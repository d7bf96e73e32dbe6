"""Rows of the table with what has been trained of them so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transfer import outcomes
from transfer.runs import RESULTS, RUNS, SCRATCH, Run, list_methods, list_rows, load_run

Kind = Literal["savings", "wavelets", "tuning"]
Axis = Literal["FLOPs", "steps", "seconds"]
AXES: tuple[Axis, ...] = ("FLOPs", "steps", "seconds")
WAVELETS = "-wavelets"
Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Trained:
    """A run and its result.

    Attributes
    ----------
    run
        As its config says.
    result
        As `transfer.outcomes` wrote it.
    """

    run: Run
    result: Mapping[str, Any]

    @property
    def qualities(self) -> list[float]:
        """The quality at each mark."""
        return [point[self.run.quality] for point in self.result["curve"]]

    def quality_at(self, share: float) -> float:
        """The quality at a share of the budget, linear between the marks."""
        return outcomes.quality_at(self.result["curve"], self.run.quality, share * self.result["run"]["steps"])

    @property
    def steps(self) -> list[int]:
        """The step of each mark."""
        return [point["step"] for point in self.result["curve"]]

    def along(self, axis: Axis) -> list[float]:
        """Where each mark lies: FLOPs with those of the start, steps, or seconds of training."""
        if axis == "seconds":
            return [point["seconds"] for point in self.result["curve"]]
        return [outcomes.cost(self.result, step) if axis == "FLOPs" else float(step) for step in self.steps]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes
    ----------
    name, kind
        `savings` against scratch; `wavelets`, which are trained for as long; or `tuning` of a model of another row
        on a task of its own.
    runs
        The first seed of every method in the configs.
    trained
        For each method the seeds that have a result; none where it has not been run.
    results
        The folder that they are from.
    """

    name: str
    kind: Kind
    runs: Mapping[str, Run]
    trained: Mapping[str, Sequence[Trained]]
    results: Path

    @property
    def first(self) -> Run:
        """Any of the runs, for what all of them share; scratch where there is one."""
        return self.runs.get(SCRATCH, next(iter(self.runs.values())))

    @property
    def methods(self) -> list[str]:
        """The methods that are compared, scratch first; the source is none."""
        compared = [name for name, run in self.runs.items() if run.stop in ("target", "never")]
        return sorted(compared, key=lambda name: name != SCRATCH)

    @property
    def target(self) -> float | None:
        """The quality that scratch ends with, the mean over seeds."""
        ends = [one.qualities[-1] for one in self.trained.get(SCRATCH, ())]
        return sum(ends) / len(ends) if ends else None


def read_rows(scale: str = "cpu", results: Path = RESULTS, runs: Path = RUNS) -> list[Row]:
    """Every row of a scale, with the results that are there."""
    found = []
    for name in list_rows(scale, runs):
        firsts = {method: load_run(scale, name, method, runs=runs) for method in list_methods(scale, name, runs)}
        trained = {method: _trained(run, results) for method, run in firsts.items()}
        found.append(Row(name, _kind(name, firsts), firsts, trained, results))
    return found


def _trained(first: Run, results: Path) -> list[Trained]:
    seeds = [replace(first, seed=seed) for seed in first.seeds]
    return [Trained(run, outcomes.read(run.result(results))) for run in seeds if run.result(results).is_file()]


def _kind(name: str, runs: Mapping[str, Run]) -> Kind:
    if name.endswith(WAVELETS):
        return "wavelets"
    return "savings" if any(run.stop == "target" for run in runs.values()) else "tuning"
