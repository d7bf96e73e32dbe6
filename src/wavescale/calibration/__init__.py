"""Calibration: choose what stays by what it does on some input, and refit what is left by least squares.

The input may be text, what the model writes itself, or random tokens; a few thousand tokens suffice.
"""

from __future__ import annotations

from wavescale.calibration.fit import fit_model
from wavescale.calibration.samples import calibration_batches

__all__ = ["calibration_batches", "fit_model"]
