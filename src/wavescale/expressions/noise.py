"""Seeded numbers: the same for the same seed on every machine, and of any part of a tensor alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import frexp, prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from wavescale.bits import integers_of, tensor_of
from wavescale.expressions.node import Expression, Shape, Source
from wavescale.operators import Copies, CopyAndPad
from wavescale.rows import Positions, Rows, as_rows, groups, members, within
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch

Pairs = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Sizes = np.ndarray[tuple[int], np.dtype[np.float32]]

# The signs that each byte stands for, lowest bit first.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_SIGNS = 1 - 2 * _BITS.astype(np.float32)
# The same, each with its opposite behind it.
_OPPOSITES = np.stack([_SIGNS, -_SIGNS], axis=2).reshape(256, -1)
# Of larger tensors so many entries, in stretches of rows, say how large details are.
_SAMPLE, _STRETCHES = 1 << 18, 16
# Bits that Philox draws at a time: four words of 64.
_DRAWN = 256
# The signs of a row are those of the row before from here on, so that a block needs few of them.
_STEP = 64


class Drawn(Expression):
    """Seeded numbers in the target's shape, as large as something in a tensor of the source.

    Attributes
    ----------
    like
        That tensor.
    of_shape
        The target's shape.
    """

    like: Expression
    of_shape: Shape

    @property
    def shape(self) -> Shape:
        return self.of_shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.like,)

    @property
    def flops(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Details(Drawn):
    """Seeded numbers on an input axis that sum to zero over the copies of each unit.

    The copies all carry the same value, so the function stays as it is, while twins get gradients of
    their own (METHOD, exact growth: breaking twins). Copies of a unit are paired, and the two of a pair
    get the same number with opposite signs; of an odd count the last gets none. All numbers of a tensor
    are of one size with signs drawn at random: that of the source's own detail band along the axis, one
    level down, times a factor. A row's signs are those of the row before from the 64th on.

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
    def scaling(self) -> float | None:
        if self.like.scaling is None:
            return None
        # Their size is at most that of the largest entry that they are like.
        return self.like.scaling * float(np.max(self._sizes(1.0), initial=0.0))

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        some = _span(rows)
        found = torch.zeros((len(some), *self.of_shape[1:]))
        self.add_to(found, source, some)
        return taken(found, 0, within(rows, some))

    def add_to(self, total: torch.Tensor, source: Source, rows: Rows) -> None:
        pairs, _ = self.operator.pairs
        if not isinstance(rows, range):
            total += self.block(source, rows).to(total)
        elif len(pairs):
            sizes = self._sizes(self._detail_size(source))
            (self._add_on_rows if self.axis == 0 else self._add_in_rows)(total, rows, pairs, sizes)

    @property
    def fills_rows(self) -> bool:
        """Whether every row is pairs side by side, all of one size, and nothing else."""
        pairs, counts = self.operator.pairs
        return (
            (self.axis, len(self.of_shape), self.before, self.after) == (1, 2, 1, 1)
            and pairs.size == self.of_shape[1]
            and _side_by_side(pairs)
            and bool((counts == counts[0]).all())
        )

    def in_rows(self, source: Source, rows: range, like: torch.Tensor) -> torch.Tensor:
        """All numbers of some rows, where they fill them; not to be written to."""
        pairs, _ = self.operator.pairs
        return _signed(rows, (len(pairs),), self.seed, self._sizes(self._detail_size(source))[:1], like, paired=True)

    def _sizes(self, size: float) -> Sizes:
        """Of each pair's numbers."""
        _, counts = self.operator.pairs
        found: Sizes = (abs(self.factor * self.operator.total) * size / counts).astype(np.float32)
        return found

    def _add_in_rows(self, total: torch.Tensor, rows: range, pairs: Pairs, sizes: Sizes) -> None:
        """Along an axis that every row has whole."""
        outer, m = prod(self.of_shape[1 : self.axis]) * self.before, self.operator.m
        view = total.view(len(rows) * outer, m, -1)
        lines = range(rows.start * outer, rows.stop * outer)
        inner = view.shape[2]
        if inner == 1 and _side_by_side(pairs) and (sizes == sizes[0]).all():
            view[:, : pairs.size, 0].add_(_signed(lines, (len(pairs),), self.seed, sizes[:1], total, paired=True))
            return
        parts = _signed(lines, (len(pairs), inner), self.seed, sizes, total)
        for side, places in enumerate(pairs.T):
            stretch = _stretch(places)
            if stretch is None:
                view.index_add_(1, _index(places, view), parts, alpha=1 - 2 * side)
            else:
                view[:, stretch].add_(parts, alpha=1 - 2 * side)

    def _add_on_rows(self, total: torch.Tensor, rows: range, pairs: Pairs, sizes: Sizes) -> None:
        """Along the axis that blocks divide: of a pair, one may lie in another block."""
        within_slab, rest = self.operator.m * self.after, prod(self.of_shape[1:])
        if self.after > 1:  # a pair of units is a pair of each of their rows
            pairs = (pairs[:, None, :] * self.after + np.arange(self.after)[None, :, None]).reshape(-1, 2)
            sizes = np.repeat(sizes, self.after)
        for slab in range(rows.start // within_slab, -(-rows.stop // within_slab)):
            first, last = max(rows.start, slab * within_slab), min(rows.stop, (slab + 1) * within_slab)
            view = total[first - rows.start : last - rows.start].view(last - first, rest)
            places = pairs - (first - slab * within_slab)
            inside = (places >= 0) & (places < last - first)
            touched = np.flatnonzero(inside.any(axis=1))
            if not len(touched):
                continue
            drawn = slice(int(touched[0]), int(touched[-1]) + 1)
            lines = range(slab * len(pairs) + drawn.start, slab * len(pairs) + drawn.stop)
            parts = _signed(lines, (rest,), self.seed, sizes[drawn], total)
            for side in (0, 1):
                mine = np.flatnonzero(inside[drawn, side])
                index = _index(places[drawn, side][mine], view)
                view.index_add_(0, index, parts[_index(mine, view)], alpha=1 - 2 * side)

    def _detail_size(self, source: Source) -> float:
        """Root mean square of the source's detail band along the axis, one level down; of large tensors estimated."""
        return source.once(
            ("details", self.like, self.like_before, self.operator.n, self.axis), lambda: self._rms(source)
        )

    def _rms(self, source: Source) -> float:
        import torch

        n, shape = self.operator.n, self.like.shape
        if self.axis > 0:
            rows, outer, length = 1, prod(shape[1 : self.axis]) * self.like_before, n
        elif self.like_before == 1 and n > 1:
            rows, outer, length = shape[0] // n * 2, 1, 2
        else:
            rows, outer, length = shape[0], self.like_before, n
        chosen = _spread(shape[0] // rows, max(1, _SAMPLE // (rows * prod(shape[1:]))))
        like = self.like.block(source, members(as_rows(chosen), rows))
        like = like.float() if like.dtype in (torch.float16, torch.bfloat16) else like
        band = _details(like.reshape(len(chosen) * outer, length, -1))
        return sqrt(float(band.square().sum(dtype=torch.float64)) / band.numel())


@dataclass(frozen=True)
class Parted(Expression):
    """Copies of rows side by side, times a number, and details on them: their sum in one pass.

    Attributes
    ----------
    of
        The rows before they are copied.
    factor
        On the rows.
    count
        Copies of each unit.
    after
        Rows of a unit.
    details
        They fill the rows.
    """

    of: Expression
    factor: float
    count: int
    after: int
    details: Details

    @property
    def shape(self) -> Shape:
        return self.details.shape

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.of, self.details)

    @property
    def scaling(self) -> float | None:
        mine, details = self.of.scaling, self.details.scaling
        power = abs(frexp(self.factor)[0]) == 0.5
        return mine * abs(self.factor) + details if power and mine is not None and details is not None else None

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        units = groups(_span(rows), self.count * self.after)
        every = members(units, self.count * self.after)
        assert isinstance(every, range)
        x = self.of.block(source, members(units, self.after))
        details = self.details.in_rows(source, every, x)
        # (units, copies, rows of a unit, entries)
        found = torch.add(
            details.view(len(units), self.count, self.after, -1),
            x.reshape(len(units), 1, self.after, -1),
            alpha=self.factor,
        )
        return taken(found.view(-1, self.shape[1]), 0, within(rows, every))


@dataclass(frozen=True)
class Fresh(Drawn):
    """Seeded numbers where a tensor is new, and zero where it is the source's.

    What is new beside padding reads at random while it writes nothing, so that the function stays and the
    new parts learn from the first step. All numbers of a tensor are of one size with signs drawn at
    random: the source's root mean square times a factor.

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

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        some = _span(rows)
        rest = prod(self.of_shape[1:])
        size = self.factor * source.once(("fresh", self.like), lambda: self._rms(source))
        found = _signed(some, (rest,), self.seed, np.array([size], dtype=np.float32), torch.empty(0))
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


def _span(rows: Rows) -> range:
    """All rows from the first to the last of these."""
    return rows if isinstance(rows, range) else range(int(rows.min()), int(rows.max()) + 1)


def _spread(n: int, count: int) -> Positions:
    """About so many of n positions, in stretches that are evenly spaced."""
    stretches = min(_STRETCHES, -(-n // count))
    begins = np.arange(stretches) * (n // stretches)
    return (begins[:, None] + np.arange(min(-(-count // stretches), n // stretches))).reshape(-1)


def _side_by_side(pairs: Pairs) -> bool:
    """Whether the pairs are the first units, two by two."""
    return bool((pairs.reshape(-1) == np.arange(pairs.size)).all())


def _index(places: np.ndarray[Any, Any], like: torch.Tensor) -> torch.Tensor:
    """Positions as an index on a tensor's device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(places)).to(like.device)


def _details(source: torch.Tensor) -> torch.Tensor:
    """Neighbours' differences over √2 along the middle axis of (before, n, after); of one sample itself."""
    pairs = source.shape[1] // 2
    if pairs == 0:
        return source
    return (source[:, : 2 * pairs : 2] - source[:, 1 : 2 * pairs : 2]) * sqrt(0.5)


def _stretch(places: np.ndarray[Any, Any]) -> slice | None:
    """Evenly spaced ascending positions as a slice, which is many times as fast as an index."""
    steps = np.diff(places)
    if len(steps) == 0 or (steps[0] > 0 and (steps == steps[0]).all()):
        step = int(steps[0]) if len(steps) else 1
        return slice(int(places[0]), int(places[-1]) + 1, step)
    return None


def _signed(
    rows: range, shape: Shape, seed: int, sizes: Sizes, like: torch.Tensor, paired: bool = False
) -> torch.Tensor:
    """Numbers with random signs, of shape (rows, …); rows share memory where they share signs.

    Parameters
    ----------
    rows
        Those of the tensor that are asked for.
    shape
        Of one row.
    sizes
        Along the axis before the last, or one for all.
    like
        Has the dtype and the device.
    paired
        Whether each number is followed by its opposite on the last axis, which is then twice as long, of one size.
    """
    import torch

    same = bool((sizes == sizes[:1]).all())
    each, step = prod(shape), min(prod(shape), _STEP)
    start, count = rows.start * step, (len(rows) - 1) * step + each
    skipped = start % _DRAWN
    stream = np.random.Philox(key=seed, counter=start // _DRAWN)
    words = stream.random_raw(4 * -(-(skipped + count) // _DRAWN)).astype("<u8", copy=False)
    table = _table(float(sizes[0]) if same else 1.0, like.dtype, paired)
    entries = tensor_of(table.take(words.view(np.uint8), axis=0).reshape(-1), like.dtype).to(like.device)
    wide = 2 if paired else 1
    found = entries.as_strided((len(rows), wide * each), (wide * step, 1), wide * skipped)
    found = found.view(len(rows), *shape[:-1], wide * shape[-1])
    return found if same else found * torch.from_numpy(sizes)[:, None].to(like)


@lru_cache(maxsize=16)
def _table(size: float, dtype: torch.dtype, paired: bool) -> np.ndarray[Any, Any]:
    """The numbers that each byte stands for, as integers of the same bits, which numpy knows for every dtype."""
    import torch

    return integers_of(torch.from_numpy(_OPPOSITES if paired else _SIGNS).mul(size).to(dtype))
