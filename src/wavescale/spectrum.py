"""Where a model's weights keep their energy: share per octave, axis and module.

An octave is a detail band of the wavelet transform; what is left is the approximation. A smooth
signal has most of its energy in the approximation, white noise has it in proportion to the band's
width: half in octave 1, a quarter in octave 2, and so on.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wavescale.architectures.schema import RESIZABLE, Role
from wavescale.axes import parse_axes
from wavescale.checkpoint import open_checkpoint
from wavescale.errors import OptionError
from wavescale.matching import match_tensors
from wavescale.methods import Piece
from wavescale.resampling import wavelet_filters
from wavescale.spec import ModelSpec, Stored, read_spec

if TYPE_CHECKING:
    import torch

# Values of all layers that are looked at together when depth is the axis.
_VALUES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Band:
    """The energy of one module along one axis.

    Attributes
    ----------
    module
        For example `query`.
    axis
        The axis, or `depth`.
    length
        Samples along it.
    shares
        Share of the energy in octave 1 (finest), 2, …, and at the end in the approximation.
    """

    module: str
    axis: str
    length: int
    shares: tuple[float, ...]

    @property
    def noise(self) -> tuple[float, ...]:
        """What white noise would have."""
        octaves = len(self.shares) - 1
        return (*(2.0**-octave for octave in range(1, octaves + 1)), 2.0**-octaves)


@dataclass(frozen=True)
class Spectrum:
    """The bands of a whole model."""

    wavelet: str
    bands: tuple[Band, ...]

    def __str__(self) -> str:
        octaves = max(len(band.shares) for band in self.bands) - 1
        head = f"{'module':<20} {'axis':<13} {'length':>6} " + " ".join(
            f"{f'oct {o}':>6}" for o in range(1, octaves + 1)
        )
        lines = [
            f"energy per octave, {self.wavelet} (octave 1 is the finest; noise: 0.500 0.250 …)",
            "",
            f"{head} {'approx':>7}",
        ]
        for band in self.bands:
            cells = [f"{share:6.3f}" for share in band.shares[:-1]] + ["      "] * (octaves - len(band.shares) + 1)
            lines.append(f"{band.module:<20} {band.axis:<13} {band.length:>6} {' '.join(cells)} {band.shares[-1]:7.3f}")
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the shares, one panel per axis, beside what white noise would have.

        Raises
        ------
        OptionError
            matplotlib is not installed, or draws no such file.
        """
        check_picture(path)
        from matplotlib.figure import Figure

        axes_names = list(dict.fromkeys(band.axis for band in self.bands))
        figure = Figure(figsize=(4.2 * len(axes_names), 4.2), layout="constrained")
        panels = figure.subplots(1, len(axes_names), squeeze=False)[0]
        for panel, name in zip(panels, axes_names, strict=True):
            bands = [band for band in self.bands if band.axis == name]
            longest = max(bands, key=lambda band: len(band.shares))
            for band in bands:
                panel.plot(range(1, len(band.shares) + 1), band.shares, marker="o", markersize=3, label=band.module)
            panel.plot(
                range(1, len(longest.noise) + 1), longest.noise, color="black", linestyle=":", label="white noise"
            )
            ticks = range(1, len(longest.shares) + 1)
            panel.set_xticks(list(ticks), [*(str(octave) for octave in list(ticks)[:-1]), "approx"])
            panel.set(title=name, xlabel="octave (1 is the finest)", ylabel="share of energy", yscale="log")
            panel.legend(fontsize=7)
        figure.suptitle(f"energy per octave, {self.wavelet}")
        figure.savefig(Path(path), dpi=120)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Whether a plot can be drawn into a file, before anything is measured for it.

    Raises
    ------
    OptionError
        matplotlib is not installed, or draws no such file.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise OptionError("a plot needs matplotlib: pip install 'wavescale[plot]'") from error
    known, suffix = FigureCanvasBase.get_supported_filetypes(), Path(path).suffix.removeprefix(".").lower()
    if suffix and suffix not in known:
        raise OptionError(f"plot (--plot) {path}: is no picture; use one of {', '.join(sorted(known))}.")


