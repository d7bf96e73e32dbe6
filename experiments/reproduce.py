"""Train every run of the table that has no result yet; what is finished is skipped, what was interrupted goes on.

make reproduce TRAIN_FILES="a.txt.gz b.txt.gz" DATA_DIR=fashion-mnist
make reproduce ROW=gpt-s2l METHOD=wavescale SEED=0 TRAIN_FILES=a.txt.gz
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from train import Bench, command, finish
from transfer.outcomes import saving, write_summary
from transfer.runs import RESULTS, RUNS, SCRATCH, list_runs

# Trained before other methods, so that a table that is not finished says most.
FIRST = (SCRATCH, "bot-paper", "wavescale", "hypercloning", "weight-selection", "bert2bert-aki", "distillation")


def main(
    row: Annotated[list[str] | None, typer.Option(help="Rows; all by default.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Methods; all by default.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds; all by default.")] = None,
    train_file: Annotated[list[Path] | None, typer.Option(help="A text instead of those; several times.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data that configs name.")] = None,
    scale: Annotated[str, typer.Option(help="cpu or paper.")] = "cpu",
    work: Annotated[Path, typer.Option(help="Working folder.")] = Path("runs/transfer"),
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    runs: Annotated[Path, typer.Option(help="Folder of the runs' configs.")] = RUNS,
    minutes: Annotated[float, typer.Option(help="Begin no run after this long; 0 for no limit.")] = 0.0,
    threads: Annotated[int, typer.Option(help="Of a run on the processor; 0 for torch's own choice.")] = 0,
) -> None:
    """Train what is missing, row by row."""
    if threads:
        torch.set_num_threads(threads)
    console, began, finished = Console(), time.monotonic(), 0
    bench = Bench(data_dir, tuple(train_file or ()), work, results, runs)
    for run in list_runs(scale, row or (), method or (), FIRST, runs, seeds=seed or ()):
        if run.result(results).is_file():
            finished += 1
            continue
        if minutes and time.monotonic() - began > 60 * minutes:
            console.print("the time is over; the same command goes on from here")
            break
        console.rule(f"{run.row}  {run.method}  seed {run.seed}")
        found = finish(run, bench)
        r = saving(run, results)
        told = "" if r is None else f", saving {r:.1%}"
        end = found["curve"][-1]
        console.print(f"{run.row} {run.method} seed {run.seed}: {run.quality} {end[run.quality]:.4f} "
                      f"after {end['step']} steps{told}")  # fmt: skip
    write_summary(scale, results, runs)
    if finished:
        console.print(f"{finished} finished before, with results in {results}; --results FOLDER trains into another")


if __name__ == "__main__":
    command(main)
