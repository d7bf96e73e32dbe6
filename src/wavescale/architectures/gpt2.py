"""GPT-2: pre-LN decoder whose linear maps are stored as (input, output), query, key and value as one."""

from __future__ import annotations

from wavescale.architectures.schema import Family, Field, HeadClass, Role, TensorRow

LM_TIES = {"lm_head.weight": "{base}wte.weight"}

# fmt: off
GPT2 = Family(
    name="gpt2",
    config_class="GPT2Config",
    fields={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
    },
    defaults={
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_inner": None,
        "vocab_size": 50257,
        "n_positions": 1024,
        "tie_word_embeddings": True,
        "summary_use_proj": True,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    fixed={
        "vocab": Field("vocab_size"),
        "positions": Field("n_positions"),
        "labels": Field("num_labels"),
        "one": 1,
        "two": 2,
    },
    groups={
        "trunk": (
            TensorRow("{base}wte.weight", "vocab hidden", "word embedding", Role.EMBEDDING),
            TensorRow("{base}wpe.weight", "positions hidden", "position embedding", Role.EMBEDDING),
            TensorRow("{base}h.{layer}.ln_1.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="attention"),
            TensorRow("{base}h.{layer}.ln_1.bias", "hidden", "norm", Role.NORM_BIAS, norm="attention"),
            TensorRow("{base}h.{layer}.attn.c_attn.weight", "hidden -> (heads head_dim) + (kv_heads head_dim) + (kv_heads head_dim)", "query + key + value", reads="attention"),
            TensorRow("{base}h.{layer}.attn.c_attn.bias", "(heads head_dim) + (kv_heads head_dim) + (kv_heads head_dim)", "query + key + value", Role.BIAS, reads="attention"),
            TensorRow("{base}h.{layer}.attn.c_proj.weight", "(heads head_dim) -> hidden", "attention output", writes=True),
            TensorRow("{base}h.{layer}.attn.c_proj.bias", "hidden", "attention output", Role.BIAS, writes=True),
            TensorRow("{base}h.{layer}.ln_2.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="ffn"),
            TensorRow("{base}h.{layer}.ln_2.bias", "hidden", "norm", Role.NORM_BIAS, norm="ffn"),
            TensorRow("{base}h.{layer}.mlp.c_fc.weight", "hidden -> intermediate", "ffn in", reads="ffn"),
            TensorRow("{base}h.{layer}.mlp.c_fc.bias", "intermediate", "ffn in", Role.BIAS, reads="ffn"),
            TensorRow("{base}h.{layer}.mlp.c_proj.weight", "intermediate -> hidden", "ffn out", writes=True),
            TensorRow("{base}h.{layer}.mlp.c_proj.bias", "hidden", "ffn out", Role.BIAS, writes=True),
            TensorRow("{base}ln_f.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="final"),
            TensorRow("{base}ln_f.bias", "hidden", "norm", Role.NORM_BIAS, norm="final"),
        ),
        "lm head": (
            TensorRow("lm_head.weight", "vocab <- hidden", "head", reads="final"),
        ),
        "multiple choice": (
            TensorRow("multiple_choice_head.summary.weight", "one <- hidden", "head", reads="final", when="summary_use_proj"),
            TensorRow("multiple_choice_head.summary.bias", "one", "head", Role.BIAS, when="summary_use_proj"),
        ),
        "score": (
            TensorRow("score.weight", "labels <- hidden", "head", reads="final"),
        ),
        "token classifier": (
            TensorRow("classifier.weight", "labels <- hidden", "head", reads="final"),
            TensorRow("classifier.bias", "labels", "head", Role.BIAS),
        ),
        "question answering": (
            TensorRow("qa_outputs.weight", "two <- hidden", "head", reads="final"),
            TensorRow("qa_outputs.bias", "two", "head", Role.BIAS),
        ),
    },
    classes={
        "GPT2Model": HeadClass("", ("trunk",)),
        "GPT2LMHeadModel": HeadClass("transformer.", ("trunk", "lm head"), LM_TIES),
        "GPT2DoubleHeadsModel": HeadClass("transformer.", ("trunk", "lm head", "multiple choice"), LM_TIES),
        "GPT2ForSequenceClassification": HeadClass("transformer.", ("trunk", "score")),
        "GPT2ForTokenClassification": HeadClass("transformer.", ("trunk", "token classifier")),
        "GPT2ForQuestionAnswering": HeadClass("transformer.", ("trunk", "question answering")),
    },
    default_class="GPT2LMHeadModel",
    norm="layer",
    placement="pre",
    rotary=False,
    stores_head_dim=False,
    heads_divide_hidden=True,
    ignored=(r"\.attn\.bias$", r"\.attn\.masked_bias$"),
    layer_scaled_attention="scale_attn_by_inverse_layer_idx",
    scaled_attention="scale_attn_weights",
    unsupported=("add_cross_attention",),
)
# fmt: on
