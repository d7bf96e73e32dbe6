from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

import wavescale
from tiny import CASES, MAIN_CASES, Case, inputs_for, make, outputs
from wavescale.analysis import Subject, similar_units
from wavescale.architectures import FAMILIES
from wavescale.calibration.layers import Opened
from wavescale.errors import CheckpointError, OptionError
from wavescale.memory import model_tensors

LLAMA, GPT2, BERT = Case("llama", "LlamaForCausalLM"), Case("gpt2", "GPT2LMHeadModel"), Case("bert", "BertModel")


def batches(model: PreTrainedModel, count: int = 4) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    found = []
    for _ in range(count):
        one = dict(inputs_for(model))
        if "pixel_values" in one:
            one["pixel_values"] = torch.randn((24, *one["pixel_values"].shape[1:]), generator=generator)
        if "bool_masked_pos" in one:
            one["bool_masked_pos"] = torch.rand((24, one["bool_masked_pos"].shape[1]), generator=generator) < 0.5
        if "input_ids" in one:
            ids = torch.randint(3, 31, (24, 12), generator=generator)
            one["input_ids"] = ids.view(-1, 2, 12) if one["input_ids"].ndim == 3 else ids
        found.append(one)
    return found


def distance(source: PreTrainedModel, target: PreTrainedModel) -> float:
    """The largest relative distance of outputs that have the same shape."""
    found, worst = outputs(target), 0.0
    for name, value in outputs(source).items():
        if found[name].shape == value.shape:
            worst = max(worst, float((found[name] - value).norm() / value.norm()))
        else:
            assert found[name].isfinite().all()
    return worst


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "sizes",
    [{"intermediate_size": 18}, {"hidden_size": 8}, {"num_hidden_layers": 1}, {"scale_width": 0.5, "scale_depth": 0.5}],
    ids=str,
)
def test_every_class_is_fitted_in_every_direction(case: Case, sizes: dict[str, Any]) -> None:
    if sizes != {"intermediate_size": 18} and ("num_key_value_heads", 1) in case.settings:
        sizes = {**sizes, "num_key_value_heads": 1}
    model = make(case)
    before = {name: value.clone() for name, value in model_tensors(model).items()}
    target = wavescale.resize(model, calibrate=batches(model), **sizes)
    fitted = distance(model, target)
    resampled = distance(model, wavescale.resize(model, calibrate="none", **sizes))
    assert fitted <= max(1.15 * resampled, 1e-6)
    for name, value in model_tensors(model).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_memory_and_disk_agree(case: Case, tmp_path: Path) -> None:
    model = make(case)
    model.save_pretrained(tmp_path / "source")
    options: dict[str, Any] = {"scale_width": 0.5, "num_hidden_layers": 1, "calibrate": batches(model)}
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", **options)
    expected = model_tensors(wavescale.resize(model, **options))
    for name, value in model_tensors(type(model).from_pretrained(tmp_path / "out")).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    assert not wavescale.verify(tmp_path / "source", tmp_path / "out").kept


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_units_that_are_copies_of_others_are_not_missed(case: Case) -> None:
    small = make(case)
    model = wavescale.resize(small, intermediate_size=48, details="zero")
    back = wavescale.resize(model, intermediate_size=24, calibrate=batches(small))
    assert distance(small, back) < 1e-3


# Not in GPT-2, whose head_dim follows the width, so that heads would change as well.
@pytest.mark.parametrize(
    "case", [case for case in MAIN_CASES if case.family not in ("bert", "roberta", "gpt2")], ids=str
)
def test_a_residual_stream_that_is_twice_as_wide_as_it_needs_is_halved(case: Case) -> None:
    small = make(case)
    model = wavescale.resize(small, hidden_size=32, num_attention_heads=4, num_key_value_heads=small_kv(small))
    back = wavescale.resize(
        model, hidden_size=16, num_attention_heads=4, num_key_value_heads=small_kv(small), calibrate=batches(small)
    )
    assert distance(small, back) < 0.02