def inspect(
    model: str | os.PathLike[str],
    wavelet: str = "haar",
    architecture: str | None = None,
    on_tensor: Callable[[Stored], None] | None = None,
) -> Spectrum:
    """Measure the share of energy per octave, axis and module of a checkpoint.

    Parameters
    ----------
    model
        A folder or hub id.
    wavelet
        Any orthogonal discrete wavelet of PyWavelets (others do not divide energy).
    architecture
        The class of transformers, for a config that names none.
    on_tensor
        Called with each tensor when it has been read for its width axes.

    Raises
    ------
    OptionError
        The wavelet is unknown or not orthogonal.
    CheckpointError
        The checkpoint cannot be read.
    """
    if not wavelet_filters(wavelet).orthogonal:
        raise OptionError(
            f"wavelet {wavelet!r} is not orthogonal, so its bands do not divide energy; use haar, db2, coif3"
        )
    checkpoint = open_checkpoint(model)
    spec = read_spec(checkpoint.config, architecture)
    stored = match_tensors(spec, checkpoint.tensors)
    energies: dict[tuple[str, str, int], np.ndarray[Any, Any]] = defaultdict(lambda: np.zeros(1))
    by_row: dict[str, list[Stored]] = defaultdict(list)
    for tensor in stored.values():
        if tensor.row.role not in (Role.LINEAR, Role.EMBEDDING) or len(tensor.shape) < 2:
            continue
        by_row[tensor.row.name].append(tensor)
        values = checkpoint.read(tensor.name)
        for piece, part in _pieces(spec, tensor, values):
            for axis, view in _views(spec, piece, part):
                key = (piece.module, axis, view.shape[1])
                energies[key] = energies[key] + _energies(view, wavelet)
        if on_tensor is not None:
            on_tensor(tensor)
    for tensors in by_row.values():
        if len(tensors) > 1:
            ordered = sorted(tensors, key=lambda tensor: tensor.layer or 0)
            for module, found in _depth_energies(ordered, checkpoint.read, wavelet).items():
                key = (module, "depth", len(ordered))
                energies[key] = energies[key] + found
    order = {name: position for position, name in enumerate((*RESIZABLE, "depth"))}
    bands = [
        Band(module, axis, length, tuple(float(share) for share in found / found.sum()))
        for (module, axis, length), found in energies.items()
        if len(found) > 1 and found.sum() > 0
    ]
    return Spectrum(wavelet, tuple(sorted(bands, key=lambda band: order[band.axis])))


def _pieces(spec: ModelSpec, tensor: Stored, values: torch.Tensor) -> list[tuple[Piece, torch.Tensor]]:
    import torch

    axes = parse_axes(tensor.row.axes)
    if axes.fused is None:
        return [(Piece(tensor.row), values)]
    axis = axes.axes[axes.fused]
    lengths = [axis.part_size(part, spec.axis_sizes) for part in range(len(axis.parts))]
    return [(Piece(tensor.row, index), part) for index, part in enumerate(torch.split(values, lengths, dim=axes.fused))]


def _views(spec: ModelSpec, piece: Piece, values: torch.Tensor) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """The tensor as (before, n, after) for each of its resizable axes."""
    array = values.float().numpy()
    views = []
    for position, axis in enumerate(piece.axes.axes):
        names = axis.parts[0]
        for index, name in enumerate(names):
            if name in RESIZABLE:
                before = prod(array.shape[:position]) * prod(spec.axis_sizes[other] for other in names[:index])
                views.append((name, array.reshape(before, spec.axis_sizes[name], -1)))
    return views


def _energies(view: np.ndarray[Any, Any], wavelet: str) -> np.ndarray[Any, Any]:
    """Energy of each octave along axis 1 and of the approximation, as long as the length is even."""
    import pywt

    found, rest = [], view
    while rest.shape[1] % 2 == 0:
        rest, detail = pywt.dwt(rest, wavelet, mode="periodization", axis=1)
        found.append(float(np.square(detail, dtype=np.float64).sum()))
    return np.array([*found, float(np.square(rest, dtype=np.float64).sum())])


def _depth_energies(
    tensors: list[Stored], read: Callable[[str], torch.Tensor], wavelet: str
) -> dict[str, np.ndarray[Any, Any]]:
    rows = tensors[0].shape[0]
    step = max(1, _VALUES_AT_ONCE // (len(tensors) * prod(tensors[0].shape[1:])))
    energies: dict[str, np.ndarray[Any, Any]] = defaultdict(lambda: np.zeros(1))
    for start in range(0, rows, step):
        stacks: dict[str, list[np.ndarray[Any, Any]]] = defaultdict(list)
        for tensor in tensors:
            block = read(tensor.name)[start : start + step]
            stacks[tensor.row.module].append(block.float().numpy())
        for module, layers in stacks.items():
            energies[module] = energies[module] + _energies(np.stack(layers)[None].reshape(1, len(layers), -1), wavelet)
    return energies
