from __future__ import annotations

import pytest
import torch

from tiny import MAIN_CASES, Case, make
from wavescale.analysis import Subject
from wavescale.memory import model_tensors
from wavescale.similarity import cross_gram, energies, gram, sides

# Readers of a norm in layer 1, by the axis that they make: norm, its readers, and the axis of units.
READERS = [
    ("bert", "bert.encoder.layer.0.output.LayerNorm", ("bert.encoder.layer.1.attention.self.query",), "heads"),
    ("bert", "bert.encoder.layer.1.attention.output.LayerNorm", ("bert.encoder.layer.1.intermediate.dense",),
     "intermediate"),
    ("gpt2", "transformer.h.1.ln_2", ("transformer.h.1.mlp.c_fc",), "intermediate"),
    ("llama", "model.layers.1.post_attention_layernorm", ("model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"),
     "intermediate"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "norm", "readers", "axis"), READERS, ids=str)
def test_what_a_unit_is_worth_does_not_depend_on_where_a_factor_stands(
    family: str, norm: str, readers: tuple[str, ...], axis: str
) -> None:
    model = make(next(case for case in MAIN_CASES if case.family == family))
    subject = Subject.in_memory(model)
    before = energies(subject, axis, 1)
    factor = torch.rand(16, generator=torch.Generator().manual_seed(0)) + 0.5
    tensors = model_tensors(model)
    with torch.no_grad():
        tensors[f"{norm}.weight"] *= factor
        assert not torch.allclose(energies(subject, axis, 1), before, rtol=1e-3)
        for reader in readers:
            weight = tensors[f"{reader}.weight"]
            weight /= factor[:, None] if family == "gpt2" else factor
    torch.testing.assert_close(energies(subject, axis, 1), before, rtol=1e-5, atol=0)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_every_axis_has_sides_and_units_that_resemble_themselves(case: Case) -> None:
    subject = Subject.in_memory(make(case))
    for axis, layer in (("hidden", None), ("intermediate", 0), ("kv_heads", 1), ("heads", 1)):
        found = list(sides(subject, axis, layer))
        assert {side.reads for side in found} == {False, True}
        assert {len(side.weights) for side in found} == {subject.spec.axis_sizes[axis]}
        whole = gram(subject, axis, layer)
        # Each side has an overall norm of 1.
        assert float(whole.trace()) == pytest.approx(len(found), rel=1e-5)
        parts = gram(subject, axis, layer, reads=False) + gram(subject, axis, layer, reads=True)
        torch.testing.assert_close(parts, whole)
        if layer is not None:
            torch.testing.assert_close(cross_gram(subject, axis, layer, layer), whole, rtol=1e-4, atol=1e-6)
        assert float(energies(subject, axis, layer).mean()) == pytest.approx(1.0)


def test_a_key_value_head_comes_with_its_queries() -> None:
    subject = Subject.in_memory(make(Case("llama", "LlamaForCausalLM")))
    rows = {side.label.split(".")[-2]: side.weights for side in sides(subject, "kv_heads", 0)}
    assert {name: tuple(weights.shape) for name, weights in rows.items()} == {
        "q_proj": (2, 2 * 4 * 16),
        "k_proj": (2, 4 * 16),
        "v_proj": (2, 4 * 16),
        "o_proj": (2, 16 * 2 * 4),
    }


def test_a_tied_head_counts_once() -> None:
    tied, untied = (
        Subject.in_memory(make(Case("gpt2", "GPT2LMHeadModel", (("tie_word_embeddings", tie),))))
        for tie in (True, False)
    )
    assert len(list(sides(untied, "hidden", None))) == len(list(sides(tied, "hidden", None))) + 1
