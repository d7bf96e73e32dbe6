"""Entries of an axis at positions in any order, in the way that is fastest for their order."""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from wavescale.bits import integers_of, tensor_of
from wavescale.rows import Positions, Rows

if TYPE_CHECKING:
    import torch

# Positions are put together from so many stretches, or written in so many interleaved strides, before entries are
# taken one by one, which costs several times as much along the last axis.
_MOST_STRETCHES, _MOST_STRIDES = 8, 16
# Entries behind the axis from which on taking them one by one costs no more.
_LONG_ENTRIES = 64


def taken(x: torch.Tensor, axis: int, rows: Rows) -> torch.Tensor:
    """The entries of one axis at these positions, in their order."""
    if isinstance(rows, range):
        return x.narrow(axis, rows.start, len(rows))
    return Taking(rows, x.shape[axis]).of(x, axis)


class Taking:
    """Positions on an axis, with what is known of their order, so that it is found once for many tensors.

    Parameters
    ----------
    rows
        The positions; -1 for zero.
    n
        Entries of the axis.

    Examples
    --------
    >>> import torch
    >>> Taking(np.array([0, 0, 1, 1, -1]), 2).of(torch.tensor([1.0, 2.0]), 0)
    tensor([1., 1., 2., 2., 0.])
    """

    def __init__(self, rows: Positions, n: int) -> None:
        self._places = np.flatnonzero(rows >= 0)
        self._n, self._length, self._rows = n, len(rows), rows[self._places]

    def of(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """The entries of one axis of a tensor."""
        import torch

        axis %= x.ndim
        if len(self._places) == self._length:
            return self._taken(x, axis)
        shape = list(x.shape)
        shape[axis] = self._length
        return x.new_zeros(shape).index_copy_(axis, torch.from_numpy(self._places).to(x.device), self._taken(x, axis))

    def _taken(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        import torch

        if self._stretches is not None:
            parts = [x.narrow(axis, start, length) for start, length in self._stretches]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)
        inner = x.stride(axis) if x.is_contiguous() else _LONG_ENTRIES
        if inner >= _LONG_ENTRIES or self._pattern is None:
            return x.index_select(axis, self._index.to(x.device))
        periods = gcd(len(self._rows), self._n)
        if inner == 1 and periods == self._n and (found := _repeated(x, len(self._pattern))) is not None:
            return found.reshape(*x.shape[:axis], len(self._rows), *x.shape[axis + 1 :])
        view = x.reshape(*x.shape[:axis], periods, self._n // periods, *x.shape[axis + 1 :])
        out = x.new_empty((*x.shape[:axis], periods, len(self._pattern), *x.shape[axis + 1 :]))
        for place, origin in enumerate(self._pattern):
            out.select(axis + 1, place).copy_(view.select(axis + 1, origin))
        return out.reshape(*x.shape[:axis], len(self._rows), *x.shape[axis + 1 :])

    @cached_property
    def _stretches(self) -> list[tuple[int, int]] | None:
        """First position and length of each stretch of neighbours, if these are few."""
        if len(self._rows) == 0:
            return [(0, 0)]
        breaks = np.flatnonzero(np.diff(self._rows) != 1) + 1
        if len(breaks) >= _MOST_STRETCHES:
            return None
        return [(int(part[0]), len(part)) for part in np.split(self._rows, breaks)]

    @cached_property
    def _pattern(self) -> list[int] | None:
        """The positions of one period, if they repeat themselves soon."""
        periods = gcd(len(self._rows), self._n)
        if len(self._rows) // periods > _MOST_STRIDES:
            return None
        each = self._rows.reshape(periods, -1) - np.arange(periods)[:, None] * (self._n // periods)
        inside = each[0].min() >= 0 and each[0].max() < self._n // periods
        return [int(place) for place in each[0]] if inside and (each == each[0]).all() else None

    @cached_property
    def _index(self) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(self._rows))


def taking(rows: Positions, n: int) -> Taking:
    """As `Taking`, and the same object for the same positions.

    Most blocks take the same ones, counted from their own first. Something kept for every block would lie between
    blocks that are freed, where no larger one fits any more, so that the heap would grow.
    """
    return _taking(np.ascontiguousarray(rows, dtype=np.int64).tobytes(), n)


@lru_cache(maxsize=256)
def _taking(rows: bytes, n: int) -> Taking:
    return Taking(np.frombuffer(rows, dtype=np.int64), n)


def _repeated(x: torch.Tensor, count: int) -> torch.Tensor | None:
    """Every entry so many times in a row, in any shape, by one multiplication, where as many entries make a word.

    A word that repeats a smaller one is a multiple of it, which is several times as fast as copies in strides.
    """
    bits = 8 * x.element_size()
    word = {32: np.uint32, 64: np.uint64}.get(count * bits)
    if word is None or x.device.type != "cpu" or x.requires_grad:
        return None
    entries = integers_of(x)
    words = entries.view(f"u{bits // 8}").astype(word)
    words *= word(sum(1 << bits * place for place in range(count)))
    return tensor_of(words.view(entries.dtype), x.dtype)
