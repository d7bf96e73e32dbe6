from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, make, outputs
from wavescale.analysis import Subject
from wavescale.arranging import arrange
from wavescale.artifacts import Artifacts
from wavescale.errors import OptionError
from wavescale.memory import model_tensors

LLAMA = Case("llama", "LlamaForCausalLM")
HALF: dict[str, Any] = {"scale_width": "1/2", "num_hidden_layers": 1}


def found_for(model: Any, **options: Any) -> Artifacts:
    return arrange(wavescale.plan_resize(model, **options), Subject.in_memory(model))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_orders_that_were_found_leave_the_function_unchanged(case: Case) -> None:
    model = make(case)
    kv = {} if getattr(model.config, "num_key_value_heads", 2) % 2 == 0 else {"num_key_value_heads": 1}
    found = found_for(model, order="similarity", **HALF, **kv)
    assert {axis for axis, _ in found.orders} >= {"hidden", "intermediate", "heads"}
    reordered = wavescale.resize(model, artifacts=found)
    changed = [
        name for name, value in model_tensors(reordered).items() if not torch.equal(value, model_tensors(model)[name])
    ]
    assert len(changed) > 10
    if "logits" in " ".join(outputs(model)) or "reconstruction" in outputs(model):
        assert difference(model, reordered) < 1e-5
    else:
        order = found.orders["hidden", None]
        for name, value in outputs(model).items():
            torch.testing.assert_close(outputs(reordered)[name], value[..., order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["similarity", "matching"])
@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_a_shuffled_duplication_is_undone_by_order_and_by_merging(case: Case, how: str, tmp_path: Path) -> None:
    model = make(case)
    wide = wavescale.resize(model, scale_width=2, details="zero")
    sizes = wavescale.plan_resize(wide).source
    generator = torch.Generator().manual_seed(0)
    group = sizes.num_attention_heads // sizes.num_key_value_heads
    shuffle: dict[tuple[str, int | None], torch.Tensor] = {
        ("hidden", None): torch.randperm(sizes.hidden_size, generator=generator)
    }
    for layer in range(sizes.num_hidden_layers):
        shuffle["intermediate", layer] = torch.randperm(sizes.intermediate_size, generator=generator)
        groups = torch.randperm(sizes.num_key_value_heads, generator=generator)
        shuffle["kv_heads", layer] = groups
        shuffle["heads", layer] = (groups[:, None] * group + torch.arange(group)).flatten()
    shuffled = wavescale.resize(wide, artifacts=Artifacts(shuffle))
    options: dict[str, Any] = {"scale_width": "1/2", "gain": "role"}
    assert difference(model, wavescale.resize(shuffled, **options)) > 1e-3
    assert difference(model, wavescale.resize(shuffled, order=how, **options)) < 1e-5
    assert difference(model, wavescale.resize(shuffled, width="merge", order=how, **options)) < 1e-5
    shuffled.save_pretrained(tmp_path / "source")
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", order=how, **options)
    assert difference(model, type(model).from_pretrained(tmp_path / "out").eval()) < 1e-5


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_layers_are_aligned_before_they_are_averaged(case: Case) -> None:
    # Two equal layers whose units lie in other orders: the mean of both, aligned, is the layer.
    model = make(case)
    twice = wavescale.resize(model, layer_map=[0, 0, 1, 1])
    sizes = wavescale.plan_resize(twice).source
    generator = torch.Generator().manual_seed(0)
    group = sizes.num_attention_heads // sizes.num_key_value_heads
    shuffle: dict[tuple[str, int | None], torch.Tensor] = {}
    for layer in range(4):
        shuffle["intermediate", layer] = torch.randperm(sizes.intermediate_size, generator=generator)
        groups = torch.randperm(sizes.num_key_value_heads, generator=generator)
        within = torch.stack([torch.randperm(group, generator=generator) for _ in groups])
        shuffle["kv_heads", layer] = groups
        shuffle["heads", layer] = (groups[:, None] * group + within).flatten()
    shuffled = wavescale.resize(twice, artifacts=Artifacts(shuffle))
    # The residual sum doubles what is written; halve the layers by role and compare with each layer taken twice.
    expected = wavescale.resize(twice, num_hidden_layers=2, gain="role")
    assert difference(expected, wavescale.resize(shuffled, num_hidden_layers=2, gain="role")) > 1e-3
    assert difference(expected, wavescale.resize(shuffled, num_hidden_layers=2, gain="role", order="similarity")) < 1e-5


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("options", [{"width": "norm"}, {"width": "merge"}, {"order": "matching"}], ids=str)
@pytest.mark.parametrize("gain", ["role", "orthonormal", "variance"])
def test_every_choice_makes_a_model_in_memory_and_the_same_on_disk(
    case: Case, options: dict[str, Any], gain: str, tmp_path: Path
) -> None:
    model = make(case)
    model.save_pretrained(tmp_path / "source")
    sizes: dict[str, Any] = {"scale_width": "1/2", "num_hidden_layers": 1, "gain": gain, **options}
    made = model_tensors(wavescale.resize(model, **sizes))
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", **sizes)
    loaded = model_tensors(type(model).from_pretrained(tmp_path / "out"))
    for name, value in made.items():
        assert torch.isfinite(value).all()
        torch.testing.assert_close(loaded[name], value)


def test_units_of_largest_weights_stay_with_their_neighbours_in_order() -> None:
    model = make(LLAMA)
    loud = [1, 4, 5, 8, 11, 13, 17, 18, 19, 21, 22, 23]
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight[loud] *= 10
    found = model_tensors(wavescale.resize(model, intermediate_size=12, width="norm"))
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(found[name], model_tensors(model)[name][:, loud])


def test_heads_that_stay_keep_their_own_keys() -> None:
    model = make(LLAMA)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.weight[4:] *= 10  # the second of two groups
            layer.self_attn.o_proj.weight[:, 12:] *= 10  # and its second head
    found = model_tensors(wavescale.resize(model, num_attention_heads=1, num_key_value_heads=1, width="norm"))
    for name, rows in (("q_proj", slice(12, 16)), ("k_proj", slice(4, 8)), ("v_proj", slice(4, 8))):
        stored = f"model.layers.0.self_attn.{name}.weight"
        assert torch.equal(found[stored], model_tensors(model)[stored][rows])


@pytest.mark.parametrize("width", ["norm", "merge"])
def test_groups_cannot_take_more_query_heads_than_they_have(width: str) -> None:
    with pytest.raises(OptionError, match=r"2 for each key-value head cannot become 4.*--heads\) 2 or fewer"):
        wavescale.plan_resize(make(LLAMA), num_key_value_heads=1, width=width)


@pytest.mark.parametrize("width", ["norm", "merge"])
def test_what_looks_at_weights_cannot_grow(width: str) -> None:
    with pytest.raises(OptionError, match=f"width '{width}' .* cannot make intermediate larger"):
        wavescale.plan_resize(make(LLAMA), intermediate_size=48, width=width)


def test_the_plan_says_so() -> None:
    model = make(LLAMA)
    text = str(wavescale.plan_resize(model, intermediate_size=12, order="similarity"))
    assert "intermediate reordered · intermediate 24→12" in text
    assert "24→12: similar units merged" in str(wavescale.plan_resize(model, intermediate_size=12, width="merge"))
    assert "reordered · intermediate 24→12: the first kept" in str(
        wavescale.plan_resize(model, intermediate_size=12, width="norm")
    )
    assert "order similarity has no effect" in str(
        wavescale.plan_resize(model, intermediate_size=48, order="similarity")
    )


def test_an_order_that_is_given_is_used() -> None:
    model = make(LLAMA)
    mine = torch.arange(24).flip(0)
    given = Artifacts({("intermediate", 0): mine})
    plan = wavescale.plan_resize(model, intermediate_size=12, order="similarity", artifacts=given)
    found = arrange(plan, Subject.in_memory(model), given)
    assert torch.equal(found.orders["intermediate", 0], mine)
    assert not torch.equal(found.orders["intermediate", 1], torch.arange(24))


def test_merging_keeps_variance_unless_told_otherwise() -> None:
    model = make(LLAMA)
    sizes: dict[str, Any] = {"intermediate_size": 12, "width": "merge"}
    name = "model.layers.0.mlp.up_proj.weight"
    found = {
        gain: model_tensors(wavescale.resize(model, gain=gain, **sizes))[name] for gain in (None, "variance", "role")
    }
    assert torch.equal(found[None], found["variance"])
    assert not torch.allclose(found[None], found["role"])


@pytest.mark.parametrize("options", [{"width": "merge"}, {"width": "norm"}, {"order": "similarity"}], ids=str)
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_layers_that_no_one_reads_are_not_looked_at(options: dict[str, Any], layers: int) -> None:
    model = make(LLAMA, num_hidden_layers=4)
    for depth in ("signal", "first") if layers < 4 else ("insert",):
        sizes: dict[str, Any] = {"num_hidden_layers": layers, "intermediate_size": 10, "depth": depth, **options}
        plan = wavescale.plan_resize(model, **sizes)
        found = arrange(plan, Subject.in_memory(model))
        assert found.named().keys() == plan.asks_for
        assert all(value.isfinite().all() for value in outputs(wavescale.resize(model, **sizes)).values())
