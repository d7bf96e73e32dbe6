"""Rows of a tensor: entries of its first stored axis, as a stretch or as positions in any order.

A target is made block by block, and a block is some of its rows. What is known of them here is
which rows of which source belong to them, without touching a weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]
Rows = range | Positions

# Of a block: it stays in a processor's cache with what is made of it on the way.
_BLOCK_BYTES = 1 << 22
# Of an entry where half types are widened.
COMPUTED_BYTES = 4
# Blocks begin at multiples of this where rows are short enough: banded products make as many samples at a time.
ALIGNED = 64


def blocks(shape: tuple[int, ...], reads: int = 0, itemsize: int = COMPUTED_BYTES) -> Iterator[range]:
    """The rows of a tensor in stretches of four megabytes or less, made of no more than that.

    Parameters
    ----------
    shape
        Of the tensor.
    reads
        Entries that the whole tensor is made of, where these are more than its own.
    itemsize
        Bytes of an entry while it is computed.

    Examples
    --------
    >>> list(blocks((5, 500_000)))
    [range(0, 2), range(2, 4), range(4, 5)]
    >>> list(blocks((3, 500_000), reads=3_000_000))
    [range(0, 1), range(1, 2), range(2, 3)]
    """
    entries = max(prod(shape), reads)
    rows = max(1, _BLOCK_BYTES * shape[0] // max(1, entries * itemsize))
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


def span(rows: Rows) -> range:
    """All rows from the first to the last of these.

    Examples
    --------
    >>> span(np.array([7, 2, 5]))
    range(2, 8)
    """
    return rows if isinstance(rows, range) else range(int(rows.min()), int(rows.max()) + 1)
