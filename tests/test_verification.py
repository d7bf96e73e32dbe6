from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import wavescale
from tiny import CASES, CONFIGS, MAIN_CASES, Case, make
from wavescale.architectures import FAMILIES
from wavescale.artifacts import Artifacts
from wavescale.cli import run
from wavescale.demo import packaged_minilm
from wavescale.errors import CheckpointError, OptionError
from wavescale.inputs import load_tokenizer
from wavescale.memory import load_model
from wavescale.rounding import HALF_TOLERANCE
from words import text, words_tokenizer


def resized(case: Case, folder: Path, **options: Any) -> tuple[Path, Path]:
    make(case).save_pretrained(folder / "source")
    wavescale.resize_checkpoint(folder / "source", folder / "out", **options)
    return folder / "source", folder / "out"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_exact_growth_is_kept_at_every_stage(case: Case, tmp_path: Path) -> None:
    found = wavescale.verify(*resized(case, tmp_path, hidden_size=32, num_hidden_layers=5))
    assert found.kept
    assert found.first_departure is None
    assert "function kept" in found.verdict
    assert {stage.name for stage in found.stages} >= {"embedding", "layer 2", "layer 4"}
    assert max(stage.difference for stage in found.stages) < 1e-5


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_growth_between_multiples_is_kept_before_post_ln(case: Case, tmp_path: Path) -> None:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2} if "num_key" in str(make(case).config) else {}
    found = wavescale.verify(*resized(case, tmp_path, hidden_size=24, **heads))
    assert found.kept == (case.family not in ("bert", "roberta"))


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("model.layers.0.mlp.up_proj.weight", "layer 0"),
        ("model.layers.1.self_attn.o_proj.weight", "layer 1"),
        ("model.norm.weight", "final norm"),
        ("lm_head.weight", "logits"),
    ],
)
def test_the_stage_that_departs_first_is_named(name: str, stage: str, tmp_path: Path) -> None:
    source, out = resized(Case("llama", "LlamaForCausalLM"), tmp_path, hidden_size=32)
    tensors = load_file(out / "model.safetensors")
    tensors[name] = tensors[name] + 0.1 * torch.rand(tensors[name].shape)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    found = wavescale.verify(source, out)
    assert found.first_departure is not None
    assert found.first_departure.name == stage
    assert f"first to depart: {stage}," in found.verdict


