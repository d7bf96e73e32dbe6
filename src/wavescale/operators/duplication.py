"""Growing by copies: the operators that keep a model's function (METHOD: exact growth at any size).

Outputs are copied; what reads them divides by the number of copies. The copies of a unit lie side by
side, which at whole multiples is synthesis with the Haar wavelet, or the whole axis is tiled
(HyperCloning, Samragh et al. 2024, arXiv 2409.12903).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from wavescale.operators.gathering import Gather
from wavescale.rows import Rows, positions
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch

Divide = Literal["no", "root", "count", "square"]
Padding = Literal["mean", "zero", "cycle"]

# The power of the count by which copies are divided.
_POWERS: dict[Divide, float] = {"no": 0.0, "root": 0.5, "count": 1.0, "square": 2.0}


class Copies(Gather):
    """An operator that copies units and divides them by how often each was copied."""

    @property
    @abstractmethod
    def copied(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The source unit of each target unit, int64 of shape (m,); -1 for padding."""

    @property
    @abstractmethod
    def total(self) -> float:
        """What the weights of a unit's copies sum to; on average where units are not copied equally often."""

    @property
    def pairs(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """The copies of each unit in pairs: target units, int64 of shape (pairs, 2).

        Of an odd number of copies the last is in no pair.

        Examples
        --------
        >>> Replicate(n=3, m=5).pairs
        array([[0, 1],
               [2, 3]])
        """
        return _pairs(self)


@lru_cache(maxsize=64)
def _pairs(operator: Copies) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    units = operator.copied
    places = np.argsort(units, kind="stable")[np.count_nonzero(units < 0) :]
    counts = np.bincount(units[places], minlength=operator.n)
    nth = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)  # of the copies of its unit
    first = np.flatnonzero((nth % 2 == 0) & (nth + 1 < np.repeat(counts, counts)))
    return np.stack([places[first], places[first + 1]], axis=1)


