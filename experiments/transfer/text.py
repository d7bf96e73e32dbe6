"""Text for language models: files or a hub dataset, tokens on disk, windows in a seeded order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from transfer.order import Example
from transfer.processes import processes
from wavescale.inputs import read_text as read_file

Tokens = np.ndarray[Any, np.dtype[np.int32]]

# Windows that are measured on are drawn from this share of every file's end.
HELD_OUT = 0.1
IGNORED = -100
# Characters in a piece of text, and pieces, that the tokenizer works on at once.
_PIECE, _PIECES = 1 << 20, 128
_SPECIAL = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


@dataclass(frozen=True)
class Text:
    """Tokens of a corpus.

    Attributes
    ----------
    train, validation
        Token ids, one after the other, read from the disk as they are needed.
    tokenizer
        That made them.
    """

    train: Tokens
    validation: Tokens
    tokenizer: PreTrainedTokenizerBase


def read_text(data: Mapping[str, Any], files: Sequence[Path], work: Path) -> Text:
    """The corpus of a run; tokens are made once and kept below `work`.

    Parameters
    ----------
    data
        `tokenizer`: a folder or hub id, or a number of entries to train one with on these files. `hub`: arguments
        of `datasets.load_dataset`, where no files are given, with `column` for the text and `held_out`, the number of
        documents at the beginning that are measured on.
    files
        Text files, plain or gzipped; their last tenths are held out.
    work
        Where the tokens are kept.

    Raises
    ------
    ValueError
        Neither files nor a hub dataset.
    """
    if not files and "hub" not in data:
        raise ValueError("no text: give --train-file FILE (several times for several), or a config with data.hub.")
    made_of = {name: data[name] for name in ("tokenizer", "hub") if name in data}
    key = sha256(json.dumps([made_of, [[str(f.resolve()), f.stat().st_size] for f in files]]).encode()).hexdigest()[:16]
    home = work / "tokens" / key
    with processes().main_process_first():  # the others find the tokens there
        if not (home / "validation.npy").is_file():
            home.mkdir(parents=True, exist_ok=True)
            tokenizer = _tokenizer(data["tokenizer"], files)
            tokenizer.save_pretrained(home)
            for part, documents in (
                ("train", _documents(data, files, True)),
                ("validation", _documents(data, files, False)),
            ):
                _write_tokens(home / f"{part}.npy", tokenizer, documents)
    train, validation = (np.load(home / f"{part}.npy", mmap_mode="r") for part in ("train", "validation"))
    return Text(train, validation, AutoTokenizer.from_pretrained(home))


def _documents(data: Mapping[str, Any], files: Sequence[Path], train: bool) -> Iterator[str]:
    if files:
        for file in files:
            text = read_file(file)
            cut = round(len(text) * (1 - HELD_OUT))
            yield text[:cut] if train else text[cut:]
        return
    from datasets import load_dataset

    hub = dict(data["hub"])
    column, held = hub.pop("column", "text"), hub.pop("held_out")
    rows = load_dataset(**hub, streaming=True)
    for row in rows.skip(held) if train else rows.take(held):
        yield row[column]


def _tokenizer(wanted: int | str, files: Sequence[Path]) -> PreTrainedTokenizerBase:
    if isinstance(wanted, str):
        return AutoTokenizer.from_pretrained(wanted)
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=wanted, special_tokens=list(_SPECIAL.values()), show_progress=False)
    words.train_from_iterator((line for file in files for line in read_file(file).splitlines()), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="[CLS]", eos_token="[SEP]", **_SPECIAL)


def _write_tokens(path: Path, tokenizer: PreTrainedTokenizerBase, documents: Iterable[str]) -> None:
    """Tokens of all documents, in pieces of a megabyte at most, several of which are worked on at once."""
    raw = path.with_suffix(".part")
    pieces = (text[start : start + _PIECE] for text in documents for start in range(0, len(text), _PIECE))
    with raw.open("wb") as out:
        while some := list(islice(pieces, _PIECES)):
            for ids in tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]:
                out.write(np.asarray(ids, dtype=np.int32).tobytes())
    np.save(path, np.memmap(raw, dtype=np.int32, mode="r"))
    raw.unlink()


@dataclass(frozen=True)
class CausalWindows:
    """Windows for a model that reads from left to right: the labels are the inputs."""

    ids: Tokens
    length: int

    def __call__(self, rng: np.random.Generator) -> Example:
        start = int(rng.integers(0, len(self.ids) - self.length))
        window = self.ids[start : start + self.length].astype(np.int64)
        return {"input_ids": window, "labels": window}


@dataclass(frozen=True)
class MaskedWindows:
    """Windows in which a share of the tokens is to be predicted (Devlin et al. 2019, arXiv 1810.04805, section 3.1).

    Of those 80% are masked, 10% another token and 10% as they are.

    Attributes
    ----------
    ids, length, tokenizer
        Tokens of the corpus, tokens of a window with those at its ends, and who made them.
    share
        Of the tokens between the ends, to be predicted; at least one is.
    """

    ids: Tokens
    length: int
    tokenizer: PreTrainedTokenizerBase
    share: float = 0.15

    def __call__(self, rng: np.random.Generator) -> Example:
        inner = self.length - 2
        start = int(rng.integers(0, len(self.ids) - inner))
        window = np.empty(self.length, dtype=np.int64)
        window[0], window[-1] = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        window[1:-1] = self.ids[start : start + inner]
        chosen = np.zeros(self.length, dtype=bool)
        chosen[1 + rng.permutation(inner)[: max(1, round(self.share * inner))]] = True
        labels = np.where(chosen, window, IGNORED)
        how = rng.random(self.length)
        others = rng.integers(0, len(self.tokenizer), self.length)
        seen = np.where(chosen & (how < 0.8), self.tokenizer.mask_token_id, window)
        seen = np.where(chosen & (how >= 0.8) & (how < 0.9), others, seen)
        return {"input_ids": seen, "labels": labels}
