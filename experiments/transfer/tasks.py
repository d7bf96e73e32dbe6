"""The tasks: model class, data to train on and to measure on, and how the quality is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    DeiTConfig,
    DeiTForImageClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from transfer.answers import Spans, read_questions
from transfer.images import Augmented, Mixing, Plain, read_images
from transfer.measures import MEASURES, Measured
from transfer.order import Example, Fixed, Ordered
from transfer.runs import Run
from transfer.sentences import Encoded, read_sentences
from transfer.text import CausalWindows, MaskedWindows, Text, Tokens, read_text

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
    labels
        What a batch holds to be predicted.
    tokenizer
        Of text.
    measured
        Predictions on `validation` to qualities by name; None where the loss is the quality.
    """

    train: Ordered
    validation: Dataset[Example]
    collate: Collator
    length: int
    fields: Mapping[str, Any]
    labels: tuple[str, ...] = ("labels",)
    tokenizer: PreTrainedTokenizerBase | None = None
    measured: Measured | None = None


_CLASSES: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    "causal": (GPT2Config, GPT2LMHeadModel),
    "masked": (BertConfig, BertForMaskedLM),
    "images": (DeiTConfig, DeiTForImageClassification),
    "sentences": (BertConfig, BertForSequenceClassification),
    "answers": (BertConfig, BertForQuestionAnswering),
}
_GPT2_NAMES = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Where local data lies.

    Attributes
    ----------
    root
        The folder that configs name files and folders of; or, for images, the folder of the images itself.
    files
        Text files instead of those that a config names.
    work
        Where tokens are kept.
    """

    root: Path | None
    files: tuple[Path, ...]
    work: Path

    def texts(self, run: Run) -> list[Path]:
        """The text files of a run; none where it reads a hub dataset."""
        if self.files:
            return list(self.files)
        named = run.data.get("files", [])
        if named and self.root is None:
            raise ValueError(f"{named[0]}: give --data-dir FOLDER, the folder that it lies in, or --train-file FILE.")
        return [] if self.root is None else [self.root / name for name in named]

    def images(self, run: Run) -> Path | None:
        """The folder of images of a run; none where it reads a hub dataset."""
        named = run.data.get("folder")
        if self.root is None or named is None:
            return None
        return self.root / named if (self.root / named).is_dir() else self.root


def load_task(run: Run, data: Data) -> Task:
    """The task of a run: what it trains and is measured on."""
    if run.task == "images":
        return _images(run, data)
    match run.task:
        case "causal" | "masked":
            return _windows(run, read_text(run.data, data.texts(run), data.work))
        case "sentences":
            return _sentences(run, _tokenizer(run, data), data)
        case "answers":
            return _answers(run, _tokenizer(run, data), data)


def _tokenizer(run: Run, data: Data) -> PreTrainedTokenizerBase:
    """The one that a config names, or that is trained on the text that the source has read."""
    named = run.data["tokenizer"]
    if isinstance(named, str):
        return AutoTokenizer.from_pretrained(named)
    return read_text(run.data, data.texts(run), data.work).tokenizer


def _images(run: Run, data: Data) -> Task:
    train, held = (read_images(run.data, data.images(run), part) for part in (True, False))
    classes = int(train.labels.max()) + 1
    height, width, channels = train.pixels[0].shape
    patches = (height // run.config["patch_size"]) * (width // run.config["patch_size"])
    return Task(
        train=Ordered(Augmented(train, **run.data.get("augment", {})), run.steps * run.batch, run.data_seed),
        validation=Plain(held, min(run.data["measured"], len(held.labels))),
        collate=Mixing(classes, run.data.get("mixup", 0.0)),
        length=patches + 2,  # and the tokens for the class and for distillation
        fields={"num_labels": classes, "image_size": height, "num_channels": channels},
        measured=MEASURES.get(run.quality),
    )


def _windows(run: Run, text: Text) -> Task:
    length = run.data["length"]

    def windows(ids: Tokens) -> CausalWindows | MaskedWindows:
        if run.task == "causal":
            return CausalWindows(ids, length)
        return MaskedWindows(ids, length, text.tokenizer, run.data.get("masked", 0.15))

    rng, held_out = np.random.default_rng(_MEASURED_SEED), windows(text.validation)
    return Task(
        train=Ordered(windows(text.train), run.steps * run.batch, run.data_seed),
        validation=Fixed([held_out(rng) for _ in range(run.data["measured"])]),
        collate=stack,
        length=length,
        fields={"vocab_size": len(text.tokenizer)},
        tokenizer=text.tokenizer,
    )


def _sentences(run: Run, tokenizer: PreTrainedTokenizerBase, data: Data) -> Task:
    length = run.data["length"]
    train, held = (Encoded(part, tokenizer, length) for part in read_sentences(run.data["table"], data.root))
    return Task(
        train=Ordered(train, run.steps * run.batch, run.data_seed),
        validation=Fixed([held.at(place) for place in range(len(held.sentences.labels))]),
        collate=stack,
        length=length,
        # GPT-2 reads the class off the last token that is no padding.
        fields={
            "vocab_size": len(tokenizer),
            "num_labels": train.sentences.classes,
            "pad_token_id": tokenizer.pad_token_id,
        },
        tokenizer=tokenizer,
        measured=MEASURES.get(run.quality),
    )


def _answers(run: Run, tokenizer: PreTrainedTokenizerBase, data: Data) -> Task:
    length = run.data["length"]
    train, held = (Spans.of(part, tokenizer, length) for part in read_questions(run.data["squad"], data.root))
    return Task(
        train=Ordered(train, run.steps * run.batch, run.data_seed),
        validation=held,
        collate=stack,
        length=length,
        fields={"vocab_size": len(tokenizer)},
        labels=("start_positions", "end_positions"),
        tokenizer=tokenizer,
        measured=held.measured,
    )


def stack(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Examples of equal length to a batch."""
    return {name: torch.as_tensor(np.stack([example[name] for example in examples])) for name in examples[0]}


