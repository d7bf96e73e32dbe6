"""Wavelets beside each other: a table and a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from report.paper import REPORTED
from report.rows import WAVELETS, Numbers, Row
from report.tables import NOT_YET, Table


def ends(row: Row) -> dict[str, tuple[float, float]]:
    """For each wavelet that has been trained the quality at its start and at its end, with the seed that all share."""
    trained = ((name, one) for name in row.methods for one in row.trained[name])
    return {name: (one.qualities[0], one.qualities[-1]) for name, one in trained if one.run.seed == one.run.seeds[0]}


def noise(row: Row) -> float | None:
    """How far the ends of one wavelet are apart over its seeds: the most of all that have several, if any has."""
    of = [[one.qualities[-1] for one in row.trained[name]] for name in row.methods]
    return max((max(found) - min(found) for found in of if len(found) > 1), default=None)


def best(row: Row) -> set[str]:
    """The wavelet of the best end, and those that are no further from it than seeds are from each other."""
    found, sign = ends(row), 1 if row.first.greater_is_better else -1
    top = max((sign * last for _, last in found.values()), default=0.0)
    return {name for name, (_, last) in found.items() if sign * last >= top - (noise(row) or 0.0)}


def wavelets(rows: Sequence[Row]) -> list[str]:
    """The wavelets of the rows."""
    return sorted({name for row in rows for name in row.methods})


def wavelet_table(rows: Sequence[Row]) -> Table:
    """One line a wavelet, one column a row: start → end."""
    lines = [["wavelet", *(f"{row.name}, {row.first.quality}" for row in rows)]]
    found, winners = [ends(row) for row in rows], [best(row) for row in rows]
    for name in wavelets(rows):
        cells = []
        for row, pairs, good in zip(rows, found, winners, strict=True):
            if name not in pairs:
                cells.append(NOT_YET if name in row.methods else "")
                continue
            first, last = pairs[name]
            cells.append(f"{first:.3f} → " + (f"**{last:.3f}**" if name in good else f"{last:.3f}"))
        lines.append([name, *cells])
    apart = map(noise, rows)
    lines.append(["seeds differ by", *(NOT_YET if found is None else f"{found:.3f}" for found in apart)])
    reported = [REPORTED.get(row.name.removesuffix(WAVELETS)) for row in rows]
    lines.append(["best in the paper", *((one and one.wavelet) or "" for one in reported)])
    return lines


def heat(values: Numbers, greater: bool) -> Numbers:
    """A column from 0, its worst, to 1, its best; what is missing stays NaN.

    Examples
    --------
    >>> heat(np.array([4.0, 6.0, 5.0, np.nan]), False).tolist()
    [1.0, 0.0, 0.5, nan]
    """
    if np.isnan(values).all():
        return values
    low, high = np.nanmin(values), np.nanmax(values)
    scaled: Numbers = (values - low) / (high - low) if high > low else values - low
    return scaled if greater else 1 - scaled


def draw_wavelets(rows: Sequence[Row], docs: Path) -> list[Path]:
    """Draw the heat map, starts to the left and ends to the right; nothing where no wavelet has been trained."""
    rows = [row for row in rows if ends(row)]
    if not rows:
        return []
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = wavelets(rows)
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "wavescale", "font.family": "DejaVu Sans"}):
        size = (2 * (1.1 * len(rows) + 0.8), 0.27 * len(names) + 1.2)
        figure = Figure(figsize=size, facecolor="white", layout="constrained")
        for at, (panel, title) in enumerate(
            zip(figure.subplots(1, 2), ("at the start", "after the budget"), strict=True)
        ):
            found = [ends(row) for row in rows]
            values = np.array([[pairs.get(name, (np.nan, np.nan))[at] for pairs in found] for name in names])
            shades = np.stack(
                [heat(column, row.first.greater_is_better) for column, row in zip(values.T, rows, strict=True)], axis=1
            )
            panel.imshow(shades, cmap="viridis", vmin=0, vmax=1, aspect="auto")
            for (y, x), value in np.ndenumerate(values):
                if np.isfinite(value):
                    ink = "black" if shades[y, x] > 0.6 else "white"
                    panel.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize=7, color=ink)
            panel.set_xticks(range(len(rows)), [row.name.removesuffix(WAVELETS) for row in rows], fontsize=7)
            panel.set_yticks(range(len(names)), names, fontsize=7)
            panel.set_title(title, fontsize=8)
        path = docs / "savings-wavelets.svg"
        figure.savefig(path, metadata={"Date": None})
    return [path]
