"""What a model is calibrated on: text, images, what it writes itself, or random tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wavescale.calibration.writing import filled_masks, generated_tokens
from wavescale.errors import CheckpointError, OptionError
from wavescale.inputs import is_image_model, positions, random_inputs, read_images, read_text, token_inputs, with_mask
from wavescale.memory import quiet_loading
from wavescale.operators import spread_evenly
from wavescale.spec import ModelSpec, predicts_masked

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# A few thousand tokens suffice; long windows show a decoder's attention what it is made for.
TOKENS, LENGTH = 8192, 256
# Encoders read sentences: more and shorter sequences (experiments/LOG.md has the measurements).
SENTENCE_TOKENS, SENTENCE_LENGTH = 16384, 32
# What masked language models write themselves may be longer: one thing leads to another.
_FILLED_LENGTH = 64
# Sequences and images in one batch, and images in all.
_BATCH, _IMAGES = 32, 256
_MASKED_SHARE = 0.15
_FEWEST_TOKENS = 256
_OPTION = "calibrate (--calibrate)"

Batches = Sequence[Mapping[str, "torch.Tensor"]]


def calibration_batches(
    kind: Literal["generated", "random"] | Path,
    model: PreTrainedModel,
    spec: ModelSpec,
    folder: Path | None = None,
    tokenizer: Any = None,
    seed: int = 0,
) -> Batches:
    """Keyword arguments of a model's forward pass, about `TOKENS` tokens in all, or `SENTENCE_TOKENS`.

    Parameters
    ----------
    kind
        `generated`: text that a language model writes itself (a masked one needs a tokenizer that knows its
        mask); `random`: tokens or pixels drawn at random; or a text file, for an image model a folder of images.
    model
        The source.
    folder, tokenizer
        Where the source lies, and its tokenizer.

    Raises
    ------
    OptionError
        The model does not generate, or has no tokenizer for a text.
    CheckpointError
        The file cannot be read, or is too short.
    """
    if isinstance(kind, Path):
        return _given(kind, spec, folder, tokenizer)
    if kind == "generated" and not _reads_sentences(spec):
        return _split(token_inputs(spec, generated_tokens(model, TOKENS, LENGTH, seed)))
    if kind == "generated":
        if tokenizer is None or tokenizer.mask_token_id is None:
            raise OptionError(
                f"{_OPTION} generated: the source has no tokenizer with a mask, by which {spec.class_name} writes. "
                "Put the tokenizer beside the source, or use random."
            )
        return _filled(model, spec, tokenizer, seed)
    tokens, length = (SENTENCE_TOKENS, SENTENCE_LENGTH) if _reads_sentences(spec) else (TOKENS, LENGTH)
    count = _IMAGES if is_image_model(spec) else tokens // min(length, positions(spec))
    return _split(random_inputs(spec, count, length, seed))


def _given(path: Path, spec: ModelSpec, source: Path | None, tokenizer: Any) -> Batches:
    if is_image_model(spec):
        return _images(path, spec, source)
    if tokenizer is None:
        raise OptionError(
            f"{_OPTION} {path}: the source has no tokenizer to read a text with. "
            "Put the tokenizer beside it, give batches from Python, or use generated or random."
        )
    return _sentences(path, spec, tokenizer) if _reads_sentences(spec) else _windows(path, spec, tokenizer)


def _filled(model: PreTrainedModel, spec: ModelSpec, tokenizer: Any, seed: int) -> Batches:
    """What a masked language model writes itself, with other tokens masked again."""
    import torch

    ids = filled_masks(model, tokenizer, SENTENCE_TOKENS, _FILLED_LENGTH, seed).cpu()
    ids = _masked(ids, torch.ones_like(ids), tokenizer, torch.Generator().manual_seed(seed))
    return _split(token_inputs(spec, ids))


def _split(inputs: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    count = len(next(iter(inputs.values())))
    return [{name: value[at : at + _BATCH] for name, value in inputs.items()} for at in range(0, count, _BATCH)]


def _reads_sentences(spec: ModelSpec) -> bool:
    return spec.family.placement == "post" and not spec.value("is_decoder")


def _windows(path: Path, spec: ModelSpec, tokenizer: Any) -> list[dict[str, torch.Tensor]]:
    """Windows from all over a text, as many as there is room for."""
    import torch

    text, length = read_text(path, _OPTION), min(LENGTH, positions(spec))
    count = max(1, TOKENS // length)
    # Of a long text only its windows are tokenized; no tokenizer makes tokens of sixteen characters on average.
    starts = range(0, len(text), len(text) // count) if len(text) > 16 * TOKENS else [0]
    pieces = [text[at : at + 16 * length] for at in starts[:count]] if len(starts) > 1 else [text]
    windows: list[torch.Tensor] = []
    with quiet_loading():  # a piece longer than the model's window is cut here
        for piece in pieces:
            ids = torch.tensor(tokenizer(piece, add_special_tokens=False)["input_ids"], dtype=torch.int64)
            places = spread_evenly(len(ids) - length + 1, min(count // len(pieces), len(ids) // length))
            windows += [ids[at : at + length] for at in places.tolist()]
    if len(windows) * length < _FEWEST_TOKENS:
        raise CheckpointError(
            f"{_OPTION} {path}: too short to calibrate on: {len(windows)} windows of {length} tokens. Give a few "
            "hundred sentences or more."
        )
    return _split(token_inputs(spec, torch.stack(windows)))


def _sentences(path: Path, spec: ModelSpec, tokenizer: Any) -> list[dict[str, torch.Tensor]]:
    """Lines from all over a text, each a sequence; masked language models see some tokens masked."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    lines = [line.strip() for line in read_text(path, _OPTION).splitlines() if line.strip()]
    limit = min(LENGTH, positions(spec))
    generator = torch.Generator().manual_seed(0)
    # Drawn in a fixed random order until there are enough tokens.
    order = torch.randperm(len(lines), generator=generator).tolist()
    chosen: list[list[int]] = []
    total = 0
    for place in order:
        if total >= SENTENCE_TOKENS:
            break
        chosen.append(tokenizer(lines[place], truncation=True, max_length=limit)["input_ids"])
        total += len(chosen[-1])
    if total < _FEWEST_TOKENS:
        raise CheckpointError(
            f"{_OPTION} {path}: has only {total} tokens to calibrate on. Give a few hundred sentences."
        )
    batches = []
    for at in range(0, len(chosen), _BATCH):
        some = [torch.tensor(found) for found in chosen[at : at + _BATCH]]
        ids = pad_sequence(some, batch_first=True, padding_value=tokenizer.pad_token_id or 0)
        mask = pad_sequence([torch.ones_like(found) for found in some], batch_first=True)
        if predicts_masked(spec) and tokenizer.mask_token_id is not None:
            ids = _masked(ids, mask, tokenizer, generator)
        batches.append(token_inputs(spec, ids, mask))
    return batches


def _masked(ids: torch.Tensor, mask: torch.Tensor, tokenizer: Any, generator: torch.Generator) -> torch.Tensor:
    """Tokens with some masked, as a masked language model sees them."""
    import torch

    hidden = (torch.rand(ids.shape, generator=generator) < _MASKED_SHARE) & mask.bool()
    return torch.where(hidden, int(tokenizer.mask_token_id), ids)


def _images(folder: Path, spec: ModelSpec, source: Path | None) -> list[dict[str, torch.Tensor]]:
    """Images of a folder, spread evenly over it, through the source's own processor."""
    import torch

    pixels = read_images(folder, source, _IMAGES, _OPTION)
    return _split(with_mask(spec, {"pixel_values": pixels}, torch.Generator().manual_seed(0)))
