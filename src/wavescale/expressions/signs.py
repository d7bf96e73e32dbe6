"""Seeded signs: the same for the same seed on every machine, and of any part of a tensor alone."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from wavescale.bits import integers_of, tensor_of
from wavescale.expressions.node import Shape

if TYPE_CHECKING:
    import torch

# The signs that each byte stands for, lowest bit first.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_SIGNS = 1 - 2 * _BITS.astype(np.float32)
# The same, each with its opposite behind it.
_OPPOSITES = np.stack([_SIGNS, -_SIGNS], axis=2).reshape(256, -1)
# Bits that Philox draws at a time: four words of 64.
_DRAWN = 256
# The signs of a row are those of the row before from here on, so that a block needs few of them.
_STEP = 64


def signed(
    rows: range, shape: Shape, seed: int, size: float, like: torch.Tensor, centre: float = 0.0, paired: bool = False
) -> torch.Tensor:
    """Numbers `centre` ± `size` with random signs, of shape (rows, …); rows share memory where they share signs.

    Parameters
    ----------
    rows
        Those of the tensor that are asked for.
    shape
        Of one row.
    seed
        Of this tensor.
    like
        Has the dtype and the device.
    paired
        Whether each number is followed by the one with the opposite sign on the last axis, which is then twice as long.
    """
    each, step = prod(shape), min(prod(shape), _STEP)
    start, count = rows.start * step, (len(rows) - 1) * step + each
    skipped = start % _DRAWN
    stream = np.random.Philox(key=seed, counter=start // _DRAWN)
    words = stream.random_raw(4 * -(-(skipped + count) // _DRAWN)).astype("<u8", copy=False)
    table = _table(centre, size, like.dtype, paired)
    entries = tensor_of(table.take(words.view(np.uint8), axis=0).reshape(-1), like.dtype).to(like.device)
    wide = 2 if paired else 1
    found = entries.as_strided((len(rows), wide * each), (wide * step, 1), wide * skipped)
    return found.view(len(rows), *shape[:-1], wide * shape[-1])


@lru_cache(maxsize=16)
def _table(centre: float, size: float, dtype: torch.dtype, paired: bool) -> np.ndarray[Any, Any]:
    """The numbers that each byte stands for, as integers of the same bits, which numpy knows for every dtype."""
    import torch

    signs = torch.from_numpy(_OPPOSITES if paired else _SIGNS).double()
    return integers_of(signs.mul(size).add(centre).to(dtype))