def small_kv(model: PreTrainedModel) -> int | None:
    found: int | None = getattr(model.config, "num_key_value_heads", None)
    return found


def test_what_is_not_fitted_is_copied() -> None:
    model = make(LLAMA)
    target = model_tensors(wavescale.resize(model, intermediate_size=18, calibrate=batches(model)))
    for name, value in model_tensors(model).items():
        if "mlp" not in name and "o_proj" not in name:
            assert torch.equal(target[name], value), name


def test_a_model_in_half_precision_and_training_is_fitted_in_single() -> None:
    model = make(LLAMA, torch.bfloat16).train()
    target = wavescale.resize(model, intermediate_size=18, calibrate=batches(make(LLAMA)))
    assert target.dtype is torch.bfloat16
    assert target.training
    assert distance(model.float().eval(), target.float().eval()) < 0.3


def test_a_causal_language_model_needs_no_data() -> None:
    model = make(GPT2)
    plan = wavescale.plan_resize(model, intermediate_size=18)
    assert plan.choices.calibrate == "generated"
    assert any("text that the model writes itself" in remark for remark in plan.remarks)
    first, again = (model_tensors(wavescale.resize(model, intermediate_size=18)) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    assert distance(model, wavescale.resize(model, intermediate_size=18)) < 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_shrinks_is_calibrated_by_default(family: str) -> None:
    case = next(case for case in MAIN_CASES if case.family == family)
    model = make(case)
    # In memory there is no tokenizer by which an encoder could write.
    expected = "generated" if make(case).can_generate() else "random"
    assert wavescale.plan_resize(model, num_hidden_layers=1).choices.calibrate == expected
    others: tuple[dict[str, Any], ...] = ({"num_hidden_layers": 3}, {"hidden_size": 32, "num_hidden_layers": 1}, {})
    for sizes in others:
        assert wavescale.plan_resize(model, **sizes).choices.calibrate == "none"
    options: tuple[dict[str, Any], ...] = (
        {"width": "signal"},
        {"gain": "role"},
        {"wavelet": "db2"},
        {"depth": "drop"},
        {"layer_map": (1,)},
    )
    for option in options:
        assert wavescale.plan_resize(model, num_hidden_layers=1, **option).choices.calibrate == "none"
    for preset in ("paper", "weight-selection"):
        assert wavescale.plan_resize(model, num_hidden_layers=1, preset=preset).choices.calibrate == "none"


def test_large_models_are_calibrated_only_when_asked() -> None:
    config = {"model_type": "llama", "hidden_size": 2048, "num_attention_heads": 16, "num_hidden_layers": 32}
    plan = wavescale.plan_resize(config, num_hidden_layers=16)
    assert plan.choices.calibrate == "none"
    assert re.search(r"not calibrated.*: for that a source of [\d,]{13} parameters.*give calibrate", plan.remarks[-1])
    for asked in ("random", "none"):
        plan = wavescale.plan_resize(config, num_hidden_layers=16, calibrate=asked)
        assert plan.choices.calibrate == asked
        assert not [remark for remark in plan.remarks if "not calibrated" in remark]


def test_a_plan_says_why_what_shrinks_is_not_calibrated() -> None:
    sizes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"num_hidden_layers": 1, "intermediate_size": 72}, "but intermediate grows.*Shrink first"),
        ({"hidden_size": 8, "num_attention_heads": 4}, "head_dim would change from 4 to 2"),
    )
    for asked, message in sizes:
        assert re.search(f"not calibrated.*: .*{message}", wavescale.plan_resize(make(GPT2), **asked).remarks[-1])
    others: tuple[dict[str, Any], ...] = ({"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"depth": "drop"})
    for asked in others:
        remarks = wavescale.plan_resize(make(GPT2), **{"num_hidden_layers": 1, **asked}).remarks
        assert not [remark for remark in remarks if "not calibrated" in remark]


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        (GPT2, {"num_hidden_layers": 3}, "fits smaller models, but layers grows from 2 to 3"),
        (GPT2, {}, "nothing becomes smaller"),
        (GPT2, {"hidden_size": 8, "num_attention_heads": 4}, "head_dim would change from 4 to 2.*Give 2 heads"),
        (LLAMA, {"num_key_value_heads": 1}, "query heads per key-value head would grow from 2 to 4"),
        (GPT2, {"layer_map": (1, 0), "intermediate_size": 18}, "layer_map .* ascend"),
        (GPT2, {"intermediate_size": 18, "width": "signal"}, "width 'signal' resamples"),
        (GPT2, {"num_hidden_layers": 1, "depth": "signal"}, "depth 'signal' resamples"),
    ],
    ids=str,
)
def test_what_cannot_be_calibrated_is_refused(case: Case, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        wavescale.plan_resize(make(case), calibrate="random", **options)


def test_an_encoder_writes_no_text() -> None:
    with pytest.raises(OptionError, match="BertModel writes no text"):
        wavescale.plan_resize(make(BERT), num_hidden_layers=1, calibrate="generated")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "calibrate: holds no batch, expected a list"),
        (5, "calibrate: found int, expected a path, or a list"),
        ({"input_ids": torch.ones((2, 4), dtype=torch.int64)}, "found dict.*Put a single batch into a list"),
        ([torch.ones((2, 4))], "batch 0 is Tensor, expected .* a mapping"),
        ([{"input_ids": [[1, 2]]}], "input_ids of batch 0 is list, expected a tensor.*return_tensors"),
    ],
    ids=str,
)
def test_what_is_no_list_of_batches_is_refused(given: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        wavescale.resize(make(BERT), num_hidden_layers=1, calibrate=given)


@pytest.mark.parametrize("calibrate", ["random", "generated"])
def test_a_source_that_computes_nothing_finite_is_refused(calibrate: str) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=8)).eval()
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.fill_(3e38)
    with pytest.raises(CheckpointError, match="computes NaN or infinity"):
        wavescale.resize(model, num_hidden_layers=1, calibrate=calibrate)


