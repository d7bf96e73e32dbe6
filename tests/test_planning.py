from __future__ import annotations

from typing import Any

import pytest

import wavescale
from tiny import LLAMA_70B
from wavescale.errors import OptionError, UnknownArchitectureError
from wavescale.expressions import Read


def test_a_tensor_that_does_not_change_is_only_read() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, num_hidden_layers=81)
    embedding = next(tensor for tensor in plan.tensors if tensor.name == "model.embed_tokens.weight")
    assert isinstance(embedding.expression, Read)
    assert embedding.flops == 0


def test_shrinking_says_that_the_result_must_be_trained() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, scale_depth=0.5)
    assert not plan.keeps_function
    assert any("train it before use" in remark for remark in plan.remarks)


def test_a_wavelet_without_effect_is_said() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, scale_width=2, wavelet="db2")
    assert any("no effect" in remark for remark in plan.remarks)


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({"width": "dct", "depth": "dct", "scale_width": 0.5}, True),
        ({"depth": "signal", "scale_depth": 0.5}, True),
        ({"width": "signal", "scale_width": 0.5}, False),
        ({"width": "norm", "intermediate_size": 14336}, False),
        ({"width": "merge", "intermediate_size": 14336}, False),
    ],
    ids=str,
)
def test_a_gain_without_effect_is_said(options: dict[str, Any], idle: bool) -> None:
    plan = wavescale.plan_resize(LLAMA_70B, gain="variance", **options)
    assert any("gain variance has no effect" in remark for remark in plan.remarks) == idle


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
