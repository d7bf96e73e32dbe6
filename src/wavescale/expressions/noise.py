"""Seeded numbers: the same for the same seed on every machine, and of any part of a tensor alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from wavescale.expressions.node import Expression, Shape, Source
from wavescale.operators import Copies
from wavescale.rows import Rows, blocks, groups, members, positions, taken, within

if TYPE_CHECKING:
    import torch

Pairs = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Sizes = np.ndarray[tuple[int], np.dtype[np.float32]]

# Rows of a tensor that share one stream of noise, so that a block of rows can be drawn alone.
_NOISE_ROWS = 256
# The signs that each byte stands for, lowest bit first.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_SIGNS = 1 - 2 * _BITS.astype(np.float32)
# Bits that Philox draws at a time: four words of 64.
_DRAWN = 256


@dataclass(frozen=True)
class Noise(Expression):
    """Independent normal numbers.

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

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        drawn = groups(rows, _NOISE_ROWS)
        found = np.concatenate([self._stream(int(number)) for number in positions(drawn)])
        place = positions(within(rows, members(drawn, _NOISE_ROWS)))
        return torch.from_numpy(found[place]).mul_(self.std)

    def _stream(self, number: int) -> np.ndarray[Any, Any]:
        stream = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        return stream.standard_normal((_NOISE_ROWS, *self.of_shape[1:]), dtype=np.float32)


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

    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        import torch

        some = rows if isinstance(rows, range) else range(int(rows.min()), int(rows.max()) + 1)
        found = torch.zeros((len(some), *self.of_shape[1:]))
        self.add_to(found, source, some)
        return taken(found, 0, within(rows, some))

    def add_to(self, total: torch.Tensor, source: Source, rows: Rows) -> None:
        pairs, counts = self.operator.pairs
        if not isinstance(rows, range):
            total += self.block(source, rows).to(total)
        elif len(pairs):
            sizes = (self.factor * self.operator.total * self._detail_size(source) / counts).astype(np.float32)
            (self._add_on_rows if self.axis == 0 else self._add_in_rows)(total, rows, pairs, sizes)

    def _add_in_rows(self, total: torch.Tensor, rows: range, pairs: Pairs, sizes: Sizes) -> None:
        """Along an axis that every row has whole."""
        outer, m = prod(self.of_shape[1 : self.axis]) * self.before, self.operator.m
        view = total.view(len(rows) * outer, m, -1)
        shape = (view.shape[0], len(pairs), view.shape[2])
        parts = _signed(shape, self.seed, rows.start * outer * shape[1] * shape[2], sizes).to(total)
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
            shape = (1, drawn.stop - drawn.start, rest)
            start = (slab * len(pairs) + drawn.start) * rest
            parts = _signed(shape, self.seed, start, sizes[drawn])[0].to(total)
            for side in (0, 1):
                mine = np.flatnonzero(inside[drawn, side])
                index = _index(places[drawn, side][mine], view)
                view.index_add_(0, index, parts[_index(mine, view)], alpha=1 - 2 * side)

    def _detail_size(self, source: Source) -> float:
        """Root mean square of the source's detail band along the axis, one level down."""
        return source.once(
            ("details", self.like, self.like_before, self.operator.n, self.axis), lambda: self._rms(source)
        )

    def _rms(self, source: Source) -> float:
        import torch

        n, shape = self.operator.n, self.like.shape
        total, count = 0.0, 0
        if self.axis > 0:
            outer = prod(shape[1 : self.axis]) * self.like_before
            parts = [(rows, len(rows) * outer, n) for rows in blocks(shape)]
        elif self.like_before == 1 and n > 1:
            # Of the first axis in pairs of units, so that no pair is divided.
            unit = shape[0] // n
            pairs = blocks((n // 2, 2 * unit * prod(shape[1:])))
            parts = [(range(some.start * 2 * unit, some.stop * 2 * unit), len(some), 2) for some in pairs]
        else:
            parts = [(range(shape[0]), self.like_before, n)]
        for rows, outer, length in parts:
            band = _details(self.like.block(source, rows).reshape(outer, length, -1))
            total, count = total + float(band.square().sum(dtype=torch.float64)), count + band.numel()
        return sqrt(total / count)


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
    """Evenly spaced positions as a slice, which is many times as fast as an index."""
    steps = np.diff(places)
    if len(steps) == 0 or (steps == steps[0]).all():
        step = int(steps[0]) if len(steps) else 1
        return slice(int(places[0]), int(places[-1]) + 1, step)
    return None


def _signed(shape: Shape, seed: int, start: int, sizes: Sizes) -> torch.Tensor:
    """Numbers of given sizes along the middle axis with random signs, from a place in the tensor's stream on."""
    import torch

    count = prod(shape)
    skipped = start % _DRAWN
    stream = np.random.Philox(key=seed, counter=start // _DRAWN)
    words = stream.random_raw(4 * -(-(skipped + count) // _DRAWN)).astype("<u8", copy=False)
    same = bool((sizes == sizes[:1]).all())
    table = _SIGNS * sizes[0] if same else _SIGNS
    signs = torch.from_numpy(table.take(words.view(np.uint8), axis=0).reshape(-1)[skipped : skipped + count]).view(
        shape
    )
    return signs if same else signs * torch.from_numpy(sizes)[:, None]
