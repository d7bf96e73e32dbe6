"""Shrinking by choice: some samples of an axis stay as they are and the others are left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from wavescale.operators.gathering import Gather
from wavescale.rows import Positions


@lru_cache(maxsize=64)
def spread_evenly(n: int, m: int) -> Positions:
    """Of n positions m from the first to the last, evenly spaced, as an int64 array of shape (m,).

    Entry i is i·(n−1)/(m−1), rounded (half to even); of one position, the first.

    Examples
    --------
    >>> spread_evenly(6, 3)
    array([0, 2, 5])
    """
    # One division of whole numbers keeps a half exact, so that it rounds alike everywhere.
    return np.rint(np.arange(m) * (n - 1) / max(m - 1, 1)).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Selection(Gather):
    """Keep m of n samples, evenly spaced (Weight Selection, Xu et al. 2024, arXiv 2311.18823) or the first.

    Attributes
    ----------
    first
        Keep the first m.
    """

    first: bool = False

    @property
    def positions(self) -> Positions:
        """The samples that stay: every (n/m)-th from the first, or first to last where m does not divide n.

        Examples
        --------
        >>> Selection(n=6, m=3).positions, Selection(n=6, m=4).positions
        (array([0, 2, 4]), array([0, 2, 3, 5]))
        """
        if self.first:
            return np.arange(self.m, dtype=np.int64)
        if self.n % self.m == 0:
            return np.arange(self.m, dtype=np.int64) * (self.n // self.m)
        return spread_evenly(self.n, self.m)

    @property
    def origins(self) -> Positions:
        return self.positions

    @property
    def multiplications(self) -> int:
        return 0 if self.gain == 1.0 else self.m

    def transposed_inverse(self) -> Selection:
        return replace(self, gain=1 / self.gain)

    def squared(self) -> Selection:
        return replace(self, gain=self.gain**2)

    def describe(self) -> str:
        if self.first:
            return f"the first kept{self.gain_text}"
        how = f"the first of every {self.n // self.m}" if self.n % self.m == 0 else "evenly spaced ones"
        return f"{how} kept{self.gain_text}"
