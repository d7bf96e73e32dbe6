"""The preset `paper` against the transform written out with PyWavelets on whole 3D modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pywt

import wavescale
from tiny import Case, make
from wavescale.memory import model_tensors

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


def stack(tensors: dict[str, torch.Tensor], pattern: str, layers: int) -> Array:
    return np.stack([tensors[pattern.format(layer)].double().numpy() for layer in range(layers)])


def shrink(module: Array, wavelet: str) -> Array:
    band: Array = pywt.dwtn(module, wavelet, mode="periodization")["a" * module.ndim]
    return band


def grow(module: Array, wavelet: str) -> Array:
    synthesis: Array = pywt.idwtn({"a" * module.ndim: module}, wavelet, mode="periodization")
    return synthesis


LLAMA = "model.layers.{}."
LLAMA_MODULES = [
    LLAMA + name
    for name in (
        "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
        "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight",
    )
]  # fmt: skip


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("direction", ["grow", "shrink"])
def test_llama_modules_are_three_dimensional_transforms(wavelet: str, direction: str) -> None:
    model = make(Case("llama", "LlamaForCausalLM"), num_hidden_layers=4)
    factor, transform = (2, grow) if direction == "grow" else (0.5, shrink)
    found = model_tensors(
        wavescale.resize(model, scale_width=factor, scale_depth=factor, preset="paper", wavelet=wavelet)
    )
    source = model_tensors(model)
    for pattern in LLAMA_MODULES:
        expected = transform(stack(source, pattern, 4), wavelet)
        np.testing.assert_allclose(
            stack(found, pattern, len(expected)), expected, atol=1e-6 * np.abs(expected).max(), err_msg=pattern
        )
    embedding = source["model.embed_tokens.weight"].double().numpy()
    expected = np.stack([transform(row, wavelet) for row in embedding])
    np.testing.assert_allclose(found["model.embed_tokens.weight"].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("wavelet", ["haar", "coif3"])
def test_gpt2_fused_matrices_are_transformed_one_by_one(wavelet: str) -> None:
    model = make(Case("gpt2", "GPT2LMHeadModel"))
    found = model_tensors(wavescale.resize(model, scale_width=2, scale_depth=2, preset="paper", wavelet=wavelet))
    fused = stack(model_tensors(model), "transformer.h.{}.attn.c_attn.weight", 2)
    parts = [grow(part, wavelet) for part in np.split(fused, 3, axis=2)]
    expected = np.concatenate(parts, axis=2)
    np.testing.assert_allclose(
        stack(found, "transformer.h.{}.attn.c_attn.weight", 4), expected, atol=1e-6 * np.abs(expected).max()
    )


def test_two_levels_are_two_transforms() -> None:
    model = make(Case("bert", "BertForMaskedLM"), num_hidden_layers=4)
    found = model_tensors(wavescale.resize(model, scale_width="1/4", scale_depth="1/4", preset="paper", wavelet="db2"))
    name = "bert.encoder.layer.{}.intermediate.dense.weight"
    expected = shrink(shrink(stack(model_tensors(model), name, 4), "db2"), "db2")
    np.testing.assert_allclose(stack(found, name, 1), expected, atol=1e-6)
