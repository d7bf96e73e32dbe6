r"""Train one run of the table: probes choose its learning rate and warm-up, then it is trained and its result written.

    python experiments/train.py gpt-s2l wavescale --data-dir data
    accelerate launch --config_file experiments/accelerate/fsdp.yaml experiments/train.py gpt-s2l wavescale \
        --scale paper

Whatever a run waits for (scratch, whose quality is the target, and the source) is trained first. A finished run is
skipped, an interrupted one goes on from its checkpoint.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from flops import TRAINING, forward_flops
from transfer import outcomes
from transfer.climbing import climbed
from transfer.processes import processes
from transfer.runs import RESULTS, RUNS, SCRATCH, Run, load_run
from transfer.starts import Start, make_start
from transfer.tasks import Data, Task, load_task, load_trained
from transfer.training import Outcome, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How far the quality of a model that is trained again may be from its result, as a share: other processors round
# otherwise.
SAME = 0.02


@dataclass(frozen=True)
class Bench:
    """Where runs find their data and leave their files.

    Attributes
    ----------
    root, files
        Folder of local data, and text files instead of those that configs name; a config may name hub datasets.
    work
        Working folder: tokens, checkpoints, models, TensorBoard's logs.
    results, runs
        Folders of the results and of the runs' configs.
    """

    root: Path | None
    files: tuple[Path, ...]
    work: Path
    results: Path = RESULTS
    runs: Path = RUNS

    def run(self, scale: str, row: str, method: str, seed: int = 0) -> Run:
        """A run by its names."""
        return load_run(scale, row, method, seed, self.runs)

    def task(self, run: Run) -> Task:
        """The data of a run."""
        return load_task(run, Data(self.root, self.files, self.work))


def finish(run: Run, bench: Bench) -> dict[str, Any]:
    """The result of a run; it is trained unless it is there."""
    path = run.result(bench.results)
    if not path.is_file():
        _train(run, bench)
    return outcomes.read(path)


def final_model(run: Run, bench: Bench) -> Path:
    """The folder of a run's final model; the run is trained again where the model is gone."""
    home = bench.work / run.folder / "model"
    if not (home / "config.json").is_file():
        _train(run, bench)
    return home


def _train(run: Run, bench: Bench) -> None:
    source = None if run.source_run is None else final_model(bench.run(run.scale, *run.source_run), bench)
    wanted = _wanted(run, bench)
    task, home = bench.task(run), bench.work / run.folder
    run = _probed(run, source, bench)
    outcome, start = _run(run, task, source, wanted, home)
    if processes().is_main_process:
        model, result = load_trained(outcome.checkpoint), run.result(bench.results)
        if result.is_file():
            _check_same(run, outcome, outcomes.read(result))
        else:
            outcomes.write(result, _described(run, outcome, model, task, start, source, bench))
        model.save_pretrained(home / "model")
        if task.tokenizer is not None:
            task.tokenizer.save_pretrained(home / "model")
        shutil.rmtree(home / _name(run), ignore_errors=True)
    processes().wait_for_everyone()


def _check_same(run: Run, outcome: Outcome, recorded: dict[str, Any]) -> None:
    """A model that was trained again has to end as the one whose result is there, or a row would mix two sources."""
    (found, step), (before, at) = (
        (curve[-1][run.quality], curve[-1]["step"]) for curve in (outcome.curve, recorded["curve"])
    )
    if step != at or abs(found - before) > SAME * abs(before):
        raise ValueError(
            f"{run.row} {run.method} seed {run.seed}: its model was gone and ends with a {run.quality} of {found:.4f} "
            f"after {step} steps now, {before:.4f} after {at} in its result. Delete the results of all runs that start "
            "from it, and its own."
        )


def _wanted(run: Run, bench: Bench) -> float | None:
    """The quality that ends a run."""
    if run.stop == "never" or run.method == SCRATCH:
        return None
    if run.stop == "target":
        scratch = finish(bench.run(run.scale, run.row, SCRATCH, run.seed), bench)
        return float(scratch["curve"][-1][run.quality])
    scratch = finish(bench.run(run.scale, run.row, SCRATCH), bench)
    return outcomes.quality_at(scratch["curve"], run.quality, run.stop * scratch["run"]["steps"])


def _name(run: Run) -> str:
    return f"rate{run.rate:g}-warmup{run.warmup:g}-steps{run.steps}"


