"""The presets of other authors against their formulas written out longhand, tensor by tensor."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, make
from wavescale.architectures import FAMILIES
from wavescale.errors import OptionError
from wavescale.memory import model_tensors
from wavescale.plan import Plan
from wavescale.spec import read_spec

EXACT = 1e-5
QWEN2 = Case("qwen2", "Qwen2ForCausalLM")

# Weight Selection ---------------------------------------------------------------------------------


def select(weight: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    for axis, length in enumerate(shape):
        if weight.shape[axis] % length == 0:
            index = torch.arange(length) * (weight.shape[axis] // length)
        else:
            index = torch.round(torch.linspace(0, weight.shape[axis] - 1, length)).long()
        weight = weight.index_select(axis, index)
    return weight


def fused(name: str) -> bool:
    """Whether query, key and value lie end to end on the last axis of a tensor."""
    return "attn.c_attn." in name


def shrunk(case: Case, **sizes: Any) -> tuple[Any, Any]:
    if "num_key_value_heads" not in FAMILIES[case.family].fields:
        sizes.pop("num_key_value_heads", None)
    model = make(case, num_hidden_layers=5)
    return model, wavescale.resize(model, preset="weight-selection", **sizes)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 12},
        {"hidden_size": 12, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 17},
    ],
    ids=["half", "between"],
)
def test_weight_selection_keeps_evenly_spaced_weights_of_the_first_layers(case: Case, sizes: dict[str, int]) -> None:
    source, target = (model_tensors(model) for model in shrunk(case, num_hidden_layers=3, **sizes))
    assert set(target) < set(source)
    for name, found in target.items():
        if fused(name):
            parts = [select(part, (*found.shape[:-1], found.shape[-1] // 3)) for part in source[name].chunk(3, -1)]
            assert torch.equal(found, torch.cat(parts, -1)), name
        else:
            assert torch.equal(found, select(source[name], tuple(found.shape))), name


def test_weight_selection_takes_more_heads_of_a_smaller_stored_axis() -> None:
    # The heads are more and the channels fewer: only the stored axis counts.
    source, target = shrunk(Case("bert", "BertModel"), hidden_size=8, num_attention_heads=8)
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model_tensors(target)[name], select(model_tensors(source)[name], (8, 8)))


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_weight_selection_says_what_it_changes(case: Case) -> None:
    plan = wavescale.plan_resize(make(case), scale_width=0.5, scale_depth=0.5, preset="weight-selection")
    assert not plan.keeps_function
    text = str(plan)
    for word in (
        "hidden 16 to 8",
        "heads as flat channels",
        "layers 2 to 1 by copies of 0",
        "the first of every 2 kept",
    ):
        assert word in text
    assert plan.flops == 0
    assert Plan.from_json(plan.to_json()) == plan


def test_by_role_a_selection_makes_up_for_the_lost_part_of_each_sum() -> None:
    model = make(Case("llama", "LlamaForCausalLM", (("tie_word_embeddings", True),)))
    plain, scaled = (
        model_tensors(wavescale.resize(model, scale_width=0.5, width="select", gain=gain, details="zero"))
        for gain in ("orthonormal", "role")
    )
    for name in ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"):
        torch.testing.assert_close(scaled[name], 2 * plain[name])
    torch.testing.assert_close(scaled["model.norm.weight"], 2 * plain["model.norm.weight"])
    assert torch.equal(scaled["model.embed_tokens.weight"], plain["model.embed_tokens.weight"])


def test_heads_are_selected_whole_outside_the_preset() -> None:
    model = make(Case("bert", "BertModel"))
    name = "encoder.layer.0.attention.self.query.bias"
    source = model_tensors(model)[name].view(4, 4)
    found = model_tensors(wavescale.resize(model, num_attention_heads=2, hidden_size=8, width="select"))[name]
    assert torch.equal(found.view(2, 4), source[[0, 2]])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"hidden_size": 32}, "hidden larger (16 to 32).*width 'replicate'"),
        ({"intermediate_size": 25}, "intermediate larger (24 to 25)"),
        ({"num_attention_heads": 8}, "heads × head_dim larger (16 to 32)"),
        ({"num_hidden_layers": 3}, "depth 'first'.*2 layers 3.*'insert'"),
    ],
)
def test_weight_selection_cannot_grow(sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words.replace("(", r"\(").replace(")", r"\)")):
        wavescale.plan_resize(make(QWEN2), preset="weight-selection", **sizes)


# HyperCloning -------------------------------------------------------------------------------------


def clone(name: str, weight: torch.Tensor, shape: tuple[int, ...], family: str) -> torch.Tensor:
    """W.repeat(n_out, n_in) / n_in; embeddings, norms and biases are repeated only."""
    copies = [after // before for before, after in zip(weight.shape, shape, strict=True)]
    tiled = weight.repeat(*copies)
    if weight.ndim == 1 or "embed" in name or ".wte." in name or ".wpe." in name or name.startswith(("wte.", "wpe.")):
        return tiled
    # GPT-2 stores the maps of its layers as (in, out), everything else is (out, in).
    reads = 0 if family == "gpt2" and (name.startswith("h.") or ".h." in name) else 1
    return tiled / copies[reads]


TIED_NORMS = ("cls.predictions.transform.LayerNorm.", "lm_head.layer_norm.", "ln_f.", "model.norm.")


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("times", [2, 3])
def test_hypercloning_tiles_every_tensor_and_divides_what_reads(case: Case, times: int) -> None:
    model = make(case)
    target = model_tensors(wavescale.resize(model, scale_width=times, preset="hypercloning"))
    tied = read_spec(model.config.to_dict(), case.class_name).tied
    for name, weight in model_tensors(model).items():
        found = target[name]
        if fused(name):
            shape = (*found.shape[:-1], found.shape[-1] // 3)
            expected = torch.cat([clone(name, part, shape, case.family) for part in weight.chunk(3, -1)], -1)
        else:
            expected = clone(name, weight, tuple(found.shape), case.family)
        if tied and any(norm in name for norm in TIED_NORMS):
            # The head is the embedding and cannot be divided, so the norm before it is.
            expected = expected / times
        elif tied and name == "multiple_choice_head.summary.weight":
            expected = expected * times  # reads the same norm, which is divided already
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("times", [2, 3])
def test_hypercloning_keeps_the_function(case: Case, times: int) -> None:
    model = make(case)
    plan = wavescale.plan_resize(model, scale_width=times, preset="hypercloning")
    assert plan.keeps_function
    assert plan.choices.details == "zero"
    assert difference(model, wavescale.resize(model, scale_width=times, preset="hypercloning"), tiled=True) < EXACT


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_tiles_with_details_and_new_layers_keep_the_function(case: Case) -> None:
    model = make(case)
    found = wavescale.resize(model, scale_width=2, width="tile", num_hidden_layers=3)
    assert difference(model, found, tiled=True) < EXACT
    plain = model_tensors(wavescale.resize(model, scale_width=2, preset="hypercloning", num_hidden_layers=3))
    assert any(not torch.equal(value, plain[name]) for name, value in model_tensors(found).items())


@pytest.mark.parametrize(
    ("source", "target"), [((4, 2), (8, 2)), ((4, 2), (4, 4)), ((4, 2), (12, 6)), ((4, 1), (8, 4)), ((6, 2), (12, 2))]
)
def test_tiled_groups_keep_their_query_heads(source: tuple[int, int], target: tuple[int, int]) -> None:
    model = make(QWEN2, num_attention_heads=source[0], num_key_value_heads=source[1])
    options: dict[str, Any] = {
        "num_attention_heads": target[0],
        "num_key_value_heads": target[1],
        "preset": "hypercloning",
    }
    assert wavescale.plan_resize(model, **options).keeps_function
    assert difference(model, wavescale.resize(model, **options)) < EXACT


@pytest.mark.parametrize("family", ["bert", "gpt2", "roberta"])
@pytest.mark.parametrize(("hidden", "heads"), [(32, 2), (48, 2), (64, 4)])
def test_tiled_channels_of_a_head_keep_the_function(family: str, hidden: int, heads: int) -> None:
    two_heads: dict[str, Any] = {FAMILIES[family].fields["num_attention_heads"]: 2}
    model = make(Case(family, FAMILIES[family].default_class), **two_heads)
    options: dict[str, Any] = {"hidden_size": hidden, "num_attention_heads": heads, "preset": "hypercloning"}
    assert wavescale.plan_resize(model, **options).keeps_function
    assert difference(model, wavescale.resize(model, **options), tiled=True) < EXACT


def test_a_plan_says_that_copies_are_tiled() -> None:
    plan = wavescale.plan_resize(make(QWEN2), scale_width=2, preset="hypercloning")
    text = str(plan)
    for word in ("2 copies end to end × 0.5", "copies ÷ count end to end in whole groups", "function    kept"):
        assert word in text
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}, "hidden 24 from 16.*16 and 32"),
        ({"intermediate_size": 60}, "intermediate 60 from 24.*48 and 72.*width 'replicate'"),
        ({"intermediate_size": 12}, "intermediate 12 from 24.*24 and 48.*'signal' to shrink"),
        ({"num_attention_heads": 6}, "heads 6 from 4.*4 and 8"),
        ({"num_key_value_heads": 1}, "kv_heads 1 from 2.*2 and 4"),
    ],
)
def test_hypercloning_refuses_what_is_no_whole_multiple(sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        wavescale.plan_resize(make(QWEN2), preset="hypercloning", **sizes)