def test_layers_are_the_ones_that_were_named() -> None:
    model = make(LLAMA, num_hidden_layers=4)
    target = wavescale.resize(model, layer_map=(0, 3), calibrate=batches(model))
    expected = model_tensors(model)
    for name in ("self_attn.q_proj.weight", "mlp.up_proj.weight", "input_layernorm.weight"):
        found = model_tensors(target)[f"model.layers.1.{name}"]
        assert torch.equal(found, expected[f"model.layers.3.{name}"]), name


def test_states_in_directions_that_are_not_stored_are_not_compared(tmp_path: Path) -> None:
    for name, case in (("headless", Case("llama", "LlamaModel")), ("head", LLAMA)):
        model = make(case)
        model.save_pretrained(tmp_path / name)
        out = tmp_path / f"{name} out"
        wavescale.resize_checkpoint(tmp_path / name, out, hidden_size=8, calibrate=batches(model))
        found = wavescale.verify(tmp_path / name, out)
        assert [stage.name for stage in found.stages] == ([] if name == "headless" else ["logits"])
        assert not found.kept
        assert ("outputs not compared" in found.verdict) is (name == "headless")


@pytest.mark.parametrize("batch", [{"input_ids": torch.full((2, 8), 99)}, {"foo": torch.ones(2, 8)}], ids=str)
def test_a_batch_that_the_model_does_not_take_is_named(batch: dict[str, torch.Tensor]) -> None:
    model = make(GPT2)
    with pytest.raises(OptionError, match=rf"cannot be run on batch 1 \({next(iter(batch))}\)"):
        wavescale.resize(model, num_hidden_layers=1, calibrate=[*batches(model, 1), batch])


