"""Train grown models whose copies share weights unequally beside ones whose copies differ by independent numbers.

    python experiments/copies_training.py --text brown.txt.gz [--model llama] [--arms 1,3]

A small GPT-2 and a small Llama, 3 layers × 96, are grown to 6 × 192 and trained on: 300 steps at a quarter of the
source's rate, and 600 steps at the whole of it, each with a schedule of its own down to a tenth. Arms are values of
`detail_size`; three seeds draw the details and the order of the data. Every run is one JSON in
`results/copies_training/`; finished ones are skipped. What was measured with an earlier version keeps its label.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from provenance import commit
from small_gpt2 import VOCAB, WINDOW, Corpus, read_corpus, train
from small_gpt2 import config as gpt2_config
from transformers import GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import wavescale
from wavescale.card import versions

HERE = Path(__file__).parent
RATE = 2e-3
SEEDS = (1, 2, 3)
# Steps, and the highest rate as a share of the source's.
SCHEDULES = {"gentle": (300, 0.25), "full": (600, 1.0)}
TARGET = {"hidden_size": 192, "num_hidden_layers": 6}


def fresh(model: str) -> PreTrainedModel:
    """A source before training."""
    if model == "gpt2":
        return GPT2LMHeadModel(gpt2_config(3, 96))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=3,
            max_position_embeddings=WINDOW, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
        )
    )  # fmt: skip


def source(folder: Path, model: str, corpus: Corpus) -> PreTrainedModel:
    """The trained source, kept in a folder."""
    torch.manual_seed(0)
    made = fresh(model)
    if not (folder / "config.json").is_file():
        curve = train(made, corpus, 2000, seed=0, peak=RATE, warmup=100, marks=(500, 1000, 2000))
        print(f"source {model}: {curve}", flush=True)
        made.save_pretrained(folder)
    return type(made).from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--model", choices=("gpt2", "llama"), action="append")
    parser.add_argument("--arms", default="1,3", help="values of detail_size; 0 stands for details zero")
    parser.add_argument("--label", default="shares", help="what the copies differ by, for the names of results")
    parser.add_argument("--schedules", default=",".join(SCHEDULES))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--work", type=Path, default=Path("runs/copies_training"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "copies_training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.results.mkdir(parents=True, exist_ok=True)
    for model in arguments.model or ("gpt2", "llama"):
        corpus = read_corpus(arguments.text, arguments.work / f"tokenizer-{model}")
        for schedule in arguments.schedules.split(","):
            for seed in map(int, arguments.seeds.split(",")):
                for arm in arguments.arms.split(","):
                    name = f"{model}-{schedule}-{arguments.label}{arm}-seed{seed}"
                    result = arguments.results / f"{name}.json"
                    if result.is_file():
                        continue
                    small = source(arguments.work / f"source-{model}", model, corpus)
                    steps, share = SCHEDULES[schedule]
                    size = {"details": "zero"} if arm == "0" else {"detail_size": float(arm)}
                    grown = wavescale.resize(small, **TARGET, **size, seed=seed)
                    started, marks = time.monotonic(), (0, steps // 6, steps // 3, steps // 2, steps)
                    curve = train(grown, corpus, steps, seed, RATE * share, steps // 10, marks)
                    found = {
                        "model": model, "schedule": schedule, "label": arguments.label, "detail_size": float(arm),
                        "seed": seed, "curve": curve, "last": curve[steps],
                        "seconds": round(time.monotonic() - started, 1), "commit": commit(), "versions": versions(),
                    }  # fmt: skip
                    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                    print(f"{name}: {curve[0]:.4f} -> {curve[steps]:.4f}, {found['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
