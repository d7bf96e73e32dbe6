"""Mango's tensors against a dense contraction of its ring, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import wavescale
from tiny import CASES, Case, inputs_for, make
from wavescale.analysis import Subject
from wavescale.findings import mapping_of
from wavescale.learned import Mango, mango
from wavescale.memory import model_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BERT = Case("bert", "BertForMaskedLM")
Array = np.ndarray[Any, np.dtype[np.float64]]
LAYER = "bert.encoder.layer."
MAPS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "intermediate.dense", "output.dense")  # fmt: skip


def start(model: PreTrainedModel, rank: int = 1, **options: Any) -> Mango:
    plan, subject = wavescale.plan_resize(model, preset="mango", **options), Subject.in_memory(model)
    found = mapping_of(plan, subject)
    assert isinstance(found, Mango)
    return Mango(found.resizing, found.read, found.names, rank=rank)


def blocks_of(weights: dict[str, Array], width: int, layers: int) -> Array:
    """(B, I, O, L) by hand: whole maps, then a wide map's blocks one after the other."""
    stack = []
    for layer in range(layers):
        found = [weights[f"{LAYER}{layer}.{name}.weight"] for name in MAPS]  # each (outputs, inputs)
        found = [
            *found[:4],
            *np.split(found[4], len(found[4]) // width),
            *np.split(found[5], len(found[4]) // width, 1),
        ]
        stack.append(np.stack([block.T for block in found]))
    return np.stack(stack, -1)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_maps_are_the_dense_contraction_of_the_ring(rank: int) -> None:
    model = make(BERT, hidden_size=4, num_attention_heads=2, intermediate_size=8)
    mapping = start(model, rank, hidden_size=6, num_attention_heads=3, intermediate_size=18, num_hidden_layers=3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in mapping.parameters.values():
            value.copy_(torch.randn(value.shape, generator=generator) / value.shape[1] ** 0.5)
    cores = {name: value.detach().double().numpy() for name, value in mapping.parameters.items()}
    source = {name: value.double().numpy() for name, value in model_tensors(model).items()}
    dense = np.einsum(
        "qbcr,ropt,tlmu,uijq->cjpmbiol", cores["S_B"], cores["S_O"], cores["S_L"], cores["S_I"], optimize=True
    )
    assert dense.shape == (10, 6, 6, 3, 8, 4, 4, 2)
    expected = np.tensordot(dense, blocks_of(source, 4, 2), 4)
    made = {name: value.detach().double().numpy() for name, value in mapping.tensors().items()}
    np.testing.assert_allclose(blocks_of(made, 6, 3), expected, atol=1e-5)


def test_other_tensors_take_the_width_map() -> None:
    model = make(BERT, intermediate_size=32)
    mapping = start(model, hidden_size=32, num_hidden_layers=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for value in mapping.parameters.values():
            value.copy_(torch.randn(value.shape, generator=generator))
    width, depth = (mapping.parameters[name].detach().double().numpy() for name in ("width", "depth"))
    source = {name: value.double().numpy() for name, value in model_tensors(model).items()}

    def layers(name: str, to: int) -> Array:
        return np.asarray(sum(depth[to, layer] * source[f"{LAYER}{layer}.{name}"] for layer in range(2)))

    expected = {
        "bert.embeddings.word_embeddings.weight": source["bert.embeddings.word_embeddings.weight"] @ width.T,
        "bert.embeddings.LayerNorm.weight": width @ source["bert.embeddings.LayerNorm.weight"],
        "cls.predictions.bias": source["cls.predictions.bias"],
        # Inputs are divided by the two copies of each channel, and so is the norm before the tied head.
        "cls.predictions.transform.dense.weight": width
        @ source["cls.predictions.transform.dense.weight"]
        @ width.T
        / 2,
        "cls.predictions.transform.LayerNorm.bias": width @ source["cls.predictions.transform.LayerNorm.bias"] / 2,
        f"{LAYER}2.output.LayerNorm.weight": width @ layers("output.LayerNorm.weight", 2),
        f"{LAYER}1.attention.self.key.bias": width @ layers("attention.self.key.bias", 1),
        f"{LAYER}1.intermediate.dense.bias": np.concatenate(
            [width @ block for block in np.split(layers("intermediate.dense.bias", 1), 2)]
        ),
    }
    made = mapping.tensors()
    for name, value in expected.items():
        np.testing.assert_allclose(made[name].detach().numpy(), value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", [case for case in CASES if "head_dim" not in str(case)], ids=str)
def test_it_starts_from_the_sources_function(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies without noise at twice the width, with units that fill no block."""
    monkeypatch.setattr(mango, "_NOISE", 0.0)
    model = make(case)
    large = wavescale.resize(model, preset="mango", train_steps=0, scale_width=2)
    with torch.no_grad():
        expected, found = (each(**inputs_for(model)) for each in (model, large))
    compared = [name for name, value in expected.items() if torch.is_tensor(value) and "logits" in name]
    for name in compared:
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-4)
    if not compared and "last_hidden_state" in expected:
        width = expected["last_hidden_state"].shape[-1]
        for part in found["last_hidden_state"].split(width, -1):
            torch.testing.assert_close(part, expected["last_hidden_state"], atol=1e-4, rtol=1e-4)


def test_layers_are_stacked_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mango, "_NOISE", 0.0)
    model = make(BERT)
    made, source = start(model, num_hidden_layers=5).tensors(), model_tensors(model)
    for name in ("attention.self.query.weight", "output.dense.bias", "output.LayerNorm.weight"):
        for layer in range(5):
            torch.testing.assert_close(made[f"{LAYER}{layer}.{name}"].detach(), source[f"{LAYER}{layer % 2}.{name}"])
