"""BERT: post-LN encoder; the masked-LM head has a transform of its own before the tied matrix."""

from __future__ import annotations

from wavescale.architectures.schema import Family, Field, FixedSize, HeadClass, Role, TensorRow

EMBEDDINGS = (
    TensorRow("{base}embeddings.word_embeddings.weight", "vocab hidden", "word embedding", Role.EMBEDDING),
    TensorRow("{base}embeddings.position_embeddings.weight", "positions hidden", "position embedding", Role.EMBEDDING),
    TensorRow("{base}embeddings.token_type_embeddings.weight", "types hidden", "type embedding", Role.EMBEDDING),
    TensorRow("{base}embeddings.LayerNorm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="embedding"),
    TensorRow("{base}embeddings.LayerNorm.bias", "hidden", "norm", Role.NORM_BIAS, norm="embedding"),
)

# fmt: off
LAYER = (
    TensorRow("{base}encoder.layer.{layer}.attention.self.query.weight", "(heads head_dim) <- hidden", "query", reads="output"),
    TensorRow("{base}encoder.layer.{layer}.attention.self.query.bias", "(heads head_dim)", "query", Role.BIAS, reads="output"),
    TensorRow("{base}encoder.layer.{layer}.attention.self.key.weight", "(kv_heads head_dim) <- hidden", "key", reads="output"),
    TensorRow("{base}encoder.layer.{layer}.attention.self.key.bias", "(kv_heads head_dim)", "key", Role.BIAS, reads="output"),
    TensorRow("{base}encoder.layer.{layer}.attention.self.value.weight", "(kv_heads head_dim) <- hidden", "value", reads="output"),
    TensorRow("{base}encoder.layer.{layer}.attention.self.value.bias", "(kv_heads head_dim)", "value", Role.BIAS, reads="output"),
    TensorRow("{base}encoder.layer.{layer}.attention.output.dense.weight", "hidden <- (heads head_dim)", "attention output", writes=True),
    TensorRow("{base}encoder.layer.{layer}.attention.output.dense.bias", "hidden", "attention output", Role.BIAS, writes=True),
    TensorRow("{base}encoder.layer.{layer}.attention.output.LayerNorm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="attention"),
    TensorRow("{base}encoder.layer.{layer}.attention.output.LayerNorm.bias", "hidden", "norm", Role.NORM_BIAS, norm="attention"),
    TensorRow("{base}encoder.layer.{layer}.intermediate.dense.weight", "intermediate <- hidden", "ffn in", reads="attention"),
    TensorRow("{base}encoder.layer.{layer}.intermediate.dense.bias", "intermediate", "ffn in", Role.BIAS, reads="attention"),
    TensorRow("{base}encoder.layer.{layer}.output.dense.weight", "hidden <- intermediate", "ffn out", writes=True),
    TensorRow("{base}encoder.layer.{layer}.output.dense.bias", "hidden", "ffn out", Role.BIAS, writes=True),
    TensorRow("{base}encoder.layer.{layer}.output.LayerNorm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="output"),
    TensorRow("{base}encoder.layer.{layer}.output.LayerNorm.bias", "hidden", "norm", Role.NORM_BIAS, norm="output"),
)
# fmt: on

POOLER = (
    TensorRow("{base}pooler.dense.weight", "pooled <- hidden", "pooler", reads="output", optional=True),
    TensorRow("{base}pooler.dense.bias", "pooled", "pooler", Role.BIAS, reads="output", optional=True),
)

QUESTION_ANSWERING = (
    TensorRow("qa_outputs.weight", "two <- hidden", "head", reads="output"),
    TensorRow("qa_outputs.bias", "two", "head", Role.BIAS, reads="output"),
)

TOKEN_CLASSIFIER = (
    TensorRow("classifier.weight", "labels <- hidden", "head", reads="output"),
    TensorRow("classifier.bias", "labels", "head", Role.BIAS, reads="output"),
)

MULTIPLE_CHOICE = (
    TensorRow("classifier.weight", "one <- pooled", "head"),
    TensorRow("classifier.bias", "one", "head", Role.BIAS),
)

MLM_TIES = {
    "cls.predictions.decoder.weight": "{base}embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

FIXED: dict[str, FixedSize] = {
    "vocab": Field("vocab_size"),
    "positions": Field("max_position_embeddings"),
    "types": Field("type_vocab_size"),
    "labels": Field("num_labels"),
    "one": 1,
    "two": 2,
}

FIELDS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}

BERT = Family(
    name="bert",
    config_class="BertConfig",
    fields=FIELDS,
    defaults={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 30522,
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
        "masked lm": (
            TensorRow("cls.predictions.transform.dense.weight", "hidden <- hidden", "head transform", reads="output"),
            TensorRow("cls.predictions.transform.dense.bias", "hidden", "head transform", Role.BIAS, reads="output"),
            TensorRow("cls.predictions.transform.LayerNorm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="head"),
            TensorRow("cls.predictions.transform.LayerNorm.bias", "hidden", "norm", Role.NORM_BIAS, norm="head"),
            TensorRow("cls.predictions.bias", "vocab", "head", Role.BIAS, reads="head"),
            TensorRow("cls.predictions.decoder.weight", "vocab <- hidden", "head", reads="head"),
            TensorRow("cls.predictions.decoder.bias", "vocab", "head", Role.BIAS, reads="head", optional=True),
        ),
        "next sentence": (
            TensorRow("cls.seq_relationship.weight", "two <- pooled", "head"),
            TensorRow("cls.seq_relationship.bias", "two", "head", Role.BIAS),
        ),
        "classifier": (
            TensorRow("classifier.weight", "labels <- pooled", "head"),
            TensorRow("classifier.bias", "labels", "head", Role.BIAS),
        ),
        "multiple choice": MULTIPLE_CHOICE,
        "token classifier": TOKEN_CLASSIFIER,
        "question answering": QUESTION_ANSWERING,
    },
    classes={
        "BertModel": HeadClass("", ("trunk", "pooler")),
        "BertForMaskedLM": HeadClass("bert.", ("trunk", "masked lm"), MLM_TIES),
        "BertLMHeadModel": HeadClass("bert.", ("trunk", "masked lm"), MLM_TIES),
        "BertForPreTraining": HeadClass("bert.", ("trunk", "pooler", "masked lm", "next sentence"), MLM_TIES),
        "BertForNextSentencePrediction": HeadClass("bert.", ("trunk", "pooler", "next sentence")),
        "BertForSequenceClassification": HeadClass("bert.", ("trunk", "pooler", "classifier")),
        "BertForMultipleChoice": HeadClass("bert.", ("trunk", "pooler", "multiple choice")),
        "BertForTokenClassification": HeadClass("bert.", ("trunk", "token classifier")),
        "BertForQuestionAnswering": HeadClass("bert.", ("trunk", "question answering")),
    },
    default_class="BertForMaskedLM",
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
