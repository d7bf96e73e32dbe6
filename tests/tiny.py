"""Tiny random models of every family and head class, with weights far from their initialisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from wavescale.architectures import FAMILIES

TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "vocab_size": 31,
    "max_position_embeddings": 20,
}
IMAGE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "image_size": 8,
    "patch_size": 4,
    "encoder_stride": 4,
    "num_labels": 5,
}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 4, "bos_token_id": 1, "eos_token_id": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": TEXT,
    "roberta": {**TEXT, "pad_token_id": 1},
    "gpt2": {
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 24,
        "vocab_size": 31,
        "n_positions": 20,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "vit": IMAGE,
    "deit": IMAGE,
    "llama": GROUPED,
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED,
}


# A config of real size, for what needs no weights.
LLAMA_70B: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "dtype": "bfloat16",
}


@dataclass(frozen=True)
class Case:
    """A family, a class on top of it, and what its config says besides the sizes."""

    family: str
    class_name: str
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        words = [self.class_name, *(f"{name}={value}" for name, value in self.settings)]
        return "-".join(words)


def _cases() -> list[Case]:
    cases = []
    for name, family in FAMILIES.items():
        for class_name, head in family.classes.items():
            decoder = (("is_decoder", True),) if class_name in ("BertLMHeadModel", "RobertaForCausalLM") else ()
            if head.ties:
                cases += [Case(name, class_name, (*decoder, ("tie_word_embeddings", tied))) for tied in (True, False)]
            else:
                cases.append(Case(name, class_name, decoder))
    cases += [
        Case("llama", "LlamaForCausalLM", (("attention_bias", True), ("mlp_bias", True))),
        Case("llama", "LlamaForCausalLM", (("num_key_value_heads", 4),)),
        Case("llama", "LlamaForCausalLM", (("num_key_value_heads", 1),)),
        Case("qwen3", "Qwen3ForCausalLM", (("head_dim", 6),)),
        Case("qwen3", "Qwen3ForCausalLM", (("attention_bias", True),)),
        Case("vit", "ViTForImageClassification", (("qkv_bias", False),)),
        Case("vit", "ViTModel", (("pooler_output_size", 10),)),
        Case("gpt2", "GPT2LMHeadModel", (("scale_attn_by_inverse_layer_idx", True),)),
    ]
    return cases


CASES = _cases()
# One case per family: its language model or classifier.
MAIN_CASES = [Case(name, family.default_class) for name, family in FAMILIES.items()]


def make(case: Case, dtype: torch.dtype = torch.float32, seed: int = 0, **sizes: Any) -> PreTrainedModel:
    config_class = getattr(transformers, FAMILIES[case.family].config_class)
    config = config_class(**{**CONFIGS[case.family], **dict(case.settings), **sizes})
    config.pad_token_id = getattr(config, "pad_token_id", None) or (1 if case.family == "roberta" else 0)
    torch.manual_seed(seed)
    model = getattr(transformers, case.class_name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms and biases, too: a gain that is forgotten must show.
            centre = 1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.05
            parameter.copy_(centre + 0.2 * torch.randn_like(parameter))
    model.tie_weights()
    loaded: PreTrainedModel = model.to(dtype).eval()
    return loaded


def inputs_for(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A fixed input."""
    generator = torch.Generator().manual_seed(7)
    name = type(model).__name__
    if model.config.model_type in ("vit", "deit"):
        image = model.config.image_size
        inputs = {"pixel_values": torch.randn((3, 3, image, image), generator=generator).to(model.dtype)}
        if "Masked" in name:
            inputs["bool_masked_pos"] = torch.rand((3, 4), generator=generator) < 0.5
    else:
        ids = torch.randint(3, 31, (4, 9), generator=generator)
        inputs = {"input_ids": ids.view(2, 2, 9) if "MultipleChoice" in name or "DoubleHeads" in name else ids}
    return inputs


def outputs(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The model's outputs on a fixed input: logits where it has them, else hidden states."""
    with torch.no_grad():
        found = model(**inputs_for(model))
    wanted = ("logits", "mc_logits", "start_logits", "end_logits", "prediction_logits", "seq_relationship_logits",
              "reconstruction", "cls_logits", "distillation_logits")  # fmt: skip
    kept = {key: value for key, value in found.items() if key in wanted and torch.is_tensor(value)}
    return kept or {"last_hidden_state": found.last_hidden_state}


def difference(source: PreTrainedModel, target: PreTrainedModel, tiled: bool = False) -> float:
    """Largest relative difference of any output; hidden states of a wider model are compared copy by copy."""
    worst = 0.0
    for name, expected in outputs(source).items():
        found = outputs(target)[name]
        if name == "last_hidden_state" and found.shape != expected.shape:
            copies = found.shape[-1] // expected.shape[-1]
            expected = torch.cat([expected] * copies, -1) if tiled else expected.repeat_interleave(copies, dim=-1)
            found = found[..., : expected.shape[-1]]
        worst = max(worst, float((expected - found).abs().max() / expected.abs().max()))
    return worst
