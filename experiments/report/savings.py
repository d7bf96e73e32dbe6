"""Saving ratios of a row's methods over seeds, and how far one leads the best of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from statistics import fmean

from transfer.outcomes import Measure, saving
from transfer.runs import SCRATCH

from report.rows import Row

# Methods of this project and of the paper that it is made after; all others are baselines.
OURS = ("wavescale", "bot")
# And the two that are compared with each other.
PAIR = ("wavescale", "bot-paper")


@dataclass(frozen=True)
class Saving:
    """r of a method in a row.

    Attributes
    ----------
    values
        By seed, of the runs that came to the quality.
    missed
        By seed, the last quality of the runs that did not.
    waiting
        How many results have no scratch of their seed yet to be compared with.
    """

    values: Mapping[int, float]
    missed: Mapping[int, float]
    waiting: int

    @property
    def mean(self) -> float | None:
        """Over seeds; None unless every seed that was compared came to the quality."""
        return None if self.missed or not self.values else sum(self.values.values()) / len(self.values)

    def told(self) -> str:
        """In words: mean and range in per cent, or what is missing."""
        if not self.values and not self.missed:
            return "scratch not run yet" if self.waiting else "not run yet"
        if not self.missed:
            return spread([100 * value for value in self.values.values()], "{:.1f}", "%")
        ends = spread(list(self.missed.values()), "{:.3f}")
        if not self.values:
            return f"not reached: {ends}"
        reached = spread([100 * value for value in self.values.values()], "{:.1f}", "%")
        seeds = len(self.missed) + len(self.values)
        return f"not reached by {len(self.missed)} of {seeds}: {ends}; else {reached}"


def spread(values: list[float], form: str, unit: str = "") -> str:
    """The mean, and the range where values differ.

    Examples
    --------
    >>> spread([50.0, 60.0], "{:.1f}", "%")
    '55.0% (50.0 to 60.0)'
    >>> spread([4.25], "{:.2f}")
    '4.25'
    """
    mean = form.format(sum(values) / len(values)) + unit
    low, high = form.format(min(values)), form.format(max(values))
    return mean if low == high else f"{mean} ({low} to {high})"


def saving_of(row: Row, method: str, share: float = 1.0, measure: Measure = "flops") -> Saving:
    """The saving ratios of a method over its seeds; `share` and `measure` as in `transfer.outcomes.saving`."""
    values, missed, waiting = {}, {}, 0
    for one in row.trained.get(method, ()):
        found = saving(one.run, row.results, share, measure)
        if found is None:
            waiting += 1
        elif isinf(found):
            missed[one.run.seed] = one.qualities[-1]
        else:
            values[one.run.seed] = found
    return Saving(values, missed, waiting)


def baselines(row: Row) -> list[str]:
    """The methods of a row that are neither scratch nor ours."""
    return [name for name in row.methods if name != SCRATCH and not name.startswith(OURS)]


def ahead(row: Row, method: str, other: str) -> dict[int, float]:
    """By how much of r a method is ahead of another, seed by seed; empty where either did not reach it."""
    mine, theirs = saving_of(row, method), saving_of(row, other)
    if mine.mean is None or theirs.mean is None:
        return {}
    return {seed: mine.values[seed] - theirs.values[seed] for seed in mine.values.keys() & theirs.values.keys()}


def lead(row: Row, method: str) -> tuple[float, str] | None:
    """By how much of r a method is ahead of the best baseline, over the seeds that both have, and which that is.

    Of one seed a baseline may be lucky, so only those are looked at that share the most seeds with the method. None
    where the method, or every baseline, has no r yet or did not come to the quality.
    """
    leads = {name: ahead(row, method, name) for name in baselines(row)}
    most = max(map(len, leads.values()), default=0)
    if most == 0:
        return None
    return min((fmean(points.values()), name) for name, points in leads.items() if len(points) == most)
