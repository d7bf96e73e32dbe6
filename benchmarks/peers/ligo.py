"""Compare `--preset ligo` with the layers of the released LiGO, on a tiny BERT with random weights.

    python benchmarks/peers/ligo.py --peer-dir LiGO

`LiGO` is a clone of https://github.com/VITA-Group/LiGO. Its module does not import with transformers 5,
so only the classes of its layers are taken from `ligo.py`; they are given the same M and d.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM

import wavescale
from wavescale.analysis import Subject
from wavescale.findings import mapping_of
from wavescale.memory import model_tensors

AGREES = 1e-5
# Name in a layer, and the maps of its inputs and outputs.
LINEAR = (
    ("attention.self.query", "hidden", "query"),
    ("attention.self.key", "hidden", "key"),
    ("attention.self.value", "hidden", "value"),
    ("attention.output.dense", "value", "hidden"),
    ("intermediate.dense", "hidden", "ffn"),
    ("output.dense", "ffn", "hidden"),
)
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")


def released(folder: Path) -> dict[str, Any]:
    """The classes of the layers, and what they call."""
    wanted = {"normalized_uniform_init", "stackbert_init", "interlace_init", "K2N",
              "FusedDepthParams", "FusedWidthParams", "FusedLinear", "FusedLayeredNorm", "FusedEmbedding"}  # fmt: skip
    tree = ast.parse((folder / "ligo.py").read_text(encoding="utf-8"))
    parts: list[ast.stmt] = [
        node
        for node in tree.body
        if (isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in wanted)
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in wanted)
    ]
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F}
    exec(compile(ast.Module(parts, []), str(folder / "ligo.py"), "exec"), names)
    missing = wanted - names.keys()
    if missing:
        raise SystemExit(f"{folder}/ligo.py: has no {', '.join(sorted(missing))}; give a clone of VITA-Group/LiGO.")
    return names


@torch.no_grad()
def compare(folder: Path) -> dict[str, float]:
    """The largest difference of any weight, relative to the largest weight, by the kind of layer."""
    peer = released(folder)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "intermediate_size": 24, "vocab_size": 31, "max_position_embeddings": 20}
    model = BertForMaskedLM(BertConfig(hidden_size=16, num_attention_heads=4, **sizes))
    for parameter in model.parameters():
        parameter.normal_()
    source = model_tensors(model)
    plan = wavescale.plan_resize(model, preset="ligo", hidden_size=24, num_hidden_layers=5, intermediate_size=40)
    mapping = mapping_of(plan, Subject.in_memory(model))
    for parameter in mapping.parameters.values():
        parameter.normal_()
    ours = mapping.tensors()
    holder, found = nn.Module(), {"linear": 0.0, "norm": 0.0, "embedding": 0.0}

    def store(name: str, kind: str, value: torch.Tensor) -> None:
        holder.register_buffer(f"{peer['K2N'](name)}_{kind}", value)

    def rows(use: str, layer: int) -> SimpleNamespace:
        learned = mapping.parameters[f"maps/{use}"]
        return SimpleNamespace(coeffs_weight=learned[layer if len(learned) > 1 else 0])

    def settle(kind: str, made: torch.Tensor, name: str) -> None:
        found[kind] = max(found[kind], float((made - ours[name]).abs().max() / made.abs().max()))

    for layer in range(5):
        before = f"bert.encoder.layer.{layer}."
        for name in (*(row[0] for row in LINEAR), *NORMS):
            for kind in ("weight", "bias"):
                store(name, kind, torch.stack([source[f"bert.encoder.layer.{n}.{name}.{kind}"] for n in range(2)], -1))
        for name, inputs, outputs in LINEAR:
            shape = ours[f"{before}{name}.weight"].shape
            linear = peer["FusedLinear"](
                holder, name, shape[1], shape[0], layer_index=layer,
                width_in_tie=rows(inputs, layer), width_out_tie=rows(outputs, layer),
            )  # fmt: skip
            _set_depth(linear, mapping, name, layer)
            for kind, made in zip(("weight", "bias"), linear.get_params(), strict=True):
                settle("linear", made, f"{before}{name}.{kind}")
        for name in NORMS:
            norm = peer["FusedLayeredNorm"](holder, name, (24,), layer_index=layer, width_out_tie=rows("hidden", layer))
            _set_depth(norm, mapping, name, layer)
            for kind, made in zip(("weight", "bias"), norm.get_params(), strict=True):
                settle("norm", made, f"{before}{name}.{kind}")
    for name in EMBEDDINGS:
        whole = f"bert.embeddings.{name}.weight"
        store(name, "weight", source[whole])
        table = peer["FusedEmbedding"](holder, name, len(source[whole]), 24, width_out_tie=rows("hidden", 0))
        settle("embedding", table.get_params(), whole)
    return found


def _set_depth(layer: Any, mapping: Any, name: str, number: int) -> None:
    for kind in ("weight", "bias"):
        weights = mapping.parameters[f"depth/{{base}}encoder.layer.{{layer}}.{name}.{kind}/0"][number]
        getattr(layer.fuse_depth_coeffs, f"coeffs_{kind}").copy_(weights)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer-dir", type=Path, required=True, help="A clone of VITA-Group/LiGO.")
    found = compare(parser.parse_args().peer_dir)
    for kind, difference in found.items():
        print(f"{kind:<10} {difference:.2e}")
    return 0 if max(found.values()) < AGREES else 1


if __name__ == "__main__":
    sys.exit(main())
