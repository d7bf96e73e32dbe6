"""Draw docs/growing.svg: the loss of grown models while they train, from experiments/results/growth_training.

    python docs/make_growing.py

Needs the extra `plot`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent.parent / "experiments" / "results" / "growth_training"
CURVES = {
    "late-antisymmetric-rate0.1": ("source of 6,000 steps, a tenth of its peak (the recipe)", "#1f6fb2", "-"),
    "late-antisymmetric-rate0.125": ("source of 6,000 steps, an eighth", "#1f6fb2", "--"),
    "antisymmetric-rate0.125": ("source of 2,000 steps, an eighth", "#b8500f", "--"),
    "antisymmetric-rate0.25": ("source of 2,000 steps, a quarter", "#b8500f", ":"),
}


def draw(results: Path) -> Figure:
    """Validation loss less the source's, over steps."""
    figure = Figure(figsize=(7.2, 3.4), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for name, (label, colour, line) in CURVES.items():
        found: dict[str, Any] = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        steps = [int(step) for step in found["curve"]]
        above = [loss - found["source_loss"] for loss in found["curve"].values()]
        axes.plot(steps, above, line, color=colour, label=label, linewidth=1.6)
    axes.axhline(0, color="#c9cdd3", linewidth=0.8)
    axes.set(xlabel="step", ylabel="loss above the source, nats")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description="Draw how grown models train.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("growing.svg"))
    arguments = parser.parse_args()
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "wavescale", "font.family": "DejaVu Sans"})
    metadata = {"Date": None, "Title": "Loss of grown models"} if arguments.out.suffix == ".svg" else None
    draw(arguments.results).savefig(arguments.out, metadata=metadata)


if __name__ == "__main__":
    main()
