"""Runs as data: defaults, a file for each row of the table, and a small file for each method in it.

runs/<scale>/defaults.json            what all runs share
runs/<scale>/<row>/row.json           task, sizes, budget and source of a row
runs/<scale>/<row>/<method>.json      what a method changes
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parents[1]
RUNS, RESULTS = HERE / "runs", HERE / "results"
# The methods that other runs wait for.
SCRATCH, SOURCE = "scratch", "source"


@dataclass(frozen=True)
class Distillation:
    """Knowledge distillation from the row's source: α·CE + (1 − α)·T²·KL (Hinton et al. 2015, arXiv 1503.02531)."""

    alpha: float = 0.5
    temperature: float = 2.0


@dataclass(frozen=True)
class Run:
    """One training run, with all that decides its curve.

    Attributes
    ----------
    scale, row, method, seed
        Which run it is. The seed draws the data's order, the masks and the augmentation (see `order`), and fresh
        weights.
    task
        `causal` or `masked` language modelling, `images` or `sentences` to classify, or `answers` to find.
    quality
        What is measured: `loss`, or a name in `transfer.measures`.
    data
        What to train and measure on, as the task reads it (`transfer.text`, `transfer.images`,
        `transfer.sentences`, `transfer.answers`).
    config
        Fields of the model's config besides its sizes.
    decoder
        Whether it is GPT-2 that classifies sentences, and not BERT.
    source, target
        Sizes as `wavescale.resize` names them.
    source_run
        Row and method of the run whose final model is the source.
    options
        Of `wavescale.resize`; none at all for a fresh model.
    calibration_steps
        How many steps' data a start is calibrated on, besides what `options` say; 0 leaves that to them.
    stop
        Where a run ends before its budget does: `target`, once it has the quality that scratch ends with; a
        number, once it has the quality that scratch of the row has at this share of its budget; or `never`.
    fresh_head
        Whether the classes are others than the source's, so that the classifier is drawn anew.
    distillation
        None for ordinary training.
    steps, batch
        The budget, in steps of the optimizer, and sequences or images in a step over all processes.
    device_batch
        As many at most does one process take at a time, and adds gradients up over several; 0 for all at once.
    rate, warmup
        Highest learning rate, and the share of the steps in which it is reached. From there it falls as a
        cosine over the whole budget to `floor` of the highest.
    rates, warmups
        The grid from which probes choose, rates in ascending order; empty for a run whose rate and warm-up are given.
    probe
        The share of the budget that a probe takes; its schedule is as short.
    floor, weight_decay, beta2, smoothing
        Of the schedule, AdamW and the loss.
    marks
        How many times the quality is measured over the budget, besides at its start.
    order
        Added to the seed that draws the data, so that what a run is trained on comes in another order than
        what its source was trained on: batches that a source has seen in the same order teach less.
    workers
        Processes that prepare data for each process that trains.
    seeds
        Which seeds there are for this row and method.
    """

    scale: str
    row: str
    method: str
    task: Literal["causal", "masked", "images", "sentences", "answers"]
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    source: Mapping[str, int]
    target: Mapping[str, int]
    steps: int
    batch: int
    rates: Sequence[float]
    warmups: Sequence[float]
    quality: str = "loss"
    seed: int = 0
    source_run: tuple[str, str] | None = None
    options: Mapping[str, Any] | None = None
    calibration_steps: int = 0
    stop: Literal["target", "never"] | float = "target"
    decoder: bool = False
    fresh_head: bool = False
    distillation: Distillation | None = None
    rate: float = 0.0
    warmup: float = 0.0
    device_batch: int = 0
    probe: float = 0.15
    floor: float = 0.1
    weight_decay: float = 0.01
    beta2: float = 0.999
    smoothing: float = 0.0
    marks: int = 50
    order: int = 0
    workers: int = 0
    seeds: Sequence[int] = field(default=(0,))

    @property
    def greater_is_better(self) -> bool:
        """Whether more of the quality is better."""
        return self.quality != "loss"

    @property
    def data_seed(self) -> int:
        """What draws the data's order, the masks and the augmentation."""
        return self.seed + self.order

    @property
    def every(self) -> int:
        """Steps between measurements."""
        return max(1, self.steps // self.marks)

    @property
    def probe_steps(self) -> int:
        """Steps of a probe."""
        return max(1, round(self.probe * self.steps))

    def reaches(self, found: float, wanted: float) -> bool:
        """Whether a quality is as good as another."""
        return found >= wanted if self.greater_is_better else found <= wanted

    def at(self, rate: float, warmup: float) -> Run:
        """The same run with another rate and warm-up."""
        return replace(self, rate=rate, warmup=warmup)

    @property
    def folder(self) -> Path:
        """Where its files belong, below a working folder."""
        return Path(self.scale, self.row, f"{self.method}-seed{self.seed}")

    def result(self, results: Path = RESULTS) -> Path:
        """Where its result lies. Results of other scales than `cpu` lie in a folder of their own."""
        home = results if self.scale == "cpu" else results / self.scale
        return home / self.row / f"{self.method}-seed{self.seed}.json"

    def probes(self, results: Path = RESULTS) -> Path:
        """Where the qualities of its probes lie."""
        return self.result(results).with_name(f"{self.method}-probes.json")


def load_run(scale: str, row: str, method: str, seed: int = 0, runs: Path = RUNS) -> Run:
    """A run of the table.

    Raises
    ------
    ValueError
        There is no such row or method.
    TypeError
        A file has a key that no run has.
    """
    home = runs / scale
    if row not in (rows := list_rows(scale, runs)):
        raise ValueError(f"{row}: no row of {home}; use one of {', '.join(rows)}.")
    if method not in (methods := list_methods(scale, row, runs)):
        raise ValueError(f"{method}: no method of {home / row}; use one of {', '.join(methods)}, or write its file.")
    merged: dict[str, Any] = {}
    for file in (home / "defaults.json", home / row / "row.json", home / row / f"{method}.json"):
        merged.update(json.loads(file.read_text(encoding="utf-8")))
    if merged.get("distillation") is not None:
        merged["distillation"] = Distillation(**merged["distillation"])
    if merged.get("source_run") is not None:
        merged["source_run"] = tuple(merged["source_run"])
    return Run(scale=scale, row=row, method=method, seed=seed, **merged)


def list_rows(scale: str, runs: Path = RUNS) -> list[str]:
    """The rows of a scale, by name."""
    return sorted(file.parent.name for file in (runs / scale).glob("*/row.json"))


def list_methods(scale: str, row: str, runs: Path = RUNS) -> list[str]:
    """The methods of a row: first those that others wait for."""
    found = sorted(file.stem for file in (runs / scale / row).glob("*.json") if file.stem != "row")
    return [*(name for name in (SCRATCH, SOURCE) if name in found), *(n for n in found if n not in (SCRATCH, SOURCE))]


def list_runs(
    scale: str,
    rows: Sequence[str] = (),
    methods: Sequence[str] = (),
    order: Sequence[str] = (),
    runs: Path = RUNS,
    *,
    seeds: Sequence[int] = (),
) -> Iterator[Run]:
    """Every run, seeds of a method last, so that each row is complete with one seed first.

    Parameters
    ----------
    scale, rows, methods, seeds
        Which; empty for all.
    order
        Methods that come before others.
    """
    rank = {name: place for place, name in enumerate(order)}
    for row in rows or list_rows(scale, runs):
        firsts = [load_run(scale, row, method, runs=runs) for method in list_methods(scale, row, runs)]
        firsts = [run for run in firsts if not methods or run.method in methods]
        firsts.sort(key=lambda run: rank.get(run.method, len(rank)))
        longest = max((len(run.seeds) for run in firsts), default=0)
        for place in range(longest):
            seeded = (replace(run, seed=run.seeds[place]) for run in firsts if place < len(run.seeds))
            yield from (run for run in seeded if not seeds or run.seed in seeds)
