"""What a target tensor is made of: a small tree of a few kinds of node.

An expression is a value: it names source tensors and operators and holds no weights. `compute`
turns it into a tensor, given a way to read the source.

Shapes are those of the stored tensors. `axis` counts from the first stored axis; an axis made of
several named ones is seen as (before, n, after) and the operator acts in the middle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isclose, prod
from typing import TYPE_CHECKING, Any, Literal

from wavescale.operators import Copies, Operator

if TYPE_CHECKING:
    import numpy as np
    import torch

Shape = tuple[int, ...]
Reader = Callable[[str], "torch.Tensor"]


@dataclass(frozen=True)
class Expression(ABC):
    """A node: it knows its shape, its children and how to compute itself."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Shape of the result."""

    @property
    def children(self) -> tuple[Expression, ...]:
        """The expressions below."""
        return ()

    @property
    def flops(self) -> int:
        """Multiplications and additions of this node alone."""
        return 0

    @abstractmethod
    def compute(self, read: Reader) -> torch.Tensor:
        """The result, reading each source tensor through `read`.

        `read` gives float32 or float64, and so does the result; half types are its affair.
        """

    def walk(self) -> Iterator[Expression]:
        """The node and all below, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()

    def reads(self) -> tuple[str, ...]:
        """The source tensors that it needs, each once, in the order of first use."""
        return tuple(dict.fromkeys(node.name for node in self.walk() if isinstance(node, Read)))


@dataclass(frozen=True)
class Read(Expression):
    """A source tensor, by its name on disk."""

    name: str
    source_shape: Shape

    @property
    def shape(self) -> Shape:
        return self.source_shape

    def compute(self, read: Reader) -> torch.Tensor:
        return read(self.name)


@dataclass(frozen=True)
class Part(Expression):
    """A stretch of one axis: one of the tensors that are fused there."""

    of: Expression
    axis: int
    start: int
    length: int

    @property
    def shape(self) -> Shape:
        return _with(self.of.shape, self.axis, self.length)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of,)

    def compute(self, read: Reader) -> torch.Tensor:
        return self.of.compute(read).narrow(self.axis, self.start, self.length)


@dataclass(frozen=True)
class Concatenate(Expression):
    """Several tensors end to end on one axis."""

    parts: tuple[Expression, ...]
    axis: int

    @property
    def shape(self) -> Shape:
        return _with(self.parts[0].shape, self.axis, sum(part.shape[self.axis] for part in self.parts))

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.parts

    def compute(self, read: Reader) -> torch.Tensor:
        import torch

        return torch.cat([part.compute(read) for part in self.parts], dim=self.axis)


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
        return _with(self.of.shape, self.axis, self.before * self.operator.m * self.after)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of,)

    @property
    def flops(self) -> int:
        return 2 * self.operator.multiplications * prod(self.of.shape) // self.operator.n

    def compute(self, read: Reader) -> torch.Tensor:
        x = self.of.compute(read)
        if self.before == 1 and self.after == 1:
            return self.operator.apply(x, self.axis)
        view = _opened(x, self.axis, (self.before, self.operator.n, self.after))
        return self.operator.apply(view, self.axis + 1).reshape(self.shape)


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
        return _with(self.of.shape, self.axis, self.before * self.index.shape[0] * self.after)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.index)

    def compute(self, read: Reader) -> torch.Tensor:
        x, index = self.of.compute(read), self.index.compute(read)
        view = _opened(x, self.axis, (self.before, self.n, self.after))
        return view.index_select(self.axis + 1, index).reshape(self.shape)


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
        return _with(self.of.shape, self.axis, self.before * self.m * self.after)

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.cells, self.weights)

    @property
    def flops(self) -> int:
        return 2 * prod(self.of.shape)

    def compute(self, read: Reader) -> torch.Tensor:
        x, cells, weights = (child.compute(read) for child in self.children)
        weights = weights.to(x.dtype)
        if self.entries != "plain":
            weights = weights / weights.new_zeros(self.m).index_add_(0, cells, weights.square())[cells]
        if self.entries == "squared dual":
            weights = weights.square()
        view = _opened(x, self.axis, (self.before, len(cells), self.after))
        place = self.axis + 1
        weighed = view * weights.view(*(-1 if position == place else 1 for position in range(view.ndim)))
        merged = x.new_zeros(*view.shape[:place], self.m, *view.shape[place + 1 :])
        return merged.index_add_(place, cells, weighed).reshape(self.shape)


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

    def compute(self, read: Reader) -> torch.Tensor:
        return self.of.compute(read) * self.factor


def scaled(expression: Expression, factor: float) -> Expression:
    """An expression times a number; factors that undo each other leave the tensor as it is stored."""
    if isinstance(expression, Scale):
        factor, expression = expression.factor * factor, expression.of
    return expression if isclose(factor, 1.0, rel_tol=1e-12) else Scale(expression, factor)


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

    def compute(self, read: Reader) -> torch.Tensor:
        weight, diagonal = self.of.compute(read), self.diagonal.compute(read)
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

    def compute(self, read: Reader) -> torch.Tensor:
        weight, vector = self.of.compute(read), self.vector.compute(read)
        # Copies are aligned, which tensors in a mapped file are not: BLAS rounds differently by alignment.
        return weight.movedim(self.axis, -1).clone() @ vector.clone()


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

    def compute(self, read: Reader) -> torch.Tensor:
        total = self.terms[0].compute(read)
        for term in self.terms[1:]:
            total = total + term.compute(read)
        return total


@dataclass(frozen=True)
class Constant(Expression):
    """The same number everywhere."""

    value: float
    of_shape: Shape

    @property
    def shape(self) -> Shape:
        return self.of_shape

    def compute(self, read: Reader) -> torch.Tensor:
        import torch

        return torch.full(self.of_shape, self.value)


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

    def compute(self, read: Reader) -> torch.Tensor:
        x = self.of.compute(read)
        return (x - x.mean()) / (x.std() + _LEAST_SPREAD)


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

    def compute(self, read: Reader) -> torch.Tensor:
        like = self.like.compute(read)
        return self.of.compute(read) * like.std() + like.mean() * self.gain


@dataclass(frozen=True)
class Noise(Expression):
    """Independent normal numbers, the same for the same seed on every machine.

    Attributes
    ----------
    std
        Standard deviation.
    seed
        Of this tensor; different tensors take different seeds.
    """

    std: float
    seed: int
    of_shape: Shape

    @property
    def shape(self) -> Shape:
        return self.of_shape

    def compute(self, read: Reader) -> torch.Tensor:
        import torch

        return torch.from_numpy(_noise(self.of_shape, self.seed) * self.std)


# Rows of a tensor that share one stream of noise, so that a block of rows can be drawn alone.
_NOISE_ROWS = 256


@dataclass(frozen=True)
class Details(Expression):
    """Seeded numbers on an input axis that sum to zero over the copies of each unit.

    The copies all carry the same value, so the function stays as it is, while twins get gradients of
    their own (METHOD, exact growth: breaking twins). Copies of a unit are paired, and the two of a pair
    get the same number with opposite signs; of an odd count the last gets none. All numbers of a tensor
    are of one size with signs drawn at random: that of the source's own detail band along the axis, one
    level down, times a factor.

    Attributes
    ----------
    like
        The tensor in the source's shape, whose detail band sets the size.
    like_before
        Elements of the source's stored axis per block that lies before the named axis.
    operator
        The operator that makes the copies.
    of_shape
        The target's shape.
    name, axis, before, after
        The named axis in the target's shape, as in `Apply`.
    seed
        Of this tensor.
    factor
        On the size.
    """

    like: Expression
    like_before: int
    operator: Copies
    of_shape: Shape
    name: str
    axis: int
    before: int
    after: int
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

    def compute(self, read: Reader) -> torch.Tensor:
        import torch

        source = self.like.compute(read)
        outer = prod(source.shape[: self.axis]) * self.like_before  # (before, n, after), as the size needs it
        size = self.factor * self.operator.total * _detail_size(source.reshape(outer, self.operator.n, -1))
        pairs, counts = self.operator.pairs
        found = source.new_zeros(self.shape)
        view = found.view(prod(self.shape[: self.axis]) * self.before, self.operator.m, -1)
        signs = torch.from_numpy(_signs((view.shape[0], len(pairs), view.shape[2]), self.seed)).to(source.device)
        sized = signs * torch.from_numpy(size / counts).to(source.device, source.dtype)[:, None]
        view[:, torch.from_numpy(pairs[:, 0])] = sized
        view[:, torch.from_numpy(pairs[:, 1])] = -sized
        return found


def _detail_size(source: torch.Tensor) -> float:
    """Root mean square of neighbours' differences over √2, along the middle axis of (before, n, after)."""
    pairs = source.shape[1] // 2
    if pairs == 0:
        return float(source.square().mean().sqrt())
    even, odd = source[:, : 2 * pairs : 2], source[:, 1 : 2 * pairs : 2]
    return float(((even - odd).square().mean() / 2).sqrt())


