"""Where a model meets its data: the source, its measure on the pinned window, and its calibration text."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from checkpoints import rxnfp, smollm2
from small_gpt2 import Corpus, read_corpus
from small_gpt2 import source as small_gpt2
from small_vit import read_images
from small_vit import source as small_vit
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from quality.measures import (
    Measure,
    causal_loss,
    image_loss,
    masked_loss,
    pair_similarities,
    similarity,
)
from quality.rows import HERE, Model
from wavescale.demo import packaged_minilm
from wavescale.inputs import read_text
from wavescale.memory import load_model

SENTENCES_PER_BATCH, SENTENCE_TOKENS, IMAGES_PER_BATCH = 50, 128, 32
GPT2_STEPS = 2000


@dataclass(frozen=True)
class Bench:
    """A source ready to be resized and measured.

    Attributes
    ----------
    source
        The model.
    measure
        What its copies are put through.
    calibration
        What `@text` stands for: a file, or batches of images.
    corpus
        What small language models are trained on.
    """

    source: PreTrainedModel
    measure: Measure
    calibration: Path | list[dict[str, Tensor]] | None = None
    corpus: Corpus | None = None


def open_bench(name: str, model: Model, data: Path, work: Path) -> Bench:
    """Make or find a source in the folder `work`, with the data that it is measured on from the folder `data`."""
    folder = work / model.source
    if name == "gpt2":
        corpus = read_corpus(data / model.window["file"], folder)
        small_gpt2(folder, corpus, model.config["n_layer"], model.config["n_embd"], GPT2_STEPS)
        rows, length = model.window["windows"], model.window["tokens"]
        ids = corpus.validation[: rows * length].view(rows, length)
        measure: Measure = partial(causal_loss, ids=ids, parts=model.window["parts"])
        return Bench(load_model(folder, model.class_name), measure, calibration_text(name, model, data, work), corpus)
    if name == "vit":
        small_vit(folder, data / "fashion-mnist")
    else:
        folder = _PACKAGED[name](folder)
    source = load_model(folder, model.class_name)
    measure = _MEASURES[model.measure](source, folder, model.window, data)
    if model.measure == "images" and model.calibration is not None:
        images, _ = read_images(data / "fashion-mnist", model.calibration["part"])
        parts = torch.split(images[: model.calibration["images"]], IMAGES_PER_BATCH)
        batches = [{"pixel_values": part} for part in parts]
        return Bench(source, measure, batches)
    return Bench(source, measure, calibration_text(name, model, data, work))


def read_sentences(path: Path) -> list[str]:
    """The third column: identifier, rating and sentence."""
    return [line.split("\t")[2] for line in path.read_text(encoding="utf-8").splitlines() if line.count("\t") >= 2]


def calibration_text(name: str, model: Model, data: Path, work: Path) -> Path | None:
    """Write down the text to calibrate on, which is none of the text that is measured."""
    chosen = model.calibration
    if chosen is None:
        return None
    if "reactions" in chosen:
        text = read_text(HERE / chosen["reactions"])
    elif "lines" in chosen:
        first, last = chosen["lines"]
        text = "\n".join(read_sentences(data / chosen["file"])[first:last]) + "\n"
    else:
        first, last = chosen["characters"]
        text = read_text(data / chosen["file"])[first:last]
    path = work / "calibration" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _causal(_source: PreTrainedModel, folder: Path, window: Mapping[str, Any], data: Path) -> Measure:
    first, last = window["characters"]
    rows, length = window["windows"], window["tokens"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(read_text(data / window["file"])[first:last], add_special_tokens=False)["input_ids"]
    return partial(causal_loss, ids=torch.tensor(ids[: rows * length]).view(rows, length), parts=window["parts"])


def _masked(_source: PreTrainedModel, folder: Path, window: Mapping[str, Any], _data: Path) -> Measure:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(read_text(HERE / window["reactions"]).splitlines(), padding=True, return_tensors="pt")
    ids, attention = batch["input_ids"], batch["attention_mask"]
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    generator = torch.Generator().manual_seed(window["seed"])
    chosen = (torch.rand(ids.shape, generator=generator) < window["masked"]) & ~special
    mask_id, parts = tokenizer.mask_token_id, window["parts"]
    return partial(masked_loss, ids=ids, attention=attention, chosen=chosen, mask_id=mask_id, parts=parts)


def _similarity(source: PreTrainedModel, folder: Path, window: Mapping[str, Any], data: Path) -> Measure:
    drawn = random.Random(window["seed"]).sample(read_sentences(data / window["file"]), 2 * window["pairs"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Short beside short, so that little is padding; the pairs find their sentences by position.
    order = sorted(range(len(drawn)), key=lambda at: len(drawn[at]))
    batches = [
        dict(
            tokenizer(
                [drawn[at] for at in order[start : start + SENTENCES_PER_BATCH]],
                padding=True, truncation=True, max_length=SENTENCE_TOKENS, return_tensors="pt",
            )
        )
        for start in range(0, len(order), SENTENCES_PER_BATCH)
    ]  # fmt: skip
    places = torch.empty(len(order), dtype=torch.long)
    places[torch.tensor(order)] = torch.arange(len(order))
    pairs = places.view(-1, 2)
    expected = pair_similarities(source, batches, pairs)
    return partial(similarity, batches=batches, pairs=pairs, expected=expected, parts=window["parts"])


def _images(_source: PreTrainedModel, _folder: Path, window: Mapping[str, Any], data: Path) -> Measure:
    images, labels = read_images(data / "fashion-mnist", window["part"])
    count = window["images"]
    return partial(image_loss, images=images[:count], labels=labels[:count], parts=window["parts"])


_MEASURES: dict[str, Callable[[PreTrainedModel, Path, Mapping[str, Any], Path], Measure]] = {
    "causal": _causal,
    "masked": _masked,
    "similarity": _similarity,
    "images": _images,
}
_PACKAGED: dict[str, Callable[[Path], Path]] = {
    "smollm2": smollm2,
    "rxnfp": rxnfp,
    "minilm": lambda _: packaged_minilm(),
}
