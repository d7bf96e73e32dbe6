"""Methods: each says, tensor by tensor, what the target is made of."""

from __future__ import annotations

from wavescale.methods.calibrated import refits, settled
from wavescale.methods.choices import PRESETS, Choices, choose
from wavescale.methods.depth import copied_layer
from wavescale.methods.method import Method, Piece, Resizing
from wavescale.methods.separable import Separable

__all__ = [
    "PRESETS",
    "Choices",
    "Method",
    "Piece",
    "Resizing",
    "Separable",
    "choose",
    "copied_layer",
    "refits",
    "settled",
]
