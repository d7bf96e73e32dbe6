"""Mistral: Llama's tensors without biases; the config takes any head_dim."""

from __future__ import annotations

from wavescale.architectures.llama import EMBEDDING, FIELDS, FINAL_NORM, FIXED, HEADS, IGNORED, LAYER, LM_TIES
from wavescale.architectures.schema import Family, HeadClass

MISTRAL = Family(
    name="mistral",
    config_class="MistralConfig",
    fields=FIELDS,
    defaults={
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "head_dim": None,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
    fixed=FIXED,
    groups={"trunk": (EMBEDDING, *LAYER, FINAL_NORM), **HEADS},
    classes={
        "MistralModel": HeadClass("", ("trunk",)),
        "MistralForCausalLM": HeadClass("model.", ("trunk", "lm head"), LM_TIES),
        "MistralForSequenceClassification": HeadClass("model.", ("trunk", "score")),
        "MistralForTokenClassification": HeadClass("model.", ("trunk", "token classifier")),
        "MistralForQuestionAnswering": HeadClass("model.", ("trunk", "question answering")),
    },
    default_class="MistralForCausalLM",
    norm="rms",
    placement="pre",
    rotary=True,
    stores_head_dim=True,
    heads_divide_hidden=False,
    ignored=IGNORED,
)