def _classes(run: Run) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
    return (GPT2Config, GPT2ForSequenceClassification) if run.decoder else _CLASSES[run.task]


def model_of(run: Run, fields: Mapping[str, Any], sizes: Mapping[str, int]) -> PreTrainedModel:
    """A model of some sizes with the library's own initialisation; data decides some `fields` of its config."""
    config_class, model_class = _classes(run)
    named = {_GPT2_NAMES[name]: size for name, size in sizes.items()} if config_class is GPT2Config else dict(sizes)
    model: PreTrainedModel = model_class(config_class(**{**run.config, **fields, **named}))
    return model


def fresh_model(run: Run, task: Task, sizes: Mapping[str, int]) -> PreTrainedModel:
    """The same, drawn by the run's seed for the task's data."""
    torch.manual_seed(run.seed)
    return model_of(run, task.fields, sizes)


def load_trained(folder: Path) -> PreTrainedModel:
    """A model that a run has kept, of the class that it was."""
    found = AutoConfig.from_pretrained(folder).architectures or [""]
    model: PreTrainedModel = getattr(transformers, found[0]).from_pretrained(folder, dtype=torch.float32)
    return model


def for_task(run: Run, task: Task, folder: Path) -> PreTrainedModel:
    """A kept model as the run's task needs it: where that is another, with a fresh head drawn by the seed."""
    model_class = _classes(run)[1]
    fields = {name: value for name, value in task.fields.items() if name in ("num_labels", "pad_token_id")}
    torch.manual_seed(run.seed)
    model: PreTrainedModel = model_class.from_pretrained(
        folder, dtype=torch.float32, ignore_mismatched_sizes=True, **fields
    )
    if run.fresh_head:
        torch.nn.init.normal_(model.classifier.weight, std=model.config.initializer_range)
        torch.nn.init.zeros_(model.classifier.bias)
    return model
