"""One width axis from n to m: which operator each use of it needs.

The gains by role are those of METHOD "Gain" and "Exact growth at any size": outputs keep the
amplitude, inputs the sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from math import sqrt

from wavescale.architectures.schema import Role
from wavescale.methods.choices import Gain
from wavescale.methods.method import Piece
from wavescale.operators import CopyAndPad, Cosine, Operator, Replicate, Resample, Selection, copied_units
from wavescale.operators.duplication import Padding


class Usage(StrEnum):
    """What a tensor does with an axis."""

    WRITE = "write"
    READ = "read"
    QUERY = "query"  # channels of a head that are multiplied with the key's and summed
    TRANSFORM = "transform"  # writes what a norm outside the stream takes: the head of a masked language model
    NORM_WEIGHT = "norm weight"
    NORM_BIAS = "norm bias"


def usage(piece: Piece, side: str, name: str) -> Usage:
    """What a piece does with one of its axes."""
    if side == "in":
        return Usage.READ
    if piece.role is Role.NORM_WEIGHT:
        return Usage.NORM_WEIGHT
    if piece.role is Role.NORM_BIAS:
        return Usage.NORM_BIAS
    if piece.module == "query" and name == "head_dim":
        return Usage.QUERY
    return Usage.TRANSFORM if piece.module == "head transform" else Usage.WRITE


@dataclass(frozen=True)
class AxisMap(ABC):
    """How one named axis goes from n to m.

    Attributes
    ----------
    n, m
        Length before and after.
    gain
        As in `Choices`, where growing knows no `variance`.
    """

    n: int
    m: int
    gain: Gain

    @abstractmethod
    def operator(self, use: Usage, norm: str) -> Operator:
        """The operator for one use; `norm` is the name of the norm that a weight or bias is of, or that a map reads."""

    @property
    def tied_factor(self) -> float:
        """What the last norm takes on before a matrix that is tied to the embedding."""
        return 1.0

    @property
    def exact(self) -> bool:
        """Whether this map keeps the function."""
        return self.n == self.m


@dataclass(frozen=True)
class SignalMap(AxisMap):
    """Resample with a wavelet (BoT, arXiv 2603.07506; gains and duals: METHOD, one axis and gain).

    For `variance` units count as strangers: what makes them keeps its norm and what reads them is summed.

    Attributes
    ----------
    wavelet, dual
        As in `Choices`.
    normed
        A norm stands between what writes the axis and what reads it: its weight takes part of the gain.
    """

    wavelet: str
    dual: bool
    normed: bool = False

    def operator(self, use: Usage, norm: str) -> Operator:
        primal = Resample.of(self.n, self.m, self.wavelet)
        reads = use in (Usage.READ, Usage.QUERY)
        chosen = primal.transposed_inverse() if reads and self.dual else primal
        if self.gain == "orthonormal":
            return chosen
        ratio = self.m / self.n
        if self.gain == "variance":
            return chosen.scaled(1 / sqrt(ratio)) if use is Usage.READ and not self.normed else chosen
        # A query's sum over its channels is divided by √head_dim, which changes too: that leaves a gain of 1.
        return chosen.scaled({Usage.READ: 1 / sqrt(ratio), Usage.QUERY: 1.0}.get(use, sqrt(ratio)))

    @property
    def tied_factor(self) -> float:
        return self.n / self.m if self.gain == "role" else 1.0

    @property
    def exact(self) -> bool:
        # At whole multiples Haar synthesis makes copies.
        return self.n == self.m or (self.gain == "role" and self.wavelet == "haar" and self.m % self.n == 0)


@dataclass(frozen=True)
class CosineMap(AxisMap):
    """Keep the first cosine coefficients (FRONT), with the gains of `SignalMap` or without a norm as released."""

    def operator(self, use: Usage, norm: str) -> Operator:
        chosen, ratio = Cosine(n=self.n, m=self.m), self.m / self.n
        if self.gain == "role":
            return chosen.scaled({Usage.READ: 1 / sqrt(ratio), Usage.QUERY: 1.0}.get(use, sqrt(ratio)))
        return chosen.scaled(1 / sqrt(ratio)) if self.gain == "unnormalized" else chosen

    @property
    def tied_factor(self) -> float:
        return self.n / self.m if self.gain == "role" else 1.0


@dataclass(frozen=True)
class DrawnMap(AxisMap):
    """All units once, then units at random; what reads them divides by their count (bert2BERT, arXiv 2110.07143).

    One draw for each axis of the whole model. Norms follow the copies, which are not as many of each, so
    their mean and variance are not those of the source. A tied head cannot divide by the counts, so
    the norm before it does, and what else reads that norm does not.

    Attributes
    ----------
    drawn
        Seed of the draw.
    groups
        Key-value heads before and after, on the axis of query heads: a group is drawn whole.
    tied_norm
        The norm before a tied matrix; nothing where there is none.
    copies
        All that is new is a copy that no norm looks at, so that the function is kept.
    """

    drawn: int
    groups: tuple[int, int] | None = None
    tied_norm: str = ""
    copies: bool = False

    def operator(self, use: Usage, norm: str) -> Operator:
        copies = Replicate(n=self.n, m=self.m, groups=self.groups, drawn=self.drawn)
        match use:
            case Usage.READ if norm != self.tied_norm or not norm:
                return replace(copies, divide="count")
            case Usage.NORM_WEIGHT | Usage.NORM_BIAS if norm == self.tied_norm:
                return replace(copies, divide="count")
            case Usage.QUERY:
                return replace(copies, divide="count", gain=sqrt(self.m / self.n))
            case _:
                return copies

    @property
    def exact(self) -> bool:
        return self.copies or self.n == self.m


@dataclass(frozen=True)
class SelectMap(AxisMap):
    """Keep some samples as they are (Weight Selection, arXiv 2311.18823).

    Its own gain is the orthonormal one, 1 throughout. By role, what reads the axis makes up for the
    samples that its sum lost; for `variance`, for those that the sum's variance lost.

    Attributes
    ----------
    first
        Keep the first ones, where they are in an order of what they are worth.
    """

    first: bool = False

    def operator(self, use: Usage, norm: str) -> Operator:
        chosen = Selection(n=self.n, m=self.m, first=self.first)
        if self.gain == "orthonormal":
            return chosen
        lost = self.n / self.m
        if self.gain == "variance":
            return chosen.scaled(sqrt(lost)) if use is Usage.READ else chosen
        return chosen.scaled({Usage.READ: lost, Usage.QUERY: sqrt(lost)}.get(use, 1.0))

    @property
    def tied_factor(self) -> float:
        return {"role": self.n / self.m, "variance": sqrt(self.n / self.m)}.get(self.gain, 1.0)


@dataclass(frozen=True)
class UnitMap(AxisMap):
    """Replicate units that only linear maps and elementwise functions touch: FFN units, heads, pooled outputs.

    Attributes
    ----------
    groups
        Key-value heads before and after, on the axis of query heads.
    tiled
        Copies of the whole axis one after the other.
    """

    groups: tuple[int, int] | None = None
    tiled: bool = False

    def operator(self, use: Usage, norm: str) -> Operator:
        copies = Replicate(n=self.n, m=self.m, groups=self.groups, tiled=self.tiled)
        if self.gain == "orthonormal":
            return replace(copies, divide="root")
        if use is Usage.READ:
            return replace(copies, divide="count")
        if use is Usage.QUERY:
            return replace(copies, divide="count", gain=sqrt(self.m / self.n))
        return copies

    @property
    def exact(self) -> bool:
        return self.gain == "role" or self.n == self.m

    @staticmethod
    def fits(n: int, m: int, groups: tuple[int, int]) -> bool:
        """Whether every query head finds a place in the copies of its own group."""
        kv, kv_target = groups
        if kv_target < kv or m < n:
            return False
        return len(set(copied_units(n, m, groups))) == n


@dataclass(frozen=True)
class PadMap(AxisMap):
    """Units as they are, and behind them new ones, which nothing reads yet: FFN units and heads.

    What makes the new ones is drawn (`Fresh`), so that they differ from the first step on.
    """

    def operator(self, use: Usage, norm: str) -> Operator:
        return CopyAndPad(n=self.n, m=self.m, padding="zero", once=True)

    @property
    def exact(self) -> bool:
        return True


@dataclass(frozen=True)
class ResidualMap(AxisMap):
    """Replicate the residual stream: k = ⌊m/n⌋ copies of each channel, the rest padding, s = k·n/m.

    Pre-LN: what enters the stream is divided by √s and norm weights are multiplied by it, so that
    every norm sees the variance that it knew. Post-LN: the stream leaves a norm, so only norm
    weights change, and padding cannot be exact.

    Attributes
    ----------
    layer_norm
        LayerNorm takes off the mean, so padding is the mean of the channels; under RMSNorm it is zero.
    post
        Norms stand after the residual sum.
    tied_norm
        The norm before the tied matrix.
    tiled
        Copies of the whole stream one after the other.
    once
        Each channel once, so that all that is new is padding, and what reads it is drawn (`Fresh`). After a post-LN
        norm padding is zero but for what the norm's mean leaves, so that such readers change the function a little.
    """

    layer_norm: bool
    post: bool
    tied_norm: str
    tiled: bool = False
    once: bool = False

    @property
    def copies(self) -> int:
        """How often each channel is copied."""
        return CopyAndPad(n=self.n, m=self.m, padding="zero", once=self.once).count

    @property
    def share(self) -> float:
        """The share of the target's channels that are copies, s."""
        return self.copies * self.n / self.m

    def operator(self, use: Usage, norm: str) -> Operator:
        k, s = self.copies, self.share
        grown = partial(CopyAndPad, n=self.n, m=self.m, tiled=self.tiled, once=self.once)
        mean: Padding = "mean" if self.layer_norm else "zero"
        if self.gain == "orthonormal":
            reads: Padding = "zero" if self.once else "cycle"
            return grown(padding=reads if use is Usage.READ else mean, gain=1 / sqrt(k))
        if self.once and self.post:
            return self._padded_behind_norms(use, norm)
        match use:
            case Usage.READ:
                # After a post-LN norm the padding is not zero, so its readers must be.
                return grown(padding="zero" if self.post or self.once else "cycle", gain=1 / k)
            case Usage.NORM_WEIGHT:
                return grown(padding="cycle", gain=sqrt(s))
            case Usage.NORM_BIAS:
                shift: Padding = "mean" if self.post and norm != self.tied_norm else "zero"
                return grown(padding=shift)
            case _:
                return grown(padding=mean, gain=1.0 if self.post else 1 / sqrt(s))

    def _padded_behind_norms(self, use: Usage, norm: str) -> Operator:
        """Post-LN, each channel once. The norm of a head's transform, whose input is no sum of means, sees copies."""
        grown = partial(CopyAndPad, n=self.n, m=self.m, once=True)
        match use:
            case Usage.READ | Usage.NORM_BIAS:
                return grown(padding="zero")
            case Usage.NORM_WEIGHT:
                return (
                    grown(padding="zero") if norm == self.tied_norm else grown(padding="cycle", gain=sqrt(self.share))
                )
            case Usage.TRANSFORM:
                return CopyAndPad(n=self.n, m=self.m, padding="mean", tiled=True)
            case _:
                return grown(padding="mean")

    @property
    def tied_factor(self) -> float:
        if self.gain == "orthonormal":
            return 1.0
        return (1.0 if self.post else sqrt(self.share)) / self.copies

    @property
    def exact(self) -> bool:
        return self.n == self.m or (self.gain == "role" and (not self.post or (self.m % self.n == 0 and not self.once)))
