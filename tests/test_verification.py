from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import wavescale
from tiny import CASES, MAIN_CASES, Case, make
from wavescale.demo import packaged_minilm
from wavescale.errors import CheckpointError


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
    assert f"{stage} departs first" in found.verdict


def test_a_shrunk_model_is_not_kept(tmp_path: Path) -> None:
    found = wavescale.verify(*resized(Case("gpt2", "GPT2LMHeadModel"), tmp_path, scale_width=0.5))
    assert not found.kept
    assert "not kept" in str(found)


def test_what_wavescale_did_not_write_is_refused(tmp_path: Path) -> None:
    make(Case("gpt2", "GPT2LMHeadModel")).save_pretrained(tmp_path)
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
