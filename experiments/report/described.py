"""What was trained, read from the configs of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transfer.runs import SCRATCH, SOURCE, Run

from report.rows import Row
from report.tables import Table

TASKS = {
    "causal": "the next token",
    "masked": "masked tokens",
    "images": "classes of images",
    "sentences": "classes of sentences",
    "answers": "answers in a text",
}


def trained_table(rows: list[Row]) -> Table:
    """Sizes, data, budget and measure of each row."""
    lines = [["row", "from", "to", "predicts", "data", "budget", "measured on", "source's training ends"]]
    for row in rows:
        run = row.first
        budget = f"{run.steps:,} steps of {run.batch} {_examples(run)}"
        sizes = (_sizes(run.source), _sizes(run.target))
        lines.append([row.name, *sizes, TASKS[run.task], _data(run), budget, _measured(run), _source(row)])
    return lines


def rates_table(rows: list[Row]) -> Table:
    """How each row's rate and warm-up are chosen."""
    lines = [["row", "rates", "warm-ups", "steps of a probe", "falls to"]]
    for row in rows:
        run = row.first
        if run.rates:
            rates, steps = ", ".join(f"{rate:g}" for rate in run.rates), _probes(row)
            warmups = ", ".join(f"{share:.0%}" for share in run.warmups)
        else:
            rates, warmups, steps = f"{run.rate:g}", f"{run.warmup:.0%}", "none"
        lines.append([row.name, rates, warmups, steps, f"{run.floor:.0%}"])
    return lines


def _probes(row: Row) -> str:
    """How long probes are, and the methods that have longer ones."""
    shortest = min(run.probe_steps for run in row.runs.values())
    longer = (f"{name} {run.probe_steps:,}" for name, run in row.runs.items() if run.probe_steps > shortest)
    return ", ".join([f"{shortest:,}", *longer])


def _sizes(sizes: Mapping[str, int]) -> str:
    return f"{sizes['num_hidden_layers']} layers × {sizes['hidden_size']}"


def _examples(run: Run) -> str:
    if run.task == "images":
        return "images"
    return f"sequences of {run.data['length']:,} tokens"


def _data(run: Run) -> str:
    data: Mapping[str, Any] = run.data
    if run.task == "sentences":
        return str(data["table"].get("train") or f"GLUE's {data['table']['glue']}")
    if run.task == "answers":
        return str(data["squad"].get("train") or data["squad"].get("hub"))
    if data.get("digits"):
        return "scikit-learn's digits"
    if "hub" in data:
        return str(data["hub"]["path"])
    return " and ".join(data["files"]) if "files" in data else str(data.get("folder", "images"))


def _measured(run: Run) -> str:
    """The measure and how much of the held-out data it is taken on."""
    held = "all that is held out" if "measured" not in run.data else f"{run.data['measured']:,} held out"
    return f"{run.quality}, {held}"


def _source(row: Row) -> str:
    """Where the training of the row's source ends: at scratch's quality at a share of its budget, or elsewhere."""
    named = next((run.source_run for run in row.runs.values() if run.source_run is not None), None)
    if named is None:
        return ""
    other, method = named
    if other == row.name and method == SOURCE:
        stop = row.runs[SOURCE].stop
        return f"at scratch's quality after {stop:.0%} of its budget" if isinstance(stop, float) else "with its budget"
    if method == SCRATCH:
        return f"scratch of {other}, to its end"
    return f"{method} of {other}"
