"""Rows of a tensor: entries of its first stored axis, as a stretch or as positions in any order.

A target is made block by block, and a block is some of its rows. What is known of them here is
which rows of which source belong to them, without touching a weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd, prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]
Rows = range | Positions

# Of a block: it stays in a processor's cache with what is made of it on the way.
_BLOCK_ENTRIES = 1 << 20
# Blocks begin at multiples of this where rows are short enough: banded products make as many samples at a time.
ALIGNED = 64

# Positions are put together from so many stretches, or written in so many interleaved strides, before entries are
# taken one by one, which costs several times as much along the last axis.
_MOST_STRETCHES, _MOST_STRIDES = 8, 16
# Entries behind the axis from which on taking them one by one costs no more.
_LONG_ENTRIES = 64


def blocks(shape: tuple[int, ...]) -> Iterator[range]:
    """The rows of a tensor in stretches of a million entries or less.

    Examples
    --------
    >>> list(blocks((5, 500_000)))
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    rows = max(1, _BLOCK_ENTRIES // max(1, prod(shape[1:])))
    if rows > ALIGNED:
        rows -= rows % ALIGNED
    for start in range(0, shape[0], rows):
        yield range(start, min(start + rows, shape[0]))


def positions(rows: Rows) -> Positions:
    """Rows as an int64 array."""
    return np.arange(rows.start, rows.stop, dtype=np.int64) if isinstance(rows, range) else rows


def as_rows(found: Positions) -> Rows:
    """Sorted positions, each once: a stretch where they have no gap."""
    if len(found) and found[-1] - found[0] + 1 == len(found):
        return range(int(found[0]), int(found[-1]) + 1)
    return found


def groups(rows: Rows, size: int) -> Rows:
    """The groups of `size` rows that some rows lie in, sorted.

    Examples
    --------
    >>> groups(range(3, 9), 4), groups(np.array([9, 1, 8]), 4)
    (range(0, 3), array([0, 2]))
    """
    if size == 1 and isinstance(rows, range):
        return rows
    if isinstance(rows, range):
        return range(rows.start // size, -(-rows.stop // size))
    return as_rows(np.unique(rows // size))


def members(rows: Rows, size: int) -> Rows:
    """All rows of some groups of `size`."""
    if isinstance(rows, range):
        return range(rows.start * size, rows.stop * size)
    return (rows[:, None] * size + np.arange(size)).reshape(-1)


def within(rows: Rows, all_rows: Rows) -> Rows:
    """Where rows lie among others, which are sorted.

    Examples
    --------
    >>> within(range(3, 5), range(2, 9)), within(np.array([7, 2]), np.array([2, 5, 7]))
    (range(1, 3), array([2, 0]))
    """
    if isinstance(all_rows, range):
        first = all_rows.start
        return range(rows.start - first, rows.stop - first) if isinstance(rows, range) else rows - first
    return np.searchsorted(all_rows, positions(rows))


def taken(x: torch.Tensor, axis: int, rows: Rows) -> torch.Tensor:
    """The entries of one axis at these positions, in their order; fast where that has a pattern."""
    import torch

    if isinstance(rows, range):
        return x.narrow(axis, rows.start, len(rows))
    if len(rows) == 0:
        return x.narrow(axis, 0, 0)
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    if len(breaks) < _MOST_STRETCHES:
        parts = [x.narrow(axis, int(part[0]), len(part)) for part in np.split(rows, breaks)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)
    inner = x.stride(axis) if x.is_contiguous() else _LONG_ENTRIES
    if inner < _LONG_ENTRIES and (pattern := _pattern(rows, x.shape[axis])) is not None:
        periods = gcd(len(rows), x.shape[axis])
        view = x.reshape(*x.shape[:axis], periods, x.shape[axis] // periods, *x.shape[axis + 1 :])
        out = x.new_empty((*x.shape[:axis], periods, len(pattern), *x.shape[axis + 1 :]))
        for place, origin in enumerate(pattern):
            out.select(axis + 1, place).copy_(view.select(axis + 1, int(origin)))
        return out.reshape(*x.shape[:axis], len(rows), *x.shape[axis + 1 :])
    return x.index_select(axis, torch.from_numpy(np.ascontiguousarray(rows)).to(x.device))


def _pattern(rows: Positions, n: int) -> Positions | None:
    """The positions of one period, if they repeat themselves soon."""
    periods = gcd(len(rows), n)
    if len(rows) // periods > _MOST_STRIDES:
        return None
    each = rows.reshape(periods, -1) - np.arange(periods)[:, None] * (n // periods)
    inside = each[0].min() >= 0 and each[0].max() < n // periods
    return each[0] if inside and (each == each[0]).all() else None
