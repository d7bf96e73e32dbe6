"""Low-pass analysis and synthesis of one axis: the signal view of weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import isclose
from typing import TYPE_CHECKING, Literal

from wavescale.operators.base import Transform
from wavescale.resampling import Boundary, Taps, levels, taps
from wavescale.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    import torch


@lru_cache(maxsize=16)
def _squared_taps(n: int, m: int, wavelet: str, boundary: Boundary, dual: bool) -> Taps:
    return taps(n, m, wavelet, boundary, dual).squared()


@dataclass(frozen=True, kw_only=True)
class Resample(Transform):
    """`wavescale.resample` as an operator: orthonormal when `gain` is 1.

    Attributes
    ----------
    wavelet, boundary, dual
        As in `wavescale.resample`.
    levels_up, levels_down
        Decomposition levels K and J, recorded so that a plan says what it does.
    entries
        `"squared"` for second moments.
    """

    wavelet: str
    boundary: Boundary
    dual: bool = False
    levels_up: int
    levels_down: int
    entries: Literal["plain", "squared"] = "plain"

    @classmethod
    def of(cls, n: int, m: int, wavelet: str, boundary: Boundary = "periodization") -> Resample:
        """The operator between two lengths, with the levels that belong to them."""
        up, down = levels(n, m)
        return cls(n=n, m=m, wavelet=wavelet, boundary=boundary, levels_up=up, levels_down=down)

    def transposed_inverse(self) -> Resample:
        """The dual: what the input axis of the next map needs for the two to agree, and what gradients need.

        For a biorthogonal wavelet it uses the exchanged filter bank; for an orthogonal one it
        equals the operator. Off powers of two it is the inverse transpose only nearly.
        """
        up, down = levels(self.n, self.m, not self.dual)
        return replace(self, dual=not self.dual, levels_up=up, levels_down=down, gain=1 / self.gain)

    def squared(self) -> Resample:
        return replace(self, entries="squared", gain=self.gain**2)

    def taps(self) -> Taps:
        """The operator by rows, without its gain."""
        find = taps if self.entries == "plain" else _squared_taps
        return find(self.n, self.m, self.wavelet, self.boundary, self.dual)

    def weights(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return self.gain * self.taps().matrix()

    def support(self, rows: Rows) -> Rows:
        return self.taps().support(rows)

    def copies(self) -> tuple[Resample, float] | None:
        taps = self.taps()
        if not taps.plain or taps.weight.shape[1] > 1:
            return None
        weight = float(taps.weight[0, 0])
        return replace(self, gain=1 / weight), self.gain * weight

    @property
    def scaling(self) -> float | None:
        # Of other gains nobody asks: they are folded into one number before.
        found = self.copies()
        return 1.0 if found is not None and isclose(found[1], 1.0, rel_tol=1e-12) else None

    def apply(self, x: torch.Tensor, axis: int, rows: Rows | None = None) -> torch.Tensor:
        return self.taps().apply(x, axis, rows, self.gain)

    @property
    def multiplications(self) -> int:
        # A level's filter spans 2·levels taps of the shorter side; the taps themselves are not built here.
        return self.m * max(1, 2 * self.levels_down)

    def describe(self) -> str:
        words = [
            self.wavelet,
            *(["dual"] if self.dual else []),
            *(["mirrored"] if self.boundary == "two-ended" else []),
            *(["squared"] if self.entries == "squared" else []),
        ]
        return f"{' '.join(words)} +{self.levels_up}-{self.levels_down} levels{self.gain_text}"
