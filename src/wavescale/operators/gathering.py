"""Operators that take one source sample for every target sample: copies, and choices."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from math import frexp
from typing import TYPE_CHECKING, Any

import numpy as np

from wavescale.operators.base import Operator
from wavescale.rows import Positions, Rows, as_rows, positions, taken, within

if TYPE_CHECKING:
    import torch

Factors = np.ndarray[tuple[int], np.dtype[np.float64]]


class Gather(Operator):
    """An operator whose every row has at most one entry."""

    @property
    @abstractmethod
    def origins(self) -> Positions:
        """The source sample of each target sample, int64 of shape (m,); -1 for zero."""

    @property
    def factors(self) -> Factors | None:
        """What each target sample is multiplied with, besides the gain."""
        return None

    @property
    def scaling(self) -> float | None:
        factors = self.gain * (np.ones(1) if self.factors is None else np.unique(self.factors))
        return float(np.abs(factors).max()) if all(abs(frexp(factor)[0]) == 0.5 for factor in factors) else None

    def support(self, rows: Rows) -> Rows:
        found = np.unique(self.origins[positions(rows)])
        return as_rows(found[found >= 0])

    def apply(self, x: torch.Tensor, axis: int, rows: Rows | None = None) -> torch.Tensor:
        axis %= x.ndim
        if rows is None:
            origins, gain, factors = _all_rows(self)
        else:
            origins = self.origins[positions(rows)]
            known = origins >= 0
            origins = np.where(known, positions(within(np.where(known, origins, 0), self.support(rows))), -1)
            gain, factors = _common(self.gain, None if self.factors is None else self.factors[positions(rows)])
        if gain != 1.0:
            x = x * gain
        out = gathered(x, axis, origins)
        if factors is not None:
            out = out * _column(factors, out, axis)
        return out


@lru_cache(maxsize=64)
def _all_rows(operator: Gather) -> tuple[Positions, float, Factors | None]:
    """Of an operator that is applied whole, again and again: its origins, and its factors as in `_common`."""
    return operator.origins, *_common(operator.gain, operator.factors)


def _common(gain: float, factors: Factors | None) -> tuple[float, Factors | None]:
    """One factor for all where they are equal, and else the gain and the factors beside it."""
    if factors is None or not len(factors) or (factors != factors[0]).any():
        return gain, factors
    return gain * float(factors[0]), None


def gathered(x: torch.Tensor, axis: int, index: Positions) -> torch.Tensor:
    """`x.index_select(axis, index)` with zeros where the index is -1.

    Examples
    --------
    >>> import torch
    >>> gathered(torch.tensor([1.0, 2.0]), 0, np.array([0, 0, 1, 1, -1]))
    tensor([1., 1., 2., 2., 0.])
    """
    import torch

    known = np.flatnonzero(index >= 0)
    if len(known) < len(index):
        shape = list(x.shape)
        shape[axis] = len(index)
        out = x.new_zeros(shape)
        return out.index_copy_(axis, torch.from_numpy(known).to(x.device), gathered(x, axis, index[known]))
    return taken(x, axis, index)


def _column(values: np.ndarray[Any, Any], like: torch.Tensor, axis: int) -> torch.Tensor:
    """Values along one axis of a tensor, ready to be multiplied with it."""
    import torch

    shape = tuple(-1 if position == axis else 1 for position in range(like.ndim))
    return torch.from_numpy(values).to(like.device, like.dtype).view(shape)
