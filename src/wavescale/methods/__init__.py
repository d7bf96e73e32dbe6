"""Methods: each says, tensor by tensor, what the target is made of."""

from __future__ import annotations

from wavescale.methods.arrangement import LAYER_AXES, Arrangement, averages_layers
from wavescale.methods.calibrated import left_out, refits, settled
from wavescale.methods.choices import PRESETS, Choices, Gain, choose
from wavescale.methods.depth import copied_layer
from wavescale.methods.mapped import check_growth, mapping_remarks
from wavescale.methods.method import Method, Piece, Resizing
from wavescale.methods.separable import Separable

__all__ = [
    "LAYER_AXES",
    "PRESETS",
    "Arrangement",
    "Choices",
    "Gain",
    "Method",
    "Piece",
    "Resizing",
    "Separable",
    "averages_layers",
    "check_growth",
    "choose",
    "copied_layer",
    "left_out",
    "mapping_remarks",
    "refits",
    "settled",
]
