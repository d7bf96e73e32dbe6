"""A progress bar on standard error: tensors, bytes and time left; silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
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

from wavescale.plan import TensorPlan


@dataclass
class TensorProgress:
    """Counts tensors and bytes that are being written."""

    bar: Progress
    task: TaskID | None = None
    total: int = 0
    done: int = 0

    def start(self, tensors: Sequence[TensorPlan]) -> None:
        """Begin with what is to be written."""
        self.total = len(tensors)
        self.task = self.bar.add_task("", total=sum(t.nbytes for t in tensors), tensors=f"0/{self.total}")

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
