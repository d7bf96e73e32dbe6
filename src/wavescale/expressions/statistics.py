"""A tensor's mean and spread: taken off, and put back."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

from wavescale.expressions.node import Expression, Shape, Source
from wavescale.rows import Rows, blocks

if TYPE_CHECKING:
    import torch

# As FRONT's script has it, so that a tensor of equal numbers can be divided by its spread.
_LEAST_SPREAD = 1e-8


@dataclass(frozen=True)
class Standardize(Expression):
    """A tensor less its mean, divided by its standard deviation (over all entries, n − 1 of them counted)."""

    of: Expression

    @property
    def shape(self) -> Shape:
        return self.of.shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of,)

    @property
    def flops(self) -> int:
        return 5 * prod(self.shape)

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        mean, spread = _moments(self.of, source)
        return self.of.block(source, rows).sub_(mean).div_(spread + _LEAST_SPREAD)


@dataclass(frozen=True)
class Restore(Expression):
    """A standardised tensor times the standard deviation of another, plus its mean.

    Attributes
    ----------
    like
        Whose standard deviation and mean; of any shape.
    gain
        Factor on that mean.
    """

    of: Expression
    like: Expression
    gain: float = 1.0

    @property
    def shape(self) -> Shape:
        return self.of.shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.like)

    @property
    def flops(self) -> int:
        return 2 * prod(self.shape) + 4 * prod(self.like.shape)

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        mean, spread = _moments(self.like, source)
        return self.of.block(source, rows).mul_(spread).add_(mean * self.gain)


def _moments(of: Expression, source: Source) -> tuple[float, float]:
    """Mean and standard deviation of all entries."""

    def find() -> tuple[float, float]:
        count = prod(of.shape)
        mean = sum(float(of.block(source, rows).double().sum()) for rows in blocks(of.shape)) / count
        squares = sum(float((of.block(source, rows).double() - mean).square().sum()) for rows in blocks(of.shape))
        return mean, sqrt(squares / (count - 1)) if count > 1 else float("nan")

    return source.once(("moments", of), find)