@pytest.mark.parametrize(
    "case", [Case("gpt2", "GPT2ForSequenceClassification"), Case("llama", "LlamaForCausalLM")], ids=str
)
def test_nothing_is_run_beyond_what_is_fitted(case: Case) -> None:
    """Neither logits over a vocabulary, nor what a classifier makes of padding, are of any use."""
    model = make(case)
    model.config.pad_token_id = None

    def refuse(*_: Any) -> None:
        raise AssertionError("the head was run")

    head = model.lm_head if hasattr(model, "lm_head") else model.score
    handle = head.register_forward_hook(refuse)
    found = wavescale.resize(model, hidden_size=8, calibrate="random")
    handle.remove()
    assert all(value.isfinite().all() for value in model_tensors(found).values())


def test_layers_of_mixed_attention_get_their_own_masks() -> None:
    model = make(
        Case("qwen2", "Qwen2ForCausalLM"), layer_types=["full_attention", "sliding_attention"], use_sliding_window=True,
        sliding_window=3,
    )  # fmt: skip
    ids = torch.randint(3, 31, (8, 12), generator=torch.Generator().manual_seed(0))
    opened = Opened(model, [{"input_ids": ids}])
    stream = opened.enter()
    for layer in range(2):
        stream, _ = opened.run(layer, stream)
    with torch.no_grad():
        wanted = model.model(ids).last_hidden_state
        torch.testing.assert_close(model.model.norm(stream.batches[0]), wanted)


def test_a_layer_that_reads_in_chunks_is_fitted_like_one_that_does_not() -> None:
    whole, chunked = make(BERT), make(BERT, chunk_size_feed_forward=4)
    given = batches(whole)
    both: tuple[dict[str, Any], ...] = ({"hidden_size": 8}, {"intermediate_size": 12})
    for sizes in both:
        found = (model_tensors(wavescale.resize(model, calibrate=given, **sizes)) for model in (whole, chunked))
        for (name, one), other in zip((first := next(found)).items(), next(found).values(), strict=True):
            assert first[name] is one
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)


def test_the_model_that_is_given_stays_where_it_is() -> None:
    model = make(GPT2)
    run = Subject.in_memory(model).load
    assert run("cpu") is model
    assert run("meta") is not model
    assert model.device.type == "cpu"


def test_attention_for_half_types_alone_is_not_asked_of_the_copy_in_single() -> None:
    model = make(LLAMA, torch.bfloat16)
    expected = outputs(make(LLAMA, torch.bfloat16).float())
    model.config._attn_implementation = "flash_attention_2"
    for name, value in outputs(Subject.in_memory(model).load("cpu")).items():
        torch.testing.assert_close(value, expected[name])
    assert model.config._attn_implementation == "flash_attention_2"


def test_what_an_analysis_found_takes_the_place_of_calibration_by_default() -> None:
    model = make(GPT2)
    found = wavescale.analyse(model, [similar_units])
    target = wavescale.resize(model, intermediate_size=12, artifacts=found)
    wanted = wavescale.resize(model, intermediate_size=12, artifacts=found, calibrate="none")
    for name, value in model_tensors(target).items():
        assert torch.equal(value, model_tensors(wanted)[name]), name
    wavescale.resize(model, num_hidden_layers=1, artifacts=found)
    with pytest.raises(OptionError, match="artifacts with orders have no effect"):
        wavescale.resize(model, intermediate_size=12, artifacts=found, calibrate="random")


@pytest.mark.parametrize("name", ["transformer.h.0.mlp.c_proj.weight", "transformer.wpe.weight"])
def test_a_finished_tensor_stays_as_it_is_beside_calibration(name: str) -> None:
    model = make(GPT2)
    value = torch.full(tuple(model_tensors(model)[name].shape), 0.5)
    given = wavescale.Artifacts(tensors={name: value})
    target = wavescale.resize(model, num_hidden_layers=1, artifacts=given, calibrate="random")
    assert torch.equal(model_tensors(target)[name], value)
