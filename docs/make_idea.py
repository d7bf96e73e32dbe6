"""Draw docs/idea.svg: one signal, its low-pass band at smaller sizes, its synthesis at twice the size.

    python docs/make_idea.py

Needs the extra `plot`. The signal is drawn for the picture; every other curve is `wavescale.resample` of it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import wavescale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAMPLES = 24
SOURCE, SMALLER, LARGER, FAINT, TEXT = "#3b3f46", "#b8500f", "#1f6fb2", "#c9cdd3", "#1c1e21"
PIXEL = 1 / 96  # inch, as browsers count
WIDTH, HEIGHT = 900, 492
Signal = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Panel:
    """One panel: where it stands, to which size the signal goes, and in which words.

    Attributes
    ----------
    left, bottom
        Lower left corner, in pixels.
    size
        Samples after resampling.
    wavelet
        Of PyWavelets.
    title, caption
        Above and below the panel.
    colour
        Of the curve.
    """

    left: float
    bottom: float
    size: int
    wavelet: str
    title: str
    caption: str
    colour: str


PANEL_WIDTH, PANEL_HEIGHT = 264, 134
LEFT, MIDDLE, RIGHT = 20, 318, 616
UPPER, LOWER = 262, 60
PANELS = (
    Panel(MIDDLE, UPPER, 12, "haar", "half the size: 12 samples", "Haar: each is the mean of 2 cells", SMALLER),
    Panel(MIDDLE, LOWER, 16, "haar", "two thirds: 16 samples", "Haar: each is the mean of 1½ cells", SMALLER),
    Panel(RIGHT, UPPER, 48, "haar", "twice the size: 48 samples", "Haar: each sample becomes two copies", LARGER),
    Panel(RIGHT, LOWER, 48, "bior6.8", "twice the size: 48 samples", "bior6.8, a longer wavelet: smooth", LARGER),
)


def source() -> Signal:
    """A slow wave with some detail on it, shape (24,)."""
    x = (np.arange(SAMPLES) + 0.5) / SAMPLES
    detail = np.random.default_rng(4).standard_normal(SAMPLES)
    return 0.9 * np.sin(2 * np.pi * x * 1.35 + 0.3) + 0.45 * np.sin(2 * np.pi * x * 3.1 + 2.0) + 0.17 * detail


def resized(signal: Signal, panel: Panel) -> Signal:
    """The signal at the panel's size, at its own amplitude: the orthonormal gain √(n/m) is taken off."""
    found = wavescale.resample(signal, panel.size, wavelet=panel.wavelet, boundary="two-ended")
    return found * sqrt(panel.size / len(signal))


def cells(axes: Axes, values: Signal, colour: str, dots: bool) -> None:
    """Draw samples as cells that divide the width among them."""
    edges = np.linspace(0, 1, len(values) + 1)
    axes.stairs(values, edges, baseline=None, color=colour, linewidth=1.6 if dots else 1.2)
    if dots:
        axes.stairs(values, edges, color=colour, alpha=0.13, fill=True, linewidth=0)
        centres = (edges[:-1] + edges[1:]) / 2
        axes.plot(centres, values, ".", color=colour, markersize=4.5 if len(values) < 40 else 3.2)


def panel_axes(figure: Figure, left: float, bottom: float) -> Axes:
    """An empty panel with a zero line and a frame."""
    axes = figure.add_axes((left / WIDTH, bottom / HEIGHT, PANEL_WIDTH / WIDTH, PANEL_HEIGHT / HEIGHT))
    axes.set(xlim=(-0.015, 1.015), ylim=(-1.5, 1.75), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.8)
    axes.axhline(0, color=FAINT, linewidth=0.7, linestyle=(0, (4, 3)))
    return axes


def draw() -> Figure:
    """The whole picture."""
    figure = Figure(figsize=(WIDTH * PIXEL, HEIGHT * PIXEL), facecolor="white")

    def write(left: float, bottom: float, text: str, pixels: float, colour: str = TEXT, weight: str = "normal") -> None:
        figure.text(left / WIDTH, bottom / HEIGHT, text, fontsize=pixels * 0.75, color=colour, weight=weight)

    signal = source()
    middle = (UPPER + LOWER) / 2
    write(LEFT, 458, "source", 17, SOURCE, "bold")
    write(MIDDLE, 458, "smaller: its low-pass band", 17, SMALLER, "bold")
    write(RIGHT, 458, "larger: synthesis from it", 17, LARGER, "bold")
    write(LEFT, 434, "weights along one axis, read as a signal", 12)
    write(MIDDLE, 434, "means of neighbours; detail is dropped", 12)
    write(RIGHT, 434, "the source is the band, new detail is zero", 12)

    axes = panel_axes(figure, LEFT, middle)
    cells(axes, signal, SOURCE, dots=True)
    write(LEFT, middle + PANEL_HEIGHT + 8, f"{SAMPLES} samples", 13, SOURCE, "bold")
    write(LEFT, middle - 19, "one cell for each sample (a channel, a layer)", 12)

    for panel in PANELS:
        axes = panel_axes(figure, panel.left, panel.bottom)
        cells(axes, signal, FAINT, dots=False)
        cells(axes, resized(signal, panel), panel.colour, dots=True)
        write(panel.left, panel.bottom + PANEL_HEIGHT + 8, panel.title, 13, panel.colour, "bold")
        write(panel.left, panel.bottom - 19, panel.caption, 12)
    write(LEFT, 14, "Grey: the source again. All curves at the same amplitude and over the same width.", 11, "#6a7078")
    return figure


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description="Draw the picture of the idea.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("idea.svg"))
    out = parser.parse_args().out
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "wavescale", "font.family": "DejaVu Sans"})
    metadata = {"Date": None, "Title": "One signal at five sizes"} if out.suffix == ".svg" else None
    draw().savefig(out, dpi=96, metadata=metadata)


if __name__ == "__main__":
    main()
