"""What a mapping is trained on: text or images as batches with labels, or batches as they are given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from wavescale.errors import CheckpointError, OptionError
from wavescale.inputs import (
    given_batches,
    is_image_model,
    load_tokenizer,
    positions,
    read_images,
    read_text,
    token_inputs,
    with_mask,
)
from wavescale.memory import quiet_loading
from wavescale.spec import ModelSpec, predicts_masked

if TYPE_CHECKING:
    import torch

    Batch: TypeAlias = Mapping[str, torch.Tensor]
    TrainFile: TypeAlias = str | os.PathLike[str] | Iterable[Batch]

# Sequences or images in a batch, and tokens in a sequence as far as the model has positions.
BATCH, LENGTH = 8, 128
_IMAGES = 4096
_MASKED_SHARE = 0.15
_IGNORED = -100
_OPTION = "train_file (--train-file)"


def training_batches(
    given: TrainFile, spec: ModelSpec, folder: Path | None, steps: int, seed: int = 0
) -> Iterator[Batch]:
    """Keyword arguments of the forward pass with labels, up to one batch for each step.

    A text becomes `BATCH` windows of at most `LENGTH` tokens a step, drawn from all over it: a causal
    language model predicts every token, a masked one 15% that it does not see. A folder of images serves
    masked image models, which see half of the patches.

    Parameters
    ----------
    given
        A text file, a folder of images, or batches; of these as many are taken as there are steps.
    spec
        The model.
    folder
        Where the source lies, with its tokenizer or image processor.
    seed
        Of order and masks.

    Raises
    ------
    OptionError
        Text or images alone are no task for the model, it has no tokenizer, or there is no batch.
    CheckpointError
        The file cannot be read, or is too short.
    """
    if not isinstance(given, str | os.PathLike):
        return iter(given_batches(given, "train_file", steps))
    path = Path(given).expanduser()
    if is_image_model(spec):
        return _masked_images(path, spec, folder, seed)
    causal = spec.class_name.endswith(("ForCausalLM", "LMHeadModel"))
    if not causal and not predicts_masked(spec):
        raise OptionError(
            f"{_OPTION} {path}: a text alone is no task for {spec.class_name}. "
            "Give batches with labels from Python (train_file=[...])."
        )
    tokenizer = None if folder is None else load_tokenizer(folder)
    if tokenizer is None or (not causal and tokenizer.mask_token_id is None):
        raise OptionError(
            f"{_OPTION} {path}: the source has no tokenizer to read a text with"
            f"{'' if tokenizer is None else ' that knows a mask'}. "
            "Put the tokenizer beside it, or give batches from Python."
        )
    return _texts(path, spec, tokenizer, steps, seed, masked=not causal)


def _texts(path: Path, spec: ModelSpec, tokenizer: Any, steps: int, seed: int, masked: bool) -> Iterator[Batch]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    before = [tokenizer.cls_token_id] if masked and tokenizer.cls_token_id is not None else []
    behind = [tokenizer.sep_token_id] if masked and tokenizer.sep_token_id is not None else []
    length = min(LENGTH, positions(spec))
    windows = _windows(path, tokenizer, length - len(before) - len(behind), steps * BATCH, generator)
    for at in range(0, len(windows), BATCH):
        ids = torch.tensor([[*before, *window, *behind] for window in windows[at : at + BATCH]])
        labels = ids
        if masked:
            # The smallest is always below, so that every batch has something to predict.
            drawn = torch.rand(ids.shape, generator=generator)
            drawn[:, : len(before)] = drawn[:, ids.shape[1] - len(behind) :] = 2.0
            hidden = drawn <= drawn.min().clamp(min=_MASKED_SHARE)
            labels = torch.where(hidden, ids, _IGNORED)
            ids = torch.where(hidden, int(tokenizer.mask_token_id), ids)
        yield {**token_inputs(spec, ids), "labels": labels}


def _windows(path: Path, tokenizer: Any, length: int, count: int, generator: torch.Generator) -> list[list[int]]:
    """Windows of a text in random order, at most so many and at least one."""
    import torch

    text = read_text(path, _OPTION)
    # Of a long text only pieces are tokenized; no tokenizer makes tokens of sixteen characters on average.
    piece = 16 * length
    pieces = [text]
    if len(text) > piece * count:
        starts = torch.randint(0, len(text) - piece, (count,), generator=generator)
        pieces = [text[at : at + piece] for at in starts.tolist()]
    found: list[list[int]] = []
    with quiet_loading():  # a piece longer than the model's window is cut here
        for some in pieces:
            ids = tokenizer(some, add_special_tokens=False)["input_ids"]
            cut = [ids[at : at + length] for at in range(0, len(ids) - length + 1, length)]
            found += cut[:1] if len(pieces) > 1 else cut
    if not found:
        raise CheckpointError(
            f"{_OPTION} {path}: too short to train on, it has no {length} tokens. Give a longer text."
        )
    order = torch.randperm(len(found), generator=generator).tolist()
    return [found[place] for place in order[:count]]


def _masked_images(path: Path, spec: ModelSpec, source: Path | None, seed: int) -> Iterator[Batch]:
    import torch

    if "MaskedImage" not in spec.class_name:
        raise OptionError(
            f"{_OPTION} {path}: images alone are no task for {spec.class_name}. "
            "Give batches with labels from Python (train_file=[...])."
        )
    pixels = read_images(path, source, _IMAGES, _OPTION)
    generator = torch.Generator().manual_seed(seed)
    pixels = pixels[torch.randperm(len(pixels), generator=generator)]
    for some in torch.split(pixels, BATCH):
        yield with_mask(spec, {"pixel_values": some}, generator)
