"""One page with curves to look into: everything is inside it, so it opens from a file and needs no network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from report.curves import limits
from report.looks import colours
from report.rows import AXES, Row, Trained
from report.tables import as_html, main_table, row_table

TEMPLATE = Path(__file__).with_name("page.html")


def write_html(rows: Sequence[Row], docs: Path) -> Path:
    """Write `savings.html`, with plotly.js in it, compressed to a third of its size, which browsers unpack."""
    from plotly.offline import get_plotlyjs

    savings = [row for row in rows if row.kind == "savings"]
    data = {"axes": AXES, "colours": colours(rows), "rows": [_row(row) for row in (*savings, *_others(rows))]}
    parts = {
        "@TABLE@": as_html(main_table(savings)),
        # "</script>" in a string would end the element that it stands in.
        "@DATA@": json.dumps(data).replace("</", r"<\/"),
        "@PLOTLY@": base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode(),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(name, part)
    path = docs / "savings.html"
    path.write_text(text, encoding="utf-8")
    return path


def _others(rows: Sequence[Row]) -> list[Row]:
    """Rows of other kinds that have results."""
    return [row for row in rows if row.kind != "savings" and any(row.trained[name] for name in row.methods)]


def _row(row: Row) -> dict[str, Any]:
    methods = [
        {"name": name, "seeds": [_seed(one) for one in row.trained[name]]} for name in row.methods if row.trained[name]
    ]
    return {
        "name": row.name,
        "quality": row.first.quality,
        "target": row.target,
        "limits": limits(row),
        "methods": methods,
        "table": as_html(row_table(row)),
    }


def _seed(one: Trained) -> dict[str, Any]:
    places: dict[str, list[float]] = {axis: [float(f"{place:.6g}") for place in one.along(axis)] for axis in AXES}
    # JSON has no NaN: where a run has diverged its curve has a gap.
    quality = [round(value, 5) if isfinite(value) else None for value in one.qualities]
    return {"seed": one.run.seed, "quality": quality, **places}
