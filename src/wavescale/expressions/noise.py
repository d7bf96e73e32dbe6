"""Seeded numbers where a tensor is new beside padding."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

import numpy as np

from wavescale.expressions.node import Expression, Shape, Source
from wavescale.expressions.signs import signed
from wavescale.operators import CopyAndPad
from wavescale.rows import Positions, Rows, as_rows, span, within
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch

# Of larger tensors so many entries, in stretches of rows, say how large new numbers are.
_SAMPLE, _STRETCHES = 1 << 18, 16


@dataclass(frozen=True)
class Fresh(Expression):
    """Seeded numbers where a tensor is new, and zero where it is the source's.

    What is new beside padding reads at random while it writes nothing, so that the function stays and the
    new parts learn from the first step. All numbers of a tensor are of one size with signs drawn at
    random: the source's root mean square times a factor. A row's signs are those of the row before from the 64th on.

    Attributes
    ----------
    like
        The tensor in the source's shape, which sets the size.
    padded
        The axes that have new units: the operator that pads, the position, before and after as in `Apply`.
    of_shape
        The target's shape.
    seed
        Of this tensor.
    factor
        On the size.
    """

    like: Expression
    padded: tuple[tuple[CopyAndPad, int, int, int], ...]
    of_shape: Shape
    seed: int
    factor: float = 1.0

    @property
    def shape(self) -> Shape:
        return self.of_shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.like,)

    @property
    def flops(self) -> int:
        return prod(self.shape)

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        some = span(rows)
        rest = prod(self.of_shape[1:])
        size = self.factor * source.once(("fresh", self.like), lambda: self._rms(source))
        found = signed(some, (rest,), self.seed, size, torch.empty(0))
        found = found.view(len(some), *self.of_shape[1:])
        old = torch.ones((1,) * found.ndim, dtype=torch.bool)
        for operator, axis, before, after in self.padded:
            known = np.tile(np.repeat(operator.copied >= 0, after), before)
            known = known[some.start : some.stop] if axis == 0 else known
            old = old & torch.from_numpy(known).view(*(-1 if at == axis else 1 for at in range(found.ndim)))
        return taken(found.masked_fill(old, 0.0), 0, within(rows, some))

    def _rms(self, source: Source) -> float:
        import torch

        shape = self.like.shape
        chosen = _spread(shape[0], max(1, _SAMPLE // prod(shape[1:])))
        like = self.like.block(source, as_rows(chosen))
        return sqrt(float(like.double().square().mean(dtype=torch.float64)))


def _spread(n: int, count: int) -> Positions:
    """About so many of n positions, in stretches that are evenly spaced."""
    stretches = min(_STRETCHES, -(-n // count))
    begins = np.arange(stretches) * (n // stretches)
    return (begins[:, None] + np.arange(min(-(-count // stretches), n // stretches))).reshape(-1)
