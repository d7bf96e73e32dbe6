"""Measure resized models without training, or after a little of it; one JSON a row, finished rows are skipped.

    PYTHONPATH=experiments python -m quality.measure --data data --work runs/quality --model gpt2 --factor 0.5
    PYTHONPATH=experiments python -m quality.measure --data data --work runs/quality --training

The rows are those of `config.json`, in its order.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from provenance import commit

import wavescale
from quality.benches import Bench, open_bench
from quality.measures import Measured
from quality.results import write_row
from quality.rows import RESULTS, Config, Row, list_rows, load_config, row_options
from quality.training import TrainingRow, list_training, train_row

# How far the source's own result may lie from the pinned one: other processors round differently.
TOLERANCE = 2e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with text, sentiment and fashion-mnist")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder of sources")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--factor", action="append", default=[])
    parser.add_argument("--axis", action="append", default=[])
    parser.add_argument("--method", action="append", default=[])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after this long")
    parser.add_argument("--training", action="store_true", help="the rows that are trained")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    commit()  # before anybody changes it
    end = time.monotonic() + 60 * arguments.minutes
    config = load_config()
    chosen = (arguments.model, arguments.factor, arguments.axis, arguments.method)
    rows: list[Row | TrainingRow] = [*(list_training if arguments.training else list_rows)(config, *chosen)]
    waiting = [row for row in rows if not row.path(arguments.results).is_file()]
    for name in dict.fromkeys(row.model for row in waiting):
        if time.monotonic() > end:
            break
        bench = open_bench(name, config.models[name], arguments.data, arguments.work)
        check_source(name, config, bench)
        for row in waiting:
            if row.model == name and time.monotonic() <= end:
                run = measure_row(row, config, bench) if isinstance(row, Row) else train_row(row, config, bench)
                write_row(row.path(arguments.results), run)


def check_source(name: str, config: Config, bench: Bench) -> None:
    """Stop where the source is not the one that the rows so far were measured with."""
    found, floor = bench.measure(bench.source), config.models[name].floor
    values = {**found.values, "error": found.error}
    print(f"{name}, source: {_words(values)}", flush=True)
    for key, value in values.items():
        if not abs(value - floor.get(key, float("nan"))) <= TOLERANCE:
            raise SystemExit(f"{name}: the source's {key} is {value:.6f}, config.json says {floor.get(key)}.")


def measure_row(row: Row, config: Config, bench: Bench) -> dict[str, Any]:
    """Resize and measure."""
    options = row_options(config, row, bench.calibration)
    started = time.perf_counter()
    resized = wavescale.resize(bench.source, **options).eval()
    between = time.perf_counter()
    found: Measured = bench.measure(resized)
    seconds = {"resize": round(between - started, 2), "measure": round(time.perf_counter() - between, 2)}
    print(f"{row.model} × {row.factor} {row.axis} {row.method}: {_words(found.values)} {seconds}", flush=True)
    return {
        **vars(row),
        "sizes": config.models[row.model].axes[row.axis][row.factor],
        "options": config.methods[row.method].options,
        "parameters": resized.num_parameters(),
        **found.values,
        "parts": found.parts,
        "count": found.count,
        "seconds": seconds,
    }


def _words(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


if __name__ == "__main__":
    main()
