"""Inputs to run a model on: random ones, text and images through the source's own tokenizer, and given batches."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavescale.errors import CheckpointError, OptionError
from wavescale.spec import ModelSpec

if TYPE_CHECKING:
    import torch

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def random_inputs(spec: ModelSpec, sequences: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens, or random pixels for an image model, as keyword arguments of its forward pass.

    Parameters
    ----------
    spec
        The model.
    sequences, length
        How many sequences (or images), and tokens in each as far as the model has positions.

    Examples
    --------
    >>> from wavescale.spec import read_spec
    >>> spec = read_spec({"model_type": "gpt2", "n_positions": 8})
    >>> random_inputs(spec, 2, 32)["input_ids"].shape
    torch.Size([2, 8])
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    if is_image_model(spec):
        image = spec.value("image_size")
        height, width = (image, image) if isinstance(image, int) else image
        shape = (sequences, spec.axis_sizes["channels"], height, width)
        return with_mask(spec, {"pixel_values": torch.randn(shape, generator=generator)}, generator)
    length = min(length, positions(spec))
    ids = torch.randint(0, spec.axis_sizes["vocab"], (sequences, length), generator=generator)
    return token_inputs(spec, ids)


def is_image_model(spec: ModelSpec) -> bool:
    """Whether the model reads pixels."""
    return "patch_height" in spec.axis_sizes


def with_mask(
    spec: ModelSpec, inputs: dict[str, torch.Tensor], generator: torch.Generator | None = None
) -> dict[str, torch.Tensor]:
    """Pixels, and for masked image models which patches are masked: half of them, at random."""
    import torch

    if "MaskedImage" not in spec.class_name:
        return inputs
    # A position for the class token, and in DeiT one for the distillation token.
    patches = spec.axis_sizes["positions"] - (2 if spec.family.name == "deit" else 1)
    masked = torch.rand((len(inputs["pixel_values"]), patches), generator=generator) < 0.5
    return {**inputs, "bool_masked_pos": masked}


def positions(spec: ModelSpec) -> int:
    """Tokens that the model has positions for."""
    if "positions" not in spec.axis_sizes:
        found = spec.value("max_position_embeddings")
        return found if isinstance(found, int) and found > 0 else 1 << 20
    # RoBERTa counts positions from behind its padding token.
    return spec.axis_sizes["positions"] - (2 if spec.family.name == "roberta" else 0)


def token_inputs(spec: ModelSpec, ids: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Tokens (sequences, length) as the class takes them; classes that compare choices take them in pairs.

    Parameters
    ----------
    mask
        Which tokens count, like `ids`; all by default.
    """
    import torch

    mask = torch.ones_like(ids) if mask is None else mask
    if "MultipleChoice" in spec.class_name or "DoubleHeads" in spec.class_name:
        pairs = torch.arange(len(ids) + len(ids) % 2).clamp(max=len(ids) - 1)  # an odd last one twice
        ids, mask = (found[pairs].view(-1, 2, ids.shape[1]) for found in (ids, mask))
    return {"input_ids": ids, "attention_mask": mask}


def given_batches(
    given: Iterable[Mapping[str, torch.Tensor]], option: str, most: int | None = None
) -> list[Mapping[str, torch.Tensor]]:
    """Batches that a user has made: keyword arguments of a model's forward pass, each a tensor.

    Parameters
    ----------
    given
        The batches.
    option
        What the user called them.
    most
        How many are taken; all by default.

    Returns
    -------
    They, in their order; what their shapes should be is the model's business.

    Raises
    ------
    OptionError
        It is something else, or empty.
    """
    import torch

    expected = "a list of batches, each a mapping from keyword arguments of the model's forward pass to tensors"
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        hint = " Put a single batch into a list." if isinstance(given, Mapping) else ""
        raise OptionError(f"{option}: found {type(given).__name__}, expected a path, or {expected}.{hint}")
    batches = list(islice(given, most))
    if not batches:
        raise OptionError(f"{option}: holds no batch, expected {expected}.")
    for number, batch in enumerate(batches):
        if not isinstance(batch, Mapping):
            raise OptionError(f"{option}: batch {number} is {type(batch).__name__}, expected {expected}.")
        for name, value in batch.items():
            if not isinstance(value, torch.Tensor):
                raise OptionError(
                    f"{option}: {name} of batch {number} is {type(value).__name__}, expected a tensor. Tokenizers and "
                    "image processors give tensors with return_tensors='pt'."
                )
    return batches


def has_tokenizer(folder: Path) -> bool:
    """Whether the files of a tokenizer lie beside a checkpoint."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "tokenizer.model", "vocab.json"))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer beside a checkpoint, or None where there is none that loads."""
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError):
        return None


def read_text(path: Path, option: str = "") -> str:
    """A text file, plain or gzipped.

    Parameters
    ----------
    path
        The file.
    option
        What the user called it, for the message.

    Raises
    ------
    CheckpointError
        It cannot be read, or is no UTF-8.
    """
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"{option} {path}: cannot be read as text: {error}.".lstrip()) from error


def read_images(folder: Path, source: Path | None, most: int, option: str) -> torch.Tensor:
    """Images of a folder, spread evenly over it, through the source's own processor: (images, channels, height, width).

    Parameters
    ----------
    folder
        Holds images, itself or in folders of its own.
    source
        Where the source lies, with its processor.
    most
        Images.
    option
        What the user called the folder.

    Raises
    ------
    CheckpointError
        The folder has no images.
    OptionError
        The source has no processor, or Pillow is missing.
    """
    if find_spec("PIL") is None:
        raise OptionError(f"{option} {folder}: reading images needs Pillow: pip install 'wavescale[images]'.")
    from PIL import Image
    from transformers import AutoImageProcessor

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise CheckpointError(
            f"{option} {folder}: no images in it; expected a folder with files {', '.join(_IMAGE_SUFFIXES)}."
        )
    if source is None or not (source / "preprocessor_config.json").is_file():
        raise OptionError(
            f"{option} {folder}: the source has no preprocessor_config.json to read images with. "
            "Put it beside the weights, or give batches from Python."
        )
    processor = AutoImageProcessor.from_pretrained(source, use_fast=False)
    files = files[:: max(1, len(files) // most)][:most]
    images = [Image.open(path).convert("RGB") for path in files]
    pixels: torch.Tensor = processor(images=images, return_tensors="pt")["pixel_values"]
    return pixels
