"""Operators on a named axis: known beforehand, or an index or cells that were found out.

An axis made of several named ones is seen as (before, n, after), slowest first, and the operator acts
in the middle. On the first stored axis a block's rows say which source rows it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from wavescale.expressions.node import Expression, Shape, Source, replaced
from wavescale.operators import CopyAndPad, Operator
from wavescale.rows import Rows, as_rows, blocks, groups, members, positions, within
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Apply(Expression):
    """An operator on one named axis: the stored axis is (before, n, after), slowest first.

    Attributes
    ----------
    name
        The axis in words.
    """

    operator: Operator
    of: Expression
    name: str
    axis: int
    before: int = 1
    after: int = 1

    @property
    def shape(self) -> Shape:
        return replaced(self.of.shape, self.axis, self.before * self.operator.m * self.after)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of,)

    @property
    def flops(self) -> int:
        return 2 * self.operator.multiplications * prod(self.of.shape) // self.operator.n

    @property
    def scaling(self) -> float | None:
        inner, mine = self.of.scaling, self.operator.scaling
        return None if inner is None or mine is None else inner * mine

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        if self.axis == 0 and self.before == 1 and isinstance(self.operator, CopyAndPad) and self.operator.averages:
            return self._padded(self.operator, source, rows)
        return _along(self, self.operator.n, self.operator.m, source, rows, self.operator.support, self.operator.apply)

    def _padded(self, operator: CopyAndPad, source: Source, rows: Rows) -> torch.Tensor:
        """Copies, and behind them rows that are all the mean of the source's."""
        import torch

        if self.after > 1 or not isinstance(rows, range):
            whole = operator.apply(_opened(self.of.block(source, range(self.of.shape[0])), 0, (1, operator.n, -1)), 1)
            return taken(whole.reshape(self.shape), 0, rows)
        copied = min(rows.stop, operator.n * operator.count)
        found = []
        if rows.start < copied:
            kept = range(rows.start, copied)
            found.append(operator.apply(self.of.block(source, operator.support(kept)), 0, kept))
        if rows.stop > copied:
            mean = source.once(("mean", self.of), lambda: _mean_row(self.of, source)) * operator.gain
            found.append(mean.expand(rows.stop - max(copied, rows.start), *mean.shape[1:]))
        return torch.cat(found)


def _mean_row(of: Expression, source: Source) -> torch.Tensor:
    total = sum(of.block(source, rows).sum(0, keepdim=True) for rows in blocks(of.shape))
    return total / of.shape[0]  # type: ignore[return-value]


@dataclass(frozen=True)
class Select(Expression):
    """Some units of one named axis, or all in another order; `index` holds m int64 positions in the source."""

    of: Expression
    index: Expression
    n: int
    name: str
    axis: int
    before: int = 1
    after: int = 1

    @property
    def shape(self) -> Shape:
        return replaced(self.of.shape, self.axis, self.before * self.index.shape[0] * self.after)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.index)

    @property
    def scaling(self) -> float | None:
        return self.of.scaling

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        index = _whole(self.index, source).cpu().numpy()

        def support(units: Rows) -> Rows:
            return as_rows(np.unique(index[positions(units)]))

        def apply(x: torch.Tensor, axis: int, units: Rows | None = None) -> torch.Tensor:
            wanted = index if units is None else within(index[positions(units)], support(units))
            return taken(x, axis, wanted)

        return _along(self, self.n, len(index), source, rows, support, apply)


@dataclass(frozen=True)
class Merge(Expression):
    """Units of one named axis added up by cells, each with its weight.

    Attributes
    ----------
    cells
        The target unit that each of n source units goes into, int64 of shape (n,).
    weights
        What each source unit is multiplied with, of shape (n,).
    m
        Target units.
    entries
        `"dual"` divides by the sum of a cell's squared weights, for first moments; `"squared dual"` squares
        that, for second moments.
    """

    of: Expression
    cells: Expression
    weights: Expression
    m: int
    name: str
    axis: int
    before: int = 1
    after: int = 1
    entries: Literal["plain", "dual", "squared dual"] = "plain"

    @property
    def shape(self) -> Shape:
        return replaced(self.of.shape, self.axis, self.before * self.m * self.after)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.cells, self.weights)

    @property
    def flops(self) -> int:
        return 2 * prod(self.of.shape)

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        cells, weights = _whole(self.cells, source), _whole(self.weights, source)
        if self.entries != "plain":
            weights = weights / weights.new_zeros(self.m).index_add_(0, cells, weights.square())[cells]
        if self.entries == "squared dual":
            weights = weights.square()
        cell_of = cells.cpu().numpy()

        def support(units: Rows) -> Rows:
            return as_rows(np.flatnonzero(np.isin(cell_of, positions(units))))

        def apply(x: torch.Tensor, axis: int, units: Rows | None = None) -> torch.Tensor:
            mine: Rows = range(len(cell_of)) if units is None else support(units)
            wanted: Rows = range(self.m) if units is None else units
            weight = taken(weights, 0, mine).to(x.device, x.dtype)
            weighed = x * weight.view(*(-1 if position == axis else 1 for position in range(x.ndim)))
            merged = x.new_zeros(*x.shape[:axis], len(wanted), *x.shape[axis + 1 :])
            place = within(cell_of[positions(mine)], wanted)
            return merged.index_add_(axis, torch.from_numpy(positions(place)).to(x.device), weighed)

        return _along(self, len(cell_of), self.m, source, rows, support, apply)


def _along(
    node: Apply | Select | Merge,
    n: int,
    m: int,
    source: Source,
    rows: Rows,
    support: Callable[[Rows], Rows],
    apply: Callable[..., torch.Tensor],
) -> torch.Tensor:
    """Rows of a map on a node's axis.

    Parameters
    ----------
    n, m
        Units before and after.
    support
        The source units that some target units are made of, sorted.
    apply
        The map on one axis of a tensor; with target units as third argument it gets those of `support`.
    """
    if node.axis > 0:
        x = node.of.block(source, rows)
        if node.before == 1 and node.after == 1:
            return apply(x, node.axis)
        return apply(_opened(x, node.axis, (node.before, n, node.after)), node.axis + 1).reshape(-1, *node.shape[1:])
    rest = node.shape[1:]
    if node.before == 1:
        units = groups(rows, node.after)
        needed = support(units)
        x = node.of.block(source, members(needed, node.after))
        if node.after == 1:
            found = apply(x, 0, units)
        else:
            found = apply(x.reshape(len(needed), node.after, *rest), 0, units).reshape(-1, *rest)
        return taken(found, 0, within(rows, members(units, node.after)))
    slabs = groups(rows, m * node.after)
    x = node.of.block(source, members(slabs, n * node.after))
    found = apply(x.reshape(len(slabs), n, node.after, *rest), 1).reshape(-1, *rest)
    return taken(found, 0, within(rows, members(slabs, m * node.after)))


def _whole(expression: Expression, source: Source) -> torch.Tensor:
    """A small tensor that all blocks need."""
    return source.once(("whole", expression), lambda: expression.block(source, range(expression.shape[0])))


def _opened(x: torch.Tensor, axis: int, lengths: tuple[int, int, int]) -> torch.Tensor:
    """A tensor with one stored axis seen as (before, n, after); n is then at `axis + 1`."""
    return x.reshape(*x.shape[:axis], *lengths, *x.shape[axis + 1 :])
