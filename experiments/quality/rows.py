"""What is measured: every combination of model, factor, axis and method that `config.json` asks for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONFIG, RESULTS = HERE / "config.json", HERE / "results"
# What a method's options say where the model's calibration text belongs.
TEXT = "@text"


@dataclass(frozen=True)
class Method:
    """A way to resize, and where it applies; what is left empty applies everywhere.

    Attributes
    ----------
    options
        Keyword options of `wavescale.resize`. The value `@text` stands for the model's calibration text
        or images.
    direction
        `shrink` or `grow`.
    axes, models, factors
        Names in the config.
    """

    options: Mapping[str, Any]
    direction: str = ""
    axes: Collection[str] = ()
    models: Collection[str] = ()
    factors: Collection[str] = ()

    def applies(self, row: Row, calibrated: bool) -> bool:
        """Whether the method can make a row; `calibrated` says whether the row's model has a text."""
        return (
            self.direction in ("", row.direction)
            and (not self.axes or row.axis in self.axes)
            and (not self.models or row.model in self.models)
            and (not self.factors or row.factor in self.factors)
            and (calibrated or TEXT not in self.options.values())
        )


@dataclass(frozen=True)
class Model:
    """A source and what it is measured on.

    Attributes
    ----------
    title
        In words.
    source
        Its folder's name.
    measure
        `causal`, `similarity`, `masked` or `images`.
    class_name
        Its class in transformers.
    config
        What a plan needs to know of it, so that rows can be checked without weights.
    window
        The part of the data that is measured.
    calibration
        Other data, for methods that look at some; null if there is none.
    floor
        The source's own result and its standard error over the parts of the window.
    axes
        For each axis and factor the sizes: the valid ones nearest to the factor, ties away from the source.
    """

    title: str
    source: str
    measure: str
    class_name: str
    config: Mapping[str, Any]
    window: Mapping[str, Any]
    calibration: Mapping[str, Any] | None
    floor: Mapping[str, float]
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Training:
    """Which rows are trained, and the one recipe.

    Attributes
    ----------
    models, rows, methods
        Names; a row is a factor and an axis, and `scratch` is a method here.
    steps, warmup, rates, marks, seeds
        Steps of the optimizer, learning rates of which the best counts, steps at which the loss is
        measured, and seeds of the data order.
    """

    models: Collection[str]
    rows: Collection[tuple[str, str]]
    methods: Collection[str]
    steps: int
    warmup: int
    rates: Collection[float]
    marks: Collection[int]
    seeds: Collection[int]


@dataclass(frozen=True)
class Config:
    """All of `config.json`; the factors are in the order in which they are measured."""

    factors: Collection[str]
    methods: Mapping[str, Method]
    models: Mapping[str, Model]
    training: Training


@dataclass(frozen=True)
class Row:
    """One measurement."""

    model: str
    factor: str
    axis: str
    method: str

    @property
    def direction(self) -> str:
        """`shrink` or `grow`."""
        return "grow" if float(self.factor) > 1 else "shrink"

    def path(self, results: Path) -> Path:
        """Where its result lies."""
        return results / self.model / f"{self.factor}-{self.axis}-{self.method}.json"


def load_config(path: Path = CONFIG) -> Config:
    """Read the config; a key that nobody knows is an error."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    return Config(
        factors=raw.pop("factors"),
        methods={name: Method(**entry) for name, entry in raw.pop("methods").items()},
        models={name: Model(**entry) for name, entry in raw.pop("models").items()},
        training=Training(**raw.pop("training")),
        **raw,
    )


def list_rows(
    config: Config,
    models: Collection[str] = (),
    factors: Collection[str] = (),
    axes: Collection[str] = (),
    methods: Collection[str] = (),
) -> Iterator[Row]:
    """The rows in the order in which they are measured; empty collections choose everything."""
    for factor in config.factors:
        for name, model in config.models.items():
            for axis, sizes in model.axes.items():
                for method, entry in config.methods.items():
                    row = Row(name, factor, axis, method)
                    wanted = (not models or name in models) and (not methods or method in methods)
                    wanted = (
                        wanted and (not factors or factor in factors) and (not axes or axis in axes) and factor in sizes
                    )
                    if wanted and entry.applies(row, model.calibration is not None):
                        yield row


def row_options(config: Config, row: Row, calibration: object) -> dict[str, Any]:
    """The keyword arguments of `wavescale.resize` for a row: sizes, then the method's options."""
    given = config.methods[row.method].options
    options = {name: calibration if value == TEXT else value for name, value in given.items()}
    return {**config.models[row.model].axes[row.axis][row.factor], **options}
