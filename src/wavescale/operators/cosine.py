"""The cosine transform of one axis, cut off or filled up: FRONT's operator (PEERS: FRONT-DCT)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

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
        return self._weights(range(self.m))

    def _weights(self, rows: Rows) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        matrix = _matrix(self.n, self.m, rows)
        return self.gain * (matrix if self.entries == "plain" else matrix**2)

    def apply(self, x: torch.Tensor, axis: int, rows: Rows | None = None) -> torch.Tensor:
        import torch

        if rows is None and self.entries == "plain":
            return self._transformed(x, axis)
        weight = torch.from_numpy(self._weights(range(self.m) if rows is None else rows)).to(x.device, x.dtype)
        found: torch.Tensor = torch.tensordot(x, weight, dims=([axis], [1]))
        return found.movedim(-1, axis)

    def _transformed(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """The whole axis by fast transforms, on the CPU: the matrix of a wide model would take a gigabyte."""
        import torch
        from scipy.fft import dct, idct

        coefficients = np.moveaxis(dct(x.cpu().numpy(), axis=axis, norm="ortho"), axis, -1)[..., : self.m]
        # idct fills up with zeros to the length that it is given.
        found = np.moveaxis(idct(coefficients, n=self.m, axis=-1, norm="ortho"), -1, axis)
        return torch.from_numpy(np.ascontiguousarray(found)).mul_(self.gain).to(x.device)

    @property
    def multiplications(self) -> int:
        return self.n * self.m

    def transposed_inverse(self) -> Cosine:
        return replace(self, gain=1 / self.gain)

    def squared(self) -> Cosine:
        return replace(self, entries="squared", gain=self.gain**2)

    def describe(self) -> str:
        return f"{min(self.n, self.m)} cosines{' squared' if self.entries == 'squared' else ''}{self.gain_text}"


def _matrix(n: int, m: int, rows: Rows) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Some rows of the orthonormal operator of shape (m, n).

    Entry (i, j) is (1 + 2 Σ cos kα cos kβ) / √(nm) over 0 < k < min(n, m), where α and β are the angles of the two
    samples, so it is the sum of Dirichlet kernels of α - β and α + β.
    """
    kept = min(n, m)
    target = np.pi * (2 * positions(rows)[:, None] + 1) / (2 * m)
    source = np.pi * (2 * np.arange(n)[None, :] + 1) / (2 * n)
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = _dirichlet(target - source, kept)
    found += _dirichlet(target + source, kept)
    found /= sqrt(n * m)
    return found


def _dirichlet(angle: np.ndarray[Any, Any], kept: int) -> np.ndarray[Any, Any]:
    """1/2 + Σ cos kθ over 0 < k < `kept`; no angle is a multiple of 2π but 0."""
    half = 2 * np.sin(angle / 2)
    level = np.full_like(angle, kept - 0.5)
    np.divide(np.sin((kept - 0.5) * angle), half, out=level, where=half != 0)
    return level
