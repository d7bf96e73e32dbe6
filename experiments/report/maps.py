"""Maps of where sources and resized models look, as in the paper's figures, from the models that runs have kept."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transfer.runs import Run, load_run
from transfer.tasks import Data, Task, load_task, load_trained

from report.looking import activation_map, attention, rollout
from report.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Methods that are shown where a row has them, and how much of the data.
SHOWN = ("scratch", "weight-selection", "hypercloning", "bot-paper", "wavescale")
TOKENS, IMAGES = 48, 3
# How a map lies over its image.
OVER: dict[str, Any] = {"cmap": "jet", "alpha": 0.5, "interpolation": "bilinear"}


@dataclass(frozen=True)
class Map:
    """One picture.

    Attributes
    ----------
    values
        (height, width); None for the image alone.
    below
        The image that it belongs to, (height, width), if it belongs to one.
    """

    values: torch.Tensor | None
    below: torch.Tensor | None = None


@dataclass(frozen=True)
class Column:
    """What one model shows: a map for each line of a figure.

    Attributes
    ----------
    title
        Which model.
    maps
        From top to bottom.
    """

    title: str
    maps: Sequence[Map]


def draw_maps(rows: Sequence[Row], data: Data, docs: Path, runs: Path) -> list[Path]:
    """A figure for each row of savings whose source and resized models are there."""
    made = []
    for row in rows:
        models = kept_models(row, data.work, runs) if row.kind == "savings" else {}
        if len(models) < 2:
            continue
        task = load_task(row.first, data)
        if row.first.task == "images":
            names, columns = _of_images(task, models)
        else:
            names, columns = _of_text(task, models)
        made.append(docs / f"maps-{row.name}.png")
        _draw(names, columns, made[-1])
    return made


def kept_models(row: Row, work: Path, runs: Path) -> dict[str, Path]:
    """Folders of a row's models by what they are: the source, starts, and the models that runs ended with.

    Each is of the first seed whose model is there.
    """
    named = next((run.source_run for run in row.runs.values() if run.source_run is not None), None)
    found: dict[str, Path] = {}
    if named is not None:
        found["source"] = work / load_run(row.first.scale, *named, runs=runs).folder / "model"
    shown: list[Run] = [row.runs[name] for name in SHOWN if name in row.runs]
    for told, part in (("start", "start"), ("trained", "model")):
        for run in shown:
            of_seeds = [work / replace(run, seed=seed).folder / part for seed in run.seeds]
            found[f"{run.method}\n{told}"] = next(filter(_is_model, of_seeds), of_seeds[0])
    return {name: folder for name, folder in found.items() if _is_model(folder)}


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _of_text(task: Task, models: Mapping[str, Path]) -> tuple[list[str], list[Column]]:
    """Attention of the first, the middle and the last layer over the beginning of the first window measured on."""
    batch = task.collate([task.validation[0]])
    inputs = {name: value[:, :TOKENS] for name, value in batch.items() if name not in task.labels}
    columns = []
    for title, folder in models.items():
        maps = attention(load_trained(folder), inputs)
        # The root shows weak attention as well.
        columns.append(Column(title, [Map(maps[at].sqrt()) for at in (0, len(maps) // 2, len(maps) - 1)]))
    return ["first layer", "middle layer", "last layer"], columns


def _of_images(task: Task, models: Mapping[str, Path]) -> tuple[list[str], list[Column]]:
    """Rollout from the class token, and the activation map of the right class, for images of different classes."""
    chosen = _of_different_classes(task)
    pixels = [torch.as_tensor(one["pixel_values"]) for one in chosen]
    grey = [one.mean(0) for one in pixels]
    columns = [Column("image", [Map(None, one) for one in grey for _ in range(2)])]
    for title, folder in models.items():
        model = load_trained(folder)
        maps = []
        for one, image, below in zip(chosen, pixels, grey, strict=True):
            inputs = {"pixel_values": image[None]}
            for found in (_rollout(model, inputs), activation_map(model, inputs, int(one["labels"]))):
                maps.append(Map(found, below))
        columns.append(Column(title, maps))
    return ["rollout", "class activation"] * len(chosen), columns


def _of_different_classes(task: Task) -> list[Mapping[str, Any]]:
    chosen: dict[int, Mapping[str, Any]] = {}
    for place in range(100):
        example = task.validation[place]
        chosen.setdefault(int(example["labels"]), example)
        if len(chosen) == IMAGES:
            break
    return list(chosen.values())


def _rollout(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """From the class token to the patches."""
    side = model.config.image_size // model.config.patch_size
    return rollout(attention(model, inputs))[0, -side * side :].view(side, side)


def _draw(names: Sequence[str], columns: Sequence[Column], path: Path) -> None:
    """Write a grid of maps, each from its own least to its own greatest value, in few colours for a small file."""
    from matplotlib.figure import Figure
    from PIL import Image

    size = (0.95 * len(columns) + 0.3, 0.9 * len(names) + 0.5)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    panels = figure.subplots(len(names), len(columns), squeeze=False)
    for line, name in zip(panels, names, strict=True):
        line[0].set_ylabel(name, fontsize=6)
    for place, column in enumerate(columns):
        panels[0, place].set_title(column.title, fontsize=6)
        for panel, one in zip(panels[:, place], column.maps, strict=True):
            panel.set(xticks=[], yticks=[])
            if one.below is not None:
                panel.imshow(one.below.numpy(), cmap="gray")
            if one.values is not None:
                height, width = (one.values if one.below is None else one.below).shape
                look = {"cmap": "magma"} if one.below is None else OVER
                panel.imshow(one.values.numpy(), extent=(-0.5, width - 0.5, height - 0.5, -0.5), **look)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(96).save(path, optimize=True)
