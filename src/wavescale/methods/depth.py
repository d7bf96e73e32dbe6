"""From L layers to L′: what a layer of the target is made of, in the source's width.

Layers are counted from 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Literal

import numpy as np

from wavescale.architectures.schema import Role
from wavescale.expressions import Constant, Expression, FoldDiagonal, FoldVector, Scale, Sum
from wavescale.methods.choices import Gain
from wavescale.methods.method import Piece, Resizing
from wavescale.operators import Cosine, Transform, spread_evenly


@dataclass(frozen=True)
class DepthMap(ABC):
    """How the layers of the target come from those of the source."""

    resizing: Resizing

    @property
    def before(self) -> int:
        """Layers of the source."""
        return self.resizing.source.sizes.num_hidden_layers

    @property
    def after(self) -> int:
        """Layers of the target."""
        return self.resizing.target.sizes.num_hidden_layers

    @abstractmethod
    def express(self, piece: Piece, layer: int) -> Expression:
        """One tensor of one target layer, in the source's shape."""

    @abstractmethod
    def origin(self, layer: int) -> int:
        """The source layer that a target layer resembles most."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether the function is kept."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for a person, without the numbers of layers."""


def copied_layer(layer: int, before: int, after: int) -> int:
    """The source layer that a target layer copies, where `after` layers are made of `before` by insertion."""
    return layer * before // after


@dataclass(frozen=True)
class Chosen(DepthMap):
    """Plain copies of source layers: of all as they are, of some, or of some more than once.

    Attributes
    ----------
    layers
        For every layer of the target the source layer that it copies.
    """

    layers: tuple[int, ...]

    @classmethod
    def of(cls, resizing: Resizing, how: Literal["stack", "repeat", "interleave", "first", "drop"]) -> Chosen:
        """The layers that a choice of depth stands for.

        `stack` repeats them all, l′ mod L (StackBERT, G_stack), `repeat` all as often as they fit and then
        the last of them (bert2BERT), `interleave` each in its place; `first` keeps the first L′ (Weight
        Selection); `drop` keeps evenly spaced ones, the first and the last among them.
        """
        n, m = resizing.source.sizes.num_hidden_layers, resizing.target.sizes.num_hidden_layers
        match how:
            case "drop":
                layers = spread_evenly(n, m).tolist()
            case "interleave":
                layers = [copied_layer(layer, n, m) for layer in range(m)]
            case "repeat":
                layers = [*range(n)] * (m // n) + [*range(n)][n - m % n :]
            case _:
                layers = [layer % n for layer in range(m)]
        return cls(resizing, tuple(layers))

    def express(self, piece: Piece, layer: int) -> Expression:
        return self.resizing.read(piece, self.layers[layer])

    def origin(self, layer: int) -> int:
        return self.layers[layer]

    @property
    def exact(self) -> bool:
        return self.layers == tuple(range(self.before))

    def describe(self) -> str:
        runs: list[list[int]] = []
        for layer in self.layers:
            if runs and layer == runs[-1][-1] + 1:
                runs[-1].append(layer)
            else:
                runs.append([layer])
        shown = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
        return f"copies of {shown}"


@dataclass(frozen=True)
class Insert(DepthMap):
    """Insert layers that pass their input on: exact (METHOD, exact growth at any size, depth).

    A new layer copies the one before it. Pre-LN: what it writes to the residual stream is zero.
    Post-LN: besides, the norms in between become plain normalisation and the weight and bias of the
    last one move behind the new layer, so the new layer's readers take them over.
    """

    def origin(self, layer: int) -> int:
        return copied_layer(layer, self.before, self.after)

    def _place(self, layer: int) -> tuple[int, int]:
        """Which of its source layer's copies a target layer is, and how many there are."""
        origin = self.origin(layer)
        first, behind = (-(-source * self.after // self.before) for source in (origin, origin + 1))
        return layer - first, behind - first

    def express(self, piece: Piece, layer: int) -> Expression:
        origin = self.origin(layer)
        place, copies = self._place(layer)
        if piece.row.writes and place > 0:
            return Constant(0.0, self.resizing.piece_shape(piece))
        if self.resizing.source.family.placement == "post":
            return self._express_post(piece, origin, place, copies)
        return self.resizing.read(piece, origin)

    def _express_post(self, piece: Piece, origin: int, place: int, copies: int) -> Expression:
        read = self.resizing.read
        plain = Constant(1.0 if piece.role is Role.NORM_WEIGHT else 0.0, self.resizing.piece_shape(piece))
        if piece.row.norm == "output":
            return read(piece, origin) if place == copies - 1 else plain
        if place == 0:
            return read(piece, origin)
        if piece.row.norm == "attention":
            return plain
        if piece.role is Role.LINEAR:
            axis = piece.input_axis
            assert axis is not None
            return FoldDiagonal(read(piece, origin), self.resizing.norm("output", Role.NORM_WEIGHT, origin), axis)
        weight = self.resizing.weight_of(piece)
        axis = weight.input_axis
        assert axis is not None
        shift = FoldVector(read(weight, origin), self.resizing.norm("output", Role.NORM_BIAS, origin), axis)
        return Sum((read(piece, origin), shift))

    @property
    def exact(self) -> bool:
        return True

    def describe(self) -> str:
        return "insertion"


@dataclass(frozen=True)
class Signal(DepthMap):
    """Resample over the layers: with a wavelet (BoT, arXiv 2603.07506) or with cosines (FRONT).

    By role, a target layer is a weighted mean of source layers, and what writes to the residual
    stream keeps its sum over all layers.

    Attributes
    ----------
    operator
        From L to L′ layers, orthonormal.
    gain
        By role, orthonormal, or unnormalized.
    """

    operator: Transform
    gain: Gain

    @cached_property
    def _orthonormal(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return self.operator.weights()

    def coefficients(self, writes: bool) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """What each source layer gives to each target layer, as an array (L′, L)."""
        matrix = self._orthonormal
        if self.gain == "role":
            # A mean of source layers; what is written to the residual stream keeps its sum instead.
            matrix = matrix / matrix.sum(axis=0 if writes else 1, keepdims=True)
        elif self.gain == "unnormalized":
            matrix = matrix * sqrt(self.before / self.after)
        return matrix

    def express(self, piece: Piece, layer: int) -> Expression:
        row = self.coefficients(piece.row.writes)[layer]
        terms = [
            self.resizing.read(piece, int(source)) if row[source] == 1.0
            else Scale(self.resizing.read(piece, int(source)), float(row[source]))
            for source in np.flatnonzero(np.abs(row) > 1e-12)
        ]  # fmt: skip
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def origin(self, layer: int) -> int:
        return int(np.abs(self._orthonormal[layer]).argmax())

    @property
    def exact(self) -> bool:
        return False

    def describe(self) -> str:
        return f"signal ({self.operator.describe()})" if isinstance(self.operator, Cosine) else "signal"
