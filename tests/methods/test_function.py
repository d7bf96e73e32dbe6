from __future__ import annotations

from typing import Any

import pytest
import torch

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, make
from wavescale.architectures import FAMILIES
from wavescale.memory import model_tensors

EXACT = 1e-5
PRE_LN = [case for case in CASES if FAMILIES[case.family].placement == "pre"]
POST_LN_MAIN = [case for case in MAIN_CASES if FAMILIES[case.family].placement == "post"]


# The default parts twins by details that leave the function unchanged, so these tests test them, too.
def grown(case: Case, **options: Any) -> tuple[Any, Any]:
    model = make(case)
    return model, wavescale.resize(model, **options)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_growing_twice_in_width_keeps_the_function(case: Case) -> None:
    assert difference(*grown(case, hidden_size=32)) < EXACT


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inserting_layers_keeps_the_function(case: Case) -> None:
    assert difference(*grown(case, num_hidden_layers=5)) < EXACT


@pytest.mark.parametrize("case", CASES, ids=str)
def test_width_and_depth_together_keep_the_function(case: Case) -> None:
    assert difference(*grown(case, hidden_size=48, num_hidden_layers=3)) < EXACT


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("units", [25, 37, 48])
def test_any_number_of_units_keeps_the_function(case: Case, units: int) -> None:
    assert difference(*grown(case, intermediate_size=units)) < EXACT


@pytest.mark.parametrize("case", [c for c in PRE_LN if not c.class_name.endswith("Model")], ids=str)
@pytest.mark.parametrize("hidden", [24, 40])
def test_pre_ln_keeps_the_function_between_multiples(case: Case, hidden: int) -> None:
    heads = {} if FAMILIES[case.family].fields.get("num_key_value_heads") is None else {"num_attention_heads": 4}
    kv_heads = {"num_key_value_heads": dict(case.settings).get("num_key_value_heads", 2)} if heads else {}
    assert difference(*grown(case, hidden_size=hidden, **heads, **kv_heads)) < EXACT


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "vit", "deit"])
def test_a_prime_width_keeps_the_function(family: str) -> None:
    case = Case(family, FAMILIES[family].default_class)
    kv_heads: dict[str, Any] = {} if family in ("vit", "deit") else {"num_key_value_heads": 2}
    model = make(case, hidden_size=48, intermediate_size=40)
    found = wavescale.resize(model, hidden_size=67, num_attention_heads=4, intermediate_size=59, **kv_heads)
    assert difference(model, found) < EXACT


@pytest.mark.parametrize(
    ("source", "target"), [((9, 3), (12, 4)), ((9, 3), (9, 9)), ((4, 2), (10, 5)), ((4, 1), (8, 4)), ((6, 2), (12, 2))]
)
def test_groups_move_whole_with_their_query_heads(source: tuple[int, int], target: tuple[int, int]) -> None:
    case = Case("qwen2", "Qwen2ForCausalLM")
    model = make(case, num_attention_heads=source[0], num_key_value_heads=source[1])
    plan = wavescale.plan_resize(model, num_attention_heads=target[0], num_key_value_heads=target[1])
    assert plan.keeps_function
    found = wavescale.resize(model, num_attention_heads=target[0], num_key_value_heads=target[1])
    assert difference(model, found) < EXACT


def test_a_plan_says_when_a_group_has_no_room_for_its_heads() -> None:
    model = make(Case("qwen2", "Qwen2ForCausalLM"), num_attention_heads=12, num_key_value_heads=3)
    plan = wavescale.plan_resize(model, num_key_value_heads=4)
    assert not plan.keeps_function
    assert any("no room" in remark for remark in plan.remarks)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize(("hidden", "heads"), [(32, 4), (48, 4), (32, 2)])
def test_head_dim_grows_where_the_model_forces_it(family: str, hidden: int, heads: int) -> None:
    two_heads: dict[str, Any] = {FAMILIES[family].fields["num_attention_heads"]: 2}
    model = make(Case(family, FAMILIES[family].default_class), **two_heads)
    assert difference(model, wavescale.resize(model, hidden_size=hidden, num_attention_heads=heads)) < EXACT


@pytest.mark.parametrize("case", POST_LN_MAIN, ids=str)
def test_post_ln_between_multiples_is_said_to_be_close_only(case: Case) -> None:
    model = make(case)
    plan = wavescale.plan_resize(model, hidden_size=24)
    assert not plan.keeps_function
    assert any("whole multiples" in remark for remark in plan.remarks)
    assert EXACT < difference(model, wavescale.resize(model, hidden_size=24)) < 1


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("gain", ["role", "orthonormal"])
def test_there_and_back_with_haar_gives_the_source(case: Case, gain: str) -> None:
    model = make(case)
    signal: dict[str, Any] = {"depth": "signal", "gain": gain}
    there = wavescale.resize(model, scale_width=2, scale_depth=2, **signal)
    back = wavescale.resize(there, scale_width=0.5, scale_depth=0.5, **signal)
    assert difference(model, back) < EXACT


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("gain", ["role", "orthonormal"])
def test_replication_at_multiples_is_haar_synthesis(case: Case, gain: str) -> None:
    model = make(case)
    copied = model_tensors(wavescale.resize(model, scale_width=2, width="replicate", gain=gain, details="zero"))
    synthesised = model_tensors(wavescale.resize(model, scale_width=2, width="signal", gain=gain))
    for name, tensor in copied.items():
        torch.testing.assert_close(synthesised[name], tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_forgetting_the_gain_shows(case: Case) -> None:
    # The tests above can fail: with orthonormal gains everywhere the function is lost.
    assert difference(*grown(case, hidden_size=32, gain="orthonormal")) > 1e-3


@pytest.mark.parametrize(
    "case", [Case("gpt2", "GPT2LMHeadModel", (("scale_attn_by_inverse_layer_idx", True),))], ids=str
)
def test_attention_scaled_by_the_layers_number_is_made_up_for(case: Case) -> None:
    assert difference(*grown(case, num_hidden_layers=6)) < EXACT


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_lose_no_more_than_their_rounding(dtype: torch.dtype) -> None:
    model = make(Case("llama", "LlamaForCausalLM"), dtype=dtype)
    found = wavescale.resize(model, hidden_size=32, num_hidden_layers=3)
    assert found.dtype == dtype
    assert difference(model, found) < {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float64: 1e-6}[dtype]
