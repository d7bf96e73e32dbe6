from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from tiny import Case, make
from wavescale.errors import CheckpointError, OptionError
from wavescale.learned import training_batches
from wavescale.learned.batches import BATCH
from wavescale.memory import model_spec
from wavescale.spec import ModelSpec
from words import text, words_tokenizer

GPT2 = Case("gpt2", "GPT2LMHeadModel")
BERT = Case("bert", "BertForMaskedLM")


def source(folder: Path, case: Case) -> ModelSpec:
    model = make(case)
    model.save_pretrained(folder)
    words_tokenizer(masks=case == BERT).save_pretrained(folder)
    return model_spec(model)


def test_a_causal_model_predicts_every_token(tmp_path: Path) -> None:
    spec, folder = source(tmp_path / "source", GPT2), tmp_path / "source"
    found = list(training_batches(text(tmp_path / "text.txt", 1, 4000), spec, folder, steps=5))
    assert len(found) == 5
    for batch in found:
        assert batch["input_ids"].shape == (BATCH, 20)
        assert torch.equal(batch["labels"], batch["input_ids"])
    windows = {tuple(row) for batch in found for row in batch["input_ids"].tolist()}
    assert len(windows) == 5 * BATCH


def test_a_masked_model_predicts_what_it_does_not_see(tmp_path: Path) -> None:
    spec, folder = source(tmp_path / "source", BERT), tmp_path / "source"
    path = text(tmp_path / "text.txt", 1, 20000)
    found = list(training_batches(path, spec, folder, steps=100))
    ids, labels = (torch.cat([batch[name] for batch in found]) for name in ("input_ids", "labels"))
    assert (ids[:, 0] == 1).all()
    assert (ids[:, -1] == 2).all()
    assert torch.equal(ids == 3, labels != -100)
    assert (labels[labels != -100] >= 5).all()
    assert 0.12 < (ids == 3).float().mean() < 0.16
    assert all((batch["labels"] != -100).any() for batch in found)


def test_even_a_tiny_batch_has_something_to_predict(tmp_path: Path) -> None:
    spec, folder = source(tmp_path / "source", BERT), tmp_path / "source"
    for seed in range(20):
        (batch,) = training_batches(text(tmp_path / "text.txt", 1, 18), spec, folder, steps=1, seed=seed)
        assert batch["input_ids"].shape == (1, 20)
        assert (batch["labels"] != -100).any()


def test_order_and_masks_are_seeded(tmp_path: Path) -> None:
    spec, folder = source(tmp_path / "source", BERT), tmp_path / "source"
    path = text(tmp_path / "text.txt", 1, 4000)
    first, again, other = (next(training_batches(path, spec, folder, 5, seed))["input_ids"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_of_a_long_text_pieces_from_all_over_are_read(tmp_path: Path) -> None:
    spec, folder = source(tmp_path / "source", GPT2), tmp_path / "source"
    path = tmp_path / "text.txt"
    path.write_text(" ".join(letter for letter in "abcdefgh" for _ in range(2000)))
    found = torch.cat([batch["input_ids"] for batch in training_batches(path, spec, folder, steps=8)])
    assert found.shape == (64, 20)
    assert set(found[:, 0].tolist()) == set(range(5, 13))


def test_a_masked_image_model_reads_a_folder_of_images(tmp_path: Path) -> None:
    model = make(Case("vit", "ViTForMaskedImageModeling"))
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    (tmp_path / "images").mkdir()
    for number in range(9):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    found = list(training_batches(tmp_path / "images", model_spec(model), tmp_path, steps=5))
    assert [batch["pixel_values"].shape for batch in found] == [(8, 3, 8, 8), (1, 3, 8, 8)]
    assert found[0]["bool_masked_pos"].shape == (8, 4)


def test_given_batches_keep_their_order() -> None:
    given = ({"input_ids": torch.full((1, 4), number)} for number in range(10))
    found = training_batches(given, model_spec(make(GPT2)), None, steps=3)
    assert [int(batch["input_ids"][0, 0]) for batch in found] == [0, 1, 2]
    assert int(next(given)["input_ids"][0, 0]) == 3  # no more than needed is taken


@pytest.mark.parametrize(
    ("case", "words", "error", "message"),
    [
        (GPT2, 10, CheckpointError, "too short to train on, it has no 20 tokens"),
        (Case("roberta", "RobertaForMaskedLM"), 4000, OptionError, "no tokenizer .* that knows a mask"),
        (Case("bert", "BertForSequenceClassification"), 4000, OptionError, "no task for BertForSequence.*labels"),
        (Case("bert", "BertModel"), 4000, OptionError, "no task for BertModel"),
        (Case("vit", "ViTForImageClassification"), 10, OptionError, "images alone are no task.*labels"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    case: Case, words: int, error: type[Exception], message: str, tmp_path: Path
) -> None:
    spec, folder = source(tmp_path / "source", case), tmp_path / "source"
    with pytest.raises(error, match=message):
        list(training_batches(text(tmp_path / "text.txt", 1, words), spec, folder, steps=2))


def test_a_text_needs_a_tokenizer(tmp_path: Path) -> None:
    spec = model_spec(make(GPT2))
    for folder in (None, tmp_path):
        with pytest.raises(OptionError, match="no tokenizer"):
            list(training_batches(text(tmp_path / "text.txt", 1, 100), spec, folder, steps=2))
    with pytest.raises(OptionError, match="no batch"):
        training_batches([], spec, None, steps=2)
