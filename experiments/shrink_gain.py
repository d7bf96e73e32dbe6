"""Which gain a shrunk model should start with: small GPT-2, 6 × 192 to 3 × 96, and to 4 × 128.

    python experiments/shrink_gain.py --text brown.txt.gz

Every arm gets the same data order, budget and learning-rate grid; the best rate counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from small_gpt2 import config, read_corpus, source, train
from transformers import GPT2LMHeadModel

import wavescale
from wavescale.card import versions

TARGETS = {"3x96": {"hidden_size": 96, "num_hidden_layers": 3}, "4x128": {"hidden_size": 128, "num_hidden_layers": 4}}
ARMS = {
    "scratch": None,
    "role": {"gain": "role"},
    "orthonormal": {"gain": "orthonormal"},
    "paper": {"preset": "paper"},
}
RATES = (1e-3, 2e-3)
SEEDS = (1,)
STEPS, MARKS = 400, (0, 100, 200, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/small_gpt2"))
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "shrink_gain.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = read_corpus(arguments.text)
    large = source(arguments.work / "6x192", corpus, 6, 192, steps=1200)
    done = json.loads(arguments.result.read_text()) if arguments.result.is_file() else {"runs": []}
    finished = {(run["target"], run["arm"], run["rate"], run["seed"]) for run in done["runs"]}
    for target, sizes in TARGETS.items():
        for seed in SEEDS:
            for arm, options in ARMS.items():
                for rate in RATES:
                    if (target, arm, rate, seed) in finished:
                        continue
                    torch.manual_seed(seed)
                    if options is None:
                        model = GPT2LMHeadModel(config(sizes["num_hidden_layers"], sizes["hidden_size"]))
                    else:
                        model = wavescale.resize(large, **sizes, **options)
                    curve = train(model, corpus, STEPS, seed, rate, warmup=50, marks=MARKS)
                    run = {"target": target, "arm": arm, "rate": rate, "seed": seed, "loss": curve}
                    print(run, flush=True)
                    done["runs"].append(run)
                    done["versions"] = versions()
                    arguments.result.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
