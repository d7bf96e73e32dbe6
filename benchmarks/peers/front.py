"""Compare `--method front-dct` with the released script, on a tiny ViT with random weights.

    python benchmarks/peers/front.py --peer-dir FRONT

The script imports models that are not public, so its functions are taken one by one. It takes modules by the names
of their parameters, which are timm's; it is given queries, keys and values as matrices of their own. Left
out is the patch convolution, whose colours it lays end to end with the channels, and here only layers are taken
away: added ones it fills with the same weights.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping

import torch
from released import clone_of, functions, verdict
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

import wavescale
from wavescale.memory import model_tensors

NEEDED = ("dct", "idct", "ToDCT", "apply_dct", "apply_idct", "get_module_names", "get_layerblocks_name",
          "get_top_n_modules_dim_dct", "reconstruct_weights")  # fmt: skip


def theirs(name: str) -> str:
    """A name as the script wants it: `blocks.<layer>.<rest>` in layers, and one word outside of them."""
    if name.startswith("vit.encoder.layer."):
        return name.replace("vit.encoder.layer.", "blocks.")
    return name.replace(".", "_")


def module_of(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """A module with these parameters."""
    whole = nn.Module()
    for name, value in tensors.items():
        *path, last = theirs(name).split(".")
        module = whole
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, nn.Parameter(value.clone()))
    return whole


def main() -> int:
    folder = clone_of("FRONT beside its own script", "LUcy0505/FRONT")
    peer = functions(folder / "front_init_deit.py", *NEEDED)
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=24, num_hidden_layers=5, num_attention_heads=6, intermediate_size=50, image_size=8,
                       patch_size=4)  # fmt: skip
    model = ViTForImageClassification(config)
    for parameter in model.parameters():
        parameter.data.normal_(float(torch.randn(())), 1 + float(torch.rand(())))
    worst = 0
    for sizes in (
        {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 30, "num_hidden_layers": 3},
        {"hidden_size": 36, "num_attention_heads": 9, "intermediate_size": 70, "num_hidden_layers": 5},
        {"num_hidden_layers": 2},
    ):
        source, ours = (
            {name: value for name, value in model_tensors(each).items() if "projection.weight" not in name}
            for each in (model, wavescale.resize(model, preset="front-dct", **sizes))
        )
        made = module_of({name: torch.zeros_like(value) for name, value in ours.items()})
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            peer["reconstruct_weights"](made, *peer["ToDCT"](keep_ratio=1.0)(module_of(source)))
        found = made.state_dict()
        worst = max(worst, verdict({name: found[theirs(name)] for name in ours}, ours))
    return worst


if __name__ == "__main__":
    sys.exit(main())
