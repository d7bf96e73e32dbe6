"""Copies of what a map reads that take unequal shares of its weights, so that copies do not stay twins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import frexp, prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from wavescale.expressions.node import Expression, Shape, Source
from wavescale.expressions.signs import signed
from wavescale.operators import Copies
from wavescale.rows import Positions, Rows, positions, span, within
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class UnequalShares(Expression):
    """Copies of units on an axis that is summed over; the shares that the copies of a unit have sum to one.

    All copies carry the same value, so the function stays as it is, while twins get gradients of their own (METHOD,
    exact growth: breaking twins). Copies of a unit are paired. Of a weight w that is divided among c copies, one of a
    pair takes w·(1 + s)/c and the other w·(1 - s)/c; which takes more is drawn for every entry. Of an odd count the
    last copy takes w/c. In wavelet terms this is Haar synthesis with detail coefficients of ±s times the approximation.
    With s = 1 and two copies each weight goes whole to one of them, so that nothing is rounded; so it is with s = 3
    (2w and -w).

    What copies are summed for is the same number for all rows that are copied from it, if these are copied afterwards.
    Then copies stay equal to the bit, and rounding is not fed back from layer to layer.

    Attributes
    ----------
    of
        The copies with equal shares.
    operator
        It made the copies.
    name, axis, before, after
        The axis that was copied, in the shape of `of`, as in `Apply`.
    seed
        Of this tensor.
    spread
        s, how far shares lie from equal ones.
    whole
        What the shares sum to: 1, or 0 for a map that is to begin as zero.
    gain
        Factor on all of it.
    """

    of: Expression
    operator: Copies
    name: str
    axis: int
    before: int
    after: int
    seed: int
    spread: float
    whole: float = 1.0
    gain: float = 1.0

    @property
    def shape(self) -> Shape:
        return self.of.shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of,)

    @property
    def flops(self) -> int:
        return prod(self.shape)

    @property
    def amplification(self) -> float:
        """How much larger rounding becomes than with equal shares: the root mean square of shares, in theirs."""
        paired = self.operator.pairs.size / np.count_nonzero(self.operator.copied >= 0)
        return sqrt(1 + paired * self.spread**2)

    @property
    def scaling(self) -> float | None:
        inner = self.of.scaling
        factors = [abs(self._centre + sign * self._size) for sign in (-1, 0, 1)]
        exact = all(factor == 0.0 or frexp(factor)[0] == 0.5 for factor in factors)
        return None if inner is None or not exact else inner * max(factors)

    @property
    def _centre(self) -> float:
        return self.gain * self.whole

    @property
    def _size(self) -> float:
        return self.gain * self.spread

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        some = span(rows)
        found = self.of.block(source, some).contiguous()
        (self._on_rows if self.axis == 0 else self._in_rows)(found, some)
        return found if some is rows else taken(found, 0, within(rows, some))

    def _in_rows(self, found: torch.Tensor, rows: range) -> None:
        """Multiply along an axis that every row has whole."""
        pairs = self.operator.pairs
        outer = prod(self.shape[1 : self.axis]) * self.before
        lines = range(rows.start * outer, rows.stop * outer)
        view = found.view(len(lines), self.operator.m, -1)
        inner = view.shape[2]
        alone = _alone(self.operator)
        if len(alone) and self._centre != 1.0:
            view[:, _index(alone, view)] *= self._centre
        if inner == 1 and (pairs.reshape(-1) == np.arange(pairs.size)).all():
            factors = signed(lines, (len(pairs),), self.seed, self._size, found, self._centre, paired=True)
            view[:, : pairs.size, 0].mul_(factors)
            return
        drawn = signed(lines, (len(pairs), inner), self.seed, self._size, found)
        for side, places in enumerate(pairs.T):
            factors = self._centre + (1 - 2 * side) * drawn
            view[:, _index(places, view)] *= factors

    def _on_rows(self, found: torch.Tensor, rows: range) -> None:
        """Multiply along the axis that blocks divide: of a pair, one may lie in another block."""
        import torch

        rest = prod(self.shape[1:])
        view = found.view(len(rows), rest)
        place, at = np.divmod(positions(rows), self.after)
        slab, unit = np.divmod(place, self.operator.m)
        pair, side = _places(self.operator)
        alone = np.flatnonzero(pair[unit] < 0)
        if len(alone) and self._centre != 1.0:
            view[_index(alone, view)] *= self._centre
        line = (slab * len(self.operator.pairs) + pair[unit]) * self.after + at
        for run in _runs(np.flatnonzero(pair[unit] >= 0), line):
            lines = range(int(line[run].min()), int(line[run].max()) + 1)
            drawn = signed(lines, (rest,), self.seed, self._size, found)
            sides = torch.from_numpy(side[unit[run]]).to(view)[:, None]
            view[_index(run, view)] *= drawn[_index(line[run] - lines.start, view)] * sides + self._centre


def _runs(rows: Positions, line: Positions) -> Iterator[Positions]:
    """Rows in stretches whose lines of signs lie next to each other."""
    if len(rows):
        steps = np.diff(line[rows])
        yield from np.split(rows, np.flatnonzero((steps < 0) | (steps > 1)) + 1)


@lru_cache(maxsize=64)
def _places(operator: Copies) -> tuple[Positions, Positions]:
    """The pair of each target unit, or -1, and its side: 1 for the first of a pair, -1 for the second."""
    pairs = operator.pairs
    pair, side = np.full(operator.m, -1), np.zeros(operator.m, dtype=np.int64)
    for sign, places in zip((1, -1), pairs.T, strict=True):
        pair[places], side[places] = np.arange(len(pairs)), sign
    return pair, side


def _alone(operator: Copies) -> Positions:
    """The target units that are in no pair."""
    return np.flatnonzero(_places(operator)[0] < 0)


def _index(places: np.ndarray[Any, Any], like: torch.Tensor) -> torch.Tensor | slice:
    """Positions as an index on a tensor's device; evenly spaced ones as a slice, which is many times as fast."""
    import torch

    steps = np.diff(places)
    if len(steps) and steps[0] > 0 and (steps == steps[0]).all():
        return slice(int(places[0]), int(places[-1]) + 1, int(steps[0]))
    return torch.from_numpy(np.ascontiguousarray(places)).to(like.device)
