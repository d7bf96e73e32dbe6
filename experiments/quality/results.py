"""Results on disk: one JSON a row, with the commit and the versions that made it."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from quality.rows import HERE
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


@cache
def commit() -> str:
    """The commit that this runs from, marked where tracked files have changed since; asked once."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
