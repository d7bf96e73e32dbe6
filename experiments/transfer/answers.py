"""Questions whose answer is a span of a text: SQuAD by hub id, or a file of its format."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from transfer.order import Example

if TYPE_CHECKING:
    from transformers import EvalPrediction, PreTrainedTokenizerBase

Ids = np.ndarray[Any, np.dtype[np.int64]]

# Tokens of a question at most, tokens between the beginnings of two windows of a text, and tokens of an answer at
# most (Devlin et al. 2019, arXiv 1810.04805: its released code for SQuAD).
_QUESTION, _STRIDE, _ANSWER = 64, 128, 30
# Beginnings and ends of a window that are paired.
_BEST = 20


@dataclass(frozen=True)
class Question:
    """A question on a text, the answers that are right, and where the first of them begins, in characters."""

    question: str
    context: str
    answers: tuple[str, ...]
    start: int

    @property
    def end(self) -> int:
        """Where the first answer ends."""
        return self.start + len(self.answers[0])


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
            yield Question(question, context, tuple(answers["text"]), answers["answer_start"][0])


@dataclass(frozen=True)
class Spans(Dataset[Example]):
    """Windows of texts behind their questions, as a model reads them: [CLS] question [SEP] window [SEP].

    Windows of a long text overlap, and where they lie does not depend on the answer. The labels are its first and
    last token, or [CLS] in a window that does not hold all of it.

    Attributes
    ----------
    questions
        Several windows may belong to one.
    tokenizer, length
        Who makes tokens, and tokens in a window with its question.
    heads
        The tokens of each question.
    texts
        The tokens of each context, and where each begins and ends, in characters.
    windows
        Of each window its question and its first token in the context.
    """

    questions: Sequence[Question]
    tokenizer: PreTrainedTokenizerBase
    length: int
    heads: Sequence[Ids]
    texts: Mapping[str, tuple[Ids, Ids]]
    windows: Ids

    @classmethod
    def of(cls, questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase, length: int) -> Spans:
        """All windows of some questions."""
        cut = {"add_special_tokens": False, "truncation": True, "max_length": min(_QUESTION, length // 3)}
        heads = tokenizer([asked.question for asked in questions], **cut)["input_ids"]
        contexts = list(dict.fromkeys(asked.context for asked in questions))
        read = tokenizer(contexts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        texts = {
            context: (np.asarray(ids, dtype=np.int64), np.asarray(places, dtype=np.int64).reshape(-1, 2))
            for context, ids, places in zip(contexts, read["input_ids"], read["offset_mapping"], strict=True)
        }
        windows = []
        for number, (asked, head) in enumerate(zip(questions, heads, strict=True)):
            room, tokens = length - len(head) - 3, len(texts[asked.context][0])
            step = min(_STRIDE, max(1, room // 2))
            windows += [(number, begin) for begin in range(0, max(1, tokens - room + step), step)]
        return cls(questions, tokenizer, length, [np.asarray(head) for head in heads], texts, np.asarray(windows))

    def __len__(self) -> int:
        return len(self.windows)

    def __call__(self, rng: np.random.Generator) -> Example:
        return self[int(rng.integers(0, len(self)))]

    def __getitem__(self, place: int) -> Example:
        if not 0 <= place < len(self):
            raise IndexError(place)
        number, begin = self.windows[place]
        asked, before = self.questions[number], self._before(number)
        text, places = self.texts[asked.context]
        window = text[begin : begin + self.length - before - 1]
        ids = np.full(self.length, self.tokenizer.pad_token_id, dtype=np.int64)
        ids[0], ids[before - 1], ids[before + len(window)] = (
            self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.sep_token_id
        )  # fmt: skip
        ids[1 : before - 1], ids[before : before + len(window)] = self.heads[number], window
        # Tokens that share a character with the answer.
        answer = np.flatnonzero((places[:, 1] > asked.start) & (places[:, 0] < asked.end)) - begin
        whole = len(answer) > 0 and answer[0] >= 0 and answer[-1] < len(window)
        first, last = (before + int(answer[0]), before + int(answer[-1])) if whole else (0, 0)
        return {
            "input_ids": ids,
            "attention_mask": (np.arange(self.length) < before + len(window) + 1).astype(np.int64),
            "start_positions": first,
            "end_positions": last,
        }

    def _before(self, number: int) -> int:
        """Tokens that stand before the text: [CLS], the question, [SEP]."""
        return len(self.heads[number]) + 2

    def measured(self, prediction: EvalPrediction) -> dict[str, float]:
        """SQuAD's F1 and exact match: of the best answer of all windows of a question, the best over the right ones."""
        best: dict[int, tuple[float, str]] = {}
        for place, (starts, ends) in enumerate(zip(*prediction.predictions[:2], strict=True)):
            number = int(self.windows[place][0])
            best[number] = max(best.get(number, (-np.inf, "")), self._best(place, starts, ends))
        scores = [[score(best[k][1], asked.answers) for k, asked in enumerate(self.questions)] for score in (f1, exact)]
        return {"span_f1": float(np.mean(scores[0])), "exact": float(np.mean(scores[1]))}

    def _best(self, place: int, starts: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> tuple[float, str]:
        """The best span of a window: the sum of the scores of its beginning and its end, and its text."""
        number, begin = self.windows[place]
        asked, before = self.questions[number], self._before(number)
        places = self.texts[asked.context][1][begin : begin + self.length - before - 1]
        starts, ends = (scores[before : before + len(places)] for scores in (starts, ends))
        firsts, lasts = (np.argsort(-scores, kind="stable")[:_BEST] for scores in (starts, ends))
        score = starts[firsts][:, None] + ends[lasts]
        long = lasts - firsts[:, None]
        score = np.where((long < 0) | (long >= _ANSWER), -np.inf, score)
        first, last = np.unravel_index(int(np.argmax(score)), score.shape)
        if np.isneginf(score[first, last]):
            return -np.inf, ""
        span = asked.context[places[firsts[first], 0] : places[lasts[last], 1]]
        return float(score[first, last]), span


def f1(found: str, answers: Sequence[str]) -> float:
    """F1 of the words, the best over the right answers (SQuAD's own measure).

    Examples
    --------
    >>> f1("The white whale!", ["a whale", "Ahab"])
    0.6666666666666666
    """
    words = _words(found)

    def against(answer: str) -> float:
        shared = sum((Counter(words) & Counter(_words(answer))).values())
        return 2 * shared / max(1, len(words) + len(_words(answer)))

    return max(against(answer) for answer in answers)


def exact(found: str, answers: Sequence[str]) -> float:
    """Whether the words are those of a right answer."""
    return float(any(_words(found) == _words(answer) for answer in answers))


def _words(text: str) -> list[str]:
    """In lower case, without punctuation and articles."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()
