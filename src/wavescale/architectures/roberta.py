"""RoBERTa: BERT's trunk with heads of its own and positions that start after the padding index."""

from __future__ import annotations

from wavescale.architectures.bert import (
    EMBEDDINGS,
    FIELDS,
    FIXED,
    LAYER,
    MULTIPLE_CHOICE,
    POOLER,
    QUESTION_ANSWERING,
    TOKEN_CLASSIFIER,
)
from wavescale.architectures.schema import Family, HeadClass, Role, TensorRow

LM_TIES = {
    "lm_head.decoder.weight": "{base}embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}

ROBERTA = Family(
    name="roberta",
    config_class="RobertaConfig",
    fields=FIELDS,
    defaults={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 50265,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "tie_word_embeddings": True,
        "is_decoder": False,
        "add_cross_attention": False,
    },
    fixed=FIXED,
    groups={
        "trunk": EMBEDDINGS + LAYER,
        "pooler": POOLER,
        "lm head": (
            TensorRow("lm_head.dense.weight", "hidden <- hidden", "head transform", reads="output"),
            TensorRow("lm_head.dense.bias", "hidden", "head transform", Role.BIAS, reads="output"),
            TensorRow("lm_head.layer_norm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="head"),
            TensorRow("lm_head.layer_norm.bias", "hidden", "norm", Role.NORM_BIAS, norm="head"),
            TensorRow("lm_head.bias", "vocab", "head", Role.BIAS, reads="head"),
            TensorRow("lm_head.decoder.weight", "vocab <- hidden", "head", reads="head"),
            TensorRow("lm_head.decoder.bias", "vocab", "head", Role.BIAS, reads="head", optional=True),
        ),
        "classifier": (
            TensorRow("classifier.dense.weight", "pooled <- hidden", "head transform", reads="output"),
            TensorRow("classifier.dense.bias", "pooled", "head transform", Role.BIAS, reads="output"),
            TensorRow("classifier.out_proj.weight", "labels <- pooled", "head"),
            TensorRow("classifier.out_proj.bias", "labels", "head", Role.BIAS),
        ),
        "multiple choice": MULTIPLE_CHOICE,
        "token classifier": TOKEN_CLASSIFIER,
        "question answering": QUESTION_ANSWERING,
    },
    classes={
        "RobertaModel": HeadClass("", ("trunk", "pooler")),
        "RobertaForMaskedLM": HeadClass("roberta.", ("trunk", "lm head"), LM_TIES),
        "RobertaForCausalLM": HeadClass("roberta.", ("trunk", "lm head"), LM_TIES),
        "RobertaForSequenceClassification": HeadClass("roberta.", ("trunk", "classifier")),
        "RobertaForMultipleChoice": HeadClass("roberta.", ("trunk", "pooler", "multiple choice")),
        "RobertaForTokenClassification": HeadClass("roberta.", ("trunk", "token classifier")),
        "RobertaForQuestionAnswering": HeadClass("roberta.", ("trunk", "question answering")),
    },
    default_class="RobertaForMaskedLM",
    norm="layer",
    placement="post",
    rotary=False,
    stores_head_dim=False,
    heads_divide_hidden=True,
    tied_norm="head",
    ignored=(r"embeddings\.position_ids$", r"embeddings\.token_type_ids$"),
    renamed=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    unsupported=("add_cross_attention",),
)
