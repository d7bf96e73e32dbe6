"""Compare `--method llama-pro` with the released block expansion, on a tiny Llama with random weights.

    python benchmarks/peers/llama_pro.py --peer-dir LLaMA-Pro

The script saves half precision, so both sides start from weights that are. At whole multiples new blocks lie in
the same places; in between wavescale puts them as early as insertion does, the script as late as it can.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from released import clone_of, verdict
from transformers import LlamaConfig, LlamaForCausalLM

import wavescale


def main() -> int:
    folder = clone_of("LLaMA Pro beside its own code", "TencentARC/LLaMA-Pro")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=24, vocab_size=31
    )
    model = LlamaForCausalLM(config).half()
    with TemporaryDirectory() as work:
        model.save_pretrained(work)
        made = Path(work) / "made.bin"
        command = [sys.executable, str(folder / "scripts" / "block_expansion.py"), "--model_path", work,
                   "--output_path", str(made), "--original_layers", "3", "--layers", "6"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        theirs = torch.load(made, weights_only=True)
    ours = wavescale.resize(model, preset="llama-pro", num_hidden_layers=6).state_dict()
    return verdict(theirs, ours)


if __name__ == "__main__":
    sys.exit(main())
