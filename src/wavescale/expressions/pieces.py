"""Tensors as they are stored, parts of them, and several put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wavescale.expressions.node import Expression, Shape, Source, largest, replaced
from wavescale.rows import Rows, positions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Read(Expression):
    """A source tensor, by its name on disk."""

    name: str
    source_shape: Shape

    @property
    def shape(self) -> Shape:
        return self.source_shape

    @property
    def scaling(self) -> float | None:
        return 1.0

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        return source.rows(self.name, rows)


@dataclass(frozen=True)
class Part(Expression):
    """A stretch of one axis: one of the tensors that are fused there."""

    of: Expression
    axis: int
    start: int
    length: int

    @property
    def shape(self) -> Shape:
        return replaced(self.of.shape, self.axis, self.length)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of,)

    @property
    def scaling(self) -> float | None:
        return self.of.scaling

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        if self.axis == 0:
            return self.of.block(source, _moved(rows, self.start))
        return self.of.block(source, rows).narrow(self.axis, self.start, self.length)


@dataclass(frozen=True)
class Concatenate(Expression):
    """Several tensors end to end on one axis."""

    parts: tuple[Expression, ...]
    axis: int

    @property
    def shape(self) -> Shape:
        return replaced(self.parts[0].shape, self.axis, sum(part.shape[self.axis] for part in self.parts))

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.parts

    @property
    def scaling(self) -> float | None:
        return largest(*(part.scaling for part in self.parts))

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        if self.axis > 0:
            return torch.cat([part.block(source, rows) for part in self.parts], dim=self.axis)
        found, order, offset = [], [], 0
        for part in self.parts:
            end = offset + part.shape[0]
            if isinstance(rows, range):
                mine: Rows = range(max(rows.start, offset), min(rows.stop, end))
            else:
                place = np.flatnonzero((rows >= offset) & (rows < end))
                mine = rows[place]
                order.append(place)
            if len(mine):
                found.append(part.block(source, _moved(mine, -offset)))
            offset = end
        joined = found[0] if len(found) == 1 else torch.cat(found)
        return joined[torch.from_numpy(np.argsort(np.concatenate(order)))] if order else joined


def _moved(rows: Rows, by: int) -> Rows:
    return range(rows.start + by, rows.stop + by) if isinstance(rows, range) else positions(rows) + by
