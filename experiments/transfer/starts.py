"""What a run starts from: a fresh model, or the row's source in another size, and the FLOPs that it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import wavescale
from transfer.processes import processes
from transfer.runs import Run
from transfer.tasks import Task, for_task, fresh_model, load_trained

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What a kept model has beside its weights.
OPTIMIZER, START = "optimizer.pt", "start.json"


@dataclass(frozen=True)
class Start:
    """A model to train.

    Attributes
    ----------
    model
        As it is at step 0.
    flops
        What making it took: the passes of calibration, or of a mapping that was trained.
    moments
        AdamW's state for it, if it takes that over.
    """

    model: PreTrainedModel
    flops: int
    moments: dict[str, Any] | None = None


def make_start(run: Run, task: Task, source: Path | None, home: Path) -> Start:
    """The start of a run, kept in a folder so that probes, processes and resumed runs share it.

    Parameters
    ----------
    run, task
        Which.
    source
        Folder of the source's model; none for a fresh model.
    home
        The folder for the start.
    """
    if processes().is_main_process and not (home / START).is_file():
        model, flops = _made(run, task, source)
        model.save_pretrained(home)
        (home / START).write_text(json.dumps({"flops": flops}) + "\n", encoding="utf-8")
    processes().wait_for_everyone()
    flops = json.loads((home / START).read_text(encoding="utf-8"))["flops"]
    model = for_task(run, task, home)
    return Start(model, flops, _moments(run, source, model) if run.optimizer_state and source is not None else None)


def _options(run: Run) -> dict[str, Any]:
    """Of `wavescale.resize`."""
    return {**run.target, "seed": run.seed, **(run.options or {})}


def _made(run: Run, task: Task, source: Path | None) -> tuple[PreTrainedModel, int]:
    if run.options is None or source is None:
        return fresh_model(run, task, run.target), 0
    options = _options(run)
    if "train_steps" in options:
        options["train_file"] = _batches(run, task, options["train_steps"])
    if run.calibration_steps:
        drawn = _batches(run, task, run.calibration_steps)
        options["calibrate"] = [{name: value for name, value in one.items() if name != "labels"} for one in drawn]
    with FlopCounterMode(display=False) as counter:
        model = wavescale.resize(load_trained(source), **options)
    return model, counter.get_total_flops()


def _batches(run: Run, task: Task, steps: int) -> Iterator[dict[str, torch.Tensor]]:
    """What a mapping is trained on, or a start calibrated: the run's data in the run's order, with plain labels."""
    for step in range(steps):
        drawn = [task.train[place] for place in range(step * run.batch, (step + 1) * run.batch)]
        yield task.collate([{name: value for name, value in one.items() if name != "mixing"} for one in drawn])


def _moments(run: Run, source: Path, model: PreTrainedModel) -> dict[str, Any]:
    trained = load_trained(source)
    plan = wavescale.plan_resize(trained, **_options(run))
    state = torch.load(source / OPTIMIZER, weights_only=True)
    return wavescale.resize_optimizer_state(state, trained, model, plan)
