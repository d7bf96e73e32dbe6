"""Compare `--method weight-selection` with the released function, on a tiny ViT with random weights.

python benchmarks/peers/weight_selection.py --peer-dir weight-selection
"""

from __future__ import annotations

import sys

import torch
from released import clone_of, functions, verdict
from transformers import ViTConfig, ViTForImageClassification

import wavescale
from wavescale.memory import model_tensors


def main() -> int:
    folder = clone_of("Weight Selection beside its own code", "OscarXZQ/weight-selection")
    select = functions(folder / "weight_selection.py", "uniform_element_selection")["uniform_element_selection"]
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=24, num_hidden_layers=5, num_attention_heads=6, intermediate_size=50, image_size=8,
                       patch_size=4)  # fmt: skip
    model = ViTForImageClassification(config)
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 30, "num_hidden_layers": 3}
    ours = model_tensors(wavescale.resize(model, preset="weight-selection", **sizes))
    source = model_tensors(model)
    return verdict({name: select(source[name], value.shape) for name, value in ours.items()}, ours)


if __name__ == "__main__":
    sys.exit(main())
