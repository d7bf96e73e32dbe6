from __future__ import annotations

from typing import Any

import pytest
import torch

import wavescale
from tiny import Case, make
from wavescale.artifacts import Cells
from wavescale.memory import model_tensors
from wavescale.merging import cell_weights

CELLS = torch.tensor([0, 1, 0, 2, 1, 0])
ENERGY = torch.tensor([1.0, 2.0, 3.0, 1.0, 0.5, 1.5], dtype=torch.float64)


def rows(seed: int) -> torch.Tensor:
    return torch.randn((6, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrices(found: Cells) -> tuple[torch.Tensor, torch.Tensor]:
    """What makes the target's units, and what reads them, as (3, 6) each."""
    member = torch.nn.functional.one_hot(found.cells, 3).T.double()
    return member * found.outputs.double(), member * found.inputs.double()


def test_orthonormal_weights_are_an_orthonormal_filter() -> None:
    found = cell_weights(CELLS, ENERGY, torch.eye(6), torch.eye(6), "orthonormal", normed=False)
    written, read = matrices(found)
    torch.testing.assert_close(written @ written.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.equal(written, read)


@pytest.mark.parametrize("gain", ["role", "variance"])
@pytest.mark.parametrize("normed", [False, True])
def test_equal_units_are_kept_as_they_are_and_their_readers_summed(gain: Any, normed: bool) -> None:
    equal = (CELLS[:, None] == CELLS[None, :]).double()
    found = cell_weights(CELLS, ENERGY, equal, rows(0) @ rows(0).T, gain, normed)
    written, _ = matrices(found)
    torch.testing.assert_close(written.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.inputs, torch.ones(6), atol=1e-6, rtol=0)


def test_by_role_readers_regress_on_the_average() -> None:
    made = rows(0)
    found = cell_weights(CELLS, ENERGY, made @ made.T, torch.eye(6), "role", normed=False)
    written, read = matrices(found)
    signal = torch.randn((4000, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    signal = torch.linalg.qr(signal - signal.mean(0)).Q  # exactly white
    units = signal @ made.T
    merged = units @ written.T
    for unit, cell in enumerate(CELLS.tolist()):
        best = torch.linalg.lstsq(merged[:, cell : cell + 1], units[:, unit : unit + 1]).solution
        assert float(best) == pytest.approx(float(read[cell, unit]), abs=1e-6)


@pytest.mark.parametrize("normed", [False, True])
def test_variances_of_units_and_of_what_they_contribute_are_kept(normed: bool) -> None:
    made, readers = rows(0), rows(1)
    found = cell_weights(CELLS, ENERGY, made @ made.T, readers @ readers.T, "variance", normed)
    written, read = matrices(found)
    for cell in range(3):
        members = cell == CELLS
        mean = (ENERGY[members] * made[members].square().sum(1)).sum() / ENERGY[members].sum()
        unit = written[cell] @ made
        assert float(unit @ unit) == pytest.approx(float(mean), rel=1e-5)
        # A norm's weight of 1 between the two sides is averaged as an output is.
        through = (read[cell] @ readers) * (written[cell].sum() if normed else 1.0)
        contributed = (made[members].T @ readers[members]).square().sum()
        assert float(through.square().sum() * unit.square().sum()) == pytest.approx(float(contributed), rel=1e-5)


@pytest.mark.parametrize("gain", ["role", "variance", "orthonormal"])
def test_units_that_nothing_makes_are_no_trouble(gain: Any) -> None:
    nothing = torch.zeros((6, 6), dtype=torch.float64)
    found = cell_weights(CELLS, ENERGY, nothing, nothing, gain, normed=False)
    assert found.outputs.isfinite().all()
    assert found.inputs.isfinite().all()


@pytest.mark.parametrize("gain", ["role", "orthonormal", "variance"])
def test_units_without_energy_share_alike(gain: Any) -> None:
    energy, apart = torch.tensor([0.0, 0.0, 1.0, 3.0]), torch.eye(4)
    found = cell_weights(torch.tensor([0, 0, 1, 1]), energy, apart, apart, gain, normed=False)
    assert found.outputs.isfinite().all()
    assert found.inputs.isfinite().all()
    assert found.outputs[0] == found.outputs[1] > 0


def test_what_was_padded_can_be_merged_again() -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    wide = wavescale.resize(model, intermediate_size=48, width="pad")
    merged = wavescale.resize(wide, intermediate_size=24, width="merge")
    assert all(value.isfinite().all() for value in model_tensors(merged).values())