@dataclass(frozen=True, kw_only=True)
class Replicate(Copies):
    """Unit j of the target copies unit ⌊j·n/m⌋ of the source, or unit j mod n.

    Attributes
    ----------
    divide
        `"no"` for outputs; `"count"` divides by how often the unit was copied, for inputs; `"root"`
        by its square root, which is orthonormal; `"square"` by its square, for second moments.
    groups
        (n, m) of the key-value heads, when the units are query heads: a target group copies one
        source group whole, so that every query head keeps a copy of its own keys and values.
    tiled
        Copies of the whole axis one after the other, rather than those of each unit side by side.
    drawn
        A seed: all units once in their order, then units at random (bert2BERT, Chen et al. 2022, arXiv
        2110.07143, equation 4). With `groups` a group is drawn whole.
    """

    divide: Divide = "no"
    groups: tuple[int, int] | None = None
    tiled: bool = False
    drawn: int | None = None

    @property
    def origins(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return self.copied

    @property
    def factors(self) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
        """The division by the count."""
        if self.divide == "no":
            return None
        count = np.bincount(self.copied, minlength=self.n).astype(np.float64)
        return count[self.copied] ** -_POWERS[self.divide]

    @property
    def copied(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return copied_units(self.n, self.m, self.groups, self.tiled, self.drawn)

    @property
    def total(self) -> float:
        if self.divide not in ("no", "count"):
            raise ValueError("the copies are divided neither by their count nor not at all")
        return self.gain if self.divide == "count" else self.gain * self.m / self.n

    def copies(self) -> tuple[Replicate, float] | None:
        gain, factors = self.common
        return None if factors is not None else (replace(self, divide="no", gain=1.0), gain)

    @property
    def multiplications(self) -> int:
        return 0 if self.divide == "no" and self.gain == 1.0 else self.m

    def describe(self) -> str:
        by = {"no": "", "root": " ÷ √count", "count": " ÷ count", "square": " ÷ count²"}[self.divide]
        tiled = " end to end" if self.tiled else " drawn at random" if self.drawn is not None else ""
        return f"copies{by}{tiled}{' in whole groups' if self.groups else ''}{self.gain_text}"

    def transposed_inverse(self) -> Replicate:
        return replace(self, divide=_divided_by(1 - _POWERS[self.divide]), gain=1 / self.gain)

    def squared(self) -> Replicate:
        return replace(self, divide=_divided_by(2 * _POWERS[self.divide]), gain=self.gain**2)


def _divided_by(power: float) -> Divide:
    """The division by this power of the count."""
    for divide, found in _POWERS.items():
        if found == power:
            return divide
    raise ValueError(f"copies are not divided by their count to the power of {power:g}")


@lru_cache(maxsize=64)
def copied_units(
    n: int, m: int, groups: tuple[int, int] | None = None, tiled: bool = False, drawn: int | None = None
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Which source unit each of m target units copies, as an int64 array of shape (m,).

    `groups`, `tiled` and `drawn` are as in `Replicate`.

    Examples
    --------
    >>> copied_units(3, 4)
    array([0, 0, 1, 2])
    >>> copied_units(4, 6, groups=(2, 3))   # two groups of two: the first is copied twice
    array([0, 0, 1, 1, 2, 3])
    >>> copied_units(4, 8, groups=(2, 2), tiled=True)   # two groups of two become two groups of four
    array([0, 1, 0, 1, 2, 3, 2, 3])
    """
    if drawn is not None:
        whole = (n, m) if groups is None else groups
        rest = np.random.default_rng(drawn).integers(0, whole[0], whole[1] - whole[0])
        units: np.ndarray[tuple[int], np.dtype[np.int64]] = np.concatenate([np.arange(whole[0]), rest])
        each = np.arange(n // whole[0])
        found: np.ndarray[tuple[int], np.dtype[np.int64]] = (units[:, None] * len(each) + each).reshape(-1)
        return found
    if groups is None:
        place = np.arange(m, dtype=np.int64)
        return place % n if tiled else place * n // m
    kv, kv_target = groups
    group, group_target = n // kv, m // kv_target
    source = copied_units(kv, kv_target, tiled=tiled)
    copies = np.bincount(source, minlength=kv)
    nth = np.array([np.count_nonzero(source[:at] == found) for at, found in enumerate(source)])  # copy of its group
    slot = nth[:, None] * group_target + np.arange(group_target)[None, :]
    within = slot % group if tiled else slot * group // (copies[source][:, None] * group_target)
    head: np.ndarray[tuple[int, int], np.dtype[np.int64]] = source[:, None] * group + within
    return head.reshape(-1)


@dataclass(frozen=True, kw_only=True)
class CopyAndPad(Copies):
    """The residual stream: each channel ⌊m/n⌋ times, or once; what is left at the end is padding.

    Attributes
    ----------
    padding
        `"mean"` of all channels (LayerNorm then takes it off), `"zero"`, or `"cycle"` through the
        channels from the first (for weights that meet a zero: alive, and of the right size).
    tiled
        Copies of the whole axis one after the other, rather than those of each channel side by side.
    once
        Each channel once, however much is padded.
    """

    padding: Padding
    tiled: bool = False
    once: bool = False

    @property
    def count(self) -> int:
        """How often each channel is there."""
        return 1 if self.once else self.m // self.n

    @property
    def padded(self) -> int:
        """Target channels that are padding, at the end."""
        return self.m - self.count * self.n

    @property
    def averages(self) -> bool:
        """Whether some of the target is the mean of the whole source, so that no part of it suffices."""
        return self.padding == "mean" and self.padded > 0

    @property
    def scaling(self) -> float | None:
        return None if self.averages else super().scaling

    def support(self, rows: Rows) -> Rows:
        return (
            range(self.n) if self.averages and positions(rows).max() >= self.m - self.padded else super().support(rows)
        )

    def apply(self, x: torch.Tensor, axis: int, rows: Rows | None = None) -> torch.Tensor:
        import torch

        if not self.averages or (rows is not None and len(self.support(rows)) < self.n):
            return super().apply(x, axis, rows)
        axis %= x.ndim
        copied = taken(x, axis, self.copied[: self.m - self.padded])
        mean = x.mean(dim=axis, keepdim=True)
        pads = mean.expand(*[self.padded if position == axis else -1 for position in range(x.ndim)])
        out = torch.cat([copied, pads], dim=axis)
        out = out if self.gain == 1.0 else out * self.gain
        return out if rows is None else taken(out, axis, rows)

    @property
    def origins(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        found = self.copied
        return (
            np.where(found < 0, (np.arange(self.m) - self.count * self.n) % self.n, found)
            if self.padding == "cycle"
            else found
        )

    @property
    def copied(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        padding = np.full(self.padded, -1, dtype=np.int64)
        return np.concatenate([copied_units(self.n, self.n * self.count, tiled=self.tiled), padding])

    @property
    def total(self) -> float:
        return self.gain * self.count

    def copies(self) -> tuple[CopyAndPad, float]:
        return replace(self, gain=1.0), self.gain

    @property
    def multiplications(self) -> int:
        return 0 if self.gain == 1.0 else self.m

    def describe(self) -> str:
        copies, rest = self.count, self.padded
        words = "1 copy" if copies == 1 else f"{copies} copies"
        pad = f" and {rest} of {self.padding} padding" if rest else ""
        return f"{words}{' end to end' if self.tiled else ''}{pad}{self.gain_text}"

    def transposed_inverse(self) -> CopyAndPad:
        return replace(self, padding="zero", gain=1 / self.total)

    def squared(self) -> CopyAndPad:
        return replace(self, padding="mean", gain=self.gain**2)
