"""ViT: pre-LN image encoder. On disk its layers keep the names they had before transformers 5."""

from __future__ import annotations

from wavescale.architectures.schema import Family, Field, FixedSize, HeadClass, Patches, Pixels, Role, TensorRow

# fmt: off
LAYER = (
    TensorRow("{base}encoder.layer.{layer}.layernorm_before.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="attention"),
    TensorRow("{base}encoder.layer.{layer}.layernorm_before.bias", "hidden", "norm", Role.NORM_BIAS, norm="attention"),
    TensorRow("{base}encoder.layer.{layer}.attention.attention.query.weight", "(heads head_dim) <- hidden", "query", reads="attention"),
    TensorRow("{base}encoder.layer.{layer}.attention.attention.query.bias", "(heads head_dim)", "query", Role.BIAS, reads="attention", when="qkv_bias"),
    TensorRow("{base}encoder.layer.{layer}.attention.attention.key.weight", "(kv_heads head_dim) <- hidden", "key", reads="attention"),
    TensorRow("{base}encoder.layer.{layer}.attention.attention.key.bias", "(kv_heads head_dim)", "key", Role.BIAS, reads="attention", when="qkv_bias"),
    TensorRow("{base}encoder.layer.{layer}.attention.attention.value.weight", "(kv_heads head_dim) <- hidden", "value", reads="attention"),
    TensorRow("{base}encoder.layer.{layer}.attention.attention.value.bias", "(kv_heads head_dim)", "value", Role.BIAS, reads="attention", when="qkv_bias"),
    TensorRow("{base}encoder.layer.{layer}.attention.output.dense.weight", "hidden <- (heads head_dim)", "attention output", writes=True),
    TensorRow("{base}encoder.layer.{layer}.attention.output.dense.bias", "hidden", "attention output", Role.BIAS, writes=True),
    TensorRow("{base}encoder.layer.{layer}.layernorm_after.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="ffn"),
    TensorRow("{base}encoder.layer.{layer}.layernorm_after.bias", "hidden", "norm", Role.NORM_BIAS, norm="ffn"),
    TensorRow("{base}encoder.layer.{layer}.intermediate.dense.weight", "intermediate <- hidden", "ffn in", reads="ffn"),
    TensorRow("{base}encoder.layer.{layer}.intermediate.dense.bias", "intermediate", "ffn in", Role.BIAS, reads="ffn"),
    TensorRow("{base}encoder.layer.{layer}.output.dense.weight", "hidden <- intermediate", "ffn out", writes=True),
    TensorRow("{base}encoder.layer.{layer}.output.dense.bias", "hidden", "ffn out", Role.BIAS, writes=True),
)
# fmt: on

PATCHES = (
    TensorRow("{base}embeddings.cls_token", "one one hidden", "class token", Role.EMBEDDING),
    TensorRow("{base}embeddings.position_embeddings", "one positions hidden", "position embedding", Role.EMBEDDING),
    TensorRow(
        "{base}embeddings.patch_embeddings.projection.weight",
        "hidden channels patch_height patch_width",
        "patch embedding",
        Role.EMBEDDING,
    ),
    TensorRow("{base}embeddings.patch_embeddings.projection.bias", "hidden", "patch embedding", Role.EMBEDDING),
)

FINAL_NORM = (
    TensorRow("{base}layernorm.weight", "hidden", "norm", Role.NORM_WEIGHT, norm="final"),
    TensorRow("{base}layernorm.bias", "hidden", "norm", Role.NORM_BIAS, norm="final"),
)

POOLER = (
    TensorRow("{base}pooler.dense.weight", "pooled <- hidden", "pooler", reads="final", optional=True),
    TensorRow("{base}pooler.dense.bias", "pooled", "pooler", Role.BIAS, reads="final", optional=True),
)

MASKED_IMAGE = (
    TensorRow("{base}embeddings.mask_token", "one one hidden", "mask token", Role.EMBEDDING),
    TensorRow("decoder.0.weight", "pixels <- hidden one one", "head", reads="final"),
    TensorRow("decoder.0.bias", "pixels", "head", Role.BIAS),
)

CLASSIFIER = (
    TensorRow("classifier.weight", "labels <- hidden", "head", reads="final"),
    TensorRow("classifier.bias", "labels", "head", Role.BIAS),
)

FIELDS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}

DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "encoder_stride": 16,
    "qkv_bias": True,
    "pooler_output_size": None,
}

FIXED: dict[str, FixedSize] = {
    "channels": Field("num_channels"),
    "patch_height": Field("patch_size"),
    "patch_width": Field("patch_size", index=1),
    "labels": Field("num_labels"),
    "pixels": Pixels(),
    "one": 1,
}

VIT = Family(
    name="vit",
    config_class="ViTConfig",
    fields=FIELDS,
    defaults=DEFAULTS,
    fixed={**FIXED, "positions": Patches(extra=1)},
    groups={
        "trunk": PATCHES + LAYER + FINAL_NORM,
        "pooler": POOLER,
        "masked image": MASKED_IMAGE,
        "classifier": CLASSIFIER,
    },
    classes={
        "ViTModel": HeadClass("", ("trunk", "pooler")),
        "ViTForImageClassification": HeadClass("vit.", ("trunk", "classifier")),
        "ViTForMaskedImageModeling": HeadClass("vit.", ("trunk", "masked image")),
    },
    default_class="ViTForImageClassification",
    norm="layer",
    placement="pre",
    rotary=False,
    stores_head_dim=True,
    heads_divide_hidden=False,
)
