from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import wavescale
from tiny import MAIN_CASES, Case, difference, make
from wavescale.analysis import similar_units
from wavescale.artifacts import Artifacts
from wavescale.errors import OptionError
from wavescale.memory import model_tensors

LLAMA = Case("llama", "LlamaForCausalLM")


def random_orders(model: torch.nn.Module, seed: int) -> Artifacts:
    """Every axis in a random order: the residual stream once, units and groups with their heads in each layer."""
    generator = torch.Generator().manual_seed(seed)
    spec = wavescale.plan_resize(model).source
    orders: dict[tuple[str, int | None], torch.Tensor] = {
        ("hidden", None): torch.randperm(spec.hidden_size, generator=generator),
        ("pooled", None): torch.randperm(spec.pooled, generator=generator),
    }
    group = spec.num_attention_heads // spec.num_key_value_heads
    for layer in range(spec.num_hidden_layers):
        orders["intermediate", layer] = torch.randperm(spec.intermediate_size, generator=generator)
        groups = torch.randperm(spec.num_key_value_heads, generator=generator)
        orders["kv_heads", layer] = groups
        within = torch.stack([torch.randperm(group, generator=generator) for _ in groups])
        orders["heads", layer] = (groups[:, None] * group + within).flatten()
    return Artifacts(orders=orders)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_reordering_alone_leaves_the_function_unchanged(case: Case) -> None:
    model = make(case)
    found = wavescale.resize(model, artifacts=random_orders(model, 0))
    assert difference(model, found) < 1e-5
    changed = [
        name for name, value in model_tensors(found).items() if not torch.equal(value, model_tensors(model)[name])
    ]
    assert len(changed) > 10


def test_an_order_is_applied_before_the_axis_is_resized() -> None:
    model = make(LLAMA)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    found = wavescale.resize(
        model, intermediate_size=12, gain="role", artifacts=Artifacts({("intermediate", 1): order})
    )
    name = "model.layers.1.mlp.up_proj.weight"
    expected = model_tensors(model)[name][order].view(12, 2, 16).mean(1)
    torch.testing.assert_close(model_tensors(found)[name], expected)


def test_finished_tensors_arrive_as_they_are_in_memory_and_on_disk(tmp_path: Path) -> None:
    model = make(LLAMA)
    model.save_pretrained(tmp_path / "source")
    name = "model.layers.0.mlp.down_proj.weight"
    value = torch.randn(32, 48)
    artifacts = Artifacts(tensors={name: value})
    found = wavescale.resize(model, hidden_size=32, artifacts=artifacts)
    assert torch.equal(model_tensors(found)[name], value)
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", hidden_size=32, artifacts=artifacts)
    assert torch.equal(model_tensors(type(model).from_pretrained(tmp_path / "out"))[name], value)


@pytest.mark.parametrize(
    ("artifacts", "words"),
    [
        ({"tensors": {"nope": torch.ones(1)}}, "nope"),
        ({"tensors": {"model.norm.weight": torch.ones(3)}}, r"\[3\].*\(32,\)"),
        ({"orders": {("intermediate", 0): torch.arange(5)}}, "orders 5 units, the source has 24"),
        ({"orders": {("intermediate", 9): torch.arange(24)}}, "no such axis or layer"),
        ({"orders": {("vocab", None): torch.arange(31)}}, "no such axis or layer"),
        ({"orders": {("intermediate", 0): torch.zeros(24, dtype=torch.int64)}}, "no permutation"),
    ],
)
def test_artifacts_that_do_not_fit_are_refused(artifacts: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        wavescale.plan_resize(make(LLAMA), hidden_size=32, artifacts=Artifacts(**artifacts))


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_similar_units_undo_a_shuffled_duplication(case: Case, tmp_path: Path) -> None:
    # Twice as many units, shuffled: with twins side by side, halving gives the function back.
    model = make(case)
    wide = wavescale.resize(model, intermediate_size=48, details="zero")
    shuffled = wavescale.resize(
        wide, artifacts=Artifacts({("intermediate", layer): torch.randperm(48) for layer in range(2)})
    )
    plain = wavescale.resize(shuffled, intermediate_size=24, gain="role")
    assert difference(model, plain) > 1e-3
    shuffled.save_pretrained(tmp_path)
    for subject in (shuffled, tmp_path):
        artifacts = wavescale.analyse(subject, [similar_units])
        assert (
            difference(model, wavescale.resize(shuffled, intermediate_size=24, gain="role", artifacts=artifacts)) < 1e-5
        )
