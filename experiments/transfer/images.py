"""Images for classifiers: IDX files, folders of images or a hub dataset, with the augmentation of a DeiT recipe."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from transfer.order import Example

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Decoded(Sequence[Pixels]):
    """Images that are opened when they are asked for.

    Attributes
    ----------
    items
        Files, or images of a dataset by number.
    opened
        From an item to Pillow's image.
    size, channels
        What they are brought to.
    """

    items: Sequence[Any]
    opened: Callable[[Any], Any]
    size: int
    channels: int

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: Any) -> Any:
        image = self.opened(self.items[place]).convert("L" if self.channels == 1 else "RGB")
        pixels = np.asarray(image.resize((self.size, self.size)), dtype=np.uint8)
        return pixels.reshape(self.size, self.size, self.channels)


@dataclass(frozen=True)
class Images:
    """Images, each (height, width, channels) of uint8, and the class of each."""

    pixels: Sequence[Pixels]
    labels: Labels


def read_images(data: Mapping[str, Any], folder: Path | None, train: bool) -> Images:
    """The images of a run.

    Parameters
    ----------
    data
        `size` and `channels` to bring images of folders and of the hub to; `hub`: arguments of
        `datasets.load_dataset`, with `columns` for image and label and `splits`, where no folder is given; `digits`:
        scikit-learn's handwritten digits instead, of which every fifth is trained on: all would leave too little to
        learn from other images.
    folder
        Holds IDX files (MNIST's format, as `train-images-idx3-ubyte.gz`), or one folder of images for each class
        below `train`, and for all or some of them below `test`.
    train
        Which part.

    Raises
    ------
    ValueError
        Neither a folder with images nor a hub dataset; or a class that is measured on and not trained on.
    """
    if data.get("digits"):
        return _digits(train)
    if folder is None:
        if "hub" not in data:
            raise ValueError("no images: give --data-dir FOLDER, or a config with data.hub.")
        return _from_hub(data, train)
    part = "train" if train else "t10k"
    if (folder / f"{part}-images-idx3-ubyte.gz").is_file():
        return _from_idx(folder, part)
    return _from_folders(data, folder, "train" if train else "test")


def _from_folders(data: Mapping[str, Any], folder: Path, part: str) -> Images:
    """Classes are numbered as they are below `train`, whatever the part."""
    from PIL import Image

    trained, found = (_folders(folder / name) for name in ("train", part))
    if not found:
        raise ValueError(f"{folder}: holds neither IDX files nor folders of classes below train and test.")
    unknown = sorted(set(found) - set(trained))
    if unknown:
        raise ValueError(f"{folder / part / unknown[0]}: is no class below train; found {', '.join(trained)}.")
    suffixes = Image.registered_extensions()
    files = [
        (file, trained.index(name))
        for name in found
        for file in sorted((folder / part / name).iterdir())
        if file.suffix.lower() in suffixes and not file.name.startswith(".")
    ]
    labels = np.asarray([label for _, label in files], dtype=np.int64)
    return Images(Decoded([file for file, _ in files], Image.open, data["size"], data["channels"]), labels)


def _folders(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("[!.]*") if path.is_dir())


def _from_idx(folder: Path, part: str) -> Images:
    raw = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    count, height, width = (int.from_bytes(raw[at : at + 4], "big") for at in (4, 8, 12))
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(count, height, width, 1)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return Images(list(pixels), labels.astype(np.int64))


def _digits(train: bool) -> Images:
    """Digits of 8 × 8 pixels, each pixel three times in both directions with a margin: 28 × 28."""
    from sklearn.datasets import load_digits

    found = load_digits()
    chosen = (np.arange(len(found.target)) % 5 == 0) == train
    large = found.images[chosen].repeat(3, axis=1).repeat(3, axis=2) * 15
    pixels = np.pad(large, ((0, 0), (2, 2), (2, 2)))[..., None].astype(np.uint8)
    return Images(list(pixels), found.target[chosen].astype(np.int64))


def _from_hub(data: Mapping[str, Any], train: bool) -> Images:
    from datasets import load_dataset

    hub = dict(data["hub"])
    image, label = hub.pop("columns", ["image", "label"])
    splits = hub.pop("splits", ["train", "test"])
    rows = load_dataset(**hub, split=splits[0 if train else 1])
    labels = np.asarray(rows[label], dtype=np.int64)
    return Images(Decoded(rows.select_columns(image), lambda row: row[image], data["size"], data["channels"]), labels)


def normalized(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Pixels (height, width, channels) from 0 to 255 as (channels, height, width) from −1 to 1."""
    return np.moveaxis(pixels.astype(np.float32) / 127.5 - 1.0, -1, 0)


@dataclass(frozen=True)
class Plain(Dataset[Example]):
    """The first images as they are measured on, opened when they are asked for."""

    images: Images
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Example:
        if not 0 <= place < self.count:
            raise IndexError(place)
        return {"pixel_values": normalized(self.images.pixels[place]), "labels": int(self.images.labels[place])}


@dataclass(frozen=True)
class Augmented:
    """Images as they are trained on: mirrored, shifted and partly erased at random.

    Of the DeiT recipe (Touvron et al. 2021, arXiv 2012.12877, table 9) these are what small grey images bear; mixing
    of pairs and smoothing of labels are the collator's and the loss's.

    Attributes
    ----------
    images
        To draw from.
    mirror
        Whether half of them are mirrored; digits are others then.
    shift
        Pixels that an image is moved by at most.
    erase
        The chance that a rectangle of 2 to 20% of the image is erased.
    """

    images: Images
    mirror: bool = True
    shift: int = 2
    erase: float = 0.25

    def __call__(self, rng: np.random.Generator) -> Example:
        drawn = int(rng.integers(0, len(self.images.labels)))
        image = self.images.pixels[drawn]
        # Drawn in any case, so that what is drawn after it stays the same.
        if rng.random() < 0.5 and self.mirror:
            image = image[:, ::-1]
        if self.shift:
            padded = np.pad(image, ((self.shift, self.shift), (self.shift, self.shift), (0, 0)))
            top, left = rng.integers(0, 2 * self.shift + 1, 2)
            image = padded[top : top + image.shape[0], left : left + image.shape[1]]
        found = normalized(image)
        if rng.random() < self.erase:
            found = _erased(found, rng)
        return {"pixel_values": found, "labels": int(self.images.labels[drawn]), "mixing": float(rng.random())}


def _erased(image: np.ndarray[Any, np.dtype[np.float32]], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Random erasing (Zhong et al. 2020, arXiv 1708.04896): a rectangle becomes noise."""
    _, height, width = image.shape
    area, ratio = height * width * rng.uniform(0.02, 0.2), np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
    tall = int(np.clip(round((area * ratio) ** 0.5), 1, height))
    wide = int(np.clip(round((area / ratio) ** 0.5), 1, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    found = image.copy()
    found[:, top : top + tall, left : left + wide] = rng.uniform(-1, 1, (len(image), tall, wide)).astype(np.float32)
    return found


@dataclass(frozen=True)
class Mixing:
    """A collator that mixes each image of a batch with the one before it (mixup, Zhang et al. 2018, arXiv 1710.09412).

    The labels become shares of the classes. λ is the larger of two sides of Beta(α, α), from the number that each
    example brings along; the other image is of those that the same process takes at a time.

    Attributes
    ----------
    classes
        How many there are.
    alpha
        Of the Beta distribution; 0 does not mix.
    """

    classes: int
    alpha: float

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(np.stack([example["pixel_values"] for example in examples]))
        labels = torch.tensor([example["labels"] for example in examples])
        if self.alpha == 0 or "mixing" not in examples[0]:
            return {"pixel_values": pixels, "labels": labels}
        from scipy.stats import beta

        drawn = beta.ppf([example["mixing"] for example in examples], self.alpha, self.alpha)
        share = torch.tensor(np.maximum(drawn, 1 - drawn), dtype=torch.float32)
        one_hot = torch.nn.functional.one_hot(labels, self.classes).float()
        mixed = share[:, None, None, None] * pixels + (1 - share)[:, None, None, None] * pixels.roll(1, 0)
        return {"pixel_values": mixed, "labels": share[:, None] * one_hot + (1 - share)[:, None] * one_hot.roll(1, 0)}
