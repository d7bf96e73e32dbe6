"""Llama: pre-LN decoder with RMSNorm, rotary positions, gated FFN and grouped key-value heads."""

from __future__ import annotations

from wavescale.architectures.schema import Family, Field, FixedSize, HeadClass, Role, TensorRow

EMBEDDING = TensorRow("{base}embed_tokens.weight", "vocab hidden", "word embedding", Role.EMBEDDING)
FINAL_NORM = TensorRow("{base}norm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="final")

# fmt: off
LAYER = (
    TensorRow("{base}layers.{layer}.input_layernorm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="attention"),
    TensorRow("{base}layers.{layer}.self_attn.q_proj.weight", "(heads head_dim) <- hidden", "query", reads="attention"),
    TensorRow("{base}layers.{layer}.self_attn.k_proj.weight", "(kv_heads head_dim) <- hidden", "key", reads="attention"),
    TensorRow("{base}layers.{layer}.self_attn.v_proj.weight", "(kv_heads head_dim) <- hidden", "value", reads="attention"),
    TensorRow("{base}layers.{layer}.self_attn.o_proj.weight", "hidden <- (heads head_dim)", "attention output", writes=True),
    TensorRow("{base}layers.{layer}.post_attention_layernorm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="ffn"),
    TensorRow("{base}layers.{layer}.mlp.gate_proj.weight", "intermediate <- hidden", "ffn gate", reads="ffn"),
    TensorRow("{base}layers.{layer}.mlp.up_proj.weight", "intermediate <- hidden", "ffn in", reads="ffn"),
    TensorRow("{base}layers.{layer}.mlp.down_proj.weight", "hidden <- intermediate", "ffn out", writes=True),
)

ATTENTION_BIAS = (
    TensorRow("{base}layers.{layer}.self_attn.q_proj.bias", "(heads head_dim)", "query", Role.BIAS, reads="attention", when="attention_bias"),
    TensorRow("{base}layers.{layer}.self_attn.k_proj.bias", "(kv_heads head_dim)", "key", Role.BIAS, reads="attention", when="attention_bias"),
    TensorRow("{base}layers.{layer}.self_attn.v_proj.bias", "(kv_heads head_dim)", "value", Role.BIAS, reads="attention", when="attention_bias"),
    TensorRow("{base}layers.{layer}.self_attn.o_proj.bias", "hidden", "attention output", Role.BIAS, writes=True, when="attention_bias"),
)

FFN_BIAS = (
    TensorRow("{base}layers.{layer}.mlp.gate_proj.bias", "intermediate", "ffn gate", Role.BIAS, reads="ffn", when="mlp_bias"),
    TensorRow("{base}layers.{layer}.mlp.up_proj.bias", "intermediate", "ffn in", Role.BIAS, reads="ffn", when="mlp_bias"),
    TensorRow("{base}layers.{layer}.mlp.down_proj.bias", "hidden", "ffn out", Role.BIAS, writes=True, when="mlp_bias"),
)
# fmt: on

HEADS = {
    "lm head": (TensorRow("lm_head.weight", "vocab <- hidden", "head", reads="final"),),
    "score": (TensorRow("score.weight", "labels <- hidden", "head", reads="final"),),
    "token classifier": (
        TensorRow("score.weight", "labels <- hidden", "head", reads="final"),
        TensorRow("score.bias", "labels", "head", Role.BIAS),
    ),
    "question answering": (
        TensorRow("qa_outputs.weight", "two <- hidden", "head", reads="final"),
        TensorRow("qa_outputs.bias", "two", "head", Role.BIAS),
    ),
}

LM_TIES = {"lm_head.weight": "{base}embed_tokens.weight"}

FIELDS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
}

FIXED: dict[str, FixedSize] = {"vocab": Field("vocab_size"), "labels": Field("num_labels"), "two": 2}

IGNORED = (r"rotary_emb\.inv_freq$",)

LLAMA = Family(
    name="llama",
    config_class="LlamaConfig",
    fields=FIELDS,
    defaults={
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "intermediate_size": 11008,
        "head_dim": None,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
    },
    fixed=FIXED,
    groups={"trunk": (EMBEDDING, *LAYER, *ATTENTION_BIAS, *FFN_BIAS, FINAL_NORM), **HEADS},
    classes={
        "LlamaModel": HeadClass("", ("trunk",)),
        "LlamaForCausalLM": HeadClass("model.", ("trunk", "lm head"), LM_TIES),
        "LlamaForSequenceClassification": HeadClass("model.", ("trunk", "score")),
        "LlamaForTokenClassification": HeadClass("model.", ("trunk", "token classifier")),
        "LlamaForQuestionAnswering": HeadClass("transformer.", ("trunk", "question answering")),
    },
    default_class="LlamaForCausalLM",
    norm="rms",
    placement="pre",
    rotary=True,
    stores_head_dim=True,
    heads_divide_hidden=True,
    ignored=IGNORED,
)
