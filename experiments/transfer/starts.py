"""What a run starts from: a fresh model, or the row's source in another size, and what it took."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import wavescale
from transfer.processes import processes
from transfer.runs import Run
from transfer.tasks import Task, for_task, fresh_model, load_trained

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# What a start has beside its weights.
START = "start.json"
# Added to the seed of the data that a start is calibrated or a mapping trained on, which the run itself does not see
# in that order.
APART = 1000


@dataclass(frozen=True)
class Start:
    """A model to train.

    Attributes
    ----------
    model
        As it is at step 0.
    flops, seconds
        What making it took: the passes of calibration, or of a mapping that was trained.
    """

    model: PreTrainedModel
    flops: int
    seconds: float = 0.0


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

    Raises
    ------
    ValueError
        The folder holds a start with other options or from another source.
    """
    of = _fingerprint(run, source)
    if processes().is_main_process and not (home / START).is_file():
        began = time.monotonic()
        model, flops = _made(run, task, source)
        model.save_pretrained(home)
        found = {"flops": flops, "seconds": round(time.monotonic() - began, 3), "of": of}
        (home / START).write_text(json.dumps(found) + "\n", encoding="utf-8")
    processes().wait_for_everyone()
    found = json.loads((home / START).read_text(encoding="utf-8"))
    if found["of"] != of:
        raise ValueError(
            f"{home}: holds a start of {run.row} {run.method} with other options or from another source; delete "
            f"{home.parent}, or give another --work."
        )
    return Start(for_task(run, task, home), found["flops"], found["seconds"])


def _fingerprint(run: Run, source: Path | None) -> str:
    """Of all that decides a start."""
    files = [] if source is None else sorted(source.glob("*.safetensors"))
    weights = [sha256(file.read_bytes()).hexdigest() for file in files]
    decided = {"options": run.options, "target": run.target, "seed": run.seed, "data": run.data,
               "calibration_steps": run.calibration_steps, "source": weights}  # fmt: skip
    return sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]


def _made(run: Run, task: Task, source: Path | None) -> tuple[PreTrainedModel, int]:
    if run.options is None or source is None:
        return fresh_model(run, task, run.target), 0
    options: dict[str, Any] = {**run.target, "seed": run.seed, **run.options}
    if "train_steps" in options:
        options["train_file"] = _batches(run, task, options["train_steps"])
    if run.calibration_steps:
        drawn = _batches(run, task, run.calibration_steps)
        options["calibrate"] = [{name: value for name, value in one.items() if name != "labels"} for one in drawn]
    # A fused attention on the processor is no product that torch counts.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model = wavescale.resize(load_trained(source), device=str(processes().device), **options)
    return model, counter.get_total_flops()


def _batches(run: Run, task: Task, steps: int) -> Iterator[dict[str, torch.Tensor]]:
    """What a mapping is trained on, or a start calibrated: the run's data in another order, with plain labels.

    No more at once than a device takes.
    """
    batch = run.device_batch or run.batch
    train = replace(task.train, seed=task.train.seed + APART)
    for step in range(steps):
        drawn = [train[place] for place in range(step * batch, (step + 1) * batch)]
        yield task.collate([{name: value for name, value in one.items() if name != "mixing"} for one in drawn])
