"""Write a checkpoint whose every offset is known before the first tensor is there.

The plan has all shapes and dtypes, so the headers are written first and each tensor goes straight
to its place (format: safetensors, "Format" section of its README). Nothing appears under the
output's name until all of it is there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from wavescale.checkpoint.reader import SAFETENSORS_DTYPES, read_config
from wavescale.errors import CheckpointError, FaultError, OutputError
from wavescale.plan import TensorPlan

if TYPE_CHECKING:
    import torch

_SAFETENSORS_NAMES = {ours: theirs for theirs, ours in SAFETENSORS_DTYPES.items()}
# Room for config, tokenizer and card besides the weights.
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True)
class Shard:
    """One file of weights: its name and its tensors, in the order of their bytes."""

    name: str
    tensors: tuple[TensorPlan, ...]

    def header(self) -> bytes:
        """Length and JSON header, padded so that data begins at a multiple of eight bytes."""
        entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for tensor in self.tensors:
            end = offset + tensor.nbytes
            entries[tensor.name] = {
                "dtype": _SAFETENSORS_NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


def split_shards(tensors: Sequence[TensorPlan], max_bytes: int) -> tuple[Shard, ...]:
    """Divide tensors over files of at most `max_bytes` (a larger tensor gets a file of its own)."""
    groups: list[list[TensorPlan]] = [[]]
    size = 0
    for tensor in tensors:
        if groups[-1] and size + tensor.nbytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.nbytes
    if len(groups) == 1:
        return (Shard("model.safetensors", tuple(groups[0])),)
    total = len(groups)
    return tuple(
        Shard(f"model-{number:05d}-of-{total:05d}.safetensors", tuple(group)) for number, group in enumerate(groups, 1)
    )


class CheckpointWriter:
    """A folder that becomes the output when all of it is there.

    Use as a context manager: leaving it normally renames the temporary folder to the output,
    leaving it by an exception removes it.

    Parameters
    ----------
    out
        The output folder.
    tensors
        What will be written, in the order of the files.
    max_shard_size
        Bytes per file of weights.
    overwrite
        Replace an existing output.
    besides
        Bytes that will be written besides the tensors.

    Raises
    ------
    OutputError
        The output exists, its parent does not, or the disk has too little room.
    """

    def __init__(
        self,
        out: Path,
        tensors: Sequence[TensorPlan],
        max_shard_size: int,
        overwrite: bool = False,
        besides: int = 0,
    ) -> None:
        self.out = Path(os.path.realpath(out))
        self.overwrite = overwrite
        self.shards = split_shards(tensors, max_shard_size)
        if out.exists() and not overwrite:
            raise OutputError(f"{out}: exists already. Choose another folder, or replace it with --overwrite.")
        if out.exists() and not _replaceable(out):
            raise OutputError(f"{out}: is not a checkpoint folder, so it is not replaced. Choose another folder.")
        parent = out.absolute().parent
        if not parent.is_dir():
            raise OutputError(f"{parent}: no such folder, so {out.name} cannot be made in it. Make it first.")
        needed = sum(tensor.nbytes for tensor in tensors) + besides + _SPARE_BYTES
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise OutputError(
                f"{parent}: {free / 1e9:.2f} GB free, the output needs {needed / 1e9:.2f} GB. "
                "Free some room, choose another disk, or write a smaller --dtype."
            )
        self._places: dict[str, tuple[str, int]] = {}
        self._streams: dict[str, BinaryIO] = {}

    def __enter__(self) -> CheckpointWriter:
        parent = self.out.parent
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.", suffix=".partial", dir=parent))
        except OSError as error:
            raise OutputError(f"{parent}: cannot write there: {error.strerror}.") from error
        try:
            self._open()
        except OSError as error:
            self.__exit__(type(error), error, None)
            raise FaultError(f"{self.folder}: cannot be written: {error.strerror}.") from error
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _open(self) -> None:
        for shard in self.shards:
            header = shard.header()
            offset = len(header)
            for tensor in shard.tensors:
                self._places[tensor.name] = (shard.name, offset)
                offset += tensor.nbytes
            stream = (self.folder / shard.name).open("wb", buffering=0)
            self._streams[shard.name] = stream
            stream.write(header)
            stream.truncate(offset)
        if len(self.shards) > 1:
            self.write_text("model.safetensors.index.json", self._index())

    def _index(self) -> str:
        total = sum(tensor.nbytes for shard in self.shards for tensor in shard.tensors)
        weight_map = {tensor.name: shard.name for shard in self.shards for tensor in shard.tensors}
        return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2, sort_keys=True)

    def write_tensor(self, name: str, tensor: torch.Tensor) -> None:
        """Put one tensor in its place.

        Raises
        ------
        FaultError
            The disk does not take it.
        """
        self.write_rows(name, 0, tensor)

    def write_rows(self, name: str, first: int, rows: torch.Tensor) -> None:
        """Put some rows of a tensor in their place; several threads may do so at once.

        Parameters
        ----------
        name
            The tensor's.
        first
            The first of them.
        rows
            Of shape (rows, …), or the whole tensor of any shape.

        Raises
        ------
        FaultError
            The disk does not take them.
        """
        import torch

        shard, offset = self._places[name]
        data = rows.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data
        if first:
            offset += first * (len(data) // rows.shape[0])
        try:
            while len(data):
                count = os.pwrite(self._streams[shard].fileno(), data, offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            raise FaultError(
                f"{self.folder / shard}: writing {name} failed: {error.strerror}. Nothing is left behind."
            ) from error

    def write_text(self, name: str, text: str) -> None:
        """Write a small file beside the weights."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def parked(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same tensor in a file that has no name, so that it takes no memory until it is saved.

        Raises
        ------
        FaultError
            The disk does not take it.
        """
        import torch

        if tensor.numel() == 0:
            return tensor
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder) as file:
                # Written rather than mapped and filled: a full disk is then an error and not a signal.
                file.write(tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data)
                file.flush()
                mapped = torch.from_file(file.name, shared=False, size=tensor.numel(), dtype=tensor.dtype)
        except OSError as error:
            raise FaultError(f"{self.folder}: writing failed: {error.strerror}. Nothing is left behind.") from error
        return mapped.view(tensor.shape)

    def write_pickle(self, name: str, value: Any) -> None:
        """Write tensors in dictionaries and lists as `torch.save` does.

        Raises
        ------
        FaultError
            The disk does not take it.
        """
        import torch

        try:
            torch.save(value, self.folder / name)
        except (OSError, RuntimeError) as error:
            raise FaultError(
                f"{self.folder / name}: writing failed: {str(error).splitlines()[0]}. Nothing is left behind."
            ) from error

    def copy(self, source: Path, name: str) -> None:
        """Copy a file as it is."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            failures = [failure for stream in self._streams.values() if (failure := _close(stream))]
            if kind is None:
                if failures:
                    raise failures[0]
                self._appear()
        except OutputError:
            raise
        except OSError as failure:
            raise FaultError(f"{self.folder}: finishing the output failed: {failure.strerror}.") from failure
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _appear(self) -> None:
        self.folder.chmod(0o777 & ~_umask())
        if not self.out.exists():
            self.folder.rename(self.out)
            return
        if not self.overwrite:
            raise OutputError(f"{self.out}: appeared while the resize was running; it is left as it is.")
        old = self.out.with_name(f".{self.out.name}.{os.getpid()}.old")
        self.out.rename(old)
        self.folder.rename(self.out)
        shutil.rmtree(old, ignore_errors=True)


def _close(stream: BinaryIO) -> OSError | None:
    """Close a file; a full disk shows only now, and the other files have to be closed all the same."""
    try:
        stream.close()
    except OSError as error:
        return error
    return None


def _replaceable(out: Path) -> bool:
    """Whether a folder is empty, or a checkpoint by its config."""
    if not out.is_dir() or out.samefile(Path.cwd()):
        return False
    if not any(out.iterdir()):
        return True
    try:
        return "model_type" in read_config(out / "config.json")
    except CheckpointError:
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
