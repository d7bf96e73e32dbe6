"""Compare `--method hypercloning` with the released functions, on a tiny untied Llama with random weights.

    python benchmarks/peers/hypercloning.py --peer-dir ml-hypercloning

The package asks for OLMo's, so its functions for matrices and vectors are taken one by one.
"""

from __future__ import annotations

import sys

import torch
from released import clone_of, functions, verdict
from transformers import LlamaConfig, LlamaForCausalLM

import wavescale
from wavescale.memory import model_tensors


def main() -> int:
    folder = clone_of("HyperCloning beside its own code", "apple/ml-hypercloning")
    peer = functions(folder / "hypercloning" / "common.py", "clone_matrix", "clone_vector")
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
                         intermediate_size=24, vocab_size=31, tie_word_embeddings=False)  # fmt: skip
    model = LlamaForCausalLM(config)
    ours = model_tensors(wavescale.resize(model, preset="hypercloning", scale_width=3))
    theirs = {}
    for name, value in model_tensors(model).items():
        if value.ndim == 1:
            theirs[name] = peer["clone_vector"](ours[name].shape, value)
        else:
            theirs[name] = peer["clone_matrix"](ours[name].shape, value, normalize="embed_tokens" not in name)
    return verdict(theirs, ours)


if __name__ == "__main__":
    sys.exit(main())
