"""Write rows of tensors to their places in files that are laid out already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from wavescale.bits import integers_of, memory_of
from wavescale.checkpoint.descriptors import Descriptors
from wavescale.checkpoint.shards import Shard
from wavescale.errors import FaultError

if TYPE_CHECKING:
    import torch


class RowWriter:
    """Puts rows of tensors in their places; several threads and several processes may do so at once.

    Use as a context manager: leaving it closes the files, which is where some disks say that they are full.

    Parameters
    ----------
    folder
        Where the files are.
    shards
        What they hold.

    Raises
    ------
    FaultError
        A file cannot be opened, written or closed.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self.folder = folder
        self._files = Descriptors(os.O_WRONLY)
        self._places: dict[str, tuple[Path, int]] = {}
        for shard in shards:
            file, offset = folder / shard.name, len(shard.header())
            for tensor in shard.tensors:
                self._places[tensor.name] = (file, offset)
                offset += tensor.nbytes

    def __enter__(self) -> RowWriter:
        return self

    def write(self, name: str, first: int, rows: torch.Tensor) -> None:
        """Put some rows of a tensor in their place.

        Parameters
        ----------
        name
            The tensor's.
        first
            The first of them.
        rows
            Of shape (rows, …), or the whole tensor of any shape.
        """
        file, offset = self._places[name]
        data = memory_of(integers_of(rows.detach().cpu().contiguous()))
        if first and len(rows):
            offset += first * (len(data) // rows.shape[0])
        try:
            with self._files.of(file) as descriptor:
                while len(data):
                    count = os.pwrite(descriptor, data, offset)
                    data, offset = data[count:], offset + count
        except OSError as error:
            raise FaultError(f"{file}: writing {name} failed: {error.strerror}. Nothing is left behind.") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = self._files.close()
        if failures and kind is None:
            raise FaultError(f"{self.folder}: finishing the output failed: {failures[0].strerror}.") from failures[0]