def _run(run: Run, task: Task, source: Path | None, wanted: float | None, home: Path) -> tuple[Outcome, Start]:
    start = make_start(run, task, source, home / "start")
    teacher = load_trained(source) if run.distillation is not None and source is not None else None
    return train(run, task, start, teacher, wanted, home / _name(run)), start


def _probed(run: Run, source: Path | None, bench: Bench) -> Run:
    """The run with the rate and the warm-up that its probes found best; a probe is the run with a small budget.

    Its schedule is as short as its budget, so that every rate has come down to its floor where they are
    compared: at its highest a rate looks worse than it is. The rates are climbed at the first warm-up, then the
    other warm-ups are compared at the best rate. Other seeds of the method take over what the first one's probes found.
    """
    if not run.rates:
        return run
    path = run.probes(bench.results)
    if not path.is_file():
        first = replace(run, seed=run.seeds[0])
        task, home = bench.task(first), bench.work / first.folder
        probes: list[dict[str, float]] = []

        def tried(rate: float, warmup: float) -> float:
            probe = replace(first.at(rate, warmup), steps=first.probe_steps, marks=1)
            outcome, _ = _run(probe, task, source, None, home)
            last = outcome.curve[-1]
            probes.append({"rate": rate, "warmup": warmup, "step": last["step"], run.quality: last[run.quality]})
            return rank(probes[-1])

        def rank(probe: dict[str, float]) -> float:
            return -inf if isnan(probe[run.quality]) else sign * probe[run.quality]

        sign = 1 if run.greater_is_better else -1
        top = climbed(run.rates, lambda rate: tried(rate, run.warmups[0]))
        for warmup in run.warmups[1:]:
            tried(top, warmup)
        if processes().is_main_process:
            chosen = max(probes, key=rank)
            found = {"row": run.row, "method": run.method, "seed": first.seed, "chosen": chosen, "probes": probes}
            outcomes.write(path, found)
            for probe in probes:
                short = replace(first.at(probe["rate"], probe["warmup"]), steps=first.probe_steps)
                shutil.rmtree(home / _name(short), ignore_errors=True)
        processes().wait_for_everyone()
    best = outcomes.read(path)["chosen"]
    return run.at(best["rate"], best["warmup"])


def _described(
    run: Run, outcome: Outcome, model: PreTrainedModel, task: Task, start: Start, source: Path | None, bench: Bench
) -> dict[str, Any]:
    step = TRAINING * run.batch * forward_flops(model, task.length)
    teacher = 0
    if run.distillation is not None and source is not None:
        teacher = run.batch * forward_flops(load_trained(source), task.length)
    spent = 0
    if run.source_run is not None:
        before = outcomes.read(bench.run(run.scale, *run.source_run).result(bench.results))
        spent = before["curve"][-1]["step"] * before["flops_per_step"] + before["start_flops"]
    return {
        "row": run.row,
        "method": run.method,
        "seed": run.seed,
        "run": {name: value for name, value in asdict(run).items() if name not in ("row", "method", "seed", "seeds")},
        "parameters": model.num_parameters(),
        "flops_per_step": step + teacher,
        "start_flops": start.flops,
        "start_seconds": start.seconds,
        "source_flops": spent,
        "curve": outcome.curve,
        "threads": torch.get_num_threads(),
        "processes": processes().num_processes,
    }


def main(
    row: Annotated[str, typer.Argument(help="A row of the table, such as gpt-s2l.")],
    method: Annotated[str, typer.Argument(help="A method of the row, such as wavescale.")],
    train_file: Annotated[list[Path] | None, typer.Option(help="A text instead of those; several times.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data that configs name.")] = None,
    scale: Annotated[str, typer.Option(help="cpu or paper.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of data order, masks and fresh weights.")] = 0,
    work: Annotated[Path, typer.Option(help="Working folder.")] = Path("runs/transfer"),
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    runs: Annotated[Path, typer.Option(help="Folder of the runs' configs.")] = RUNS,
) -> None:
    """Train one run and write its result."""
    bench = Bench(data_dir, tuple(train_file or ()), work, results, runs)
    run = bench.run(scale, row, method, seed)
    if run.result(results).is_file():
        print(f"finished before: {run.result(results)}; --results FOLDER trains into another")
    finish(run, bench)


def command(main: Callable[..., None]) -> None:
    """Run a command line; input that cannot be used ends in one sentence."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    try:
        app()
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    command(main)
