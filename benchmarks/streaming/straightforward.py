"""What one would write first: load all, stack each module over the layers, transform with PyWavelets, save.

    python benchmarks/streaming/straightforward.py SOURCE OUT

Width × 2 of a Llama by the inverse DWT with zero details on both axes of every matrix, as BoT has it. The time
that it prints is without Python's start.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pywt
import torch
from safetensors.torch import load_file, save_file
from timing import cleared, timed

_LAYER = re.compile(r"(model\.layers\.)(\d+)(\..*)")


def grown(stacked: np.ndarray, axes: tuple[int, ...], wavelet: str) -> np.ndarray:
    """One level of synthesis with zero details on some axes; PyWavelets takes details that are left out as zeros."""
    return pywt.idwtn({"a" * len(axes): stacked}, wavelet, mode="periodization", axes=axes)


def resized(source: Path, out: Path) -> None:
    """Load, transform and save a whole checkpoint."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(source.glob("*.safetensors")):
        tensors |= load_file(file)
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in tensors:
        match = _LAYER.match(name)
        groups[match[3] if match else name].append((int(match[2]) if match else 0, name))
    made: dict[str, torch.Tensor] = {}
    for members in groups.values():
        names = [name for _, name in sorted(members)]
        stacked = np.stack([tensors[name].float().numpy() for name in names])
        axes = (1,) if stacked.ndim == 2 else (2,) if "embed" in names[0] or "lm_head" in names[0] else (1, 2)
        whole = torch.from_numpy(grown(stacked, axes, "haar")).bfloat16()
        made |= {name: layer.contiguous() for name, layer in zip(names, whole, strict=True)}
    out.mkdir()
    save_file(made, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    cleared(out)
    timed(lambda: resized(source, out))


if __name__ == "__main__":
    main()
