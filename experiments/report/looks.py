"""How methods look: the same colour in every figure."""

from __future__ import annotations

from collections.abc import Sequence

from report.rows import Row

# Colours that stay apart for colour-blind readers where there are few methods (Okabe and Ito 2008), then others.
FIXED = {"scratch": "#222222", "wavescale": "#0072b2", "bot-paper": "#d55e00"}
OTHERS = (
    "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#9c755f", "#7f3c8d", "#b8b82e", "#666666", "#e7298a", "#1b9e9e",
    "#a6761d", "#8dd35f", "#b2182b", "#8073ac",
)  # fmt: skip


def colours(rows: Sequence[Row]) -> dict[str, str]:
    """A colour for each method of the rows; wavelets, which no figure shows beside methods, take the same ones."""
    wavelets = {name for row in rows if row.kind == "wavelets" for name in row.methods}
    methods = {name for row in rows if row.kind != "wavelets" for name in row.methods} - FIXED.keys()
    found = dict(FIXED)
    for names in (wavelets, methods):
        found |= {name: OTHERS[at % len(OTHERS)] for at, name in enumerate(sorted(names))}
    return found
