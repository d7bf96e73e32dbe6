"""A tokenizer of 26 words, one for each letter, and texts to read with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def words_tokenizer(masks: bool = True) -> PreTrainedTokenizerFast:
    """Words are numbered from 5; without masks it is a decoder's, with no token around a sentence."""
    vocabulary = {name: number for number, name in enumerate(["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"])}
    vocabulary |= {letter: len(vocabulary) + number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    found = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if masks:
        around = [("[CLS]", 1), ("[SEP]", 2)]
        found.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=around)
        special |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=found, **special)


def text(path: Path, lines: int, words: int) -> Path:
    """Random words in lines."""
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), (lines, words))
    path.write_text("\n".join(" ".join(row) for row in letters))
    return path
