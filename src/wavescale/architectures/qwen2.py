"""Qwen2: Llama's tensors with biases on query, key and value; layers may differ in attention type."""

from __future__ import annotations

from wavescale.architectures.llama import EMBEDDING, FIELDS, FINAL_NORM, FIXED, HEADS, IGNORED, LAYER, LM_TIES
from wavescale.architectures.schema import Family, HeadClass, Role, TensorRow

# fmt: off
QKV_BIAS = (
    TensorRow("{base}layers.{layer}.self_attn.q_proj.bias", "(heads head_dim)", "query", Role.BIAS, reads="attention"),
    TensorRow("{base}layers.{layer}.self_attn.k_proj.bias", "(kv_heads head_dim)", "key", Role.BIAS, reads="attention"),
    TensorRow("{base}layers.{layer}.self_attn.v_proj.bias", "(kv_heads head_dim)", "value", Role.BIAS, reads="attention"),
)
# fmt: on

QWEN2 = Family(
    name="qwen2",
    config_class="Qwen2Config",
    fields=FIELDS,
    defaults={
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 22016,
        "head_dim": None,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "max_window_layers": 28,
    },
    fixed=FIXED,
    groups={"trunk": (EMBEDDING, *LAYER, *QKV_BIAS, FINAL_NORM), **HEADS},
    classes={
        "Qwen2Model": HeadClass("", ("trunk",)),
        "Qwen2ForCausalLM": HeadClass("model.", ("trunk", "lm head"), LM_TIES),
        "Qwen2ForSequenceClassification": HeadClass("model.", ("trunk", "score")),
        "Qwen2ForTokenClassification": HeadClass("model.", ("trunk", "token classifier")),
        "Qwen2ForQuestionAnswering": HeadClass("transformer.", ("trunk", "question answering")),
    },
    default_class="Qwen2ForCausalLM",
    norm="rms",
    placement="pre",
    rotary=True,
    stores_head_dim=True,
    heads_divide_hidden=False,
    ignored=IGNORED,
    per_layer_fields=("layer_types",),
)
