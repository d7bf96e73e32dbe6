"""Where every tensor of the output lies, known before the first of them is there.

The plan has all shapes and dtypes, so headers and places follow from it (format: safetensors, "Format"
section of its README).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from wavescale.checkpoint.reader import SAFETENSORS_DTYPES
from wavescale.plan import TensorPlan

_SAFETENSORS_NAMES = {ours: theirs for theirs, ours in SAFETENSORS_DTYPES.items()}


@dataclass(frozen=True)
class Shard:
    """One file of weights: its name and its tensors, in the order of their bytes."""

    name: str
    tensors: tuple[TensorPlan, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

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
