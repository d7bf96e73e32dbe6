"""Compare `--method stack` and `interleave` with mergekit's passthrough, on a tiny Llama with random weights.

pip install --no-deps mergekit==0.1.5 immutables peft
python benchmarks/peers/mergekit_passthrough.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from released import verdict
from transformers import LlamaConfig, LlamaForCausalLM

import wavescale
from wavescale.checkpoint import open_checkpoint


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(folder)
    return {name: checkpoint.read(name) for name in checkpoint.tensors}


def main() -> int:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=24,
                         vocab_size=31, tie_word_embeddings=False)  # fmt: skip
    worst = 0
    with TemporaryDirectory() as work:
        source = Path(work) / "source"
        LlamaForCausalLM(config).save_pretrained(source)
        for method, ranges in (("stack", [[0, 3], [0, 3]]), ("interleave", [[k // 2, k // 2 + 1] for k in range(6)])):
            slices = [{"sources": [{"model": str(source), "layer_range": part}]} for part in ranges]
            asked = MergeConfiguration(slices=slices, merge_method="passthrough", dtype="float32")
            run_merge(asked, str(Path(work) / "theirs"), MergeOptions(copy_tokenizer=False))
            wavescale.resize_checkpoint(source, Path(work) / method, preset=method, num_hidden_layers=6)
            print(method, end=": ")
            worst = max(worst, verdict(tensors(Path(work) / "theirs"), tensors(Path(work) / method)))
    return worst


if __name__ == "__main__":
    sys.exit(main())
