"""Curves of quality: one line a method, a band over its seeds, scratch's end as a dashed line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transfer.runs import SCRATCH

from report.looks import FIXED, colours
from report.rows import Axis, Numbers, Row, Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of scratch's budget: what scratch does earlier than this is cut off, or nothing else would be seen.
CUT = 0.06


def band(trained: Sequence[Trained], axis: Axis) -> tuple[Numbers, Numbers]:
    """Seeds at the marks that all of them have.

    Returns
    -------
    Places along the axis, the mean over seeds (marks,); and qualities (seeds, marks).
    """
    shared = sorted(set.intersection(*(set(one.steps) for one in trained)))
    places, qualities = [], []
    for one in trained:
        at = [one.steps.index(step) for step in shared]
        places.append(np.asarray(one.along(axis), dtype=np.float64)[at])
        qualities.append(np.asarray(one.qualities, dtype=np.float64)[at])
    return np.mean(places, axis=0), np.stack(qualities)


def draw_row(panel: Axes, row: Row, axis: Axis, colour: Mapping[str, str]) -> None:
    """Draw a row's methods into a panel; each seed ends in a dot."""
    for method in row.methods:
        trained = row.trained[method]
        if not trained:
            continue
        places, qualities = band(trained, axis)
        in_front = method in FIXED
        look: dict[str, Any] = {"color": colour[method], "zorder": 3 if in_front else 2}
        panel.plot(places, qualities.mean(0), linewidth=1.8 if in_front else 1.0, label=method, **look)
        if len(trained) > 1:
            panel.fill_between(places, qualities.min(0), qualities.max(0), alpha=0.2, linewidth=0, **look)
        for one in trained:
            panel.plot(one.along(axis)[-1], one.qualities[-1], ".", markersize=4, **look)
    if row.target is not None:
        panel.set_ylim(limits(row))
        panel.axhline(row.target, color=colour[SCRATCH], linestyle="--", linewidth=0.8, zorder=1)
    panel.set_xlim(left=0)
    panel.set_xlabel(axis, fontsize=8)
    panel.set_ylabel(row.first.quality, fontsize=8)
    panel.tick_params(labelsize=7)
    panel.xaxis.get_offset_text().set_fontsize(7)
    panel.spines[["top", "right"]].set_visible(False)


def limits(row: Row) -> tuple[float, float] | None:
    """From the quality of scratch early on to a little beyond the best; None without a scratch that has learned."""
    if row.target is None:
        return None
    early = [np.interp(CUT * one.run.steps, one.steps, one.qualities) for one in row.trained[SCRATCH]]
    ends = [quality for name in row.methods for one in row.trained[name] for quality in one.qualities]
    worst, best = float(np.mean(early)), max(ends) if row.first.greater_is_better else min(ends)
    if worst == best:
        return None
    beyond = best + 0.05 * (best - worst)
    return min(worst, beyond), max(worst, beyond)


def figure(rows: Sequence[Row], axes: Sequence[Sequence[tuple[Row, Axis]]], path: Path) -> None:
    """Draw panels, given line by line, and write them as SVG or PNG.

    No date goes in, so the same data is the same file.

    Parameters
    ----------
    rows
        All rows of the report, which decide the colours.
    axes
        What each panel shows.
    path
        Its ending decides the format.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    look = {"svg.fonttype": "path", "svg.hashsalt": "wavescale", "font.family": "DejaVu Sans"}
    with mpl.rc_context(look):
        high, wide = len(axes), max(len(line) for line in axes)
        drawn = Figure(figsize=(3.7 * wide, 2.5 * high + 0.6), facecolor="white", layout="constrained")
        panels = drawn.subplots(high, wide, squeeze=False)
        colour = colours(rows)
        handles: dict[str, Any] = {}
        for panel in panels.flat:
            panel.set_visible(False)
        for places, line in zip(panels, axes, strict=True):
            for panel, (row, axis) in zip(places, line, strict=False):
                panel.set_visible(True)
                draw_row(panel, row, axis, colour)
                panel.set_title(row.name, fontsize=9)
                found, labels = panel.get_legend_handles_labels()
                handles |= dict(zip(labels, found, strict=True))
        drawn.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=7, frameon=False
        )  # fmt: skip
        drawn.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw_rows(rows: Sequence[Row], docs: Path) -> list[Path]:
    """A figure for each row that has results, against FLOPs and against steps, and one of all rows for the README."""
    shown = [row for row in rows if row.kind == "savings" and any(row.trained[name] for name in row.methods)]
    made = []
    for row in shown:
        made.append(docs / f"savings-{row.name}.svg")
        figure(rows, [[(row, "FLOPs"), (row, "steps")]], made[-1])
    if shown:
        made.append(docs / "savings.png")
        figure(rows, [[(row, "FLOPs") for row in shown[at : at + 2]] for at in range(0, len(shown), 2)], made[-1])
    return made
