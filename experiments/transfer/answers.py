"""Questions whose answer is a span of a text: SQuAD by hub id, or a file of its format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transfer.order import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Question:
    """A question on a text, and where its answer begins and ends in it, in characters."""

    question: str
    context: str
    start: int
    end: int


def read_questions(squad: Mapping[str, Any], root: Path | None) -> tuple[list[Question], list[Question]]:
    """Questions to train and to measure on.

    Parameters
    ----------
    squad
        `hub`: the id of a dataset like rajpurkar/squad; or `train` and `validation`: files of SQuAD's format
        (Rajpurkar et al. 2016, arXiv 1606.05250) below `root`. Questions without an answer are left out.
    root
        Folder of local files.

    Raises
    ------
    ValueError
        Local files without a folder.
    """
    if "hub" in squad:
        from datasets import load_dataset

        parts = [load_dataset(squad["hub"], split=split) for split in ("train", "validation")]
        train, validation = (
            list(_asked((row["question"], row["context"], row["answers"]) for row in part)) for part in parts
        )
        return train, validation
    if root is None:
        raise ValueError(f"{squad['train']}: give --data-dir FOLDER, the folder that it lies in.")
    train, validation = (list(_asked(_rows(root / squad[part]))) for part in ("train", "validation"))
    return train, validation


def _rows(file: Path) -> Iterator[tuple[str, str, dict[str, list[Any]]]]:
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = {key: [answer[key] for answer in asked["answers"]] for key in ("text", "answer_start")}
                yield asked["question"], paragraph["context"], answers


def _asked(rows: Iterable[tuple[str, str, Mapping[str, list[Any]]]]) -> Iterator[Question]:
    for question, context, answers in rows:
        if answers["text"]:
            start = answers["answer_start"][0]
            yield Question(question, context, start, start + len(answers["text"][0]))


@dataclass(frozen=True)
class Spans:
    """Questions and a window of their text as a model reads them; the labels are the first and last token."""

    questions: list[Question]
    tokenizer: PreTrainedTokenizerBase
    length: int

    def __call__(self, rng: np.random.Generator) -> Example:
        return self.at(int(rng.integers(0, len(self.questions))))

    def at(self, place: int) -> Example:
        """One of them: [CLS] question [SEP] text [SEP]; of a long text the part around the answer."""
        asked, tokenizer = self.questions[place], self.tokenizer
        head = tokenizer(asked.question, add_special_tokens=False, truncation=True, max_length=self.length // 3)
        ids = [tokenizer.cls_token_id, *head["input_ids"], tokenizer.sep_token_id]
        text = tokenizer(asked.context, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        # Tokens that share a character with the answer.
        answer = [k for k, (start, end) in enumerate(text["offset_mapping"]) if end > asked.start and start < asked.end]
        first, last = (answer[0], answer[-1]) if answer else (0, 0)
        room = self.length - len(ids) - 1
        begin = 0 if last < room else min(first, len(text["input_ids"]) - room)
        window = text["input_ids"][begin : begin + room]
        before = len(ids)
        ids += [*window, tokenizer.sep_token_id]
        mask = np.arange(self.length) < len(ids)
        padded = np.asarray(ids + [tokenizer.pad_token_id] * (self.length - len(ids)), dtype=np.int64)
        first, last = (min(before + k - begin, before + len(window) - 1) for k in (first, last))
        return {
            "input_ids": padded,
            "attention_mask": mask.astype(np.int64),
            "start_positions": first,
            "end_positions": last,
        }
