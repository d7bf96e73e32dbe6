"""Read rows of a checkpoint's tensors by their place in the files (format: safetensors, "Format" in its README).

A mapped file would do it as well, but its pages are brought in one fault at a time and counted as the
process's own by whoever watches it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from wavescale.bits import memory_of, room_for, tensor_of
from wavescale.checkpoint.descriptors import Descriptors
from wavescale.checkpoint.reader import Checkpoint
from wavescale.errors import CheckpointError
from wavescale.rows import Rows
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch


class RowReader:
    """Gives rows of a checkpoint's tensors, to several threads at once.

    Use as a context manager: leaving it closes the files.

    Parameters
    ----------
    checkpoint
        The source.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._files = Descriptors(os.O_RDONLY)

    def __enter__(self) -> RowReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def __call__(self, name: str, rows: Rows) -> torch.Tensor:
        """Rows of a tensor, as they are stored, with storage of their own.

        Parameters
        ----------
        name
            The tensor's; it has at least one axis.
        rows
            Entries of its first axis.

        Raises
        ------
        CheckpointError
            The file ends early or cannot be read.
        """
        import torch

        file, shape, dtype = self.checkpoint.place(name)
        if file.suffix != ".safetensors":
            return taken(self.checkpoint.read(name), 0, rows).clone()
        room = room_for((len(rows), *shape[1:]), getattr(torch, dtype))
        data = memory_of(room)
        row_bytes = len(data) // max(1, len(rows))
        try:
            with self._files.of(file) as descriptor:
                for place, stretch in _stretches(rows):
                    part = data[place * row_bytes : (place + len(stretch)) * row_bytes]
                    _fill(part, descriptor, self._begins[name] + stretch.start * row_bytes)
        except OSError as error:
            raise CheckpointError(f"{name}: cannot be read from {file}: {error}.") from error
        return tensor_of(room, getattr(torch, dtype))

    @cached_property
    def _begins(self) -> dict[str, int]:
        """Where each tensor begins in its file, in bytes."""
        found: dict[str, int] = {}
        for file in (file for file in self.checkpoint.files if file.suffix == ".safetensors"):
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                header = json.loads(stream.read(length))
            found |= {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()
                      if name != "__metadata__"}  # fmt: skip
        return found


def _stretches(rows: Rows) -> Iterator[tuple[int, range]]:
    """Rows that lie one after the other in the file, and where they lie among those that are read."""
    if isinstance(rows, range):
        yield 0, rows
        return
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for place, stretch in zip([0, *breaks.tolist()], np.split(rows, breaks), strict=True):
        if len(stretch):
            yield place, range(int(stretch[0]), int(stretch[-1]) + 1)


def _fill(data: memoryview, descriptor: int, offset: int) -> None:
    """Read bytes at a place in a file; the file has no position that threads could fight for."""
    while len(data):
        count = os.preadv(descriptor, [data], offset)
        if count == 0:
            raise OSError("the file ends early")
        data, offset = data[count:], offset + count
