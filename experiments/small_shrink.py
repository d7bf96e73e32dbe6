"""What a shrunk model starts from: orders, merging and picking, small GPT-2 6 × 192 to 3 × 96, or to 4 × 128.

    python experiments/small_shrink.py --text brown.txt.gz

Every arm gets the same data order, budget and learning-rate grid; the best rate counts. A run that is in
the result already is not repeated; `--arms` and `--rates` do some of them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from small_gpt2 import config, read_corpus, source, train, validation_loss
from transformers import GPT2LMHeadModel

import wavescale
from wavescale.card import versions

TARGETS = {"3x96": {"hidden_size": 96, "num_hidden_layers": 3}, "4x128": {"hidden_size": 128, "num_hidden_layers": 4}}
WIDTHS = {
    "signal": {"width": "signal"},
    "order": {"width": "signal", "order": "similarity"},
    "matching": {"width": "signal", "order": "matching"},
    "merge": {"width": "merge", "order": "similarity"},
    "norm": {"width": "norm", "order": "similarity"},
    "select": {"width": "select"},
}
ARMS = {
    "scratch": None,
    "weight-selection": {"preset": "weight-selection"},
    "paper": {"preset": "paper"},
    **{
        f"{width}, {gain}, depth {depth}": {**options, "gain": gain, "depth": depth}
        for depth in ("signal", "first")
        for width, options in WIDTHS.items()
        for gain in ("orthonormal", "role", "variance")
    },
}
RATES = (1e-3, 2e-3)
STEPS, MARKS = 300, (0, 100, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--source", type=Path, default=Path("runs/small_gpt2/6x192"))
    parser.add_argument("--target", choices=list(TARGETS), default="3x96")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--rates", nargs="*", type=float, default=RATES)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after this time")
    parser.add_argument("--steps", type=int, default=STEPS, help="0 measures the starts alone")
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "small_shrink.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = read_corpus(arguments.text)
    large = source(arguments.source, corpus, 6, 192, steps=1200)
    done = json.loads(arguments.result.read_text()) if arguments.result.is_file() else {"runs": []}
    begun, sizes = time.monotonic(), TARGETS[arguments.target]
    for rate in arguments.rates if arguments.steps else (0.0,):
        for arm in arguments.arms:
            if time.monotonic() - begun > 60 * arguments.minutes:
                return
            key = {"target": arguments.target, "arm": arm, "rate": rate, "steps": arguments.steps, "seed": 1}
            if any(key.items() <= run.items() for run in done["runs"]):
                continue
            torch.manual_seed(1)
            options = ARMS[arm]
            started = time.perf_counter()
            if options is None:
                model = GPT2LMHeadModel(config(sizes["num_hidden_layers"], sizes["hidden_size"]))
            else:
                model = wavescale.resize(large, **sizes, **options)
            seconds = time.perf_counter() - started
            if arguments.steps:
                curve = train(model, corpus, arguments.steps, 1, rate, warmup=50, marks=MARKS)
            else:
                curve = {0: validation_loss(model, corpus)}
            run = {**key, "loss": curve}
            print(run, f"{seconds:.1f} s to resize", flush=True)
            done["runs"].append(run)
            done["versions"] = versions()
            arguments.result.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
