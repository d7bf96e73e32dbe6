"""A small GPT-2 trained on a text file, as source for experiments: one recipe, fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from wavescale.inputs import read_text

VOCAB, WINDOW, BATCH = 2048, 128, 8
VALIDATION_BATCHES = 20


@dataclass(frozen=True)
class Corpus:
    """Token ids of a text, split at nine tenths."""

    train: torch.Tensor
    validation: torch.Tensor

    def batches(self, seed: int) -> Iterator[torch.Tensor]:
        """Windows drawn at random, the same order for the same seed, as (batch, window) ids."""
        rng = np.random.default_rng(seed)
        while True:
            starts = rng.integers(0, len(self.train) - WINDOW, BATCH)
            yield torch.stack([self.train[start : start + WINDOW] for start in starts])

    def validation_batches(self) -> Iterator[torch.Tensor]:
        rows = self.validation[: VALIDATION_BATCHES * BATCH * WINDOW].view(-1, BATCH, WINDOW)
        yield from rows


def read_corpus(path: Path, tokenizer: Path | None = None) -> Corpus:
    """Read a text; its tokenizer is trained on it, and kept in the folder `tokenizer` if one is given."""
    text = read_text(path)
    kept = None if tokenizer is None else tokenizer / "tokenizer.json"
    if kept is not None and kept.is_file():
        words = Tokenizer.from_file(str(kept))
    else:
        words = train_tokenizer(text)
        if tokenizer is not None:
            PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=WINDOW).save_pretrained(tokenizer)
    ids = torch.tensor(words.encode(text).ids)
    cut = len(ids) * 9 // 10
    return Corpus(ids[:cut], ids[cut:])


def train_tokenizer(text: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(text.splitlines(), trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False))
    return tokenizer


def config(layers: int, width: int) -> GPT2Config:
    return GPT2Config(
        n_layer=layers, n_embd=width, n_head=width // 32, n_positions=WINDOW, vocab_size=VOCAB,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip


def validation_loss(model: GPT2LMHeadModel, corpus: Corpus) -> float:
    model.eval()
    with torch.no_grad():
        losses = [float(model(ids, labels=ids).loss) for ids in corpus.validation_batches()]
    return float(np.mean(losses))


def train(
    model: GPT2LMHeadModel, corpus: Corpus, steps: int, seed: int, peak: float, warmup: int, marks: tuple[int, ...]
) -> dict[int, float]:
    """AdamW, linear warm-up, cosine decay to a tenth; validation loss in nats at the marked steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / warmup) * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / steps))),
    )
    curve = {0: validation_loss(model, corpus)} if 0 in marks else {}
    model.train()
    for step, ids in zip(range(1, steps + 1), corpus.batches(seed), strict=False):
        loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step in marks:
            curve[step] = validation_loss(model, corpus)
            model.train()
    return curve


def source(folder: Path, corpus: Corpus, layers: int, width: int, steps: int) -> GPT2LMHeadModel:
    """A trained source, kept in a folder."""
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config(layers, width))
        curve = train(model, corpus, steps, seed=0, peak=2e-3, warmup=100, marks=(200, steps // 2, steps))
        print(f"source {layers} x {width}: {curve}", flush=True)
        model.save_pretrained(folder)
    return GPT2LMHeadModel.from_pretrained(folder)
