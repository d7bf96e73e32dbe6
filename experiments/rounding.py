"""Run what plans call kept in the dtype that was written, with every kind and size of noise.

    python experiments/rounding.py --text moby_dick.txt.gz [--model random]

SmolLM2-135M and a random Llama of 24 layers, whose weights have a standard deviation of 0.17 and which therefore
amplifies rounding, are resized with every kind and size of noise and written in float32 and in bfloat16. What was
written runs in the dtype that was written, and in float32; losses are compared with the source's in float32. The text
is characters 200,000 to 260,000, of which SmolLM2 reads 1,024 tokens; the random model reads random tokens. One JSON,
`results/rounding.json`; finished entries are skipped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from checkpoints import smollm2
from provenance import commit
from smollm2_growth import read_window
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import wavescale
from wavescale.card import versions

NOISE: dict[str, dict[str, Any]] = {
    **{f"shares, size {size}": {"detail_size": size} for size in (0.5, 1, 2, 3, 3.8, 8, 9.9, 30)},
    **{f"padding, size {size}": {"width": "pad", "detail_size": size} for size in (1, 3.8, 9.9)},
    "no noise": {"details": "zero"},
}
SIZES: dict[str, dict[str, Any]] = {
    "width × 2": {"scale_width": 2},
    "width and depth × 2": {"scale_width": 2, "scale_depth": 2},
    "depth × 2": {"scale_depth": 2},
}


def random_llama(folder: Path) -> Path:
    """A Llama of 24 layers with weights far larger than any that was trained."""
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97, hidden_size=48, intermediate_size=96, num_hidden_layers=24, num_attention_heads=6,
            num_key_value_heads=2, initializer_range=0.17,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


def outputs(folder: Path, ids: torch.Tensor, dtype: str) -> tuple[float, torch.Tensor]:
    """Loss in nats and logits of a checkpoint that runs in a dtype."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():
        logits = torch.cat([model(row[None]).logits.float() for row in ids])
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    return float(loss), logits


def arms(model: str) -> list[tuple[str, str]]:
    """Sizes and noise; of the larger model layers and both are tried with a few."""
    few = ("no noise", "shares, size 1", "shares, size 3")
    every = [(size, noise) for size in SIZES for noise in NOISE]
    return [
        (size, noise) for size, noise in every
        if (size != "depth × 2" or noise == "no noise") and (size == "width × 2" or model == "random" or noise in few)
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--model", choices=("smollm2", "random"), action="append")
    parser.add_argument("--work", type=Path, default=Path("runs/rounding"))
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "rounding.json")
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(arguments.result.read_text()) if arguments.result.is_file() else {}
    for model in arguments.model or ("random", "smollm2"):
        if model == "smollm2":
            source = smollm2(arguments.work / model)
            tokens = AutoTokenizer.from_pretrained(source)(read_window(arguments.text), add_special_tokens=False)
            ids = torch.tensor(tokens["input_ids"][:1024]).view(2, 512)
        else:
            source = random_llama(arguments.work / model)
            ids = torch.randint(5, 97, (8, 64), generator=torch.Generator().manual_seed(1))
        loss, logits = outputs(source, ids, "float32")
        for dtype in ("float32", "bfloat16"):
            for size, noise in arms(model):
                name = f"{model}, {size}, {noise}, {dtype}"
                if name in found:
                    continue
                out = arguments.work / "out"
                options = {**SIZES[size], **NOISE[noise]}
                plan = wavescale.resize_checkpoint(source, out, overwrite=True, dtype=dtype, **options)
                entry: dict[str, Any] = {"kept": plan.keeps_function, "loss_source": loss, "commit": commit()}
                for runs in dict.fromkeys((dtype, "float32")):
                    after, other = outputs(out, ids, runs)
                    entry[f"change of loss in {runs}"] = after - loss
                    entry[f"relative difference in {runs}"] = float((other - logits).norm() / logits.norm())
                found[name] = {**entry, "versions": versions()}
                arguments.result.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                print(name, {key: value for key, value in found[name].items() if key != "versions"}, flush=True)
                shutil.rmtree(out)


if __name__ == "__main__":
    main()
