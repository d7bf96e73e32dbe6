"""The cosine transform of one axis, cut off or filled up: FRONT's operator (PEERS: FRONT-DCT)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from wavescale.operators.base import Transform
from wavescale.rows import Rows, positions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Cosine(Transform):
    """DCT-II of n samples, its first min(n, m) coefficients, and the inverse of m; orthonormal when `gain` is 1.

    Attributes
    ----------
    entries
        `"squared"` for second moments.

    Examples
    --------
    >>> Cosine(n=4, m=2).matrix() @ [1.0, 1.0, 1.0, 1.0]  # a constant c becomes c·√(n/m)
    array([1.41421356, 1.41421356])
    """

    entries: Literal["plain", "squared"] = "plain"

    def weights(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        matrix = _matrix(self.n, self.m)
        return self.gain * (matrix if self.entries == "plain" else matrix**2)

    def apply(self, x: torch.Tensor, axis: int, rows: Rows | None = None) -> torch.Tensor:
        import torch

        weights = self.weights() if rows is None else self.weights()[positions(rows)]
        weight = torch.from_numpy(weights).to(x.device, x.dtype)
        found: torch.Tensor = torch.tensordot(x, weight, dims=([axis], [1]))
        return found.movedim(-1, axis)

    @property
    def multiplications(self) -> int:
        return self.n * self.m

    def transposed_inverse(self) -> Cosine:
        return replace(self, gain=1 / self.gain)

    def squared(self) -> Cosine:
        return replace(self, entries="squared", gain=self.gain**2)

    def describe(self) -> str:
        return f"{min(self.n, self.m)} cosines{' squared' if self.entries == 'squared' else ''}{self.gain_text}"


@lru_cache(maxsize=16)
def _matrix(n: int, m: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The orthonormal operator, of shape (m, n)."""
    from scipy.fft import dct, idct

    kept = np.zeros((m, n))
    kept[: min(n, m)] = dct(np.eye(n), axis=0, norm="ortho")[:m]
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = idct(kept, axis=0, norm="ortho")
    return found
