"""Llama-shaped checkpoints of any size, in shards, whose weights are drawn: normal numbers, and ones in norms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama that comes near a number of bytes.

    Attributes
    ----------
    hidden_size, num_hidden_layers, vocab_size
        Of the model; heads have 64 channels, a quarter as many key-value heads, FFN 2.75 times the width.
    """

    hidden_size: int
    num_hidden_layers: int
    vocab_size: int = 32_000

    @property
    def config(self) -> dict[str, object]:
        """As config.json has it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.hidden_size * 11 // 4,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.hidden_size // 64,
            "num_key_value_heads": self.hidden_size // 256,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, in the order of the files."""
        d, ffn, kv = self.hidden_size, self.hidden_size * 11 // 4, self.hidden_size // 4
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, d)}
        for layer in range(self.num_hidden_layers):
            home = f"model.layers.{layer}"
            for name, rows in (("q_proj", d), ("k_proj", kv), ("v_proj", kv), ("o_proj", d)):
                shapes[f"{home}.self_attn.{name}.weight"] = (rows, d)
            for name in ("gate_proj", "up_proj"):
                shapes[f"{home}.mlp.{name}.weight"] = (ffn, d)
            shapes[f"{home}.mlp.down_proj.weight"] = (d, ffn)
            for name in ("input_layernorm", "post_attention_layernorm"):
                shapes[f"{home}.{name}.weight"] = (d,)
        return {**shapes, "model.norm.weight": (d,), "lm_head.weight": (self.vocab_size, d)}


# By gigabytes of the source.
SHAPES = {
    0.5: Shape(1024, 16),
    2.0: Shape(2048, 16),
    8.0: Shape(3072, 36),
}


# Of a file. Large models come in many files of 5 GB; these come in as many for their size.
SHARD_BYTES = 400_000_000


def make_checkpoint(folder: Path, shape: Shape, shard_bytes: int = SHARD_BYTES) -> int:
    """Write a checkpoint, unless it is there; returns the bytes of its weights."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        groups: list[dict[str, tuple[int, ...]]] = [{}]
        size = 0
        for name, dims in shape.tensors().items():
            nbytes = 2 * torch.Size(dims).numel()
            if groups[-1] and size + nbytes > shard_bytes:
                groups.append({})
                size = 0
            groups[-1][name] = dims
            size += nbytes
        where = {}
        for number, group in enumerate(groups, 1):
            file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            made = {name: _weights(dims, generator) for name, dims in group.items()}
            save_file(made, folder / file, metadata={"format": "pt"})
            where.update(dict.fromkeys(group, file))
        (folder / "config.json").write_text(json.dumps(shape.config, indent=1), encoding="utf-8")
        total = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}), encoding="utf-8")
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _weights(dims: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if len(dims) == 1:
        return torch.ones(dims, dtype=torch.bfloat16)
    return torch.empty(dims, dtype=torch.bfloat16).normal_(0.0, 0.02, generator=generator)
