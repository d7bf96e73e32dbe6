from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

import wavescale
from tiny import CASES, Case, make
from wavescale.errors import CheckpointError, OptionError, UnknownArchitectureError
from wavescale.expressions import Read
from wavescale.plan import Plan

LLAMA_70B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "dtype": "bfloat16",
}


def test_a_70b_plan_has_the_right_totals() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, scale_width=2)
    assert plan.source_parameters == 70_553_706_496
    assert plan.nbytes == 2 * plan.parameters
    assert plan.keeps_function
    assert len(plan.tensors) == 80 * 9 + 3
    assert plan.target.head_dim == 128


@pytest.mark.parametrize("case", CASES[::5], ids=str)
@pytest.mark.parametrize("options", [{"scale_width": 2}, {"scale_width": 0.5, "scale_depth": 0.5, "preset": "paper"}])
def test_a_plan_is_a_value(case: Case, options: dict[str, Any]) -> None:
    model = make(case)
    plan = wavescale.plan_resize(model, **options)
    assert plan == wavescale.plan_resize(model, **options)
    assert plan != wavescale.plan_resize(model, **options, seed=1)
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.family = "other"  # type: ignore[misc]


def test_a_plan_prints_every_tensor_and_decision() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, num_hidden_layers=100)
    text = str(plan)
    for word in ("num_hidden_layers", "80", "100", "given", "lm_head.weight", "mlp.down_proj", "constant 0", "kept"):
        assert word in text
    every = plan.tensor_lines(every=True)
    assert len(every) == len(plan.tensors)
    assert "model.layers.99.mlp.down_proj.weight" in "\n".join(every)
    assert len(plan.tensor_lines()) < 40


def test_a_tensor_that_does_not_change_is_only_read() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, num_hidden_layers=81)
    embedding = next(tensor for tensor in plan.tensors if tensor.name == "model.embed_tokens.weight")
    assert isinstance(embedding.expression, Read)
    assert embedding.flops == 0


def test_levels_are_recorded() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, intermediate_size=14336, hidden_size=6144, wavelet="db2")
    text = json.dumps(json.loads(plan.to_json()))
    assert '"levels_up": 0, "levels_down": 1' in text
    assert '"levels_up": 6, "levels_down": 6' in text


def test_shrinking_says_that_the_result_must_be_trained() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, scale_depth=0.5)
    assert not plan.keeps_function
    assert any("train it before use" in remark for remark in plan.remarks)


def test_a_wavelet_without_effect_is_said() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, scale_width=2, wavelet="db2")
    assert any("no effect" in remark for remark in plan.remarks)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "Nope"}', '{"kind": "Read", "name": "x", "source_shape": [1]}']
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Plan.from_json(text)


def test_an_unknown_family_lists_those_that_are_known() -> None:
    with pytest.raises(UnknownArchitectureError) as caught:
        wavescale.plan_resize({"model_type": "mamba"}, scale_width=2)
    for word in ("'mamba'", "bert, roberta, gpt2", "CONTRIBUTING"):
        assert word in str(caught.value)


def test_a_config_without_a_family_asks_for_the_class() -> None:
    with pytest.raises(UnknownArchitectureError, match="--architecture BertForMaskedLM"):
        wavescale.plan_resize({"hidden_size": 64}, scale_width=2)
    plan = wavescale.plan_resize({"hidden_size": 64, "num_attention_heads": 4}, scale_width=2, architecture="BertModel")
    assert plan.config["model_type"] == "bert"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "best"}, "default, paper"),
        ({"width": "wide"}, "replicate, signal"),
        ({"depth": "deep"}, "insert, signal, stack"),
        ({"gain": "loud"}, "role, orthonormal"),
        ({"wavelet": "morl"}, "'morl'"),
        ({"dtype": "int4"}, "bfloat16"),
        ({"seed": -1}, "seed"),
    ],
)
def test_unknown_options_list_what_there_is(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        wavescale.plan_resize(LLAMA_70B, **options)
