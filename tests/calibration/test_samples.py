from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

import wavescale
from tiny import Case, make
from wavescale.calibration.samples import (
    LENGTH,
    SENTENCE_LENGTH,
    SENTENCE_TOKENS,
    TOKENS,
    calibration_batches,
)
from wavescale.calibration.writing import filled_masks, generated_tokens
from wavescale.errors import CheckpointError, OptionError
from wavescale.inputs import read_text
from wavescale.memory import model_spec
from words import text, words_tokenizer

GPT2, BERT, MASKED = Case("gpt2", "GPT2LMHeadModel"), Case("bert", "BertModel"), Case("bert", "BertForMaskedLM")
VIT = Case("vit", "ViTForImageClassification")


def test_a_decoder_reads_windows_from_all_over_a_text(tmp_path: Path) -> None:
    model = make(GPT2)
    path = text(tmp_path / "text.txt", 4000, 10)
    found = calibration_batches(path, model, model_spec(model), tokenizer=words_tokenizer())
    ids = torch.cat([batch["input_ids"] for batch in found])
    assert ids.shape == (TOKENS // 20, 20)
    every = words_tokenizer()(path.read_text(), add_special_tokens=False)["input_ids"]
    assert ids[0].tolist() == every[:20]
    last = ids[-1].tolist()
    place = next(at for at in range(len(every)) if every[at : at + 20] == last)
    assert place == len(every) - 20


def test_of_a_long_text_windows_come_from_all_over_it(tmp_path: Path) -> None:
    model = make(GPT2)
    path = tmp_path / "text.txt"
    path.write_text(" ".join(letter for letter in "abcdefgh" for _ in range(16000)))
    found = calibration_batches(path, model, model_spec(model), tokenizer=words_tokenizer())
    ids = torch.cat([batch["input_ids"] for batch in found])
    assert ids.shape == (TOKENS // 20, 20)
    assert sorted(set(ids[:, 0].tolist())) == list(range(5, 13))


def test_a_few_hundred_sentences_suffice_for_a_decoder(tmp_path: Path) -> None:
    model = make(Case("llama", "LlamaForCausalLM"), max_position_embeddings=512)
    path = text(tmp_path / "text.txt", 200, 15)
    found = calibration_batches(path, model, model_spec(model), tokenizer=words_tokenizer())
    assert torch.cat([batch["input_ids"] for batch in found]).shape == (200 * 15 // LENGTH, LENGTH)


def test_an_encoder_reads_lines_as_sentences(tmp_path: Path) -> None:
    model = make(BERT)
    path = text(tmp_path / "text.txt", 8000, 6)
    found = calibration_batches(path, model, model_spec(model), tokenizer=words_tokenizer())
    assert sum(int(batch["attention_mask"].sum()) for batch in found) >= SENTENCE_TOKENS
    for batch in found:
        assert (batch["input_ids"][:, 0] == 1).all()
        assert (batch["input_ids"] != 3).all()
        assert ((batch["input_ids"] == 0) == (batch["attention_mask"] == 0)).all()


def test_a_masked_language_model_sees_masks(tmp_path: Path) -> None:
    model = make(MASKED)
    path = text(tmp_path / "text.txt", 8000, 6)
    found = calibration_batches(path, model, model_spec(model), tokenizer=words_tokenizer())
    seen = sum(int(batch["attention_mask"].sum()) for batch in found)
    masked = sum(int((batch["input_ids"] == 3).sum()) for batch in found) / seen
    assert 0.1 < masked < 0.2


def test_generated_text_is_the_models_own_and_seeded() -> None:
    model = make(GPT2)
    first, again = (generated_tokens(model, tokens=64, length=16, seed=3) for _ in range(2))
    assert first.shape == (4, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, generated_tokens(model, tokens=64, length=16, seed=4))
    with pytest.raises(OptionError, match="BertModel does not generate text"):
        generated_tokens(make(BERT), 64, 16)


def test_text_begins_with_a_token_that_the_model_has() -> None:
    model = make(GPT2)
    model.config.bos_token_id = model.config.eos_token_id = 50256
    assert (generated_tokens(model, tokens=64, length=16)[:, 0] == 0).all()
    model.config.eos_token_id = 3
    assert (generated_tokens(model, tokens=64, length=16)[:, 0] == 3).all()


def test_gzipped_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress("Wale und Stürme".encode()))
    assert read_text(path) == "Wale und Stürme"
    for damaged in (path.read_bytes()[:-9], b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"^text \(--text\) .*text\.txt\.gz: cannot be read as text"):
            read_text(path, "text (--text)")


def test_a_masked_language_model_fills_masks() -> None:
    model, tokenizer = make(MASKED), words_tokenizer()
    first, again = (filled_masks(model, tokenizer, 64, 16, seed=3) for _ in range(2))
    assert first.shape == (4, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, filled_masks(model, tokenizer, 64, 16, seed=4))
    assert (first[:, 0] == 1).all()
    assert (first[:, -1] == 2).all()
    assert (first[:, 1:-1] >= 5).all()  # no special tokens inside
    # What it fills in follows from what it predicts.
    with torch.no_grad():
        model.cls.predictions.bias[9] = 100.0
    assert (filled_masks(model, tokenizer, 64, 16)[:, 1:-1] == 9).all()


def test_what_a_masked_language_model_writes_is_masked_again() -> None:
    model = make(MASKED)
    found = calibration_batches("generated", model, model_spec(model), tokenizer=words_tokenizer())
    ids = torch.cat([batch["input_ids"] for batch in found])
    assert ids.numel() > 0.9 * SENTENCE_TOKENS
    assert 0.1 < (ids == 3).float().mean() < 0.2


def test_random_input_fills_the_positions() -> None:
    found = calibration_batches("random", make(GPT2), model_spec(make(GPT2)))
    assert torch.cat([batch["input_ids"] for batch in found]).shape == (TOKENS // 20, 20)
    llama = make(Case("llama", "LlamaForCausalLM"), max_position_embeddings=512)
    found = calibration_batches("random", llama, model_spec(llama))
    assert torch.cat([batch["input_ids"] for batch in found]).shape == (TOKENS // LENGTH, LENGTH)
    bert = make(BERT, max_position_embeddings=512)
    found = calibration_batches("random", bert, model_spec(bert))
    sentences = torch.cat([batch["input_ids"] for batch in found])
    assert sentences.shape == (SENTENCE_TOKENS // SENTENCE_LENGTH, SENTENCE_LENGTH)


def image_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    values = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(values.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number:03}.png")
    return folder


def test_an_image_model_reads_a_folder_of_images(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(VIT).save_pretrained(source)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(source)
    images = image_folder(tmp_path / "images", 40)
    wavescale.resize_checkpoint(source, tmp_path / "out", intermediate_size=18, calibrate=images)
    assert "--calibrate images" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("case", "name", "error", "message"),
    [
        (GPT2, "short.txt", CheckpointError, "too short to calibrate on"),
        (BERT, "short.txt", CheckpointError, "has only .* tokens"),
        (GPT2, "nowhere.txt", OptionError, "no such file"),
        (VIT, "empty", CheckpointError, "no images"),
        (VIT, "images", OptionError, "no preprocessor_config.json"),
    ],
)
def test_what_cannot_be_read_is_refused(
    case: Case, name: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    make(case).save_pretrained(source)
    words_tokenizer().save_pretrained(source)
    text(tmp_path / "short.txt", 2, 5)
    (tmp_path / "empty").mkdir()
    image_folder(tmp_path / "images", 2)
    with pytest.raises(error, match=message):
        wavescale.resize_checkpoint(source, tmp_path / "out", intermediate_size=18, calibrate=tmp_path / name)
    assert not (tmp_path / "out").exists()


def test_a_text_needs_a_tokenizer(tmp_path: Path) -> None:
    make(GPT2).save_pretrained(tmp_path / "source")
    path = text(tmp_path / "text.txt", 2000, 10)
    with pytest.raises(OptionError, match="no tokenizer"):
        wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", intermediate_size=18, calibrate=path)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 3},
        {"max_new_tokens": 64},
        {"return_dict_in_generate": True},
        {"num_return_sequences": 2, "do_sample": True},
        {"repetition_penalty": 1.3},
        {"num_beams": 3},
    ],
    ids=str,
)
def test_the_settings_that_a_model_was_published_with_do_not_change_what_it_writes(settings: dict[str, Any]) -> None:
    plain, model = make(GPT2), make(GPT2)
    assert model.generation_config is not None
    model.generation_config.update(**settings)
    wanted = generated_tokens(plain, tokens=64, length=16)
    assert torch.equal(generated_tokens(model, tokens=64, length=16), wanted)
    for name, value in settings.items():
        assert getattr(model.generation_config, name) == value


def test_a_masked_language_model_without_a_tokenizer_reads_random_tokens_and_the_plan_says_so() -> None:
    model = make(MASKED)
    assert wavescale.plan_resize(model, num_hidden_layers=1).choices.calibrate == "random"
    with pytest.raises(OptionError, match="has no tokenizer with a mask"):
        wavescale.resize(model, num_hidden_layers=1, calibrate="generated")


def test_an_odd_sentence_is_compared_with_itself(tmp_path: Path) -> None:
    model = make(Case("bert", "BertForMultipleChoice"))
    path = text(tmp_path / "text.txt", 33, 10)
    found = calibration_batches(path, model, model_spec(model), tokenizer=words_tokenizer())
    assert [batch["input_ids"].shape[:2] for batch in found] == [(16, 2), (1, 2)]
    assert torch.equal(found[1]["input_ids"][0, 0], found[1]["input_ids"][0, 1])


def test_images_without_pillow_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavescale.inputs.find_spec", lambda name: None if name == "PIL" else find_spec(name))
    with pytest.raises(OptionError, match=r"reading images needs Pillow: pip install 'wavescale\[images\]'"):
        wavescale.resize(make(VIT), num_hidden_layers=1, calibrate=tmp_path)