def altered(folder: Path, name: str, factor: float) -> None:
    """Multiply a tensor of a checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name] * factor
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize(
    ("options", "stage", "lines"),
    [
        (("--layer-map", "0,2,1"), "layer 1", ["layer 1 (source: layer 2)", "layer 2 (source: layer 1)"]),
        (("--layer-map", "0,0,1,2"), "layer 1", ["layer 1 (source: layer 0)", "layer 3 (source: layer 2)"]),
        (("--layers", "2", "--depth", "first"), "end of layers", ["layer 1", "end of layers (source: layer 2)"]),
        (("--layers", "2", "--depth", "drop"), "layer 1", ["layer 0", "layer 1 (source: layer 2)"]),
        (("--layers", "6", "--depth", "stack"), "layer 3", ["layer 2", "layer 3 (source: layer 0)"]),
        (("--layers", "6", "--depth", "signal"), "layer 1", ["layer 1 (source: layer 0)", "layer 5 (source: layer 2)"]),
        (("--intermediate-size", "12"), "layer 0", ["layer 0", "layer 2"]),
        (("--scale-width", "1/2", "--calibrate", "none"), None, ["layer 0", "layer 2"]),
        (("--scale-width", "2", "--layers", "5"), "", ["layer 1 (source: layer 0)", "layer 4 (source: layer 2)"]),
    ],
    ids=str,
)  # fmt: skip
def test_the_command_says_where_each_choice_departs(
    case: Case, options: tuple[str, ...], stage: str | None, lines: list[str], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    layers: dict[str, Any] = {FAMILIES[case.family].fields["num_hidden_layers"]: 3}
    make(case, **layers).save_pretrained(tmp_path / "source")
    source, out = str(tmp_path / "source"), str(tmp_path / "out")
    assert run(["resize", source, out, "--quiet", *options]) == 0
    capfd.readouterr()
    assert run(["verify", source, out]) == 0
    printed, _ = capfd.readouterr()
    *stages, verdict = printed.splitlines()
    # Names without their differences.
    assert set(lines) <= {re.sub(r"\s+[\d.]+e[+-]\d+\s*", " ", line).strip() for line in stages}
    if stage == "":
        assert verdict.startswith("function kept: max relative difference")
    elif stage is not None:
        assert f"; first to depart: {stage}, by " in verdict
    else:  # a narrower embedding cannot hold a post-LN stream; before post-LN the stream is averaged exactly
        first = "embedding" if FAMILIES[case.family].placement == "post" else "layer 0"
        assert f"; first to depart: {first}, by " in verdict


def test_every_output_counts(tmp_path: Path) -> None:
    source, out = resized(Case("bert", "BertForPreTraining"), tmp_path, hidden_size=32)
    assert wavescale.verify(source, out).kept
    altered(out, "cls.predictions.transform.dense.weight", 1.5)
    found = wavescale.verify(source, out)
    assert found.stages[-1].difference < 1e-5  # the next-sentence logits
    assert not found.kept
    assert "first to depart: prediction logits, " in found.verdict
    assert found.verdict.endswith("; the plan keeps it, but output changed since (another digest)")


def test_a_model_without_a_head_puts_out_its_hidden_states(tmp_path: Path) -> None:
    source, out = resized(Case("bert", "BertModel"), tmp_path, hidden_size=32)
    for folder in (source, out):
        altered(folder, "pooler.dense.weight", 0.0)
    assert wavescale.verify(source, out).kept
    altered(out, "encoder.layer.1.output.LayerNorm.weight", 1.5)
    found = wavescale.verify(source, out)
    assert found.stages[-1].difference == 0.0  # the pooler
    assert "first to depart: layer 1, " in found.verdict


def test_outputs_that_are_zero_agree(tmp_path: Path) -> None:
    source, out = resized(Case("gpt2", "GPT2ForSequenceClassification"), tmp_path, hidden_size=32)
    for folder in (source, out):
        altered(folder, "score.weight", 0.0)
    assert wavescale.verify(source, out).verdict == "function kept: max relative difference 0.0e+00"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_types_are_judged_by_what_they_do_to_the_source(dtype: str, tmp_path: Path) -> None:
    source, out = resized(Case("qwen3", "Qwen3ForCausalLM"), tmp_path, hidden_size=32, dtype=dtype)
    found = wavescale.verify(source, out)
    assert found.rounding is not None
    assert found.rounding[0] == dtype
    assert 0 < found.rounding[1] < 0.2
    assert found.tolerance == max(1e-4, HALF_TOLERANCE * found.rounding[1])
    assert found.kept
    assert f"{dtype} alone moves the source by" in found.verdict
    altered(out, "model.norm.weight", 1 + 12 * found.rounding[1])
    assert not wavescale.verify(source, out).kept
    # A half-type source written in float32 has nothing to round.
    make(Case("qwen3", "Qwen3ForCausalLM"), dtype=getattr(torch, dtype)).save_pretrained(tmp_path / "half")
    wavescale.resize_checkpoint(tmp_path / "half", tmp_path / "wide", hidden_size=32, dtype="float32")
    assert wavescale.verify(tmp_path / "half", tmp_path / "wide").output_difference < 1e-5


def test_another_source_is_refused(tmp_path: Path) -> None:
    _, out = resized(Case("gpt2", "GPT2LMHeadModel"), tmp_path, hidden_size=32)
    make(Case("gpt2", "GPT2LMHeadModel"), n_layer=3).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"is not what .* was made from: .*num_hidden_layers 3.* expected .* 2"):
        wavescale.verify(tmp_path / "other", out)


def test_a_source_of_another_family_is_refused(tmp_path: Path) -> None:
    _, out = resized(Case("gpt2", "GPT2LMHeadModel"), tmp_path, hidden_size=32)
    make(Case("llama", "LlamaForCausalLM")).save_pretrained(tmp_path / "other")
    with pytest.raises(
        CheckpointError, match=r"other: is not what .*out was made from: it is a llama, expected a gpt2"
    ):
        wavescale.verify(tmp_path / "other", out)


def test_a_source_whose_config_names_no_family_is_verified(tmp_path: Path) -> None:
    make(Case("bert", "BertForMaskedLM")).save_pretrained(tmp_path / "source")
    config = json.loads((tmp_path / "source" / "config.json").read_text())
    del config["model_type"], config["architectures"]
    (tmp_path / "source" / "config.json").write_text(json.dumps(config))
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", hidden_size=32, architecture="BertForMaskedLM")
    assert wavescale.verify(tmp_path / "source", tmp_path / "out").kept


def test_digests_say_what_has_changed_since(tmp_path: Path) -> None:
    source, out = resized(Case("gpt2", "GPT2LMHeadModel"), tmp_path, hidden_size=32)
    assert wavescale.verify(source, out).changed == ()
    altered(source, "transformer.h.0.mlp.c_fc.weight", 1.5)
    found = wavescale.verify(source, out)
    assert found.changed == ("source",)
    assert "not those that were resized" in str(found)
    altered(out, "transformer.h.0.mlp.c_proj.weight", 1.5)
    found = wavescale.verify(source, out)
    assert found.changed == ("source", "output")
    assert found.verdict.endswith("; the plan keeps it, but source and output changed since (another digest)")
    (out / "README.md").write_text("A card of its own.")
    found = wavescale.verify(source, out)
    assert found.changed is None
    assert "the card states no digests" in found.verdict


def test_rounding_is_told_from_change(tmp_path: Path) -> None:
    found = wavescale.verify(*resized(Case("llama", "LlamaForCausalLM"), tmp_path, hidden_size=48))
    strict = replace(found, tolerance=found.output_difference / 2)
    assert not strict.kept
    assert "neither source nor output has changed (same digests), so this model amplifies rounding" in strict.verdict


def test_a_text_that_would_not_be_read_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one\ntwo\nthree\n")
    source, out = resized(Case("gpt2", "GPT2LMHeadModel"), tmp_path / "gpt2", hidden_size=32)
    with pytest.raises(CheckpointError, match="source: has no tokenizer, which text"):
        wavescale.verify(source, out, text)
    with pytest.raises(CheckpointError, match=r"none\.txt: cannot be read"):
        wavescale.verify(source, out, tmp_path / "none.txt")
    source, out = resized(Case("vit", "ViTModel"), tmp_path / "vit", hidden_size=32)
    with pytest.raises(OptionError, match="ViTModel has no loss on text"):
        wavescale.verify(source, out, text)


def test_the_command_can_be_strict_and_print_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = Case("gpt2", "GPT2LMHeadModel")
    kept = [str(path) for path in resized(case, tmp_path / "kept", hidden_size=32)]
    lost = [str(path) for path in resized(case, tmp_path / "lost", hidden_size=32, preset="paper")]
    capfd.readouterr()
    assert [run(["verify", *folders, *strict]) for folders in (kept, lost) for strict in ([], ["--strict"])] == [
        0, 0, 0, 1,
    ]  # fmt: skip
    capfd.readouterr()
    assert run(["verify", *kept, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["kept"] is True
    assert found["stages"][0]["name"] == "embedding"


def test_what_wavescale_did_not_write_is_refused(tmp_path: Path) -> None:
    make(Case("gpt2", "GPT2LMHeadModel")).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="nope: no such folder"):
        wavescale.verify(tmp_path, tmp_path / "nope")
    with pytest.raises(OptionError, match="device 'nowhere' cannot be used here"):
        wavescale.verify(tmp_path, tmp_path, device="nowhere")
    with pytest.raises(CheckpointError, match=r"wavescale\.json"):
        wavescale.verify(tmp_path, tmp_path)


def test_minilm_twice_as_wide_keeps_sentence_similarities(tmp_path: Path) -> None:
    source = packaged_minilm()
    plan = wavescale.resize_checkpoint(source, tmp_path / "wide", scale_width=2)
    assert plan.target.hidden_size == 768
    found = wavescale.verify(source, tmp_path / "wide")
    assert found.similarity is not None
    assert found.similarity[0] < 1e-4
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("One sentence here.\nAnother one there.\nA third about fish.\n\nWinter came early.\n")
    found = wavescale.verify(source, tmp_path / "wide", sentences)
    assert found.similarity is not None
    assert found.similarity[0] < 1e-4
    sentences.write_text("Only one.\n")
    with pytest.raises(CheckpointError, match="at least 3"):
        wavescale.verify(source, tmp_path / "wide", sentences)


def test_similarities_of_many_lines_are_those_of_each_alone(tmp_path: Path) -> None:
    source, text = packaged_minilm(), tmp_path / "lines.txt"
    lines = ["word " * (1 + 7 * number % 40) + str(number) for number in range(70)]
    text.write_text("\n".join(lines))
    wavescale.resize_checkpoint(source, tmp_path / "out", num_hidden_layers=5, depth="drop")
    tokenizer, cosines = load_tokenizer(source), []
    for folder in (source, tmp_path / "out"):
        model = load_model(folder, "BertModel")
        with torch.no_grad():
            pooled = [model(**tokenizer(line, return_tensors="pt")).last_hidden_state.mean(1) for line in lines]
        vectors = torch.nn.functional.normalize(torch.cat(pooled), dim=-1)
        row, column = torch.triu_indices(70, 70, offset=1)
        cosines.append((vectors @ vectors.T)[row, column])
    found = wavescale.verify(source, tmp_path / "out", text)
    assert found.similarity is not None
    assert found.similarity[0] == pytest.approx(float((cosines[0] - cosines[1]).abs().max()), abs=1e-5)
    ranks = torch.stack([values.argsort().argsort().double() for values in cosines])
    assert found.similarity[1] == pytest.approx(float(torch.corrcoef(ranks)[0, 1]), abs=1e-3)


def test_losses_on_a_text_are_those_of_transformers(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    source, out = resized(Case("gpt2", "GPT2LMHeadModel"), tmp_path, hidden_size=32)
    words = {f"w{number}": number for number in range(31)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(source)
    text = tmp_path / "text.txt"
    ids = torch.randint(0, 31, (400,), generator=torch.Generator().manual_seed(0))
    text.write_text(" ".join(f"w{number}" for number in ids.tolist()))
    found = wavescale.verify(source, out, text)
    assert found.losses is not None
    assert found.tokens == 400
    assert found.losses[0] == pytest.approx(found.losses[1], abs=1e-5)
    windows = ids.view(-1, 20)
    model = make(Case("gpt2", "GPT2LMHeadModel"))
    with torch.no_grad():
        expected = float(model(windows, labels=windows).loss)
    assert found.losses[0] == pytest.approx(expected, abs=1e-4)
    text.write_text("w1 w2")
    with pytest.raises(CheckpointError, match="only 2 tokens"):
        wavescale.verify(source, out, text)


def test_an_order_of_the_residual_stream_leaves_outputs_to_compare(tmp_path: Path) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    artifacts = Artifacts({("hidden", None): order})
    found = wavescale.verify(*resized(Case("llama", "LlamaForCausalLM"), tmp_path, artifacts=artifacts))
    assert [stage.name for stage in found.stages] == ["logits"]
    assert found.kept


@pytest.mark.parametrize("options", [{"order": "similarity"}, {"width": "merge"}, {"width": "norm"}], ids=str)
def test_a_model_without_a_head_has_nothing_to_compare_in_another_order(options: Any, tmp_path: Path) -> None:
    found = wavescale.verify(*resized(Case("bert", "BertModel"), tmp_path, scale_width="1/2", **options))
    assert not found.kept
    assert "outputs not compared" in str(found)


def test_an_order_of_units_leaves_every_stage_to_compare(tmp_path: Path) -> None:
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    artifacts = Artifacts({("intermediate", 1): order})
    found = wavescale.verify(*resized(Case("gpt2", "GPT2Model"), tmp_path, artifacts=artifacts))
    assert found.kept
    assert len(found.stages) > 3


@pytest.mark.parametrize(
    "case",
    [Case("bert", "BertForPreTraining"), Case("roberta", "RobertaForCausalLM", (("is_decoder", True),))],
    ids=str,
)
def test_the_loss_of_every_head_over_words_is_compared_within_its_positions(case: Case, tmp_path: Path) -> None:
    source, out = resized(case, tmp_path, hidden_size=32)
    words_tokenizer().save_pretrained(source)
    found = wavescale.verify(source, out, text=text(tmp_path / "text.txt", 100, 10))
    assert found.losses is not None
    assert found.losses[0] == pytest.approx(found.losses[1], abs=1e-4)


def test_an_encoder_without_a_pooler_is_verified_and_calibrated_without_one(tmp_path: Path) -> None:
    config = transformers.BertConfig(**CONFIGS["bert"])
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "source")
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "grown", hidden_size=32)
    assert wavescale.verify(tmp_path / "source", tmp_path / "grown").kept
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "shrunk", num_hidden_layers=1)
    assert not any("pooler" in name for name in load_file(tmp_path / "shrunk" / "model.safetensors"))
