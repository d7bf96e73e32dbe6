"""Qwen3: Llama's tensors with a norm on each head's query and key; head_dim is a field of its own."""

from __future__ import annotations

from wavescale.architectures.llama import (
    ATTENTION_BIAS,
    EMBEDDING,
    FIELDS,
    FINAL_NORM,
    FIXED,
    HEADS,
    IGNORED,
    LAYER,
    LM_TIES,
)
from wavescale.architectures.schema import Family, HeadClass, Role, TensorRow

HEAD_NORMS = (
    TensorRow("{base}layers.{layer}.self_attn.q_norm.weight", "head_dim", "norm", Role.NORM_WEIGHT, norm="query"),
    TensorRow("{base}layers.{layer}.self_attn.k_norm.weight", "head_dim", "norm", Role.NORM_WEIGHT, norm="key"),
)

QWEN3 = Family(
    name="qwen3",
    config_class="Qwen3Config",
    fields=FIELDS,
    defaults={
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 22016,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "use_sliding_window": False,
        "max_window_layers": 28,
    },
    fixed=FIXED,
    groups={"trunk": (EMBEDDING, *LAYER, *ATTENTION_BIAS, *HEAD_NORMS, FINAL_NORM), **HEADS},
    classes={
        "Qwen3Model": HeadClass("", ("trunk",)),
        "Qwen3ForCausalLM": HeadClass("model.", ("trunk", "lm head"), LM_TIES),
        "Qwen3ForSequenceClassification": HeadClass("model.", ("trunk", "score")),
        "Qwen3ForTokenClassification": HeadClass("model.", ("trunk", "token classifier")),
        "Qwen3ForQuestionAnswering": HeadClass("transformer.", ("trunk", "question answering")),
    },
    default_class="Qwen3ForCausalLM",
    norm="rms",
    placement="pre",
    rotary=True,
    stores_head_dim=True,
    heads_divide_hidden=False,
    ignored=IGNORED,
    per_layer_fields=("layer_types",),
)
