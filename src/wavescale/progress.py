"""A progress bar on standard error: tensors, bytes and time left; silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from wavescale.plan import Plan, TensorPlan


@dataclass
class TensorProgress:
    """Counts tensors and bytes of a plan that is being carried out."""

    bar: Progress
    task: TaskID | None = None
    total: int = 0
    done: int = 0

    def start(self, plan: Plan) -> None:
        """Begin with a plan's totals."""
        self.total = len(plan.tensors)
        self.task = self.bar.add_task("", total=plan.nbytes, tensors=f"0/{self.total}")

    def advance(self, tensor: TensorPlan) -> None:
        """One more tensor is written."""
        assert self.task is not None
        self.done += 1
        self.bar.update(self.task, advance=tensor.nbytes, tensors=f"{self.done}/{self.total}")


@contextmanager
def tensor_progress(quiet: bool = False) -> Iterator[TensorProgress]:
    """A bar for one resize."""
    columns = (
        TextColumn("{task.fields[tensors]} tensors"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        yield TensorProgress(bar)
