"""Operators that take one source sample for every target sample: copies, and choices."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from math import frexp
from typing import TYPE_CHECKING, Any

import numpy as np

from wavescale.operators.base import Operator
from wavescale.rows import Positions, Rows, as_rows, positions, within
from wavescale.taking import Taking, taking

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
    def common(self) -> tuple[float, Factors | None]:
        """One factor for all target samples where they have the same, and else the gain and the factors beside it."""
        return _common(self.gain, self.factors)

    @property
    def scaling(self) -> float | None:
        factors = self.gain * (np.ones(1) if self.factors is None else np.unique(self.factors))
        return float(np.abs(factors).max()) if all(abs(frexp(factor)[0]) == 0.5 for factor in factors) else None

    def support(self, rows: Rows) -> Rows:
        return _block(self, rows)[0] if isinstance(rows, range) else _support(self, rows)

    def apply(self, x: torch.Tensor, axis: int, rows: Rows | None = None) -> torch.Tensor:
        axis %= x.ndim
        if rows is None:
            taking, gain, factors = _whole(self)
        else:
            _, taking, gain, factors = _block(self, rows) if isinstance(rows, range) else _some(self, rows)
        if gain != 1.0:
            x = x * gain
        out = taking.of(x, axis)
        if factors is not None:
            out = out * _column(factors, out, axis)
        return out


def _support(operator: Gather, rows: Rows) -> Rows:
    found = np.unique(operator.origins[positions(rows)])
    return as_rows(found[found >= 0])


def _some(operator: Gather, rows: Rows) -> tuple[Rows, Taking, float, Factors | None]:
    """The source samples of some target samples, how to take these from them, and factors as in `Gather.common`."""
    support, origins, factors = _support(operator, rows), operator.origins[positions(rows)], operator.factors
    known = origins >= 0
    places = np.where(known, positions(within(np.where(known, origins, 0), support)), -1)
    common = _common(operator.gain, None if factors is None else factors[positions(rows)])
    return support, taking(places, len(support)), *common


# Tensors of one kind are made of the same operators and in the same blocks, layer after layer.
_block = lru_cache(maxsize=1024)(_some)


@lru_cache(maxsize=64)
def _whole(operator: Gather) -> tuple[Taking, float, Factors | None]:
    return Taking(operator.origins, operator.n), *operator.common


def _common(gain: float, factors: Factors | None) -> tuple[float, Factors | None]:
    if factors is None or not len(factors) or (factors != factors[0]).any():
        return gain, factors
    return gain * float(factors[0]), None


def _column(values: np.ndarray[Any, Any], like: torch.Tensor, axis: int) -> torch.Tensor:
    """Values along one axis of a tensor, ready to be multiplied with it."""
    import torch

    shape = tuple(-1 if position == axis else 1 for position in range(like.ndim))
    return torch.from_numpy(values).to(like.device, like.dtype).view(shape)
