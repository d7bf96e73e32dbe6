"""Replication and resampling are one: at whole multiples copies are Haar synthesis, which analysis undoes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, make
from wavescale.memory import model_tensors

EXACT = 1e-5


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("gain", ["role", "orthonormal"])
def test_there_and_back_with_haar_gives_the_source(case: Case, gain: str) -> None:
    model = make(case)
    signal: dict[str, Any] = {"depth": "signal", "gain": gain}
    there = wavescale.resize(model, scale_width=2, scale_depth=2, **signal)
    back = wavescale.resize(there, scale_width=0.5, scale_depth=0.5, **signal)
    assert difference(model, back) < EXACT


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("gain", ["role", "orthonormal"])
def test_replication_at_multiples_is_haar_synthesis(case: Case, gain: str) -> None:
    model = make(case)
    copied = model_tensors(wavescale.resize(model, scale_width=2, width="replicate", gain=gain, details="zero"))
    synthesised = model_tensors(wavescale.resize(model, scale_width=2, width="signal", gain=gain))
    for name, tensor in copied.items():
        torch.testing.assert_close(synthesised[name], tensor, rtol=1e-6, atol=1e-7)
