"""Read a checkpoint folder: config, shapes without weights, and one tensor at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from wavescale.checkpoint.json_files import read_json
from wavescale.checkpoint.locate import locate
from wavescale.errors import CheckpointError

if TYPE_CHECKING:
    import torch

# safetensors' names of dtypes in torch's words.
SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}

_SAMPLES, _SAMPLE_BYTES = 64, 4096


class Checkpoint:
    """A checkpoint on disk: a folder with config.json and weights, or a config alone.

    Attributes
    ----------
    path
        The folder, or the config file.
    config
        config.json as a dictionary.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_json(path / "config.json" if path.is_dir() else path, dict)
        self._handles: dict[Path, Any] = {}
        self._lock = Lock()

    @property
    def complete(self) -> bool:
        """Whether the weights are there at all; in the hub's cache an index can lie without them."""
        if self.path.is_file() or not (any(self.path.glob("*.safetensors")) or any(self.path.glob("*.bin"))):
            return False
        return self.has_weights

    @property
    def has_weights(self) -> bool:
        """Whether there are weights beside the config."""
        return self.path.is_dir() and bool(self.files)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the weights.

        Raises
        ------
        CheckpointError
            An index names files that are not there.
        """
        if not self.path.is_dir():
            return ()
        # One whole file before an index, which can be of an older save: the order of from_pretrained.
        for single, index in (
            ("model.safetensors", "model.safetensors.index.json"),
            ("pytorch_model.bin", "pytorch_model.bin.index.json"),
        ):
            if (self.path / single).is_file():
                return (self.path / single,)
            if (self.path / index).is_file():
                names = read_json(self.path / index, dict).get("weight_map")
                if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
                    raise CheckpointError(f"{self.path / index}: has no weight_map. Download the index again.")
                here = {path.name for path in self.path.iterdir() if path.is_file()}
                files = sorted(set(names.values()))
                for file in files:
                    if file not in here:
                        raise CheckpointError(
                            f"{self.path / file}: named by {index} but not in the folder. Download it again."
                        )
                return tuple(self.path / file for file in files)
        return ()

    @cached_property
    def _where(self) -> dict[str, tuple[Path, tuple[int, ...], str]]:
        where: dict[str, tuple[Path, tuple[int, ...], str]] = {}
        for file in self.files:
            headers = _safetensors_header(file) if file.suffix == ".safetensors" else _pickle_header(file)
            for name, shape, dtype in headers:
                if name in where:
                    raise CheckpointError(f"{name}: stored twice, in {where[name][0].name} and {file.name}.")
                where[name] = (file, shape, dtype)
        return where

    @property
    def tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype (torch's name) of every tensor, without reading a weight."""
        return {name: (shape, dtype) for name, (_, shape, dtype) in self._where.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all weight files."""
        return sum(file.stat().st_size for file in self.files)

    def place(self, name: str) -> tuple[Path, tuple[int, ...], str]:
        """The file that holds a tensor, and its shape and dtype."""
        return self._where[name]

    def read(self, name: str) -> torch.Tensor:
        """One tensor, as it is stored.

        Raises
        ------
        CheckpointError
            The file ends early or cannot be read.
        """
        file = self._where[name][0]
        try:
            tensor: torch.Tensor = self._handle(file).get_tensor(name)
        except Exception as error:  # safetensors raises its own type and plain OSErrors
            raise CheckpointError(f"{name}: cannot be read from {file}: {error}.") from error
        return tensor

    def _handle(self, file: Path) -> Any:
        with self._lock:  # a pickled file that cannot be mapped is not to be loaded by every thread
            if file not in self._handles:
                if file.suffix == ".safetensors":
                    from safetensors import safe_open

                    self._handles[file] = safe_open(file, framework="pt")
                else:
                    self._handles[file] = _PickledTensors(file)
            return self._handles[file]

    def fingerprint(self) -> str:
        """A digest of the source: config, and of every weight file its size, its start and 64 samples.

        SHA-256 over samples rather than every byte, so that it costs nothing on 100 GB.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for file in self.files:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(1 << 16))
                for sample in range(_SAMPLES):
                    stream.seek(size * sample // _SAMPLES)
                    digest.update(stream.read(_SAMPLE_BYTES))
        return f"sha256:{digest.hexdigest()}"


def _safetensors_header(file: Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as handle:
            for name in handle.keys():  # noqa: SIM118  (a safetensors handle is no mapping)
                part = handle.get_slice(name)
                dtype = part.get_dtype()
                yield name, tuple(part.get_shape()), SAFETENSORS_DTYPES.get(dtype, dtype)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: is no sound safetensors file ({error}). It may be cut short; download it again."
        ) from error


def _pickle_header(file: Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
    for name, tensor in _PickledTensors(file).tensors.items():
        yield name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")


class _PickledTensors:
    """A `.bin` file, mapped into memory and opened without running any code that it holds."""

    def __init__(self, file: Path) -> None:
        import pickle
        import zipfile

        import torch

        try:
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file) or None)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{file}: cannot be loaded as plain tensors ({(str(error) or type(error).__name__).splitlines()[0]}). "
                "It is cut short, or holds more than weights; wavescale never runs code from a checkpoint. "
                "Convert it to safetensors."
            ) from error
        if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
            loaded = loaded["state_dict"]
        if not isinstance(loaded, Mapping) or not all(
            isinstance(name, str) and isinstance(t, torch.Tensor) for name, t in loaded.items()
        ):
            raise CheckpointError(f"{file}: holds something else than named tensors. Save the model's state_dict.")
        self.tensors: dict[str, torch.Tensor] = dict(loaded)

    def get_tensor(self, name: str) -> torch.Tensor:
        return self.tensors[name]


def open_checkpoint(model: str | os.PathLike[str], weights: bool = True) -> Checkpoint:
    """Open a local folder, a config file, or a model of the hub.

    Parameters
    ----------
    model
        Path or hub id.
    weights
        Whether weights must be there.

    Raises
    ------
    CheckpointError
        Nothing is there, or it has no weights although they are needed.
    """
    checkpoint = Checkpoint(locate(model, weights))
    if weights and not checkpoint.has_weights:
        raise CheckpointError(
            f"{checkpoint.path}: no weights found (model.safetensors, pytorch_model.bin, or their index). "
            "Formats such as GGUF or TensorFlow have to be saved with save_pretrained first."
        )
    return checkpoint
