"""MiniLM with half the FFN units: how well sentence similarities keep their order.

python experiments/minilm_half_ffn.py --sentiment folder-with-the-rated-sentences
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from transformers import AutoModel, AutoTokenizer

import wavescale
from wavescale.card import versions
from wavescale.demo import packaged_minilm

UNITS, PAIRS, SEEDS = 768, 500, 5


def sentences(path: Path) -> list[str]:
    """The text of each line: id, rating, text."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [row[2].strip() for row in rows if len(row) > 2]


@torch.no_grad()
def vectors(model: torch.nn.Module, texts: list[str]) -> torch.Tensor:
    """Mean-pooled and normalised, (texts, hidden)."""
    tokenizer = AutoTokenizer.from_pretrained(packaged_minilm())
    found = []
    for at in range(0, len(texts), 64):
        batch = tokenizer(texts[at : at + 64], padding=True, truncation=True, max_length=128, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        pooled = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        found.append(torch.nn.functional.normalize(pooled, dim=1))
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentiment", type=Path, required=True, help="folder of the rated sentences")
    parser.add_argument("--work", type=Path, default=Path("runs/minilm"))
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "minilm_half_ffn.json")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    other = arguments.work / "product-reviews.txt"
    other.write_text("\n".join(sentences(arguments.sentiment / "amazonReviewSnippets_GroundTruth.txt")))
    movie = sentences(arguments.sentiment / "movieReviewSnippets_GroundTruth.txt")
    # The pairs are drawn anew for each seed; every arm is measured on the same.
    draws = [np.random.default_rng(seed).choice(len(movie), (PAIRS, 2)) for seed in range(SEEDS)]
    texts = sorted({movie[place] for draw in draws for place in draw.flat})
    at = {text: number for number, text in enumerate(texts)}
    alike = arguments.work / "movie-reviews.txt"
    alike.write_text("\n".join(text for text in movie if text not in at))
    source = AutoModel.from_pretrained(packaged_minilm()).eval()

    def similarities(model: torch.nn.Module) -> list[torch.Tensor]:
        found = vectors(model, texts)
        left, right = (
            [found[[at[movie[place]] for place in draw[:, side]]] for draw in draws] for side in (0, 1)
        )  # fmt: skip
        return [(a * b).sum(1) for a, b in zip(left, right, strict=True)]

    expected = similarities(source)
    arms: dict[str, dict[str, Any]] = {
        "other movie reviews": {"calibrate": alike},
        "product reviews": {"calibrate": other},
        "random tokens": {"calibrate": "random"},
        "weight selection": {"preset": "weight-selection"},
        "preset paper": {"preset": "paper"},
        "largest norms": {"width": "norm"},
        "order similarity": {"order": "similarity"},
    }
    found: dict[str, dict[str, Any]] = {}
    for name, options in arms.items():
        started = time.perf_counter()
        model = wavescale.resize(source, intermediate_size=UNITS, **options)
        seconds = time.perf_counter() - started
        ranks = [float(spearmanr(a, b)[0]) for a, b in zip(expected, similarities(model), strict=True)]
        found[name] = {
            "spearman": round(median(ranks), 4),
            "lowest": round(min(ranks), 4),
            "highest": round(max(ranks), 4),
            "seconds": round(seconds, 1),
        }
        print(name, found[name], flush=True)
        result = {"versions": versions(), "units": UNITS, "pairs": PAIRS, "draws": SEEDS, "arms": found}
        arguments.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
