"""Factors, sums, and what is folded into a linear map."""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign, frexp, isclose, log2, prod
from typing import TYPE_CHECKING

from wavescale.expressions.node import Expression, Shape, Source
from wavescale.rows import Rows, blocks
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Scale(Expression):
    """A tensor times a number."""

    of: Expression
    factor: float

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
    def scaling(self) -> float | None:
        inner = self.of.scaling
        return None if inner is None or abs(frexp(self.factor)[0]) != 0.5 else inner * abs(self.factor)

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        return self.of.block(source, rows).mul_(self.factor)


def scaled(expression: Expression, factor: float) -> Expression:
    """An expression times a number; factors that undo each other leave the tensor as it is stored."""
    if isinstance(expression, Scale):
        factor, expression = expression.factor * factor, expression.of
    factor = power_of_two(factor)
    return expression if factor == 1.0 else Scale(expression, factor)


def power_of_two(factor: float) -> float:
    """A factor; one that is meant to be a power of two is one, so that half types need not be widened for it."""
    power = copysign(2.0 ** round(log2(abs(factor))), factor) if factor else factor
    return power if isclose(factor, power, rel_tol=1e-12) else factor


@dataclass(frozen=True)
class Sum(Expression):
    """Several tensors of one shape, added."""

    terms: tuple[Expression, ...]

    @property
    def shape(self) -> Shape:
        return self.terms[0].shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.terms

    @property
    def flops(self) -> int:
        return (len(self.terms) - 1) * prod(self.shape)

    @property
    def scaling(self) -> float | None:
        # One sum is rounded once, in whichever dtype.
        known = [term.scaling for term in self.terms]
        once = len(known) == 2 and not any(isinstance(node, Sum) for term in self.terms for node in term.walk())
        return known[0] + known[1] if once and known[0] is not None and known[1] is not None else None

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        total = self.terms[0].block(source, rows)
        for term in self.terms[1:]:
            term.add_to(total, source, rows)
        return total


@dataclass(frozen=True)
class Constant(Expression):
    """The same number everywhere."""

    value: float
    of_shape: Shape

    @property
    def shape(self) -> Shape:
        return self.of_shape

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        return torch.full((len(rows), *self.of_shape[1:]), self.value)


@dataclass(frozen=True)
class FoldDiagonal(Expression):
    """A linear map that takes over the weight of the norm before it: W·diag(γ) on the input axis."""

    of: Expression
    diagonal: Expression
    axis: int

    @property
    def shape(self) -> Shape:
        return self.of.shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.diagonal)

    @property
    def flops(self) -> int:
        return prod(self.shape)

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        weight = self.of.block(source, rows)
        diagonal = self.diagonal.block(source, rows if self.axis == 0 else range(self.diagonal.shape[0]))
        return weight * diagonal.view(*(-1 if p == self.axis else 1 for p in range(weight.ndim)))


@dataclass(frozen=True)
class FoldVector(Expression):
    """What a linear map makes of a constant input, W·β over the input axis: a bias takes it over."""

    of: Expression
    vector: Expression
    axis: int

    @property
    def shape(self) -> Shape:
        return self.of.shape[: self.axis] + self.of.shape[self.axis + 1 :]

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.vector)

    @property
    def flops(self) -> int:
        return 2 * prod(self.of.shape)

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        vector = self.vector.block(source, range(self.vector.shape[0]))
        if self.axis > 0:
            return self.of.block(source, rows).movedim(self.axis, -1).contiguous() @ vector
        parts = (self.of.block(source, some).movedim(0, -1) @ taken(vector, 0, some) for some in blocks(self.of.shape))
        total = next(parts)
        for part in parts:
            total += part
        return taken(total, 0, rows)
