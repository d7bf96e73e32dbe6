"""Figures, tables and a page of the savings, from the results of runs alone.

PYTHONPATH=experiments python -m report
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from transfer.runs import HERE, RESULTS, RUNS

from report.ablation import draw_wavelets
from report.curves import draw_rows
from report.page import write_html
from report.rows import read_rows
from report.words import write_page

DOCS = HERE.parent / "docs"
app = typer.Typer(invoke_without_command=True, add_completion=False)


@app.callback()
def main(
    context: typer.Context,
    scale: Annotated[str, typer.Option(help="cpu or paper.")] = "cpu",
    docs: Annotated[Path, typer.Option(help="Folder for what is made.")] = DOCS,
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    runs: Annotated[Path, typer.Option(help="Folder of the runs' configs.")] = RUNS,
) -> None:
    """Make docs/savings.md with its figures, and docs/savings.html."""
    if context.invoked_subcommand is None:
        make(scale, docs, results, runs)


def make(scale: str, docs: Path, results: Path, runs: Path) -> None:
    """Make all that results alone can tell."""
    docs.mkdir(parents=True, exist_ok=True)
    rows = read_rows(scale, results, runs)
    made = [*draw_rows(rows, docs), *draw_wavelets([row for row in rows if row.kind == "wavelets"], docs)]
    made += [write_page(rows, docs, scale), write_html(rows, docs)]
    for path in made:
        Console().print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    app()
