"""What a start is worth after a little training: the same steps, data order and learning rates for every method."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from small_gpt2 import train

import wavescale
from quality.benches import Bench
from quality.rows import Config, Row, row_options
from wavescale.memory import target_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCRATCH = "scratch"


@dataclass(frozen=True)
class TrainingRow:
    """One start that is trained with every learning rate, in the data order of a seed."""

    model: str
    factor: str
    axis: str
    method: str
    seed: int

    def path(self, results: Path) -> Path:
        """Where its result lies."""
        return results / self.model / "training" / f"{self.factor}-{self.axis}-{self.method}-{self.seed}.json"


def list_training(
    config: Config,
    models: Collection[str] = (),
    factors: Collection[str] = (),
    axes: Collection[str] = (),
    methods: Collection[str] = (),
) -> Iterator[TrainingRow]:
    """The rows in the order in which they are trained; empty collections choose everything."""
    recipe = config.training
    for seed in recipe.seeds:
        for model in recipe.models:
            for factor, axis in recipe.rows:
                for method in recipe.methods:
                    wanted = (not models or model in models) and (not factors or factor in factors)
                    wanted = wanted and (not axes or axis in axes)
                    if wanted and (not methods or method in methods) and _applies(config, model, factor, axis, method):
                        yield TrainingRow(model, factor, axis, method, seed)


def _applies(config: Config, model: str, factor: str, axis: str, method: str) -> bool:
    calibrated = config.models[model].calibration is not None
    return method == SCRATCH or config.methods[method].applies(Row(model, factor, axis, method), calibrated)


def train_row(row: TrainingRow, config: Config, bench: Bench) -> dict[str, Any]:
    """Train the start once with every learning rate."""
    recipe = config.training
    assert bench.corpus is not None
    begun = start(row, config, bench)
    curves = {}
    for rate in recipe.rates:
        model = deepcopy(begun)
        curves[str(rate)] = train(model, bench.corpus, recipe.steps, row.seed, rate, recipe.warmup, tuple(recipe.marks))
    best = min(curves, key=lambda rate: curves[rate][recipe.steps])
    print(f"{row.model} × {row.factor} {row.axis} {row.method}, {best}: {curves[best]}", flush=True)
    return {
        **vars(row),
        "sizes": config.models[row.model].axes[row.axis][row.factor],
        "options": {} if row.method == SCRATCH else config.methods[row.method].options,
        "steps": recipe.steps,
        "warmup": recipe.warmup,
        "best": best,
        "loss": curves,
    }


def start(row: TrainingRow, config: Config, bench: Bench) -> PreTrainedModel:
    """The model that is trained: resized, or freshly initialised at the same sizes."""
    resized_row = Row(row.model, row.factor, row.axis, row.method)
    if row.method != SCRATCH:
        return wavescale.resize(bench.source, **row_options(config, resized_row, bench.calibration))
    sizes = config.models[row.model].axes[row.axis][row.factor]
    torch.manual_seed(row.seed)
    model: PreTrainedModel = type(bench.source)(target_config(wavescale.plan_resize(bench.source, **sizes)))
    return model
