from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import wavescale
from tiny import CASES, Case, difference, make
from wavescale.architectures import FAMILIES
from wavescale.memory import model_tensors

SIZES: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 8, "intermediate_size": 40}
BETWEEN: dict[str, Any] = {"hidden_size": 24, "num_attention_heads": 6, "intermediate_size": 25}
# The stream itself has another length; what heads make of it can be compared.
HEADED = [
    case for case in CASES if case.class_name != f"{FAMILIES[case.family].config_class.removesuffix('Config')}Model"
]


def sizes_of(model: Any, sizes: dict[str, Any]) -> dict[str, Any]:
    """The same with as many query heads for each key-value head as before, or as many heads as before."""
    kv_heads = getattr(model.config, "num_key_value_heads", None)
    if kv_heads is None:
        return sizes
    wanted, rest = divmod(sizes["num_attention_heads"] * kv_heads, model.config.num_attention_heads)
    if rest:
        return {**sizes, "num_attention_heads": model.config.num_attention_heads, "num_key_value_heads": kv_heads}
    return {**sizes, "num_key_value_heads": wanted}


@pytest.mark.parametrize("case", [case for case in HEADED if FAMILIES[case.family].placement == "pre"], ids=str)
@pytest.mark.parametrize("sizes", [SIZES, BETWEEN], ids=["twice", "between"])
def test_padding_keeps_the_function(case: Case, sizes: dict[str, Any]) -> None:
    model = make(case)
    wanted = sizes_of(model, sizes)
    assert wavescale.plan_resize(model, width="pad", **wanted).keeps_function
    assert difference(model, wavescale.resize(model, width="pad", **wanted)) < 1e-5


def test_the_size_of_new_numbers_is_a_choice_of_its_own() -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    plain, large = (
        model_tensors(wavescale.resize(model, intermediate_size=40, width="pad", details="zero", detail_size=size))
        for size in (1, 3)
    )
    up = "model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(large[up][24:], 3 * plain[up][24:])
    assert torch.equal(large[up][:24], plain[up][:24])


@pytest.mark.parametrize(("family", "name"), [("gpt2", "GPT2Model"), ("vit", "ViTModel"), ("llama", "LlamaModel")])
def test_verify_knows_what_padding_makes_of_the_stream_and_of_pooled_outputs(
    family: str, name: str, tmp_path: Path
) -> None:
    make(Case(family, name)).save_pretrained(tmp_path / "source")
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", hidden_size=32, num_hidden_layers=3, width="pad")
    found = wavescale.verify(tmp_path / "source", tmp_path / "out")
    assert found.kept
    assert max(stage.difference for stage in found.stages) < 1e-5


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForSequenceClassification", "RobertaForMaskedLM"])
def test_behind_post_norms_that_leave_no_mean_padding_keeps_the_function(name: str) -> None:
    # With weights of one and biases of zero a LayerNorm's output has a mean of zero, which is what padding holds.
    case = next(case for case in CASES if case.class_name == name)
    model = make(case)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)
            torch.nn.init.zeros_(module.bias)
    assert difference(model, wavescale.resize(model, width="pad", **SIZES)) < 1e-5
    assert "comes close to its function" in str(wavescale.plan_resize(model, width="pad", **SIZES))


def test_what_was_there_stays_what_is_new_reads_and_nothing_reads_it_yet() -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    found = wavescale.resize(model, width="pad", **sizes_of(model, SIZES))
    before, after = model_tensors(model), model_tensors(found)
    up, down = "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"
    torch.testing.assert_close(after[up][:24, :16], before[up])
    size = float(before[up].square().mean().sqrt())
    torch.testing.assert_close(after[up][24:].abs(), torch.full_like(after[up][24:], size))
    torch.testing.assert_close(after[up][:24, 16:].abs(), torch.full_like(after[up][:24, 16:], size))
    # Twice as many channels of which half are zero: the stream grows by √2, so that norms see what they saw.
    torch.testing.assert_close(after[down][:16, :24], before[down] * 2**0.5)
    assert not after[down][:, 24:].any()
    assert not after[down][16:].any()
    norm = "model.layers.1.input_layernorm.weight"
    torch.testing.assert_close(after[norm][:16], before[norm] / 2**0.5)
    value, output = "model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.o_proj.weight"
    torch.testing.assert_close(after[value][:8, :16], before[value])
    assert after[value][8:].all()
    assert not after[output][:, 16:].any()


def test_their_size_is_a_choice_and_a_plan_says_it_and_reads_it_back() -> None:
    model = make(Case("gpt2", "GPT2LMHeadModel"))
    plan = wavescale.plan_resize(model, hidden_size=32, width="pad", detail_size=0.5)
    assert "0.5·new numbers beside 2 padded axes" in str(plan)
    assert wavescale.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden_size": 8}, "'pad' pads, it cannot make hidden smaller"),
     ({"num_key_value_heads": 4}, "'pad' takes key-value heads whole")],
)  # fmt: skip
def test_what_padding_cannot_do_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(wavescale.WavescaleError, match=message):
        wavescale.plan_resize(make(Case("llama", "LlamaForCausalLM")), width="pad", **options)
