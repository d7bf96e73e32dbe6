"""Results on disk: one JSON a row, with the commit and the versions that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from provenance import commit

from wavescale.card import versions


def write_row(path: Path, result: dict[str, Any]) -> None:
    """Write a row; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {**result, "commit": commit(), "versions": versions()}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder, in the order of their names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