def _signs(shape: Shape, seed: int) -> np.ndarray[Any, Any]:
    """Random signs as int8, of which any part could be drawn alone: Philox counts."""
    import numpy as np

    count = prod(shape)
    words = np.random.Philox(key=seed).random_raw(-(-count // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), count=count, bitorder="little")
    return (2 * bits.view(np.int8) - 1).reshape(shape)


def _noise(shape: Shape, seed: int) -> np.ndarray[Any, Any]:
    import numpy as np

    drawn = np.empty(shape, dtype=np.float32)
    for block, start in enumerate(range(0, shape[0], _NOISE_ROWS)):
        stream = np.random.Generator(np.random.Philox(key=[seed, block]))
        stream.standard_normal(dtype=np.float32, out=drawn[start : start + _NOISE_ROWS])
    return drawn


# Every kind of node by name, for plans that are read back from a file.
NODES: dict[str, type[Expression]] = {
    node.__name__: node
    for node in (
        Read, Part, Concatenate, Apply, Select, Merge, Scale, FoldDiagonal, FoldVector, Sum, Constant,
        Standardize, Restore, Noise, Details,
    )
}  # fmt: skip


def _opened(x: torch.Tensor, axis: int, lengths: tuple[int, int, int]) -> torch.Tensor:
    """A tensor with one stored axis seen as (before, n, after); n is then at `axis + 1`."""
    return x.reshape(*x.shape[:axis], *lengths, *x.shape[axis + 1 :])


def _with(shape: Shape, axis: int, length: int) -> Shape:
    return (*shape[:axis], length, *shape[axis + 1 :])
