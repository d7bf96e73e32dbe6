"""How one axis goes from n to m samples, one family of operators a file."""

from __future__ import annotations

from wavescale.operators.base import Operator
from wavescale.operators.duplication import Copies, CopyAndPad, Replicate, copied_units
from wavescale.operators.selection import Selection, spread_evenly
from wavescale.operators.wavelet import Resample

__all__ = [
    "Copies",
    "CopyAndPad",
    "Operator",
    "Replicate",
    "Resample",
    "Selection",
    "copied_units",
    "spread_evenly",
]
