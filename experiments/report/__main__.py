"""Figures, tables and a page of the savings, from the results of runs alone.

PYTHONPATH=experiments python -m report
PYTHONPATH=experiments python -m report maps --work runs/transfer --data-dir data
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from transfer.runs import HERE, RESULTS, RUNS
from transfer.tasks import Data
from transformers.utils.logging import disable_progress_bar

from report.ablation import draw_wavelets
from report.curves import draw_rows
from report.maps import draw_maps
from report.page import write_html
from report.rows import read_rows
from report.words import fill_readme, write_page

DOCS, README = HERE.parent / "docs", HERE.parent / "README.md"
PLACE = "Folder for what is made; docs, or docs/SCALE for other scales than cpu."
app = typer.Typer(invoke_without_command=True, add_completion=False)


@app.callback()
def main(
    context: typer.Context,
    scale: Annotated[str, typer.Option(help="cpu or paper.")] = "cpu",
    docs: Annotated[Path | None, typer.Option(help=PLACE)] = None,
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    runs: Annotated[Path, typer.Option(help="Folder of the runs' configs.")] = RUNS,
) -> None:
    """Make docs/savings.md with its figures, docs/savings.html and, for the scale of the README, its table."""
    if context.invoked_subcommand is None:
        make(scale, _home(docs, scale), results, runs, README if docs is None and scale == "cpu" else None)


def make(scale: str, docs: Path, results: Path, runs: Path, readme: Path | None = None) -> None:
    """Make all that results alone can tell."""
    docs.mkdir(parents=True, exist_ok=True)
    rows = read_rows(scale, results, runs)
    made = [*draw_rows(rows, docs), *draw_wavelets([row for row in rows if row.kind == "wavelets"], docs)]
    made += [write_page(rows, docs, scale), write_html(rows, docs)]
    if readme is not None:
        made.append(fill_readme(rows, readme))
    tell(made)


@app.command()
def maps(
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data that configs name.")] = None,
    train_file: Annotated[list[Path] | None, typer.Option(help="A text instead of those; several times.")] = None,
    work: Annotated[Path, typer.Option(help="Working folder of the runs.")] = Path("runs/transfer"),
    scale: Annotated[str, typer.Option(help="cpu or paper.")] = "cpu",
    docs: Annotated[Path | None, typer.Option(help=PLACE)] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs' configs.")] = RUNS,
) -> None:
    """Draw where sources and resized models look, into docs/maps-ROW.png; rows without models are left out."""
    home = _home(docs, scale)
    home.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()
    rows = read_rows(scale, RESULTS, runs)
    tell(draw_maps(rows, Data(data_dir, tuple(train_file or ()), work), home, runs))


def _home(docs: Path | None, scale: str) -> Path:
    """Where what is made of a scale goes."""
    if docs is not None:
        return docs
    return DOCS if scale == "cpu" else DOCS / scale


def tell(made: Sequence[Path]) -> None:
    """Print what was made and how large it is."""
    for path in made:
        Console().print(f"{path}: {path.stat().st_size / 1000:.0f} kB", soft_wrap=True)


if __name__ == "__main__":
    app()
