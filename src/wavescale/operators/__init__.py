"""How one axis goes from n to m samples, one family of operators a file."""

from __future__ import annotations

from wavescale.operators.base import Operator, Transform
from wavescale.operators.cosine import Cosine
from wavescale.operators.duplication import Copies, CopyAndPad, Replicate, copied_units
from wavescale.operators.selection import Selection, spread_evenly
from wavescale.operators.wavelet import Resample

__all__ = [
    "Copies",
    "CopyAndPad",
    "Cosine",
    "Operator",
    "Replicate",
    "Resample",
    "Selection",
    "Transform",
    "copied_units",
    "spread_evenly",
]
