"""Sentences to classify: GLUE by hub id, or CSV and JSON files with the columns that a config names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transfer.order import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Columns of each task of GLUE (Wang et al. 2019, arXiv 1804.07461) and the part that it is measured on.
GLUE: dict[str, tuple[tuple[str, ...], str]] = {
    "cola": (("sentence",), "validation"),
    "mnli": (("premise", "hypothesis"), "validation_matched"),
    "mrpc": (("sentence1", "sentence2"), "validation"),
    "qnli": (("question", "sentence"), "validation"),
    "qqp": (("question1", "question2"), "validation"),
    "rte": (("sentence1", "sentence2"), "validation"),
    "sst2": (("sentence",), "validation"),
    "stsb": (("sentence1", "sentence2"), "validation"),
    "wnli": (("sentence1", "sentence2"), "validation"),
}


@dataclass(frozen=True)
class Sentences:
    """Sentences, alone or in pairs, and the label of each: a class, or a number to predict."""

    texts: list[tuple[str, ...]]
    labels: list[int] | list[float]

    @property
    def classes(self) -> int:
        """How many classes there are; one for numbers."""
        return int(max(self.labels)) + 1 if all(isinstance(label, int) for label in self.labels) else 1


def read_sentences(table: Mapping[str, Any], root: Path | None) -> tuple[Sentences, Sentences]:
    """What to train and to measure on.

    Parameters
    ----------
    table
        `glue`: a task of GLUE. Or `train` and perhaps `validation`: files below `root`; `format`: csv or json;
        `text`: columns; `label`: a column; `threshold`: above which a number is class 1; `reader`: further
        arguments of `datasets.load_dataset`. Without `validation` every fifth row is measured on.
    root
        Folder of local files.

    Raises
    ------
    ValueError
        No such task, or local files without a folder.
    """
    from datasets import load_dataset

    if "glue" in table:
        if table["glue"] not in GLUE:
            raise ValueError(f"glue {table['glue']!r} is no task; use one of {', '.join(GLUE)}.")
        columns, held = GLUE[table["glue"]]
        parts = [load_dataset("nyu-mll/glue", table["glue"], split=split) for split in ("train", held)]
        train, validation = (_sentences(list(part), columns, "label", None) for part in parts)
        return train, validation
    if root is None:
        raise ValueError(f"{table['train']}: give --data-dir FOLDER, the folder that it lies in.")
    columns = tuple(table["text"])
    files = {part: str(root / table[part]) for part in ("train", "validation") if part in table}
    found = load_dataset(table["format"], data_files=files, **table.get("reader", {}))
    rows = {part: [dict(row) for row in found[part]] for part in files}
    if "validation" not in rows:
        rows["validation"] = rows["train"][::5]
        rows["train"] = [row for place, row in enumerate(rows["train"]) if place % 5]
    train, validation = (
        _sentences(rows[part], columns, table["label"], table.get("threshold")) for part in ("train", "validation")
    )
    return train, validation


def _sentences(
    rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...], label: str, threshold: float | None
) -> Sentences:
    texts = [tuple(str(row[column]) for column in columns) for row in rows]
    values = [row[label] for row in rows]
    return Sentences(texts, values if threshold is None else [int(value > threshold) for value in values])


@dataclass(frozen=True)
class Encoded:
    """Sentences as a model with a classifier reads them, all of one length."""

    sentences: Sentences
    tokenizer: PreTrainedTokenizerBase
    length: int

    def __call__(self, rng: np.random.Generator) -> Example:
        return self.at(int(rng.integers(0, len(self.sentences.labels))))

    def at(self, place: int) -> Example:
        """One of them: [CLS] first [SEP], and second [SEP] if there is one; padded at the end."""
        tokenizer = self.tokenizer
        room = (self.length - 1) // len(self.sentences.texts[place]) - 1
        ids = [tokenizer.cls_token_id]
        for text in self.sentences.texts[place]:
            words = tokenizer(text, add_special_tokens=False, truncation=True, max_length=room)["input_ids"]
            ids += [*words, tokenizer.sep_token_id]
        mask = np.arange(self.length) < len(ids)
        padded = np.asarray(ids + [tokenizer.pad_token_id] * (self.length - len(ids)), dtype=np.int64)
        return {"input_ids": padded, "attention_mask": mask.astype(np.int64), "labels": self.sentences.labels[place]}
