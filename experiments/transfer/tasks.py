"""The tasks: model class, data to train on and to measure on, and how the quality is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DeiTConfig,
    DeiTForImageClassification,
    EvalPrediction,
    GPT2Config,
    GPT2LMHeadModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from transfer.images import Augmented, Mixing, normalized, read_images
from transfer.order import Example, Fixed, Ordered
from transfer.runs import Run
from transfer.text import CausalWindows, MaskedWindows, read_text

if TYPE_CHECKING:
    from torch.utils.data import Dataset

Collator = Callable[[Sequence[Example]], dict[str, torch.Tensor]]
# Of the windows that are measured on, so that all runs of a task share them.
_MEASURED_SEED = 20260307


@dataclass(frozen=True)
class Task:
    """What a run trains on.

    Attributes
    ----------
    train, validation
        Examples for the whole budget, in order, and those that are measured on.
    collate
        Examples to a batch.
    length
        Tokens in a sequence, for counting FLOPs.
    fields
        Fields of the config that the data decides.
    tokenizer
        Of text.
    """

    train: Dataset[Example]
    validation: Dataset[Example]
    collate: Collator
    length: int
    fields: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerBase | None = None


_CLASSES: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    "causal": (GPT2Config, GPT2LMHeadModel),
    "masked": (BertConfig, BertForMaskedLM),
    "images": (DeiTConfig, DeiTForImageClassification),
}
_GPT2_NAMES = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
}  # fmt: skip


def load_task(run: Run, files: Sequence[Path], folder: Path | None, work: Path) -> Task:
    """The task of a run.

    Parameters
    ----------
    run
        Which.
    files, folder
        Local data: text files, or a folder of images.
    work
        Where tokens are kept.
    """
    examples, data = run.steps * run.batch, run.data
    if run.task == "images":
        train, held = read_images(data, folder, train=True), read_images(data, folder, train=False)
        classes = int(train.labels.max()) + 1
        draw = Augmented(train, data.get("shift", 2), data.get("erase", 0.25))
        measured = [
            {"pixel_values": normalized(held.pixels[place]), "labels": int(held.labels[place])}
            for place in range(min(data["measured"], len(held.labels)))
        ]
        height, width, channels = train.pixels[0].shape
        patches = (height // run.config["patch_size"]) * (width // run.config["patch_size"])
        fields = {"num_labels": classes, "image_size": height, "num_channels": channels}
        return Task(
            Ordered(draw, examples, run.seed),
            Fixed(measured),
            Mixing(classes, data.get("mixup", 0.0)),
            patches + 2,
            fields,
        )
    text, length = read_text(data, files, work), data["length"]
    kind = CausalWindows if run.task == "causal" else MaskedWindows
    more = () if run.task == "causal" else (text.tokenizer,)
    rng = np.random.default_rng(_MEASURED_SEED)
    held_out = kind(text.validation, length, *more)
    fields = {"vocab_size": len(text.tokenizer)}
    return Task(
        Ordered(kind(text.train, length, *more), examples, run.seed),
        Fixed([held_out(rng) for _ in range(data["measured"])]),
        stack,
        length,
        fields,
        text.tokenizer,
    )


def stack(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Examples of equal length to a batch."""
    return {name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in examples[0]}


def fresh_model(run: Run, task: Task, sizes: Mapping[str, int]) -> PreTrainedModel:
    """A model of some sizes with the library's own initialisation, drawn by the run's seed."""
    config_class, model_class = _CLASSES[run.task]
    named = {_GPT2_NAMES[name]: size for name, size in sizes.items()} if run.task == "causal" else dict(sizes)
    torch.manual_seed(run.seed)
    model: PreTrainedModel = model_class(config_class(**{**run.config, **task.fields, **named}))
    return model


def load_trained(run: Run, folder: Path) -> PreTrainedModel:
    """A model that a run has kept."""
    model: PreTrainedModel = _CLASSES[run.task][1].from_pretrained(folder, dtype=torch.float32)
    return model


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """The share of images whose class is right."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return {"accuracy": float((logits.argmax(-1) == prediction.label_ids).mean())}
