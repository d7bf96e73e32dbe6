"""Write a checkpoint folder that appears under the output's name when all of it is there.

The headers are written first, and each tensor goes straight to its place.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wavescale.bits import integers_of, memory_of
from wavescale.checkpoint.json_files import read_json, read_modules
from wavescale.checkpoint.row_writer import RowWriter
from wavescale.checkpoint.shards import split_shards
from wavescale.errors import CheckpointError, FaultError, OutputError
from wavescale.plan import TensorPlan

if TYPE_CHECKING:
    import torch

# Room for config, tokenizer and card besides the weights.
_SPARE_BYTES = 16 << 20
# Files by which transformers' Trainer goes on.
_TRAINING = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "trainer_state.json")
# Folders that are part of a checkpoint, besides modules of sentence-transformers: templates, and what the hub keeps.
_PARTS = {"additional_chat_templates", ".cache"}


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
            raise OutputError(
                f"{out}: exists already. Choose another folder, or replace it with --overwrite (overwrite=True)."
            )
        if out.exists() and not _replaceable(out):
            raise OutputError(f"{out}: is not a checkpoint folder, so it is not replaced. Choose another folder.")
        if out.exists() and (foreign := _foreign(out)) is not None:
            raise OutputError(
                f"{out}: also holds {foreign.name}, which is no part of a checkpoint, so it is not replaced. Move that "
                "away, or choose another folder."
            )
        if out.exists() and (changed := _changed(out)) is not None:
            raise OutputError(
                f"{out}: {changed.name} is newer than what wavescale wrote there, as if the model had been trained on, "
                "so it is not replaced. Move it away, or choose another folder."
            )
        if self.out.is_mount():
            raise OutputError(f"{out}: is a mount point, which cannot be replaced. Name a folder in it.")
        parent = self.out.parent
        if not parent.is_dir():
            raise OutputError(f"{parent}: no such folder, so {out.name} cannot be made in it. Make it first.")
        needed = sum(tensor.nbytes for tensor in tensors) + besides + _SPARE_BYTES
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise OutputError(
                f"{parent}: {free / 1e9:.2f} GB free, the output needs {needed / 1e9:.2f} GB. "
                "Free some room, choose another disk, or write a smaller --dtype."
            )

    def __enter__(self) -> CheckpointWriter:
        parent = self.out.parent
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.", suffix=".partial", dir=parent))
        except OSError as error:
            raise OutputError(f"{parent}: cannot write there: {error.strerror}.") from error
        try:
            self._lay_out()
        except OSError as error:
            self.__exit__(type(error), error, None)
            raise FaultError(f"{self.folder}: cannot be written: {error.strerror}.") from error
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _lay_out(self) -> None:
        for shard in self.shards:
            header = shard.header()
            with (self.folder / shard.name).open("wb") as stream:
                stream.write(header)
                stream.truncate(len(header) + shard.nbytes)
        if len(self.shards) > 1:
            self.write_text("model.safetensors.index.json", self._index())

    def _index(self) -> str:
        total = sum(tensor.nbytes for shard in self.shards for tensor in shard.tensors)
        weight_map = {tensor.name: shard.name for shard in self.shards for tensor in shard.tensors}
        return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2, sort_keys=True)

    def rows(self) -> RowWriter:
        """What writes the tensors, to be used as a context manager."""
        return RowWriter(self.folder, self.shards)

    def write_text(self, name: str, text: str) -> None:
        """Write a small file beside the weights."""
        path = self._new(name)
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
                file.write(memory_of(integers_of(tensor.detach().cpu().contiguous())))
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

    def write_tensors(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Write tensors beside the weights, as safetensors or, by the suffix, as `torch.save` does.

        Raises
        ------
        FaultError
            The disk does not take them.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self._new(name)
        if path.suffix != ".safetensors":
            self.write_pickle(name, tensors)
            return
        try:
            save_file(tensors, path, {"format": "pt"})
        except (OSError, SafetensorError) as error:
            raise FaultError(f"{path}: writing failed: {error}. Nothing is left behind.") from error

    def copy(self, source: Path, name: str) -> None:
        """Copy a file as it is."""
        shutil.copyfile(source, self._new(name))

    def _new(self, name: str) -> Path:
        """Where a file goes that is not there yet; weights are never written over."""
        path = self.folder / name
        assert not path.exists(), f"{path} is written twice"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
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
        old = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.", suffix=".old", dir=self.out.parent))
        try:
            self.out.rename(old)
            self.folder.rename(self.out)
        except BaseException:
            if self.out.exists():
                old.rmdir()
            else:
                old.rename(self.out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _replaceable(out: Path) -> bool:
    """Whether a folder is empty, or a checkpoint by its config."""
    if not out.is_dir() or out.samefile(Path.cwd()):
        return False
    if not any(out.iterdir()):
        return True
    try:
        return "model_type" in read_json(out / "config.json", dict)
    except CheckpointError:
        return False


def _foreign(out: Path) -> Path | None:
    """What a folder holds besides one checkpoint: a training run's state or checkpoints, logs, other folders."""
    # The state that wavescale has resized itself can be made again.
    own = (out / "wavescale.json").is_file()
    parts = _PARTS | {module["path"].partition("/")[0] for module in read_modules(out / "modules.json")}
    return next(
        (
            path
            for path in sorted(out.iterdir())
            if (path.is_dir() and path.name not in parts) or (path.name in _TRAINING and not own)
        ),
        None,
    )


def _changed(out: Path) -> Path | None:
    """What somebody has put into an output of wavescale since: its plan is written behind weights and optimizer."""
    plan = out / "wavescale.json"
    if not plan.is_file():
        return None
    files = [*sorted(out.glob("*.safetensors")), *(out / name for name in _TRAINING)]
    written = plan.stat().st_mtime_ns
    return next((file for file in files if file.is_file() and file.stat().st_mtime_ns > written), None)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
