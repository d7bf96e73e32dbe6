from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pywt
import torch

import wavescale
from tiny import Case, make
from wavescale.errors import OptionError


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    make(Case("gpt2", "GPT2LMHeadModel"), n_embd=32, n_inner=64, n_layer=4).save_pretrained(tmp_path)
    return tmp_path


def test_shares_are_those_of_the_whole_transform(gpt2: Path) -> None:
    spectrum = wavescale.inspect(gpt2)
    weights = [make(Case("gpt2", "GPT2LMHeadModel"), n_embd=32, n_inner=64, n_layer=4).transformer.h[i].mlp.c_fc.weight
               for i in range(4)]  # fmt: skip
    stack = torch.stack(weights).detach().numpy()
    for axis_name, axis in (("depth", 0), ("hidden", 1), ("intermediate", 2)):
        band = next(b for b in spectrum.bands if (b.module, b.axis) == ("ffn in", axis_name))
        bands = pywt.wavedec(stack, "haar", mode="periodization", axis=axis, level=len(band.shares) - 1)
        energies = np.array([np.square(values).sum() for values in reversed(bands)])
        np.testing.assert_allclose(band.shares, energies / energies.sum(), rtol=1e-4)
        assert band.length == stack.shape[axis]


def test_shares_sum_to_one_and_random_weights_look_like_noise(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_embd=64, n_head=4, n_layer=4, vocab_size=64, n_positions=8)).save_pretrained(tmp_path)
    for band in wavescale.inspect(tmp_path).bands:
        assert sum(band.shares) == pytest.approx(1.0)
        if band.module == "ffn in":
            assert band.shares[0] == pytest.approx(band.noise[0], abs=0.05)


def test_it_prints_and_draws(gpt2: Path, tmp_path: Path) -> None:
    spectrum = wavescale.inspect(gpt2)
    assert "query" in str(spectrum)
    assert "depth" in str(spectrum)
    with pytest.raises(OptionError, match=r"plot.txt: is no picture; use one of .*png"):
        spectrum.plot(tmp_path / "plot.txt")
    spectrum.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_wavelets_that_do_not_divide_energy_are_refused(gpt2: Path) -> None:
    with pytest.raises(OptionError, match="not orthogonal"):
        wavescale.inspect(gpt2, "bior4.4")
