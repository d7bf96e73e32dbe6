"""DeiT: ViT with a distillation token, and a class with a head for the teacher's answer."""

from __future__ import annotations

from wavescale.architectures.schema import Family, HeadClass, Patches, Role, TensorRow
from wavescale.architectures.vit import (
    CLASSIFIER,
    DEFAULTS,
    FIELDS,
    FINAL_NORM,
    FIXED,
    LAYER,
    MASKED_IMAGE,
    PATCHES,
    POOLER,
)

DISTILLATION_TOKEN = (
    TensorRow("{base}embeddings.distillation_token", "one one hidden", "distillation token", Role.EMBEDDING),
)

DEIT = Family(
    name="deit",
    config_class="DeiTConfig",
    fields=FIELDS,
    defaults=DEFAULTS,
    fixed={**FIXED, "positions": Patches(extra=2)},
    groups={
        "trunk": PATCHES + DISTILLATION_TOKEN + LAYER + FINAL_NORM,
        "pooler": POOLER,
        "masked image": MASKED_IMAGE,
        "classifier": CLASSIFIER,
        "two classifiers": (
            TensorRow("cls_classifier.weight", "labels <- hidden", "head", reads="final"),
            TensorRow("cls_classifier.bias", "labels", "head", Role.BIAS),
            TensorRow("distillation_classifier.weight", "labels <- hidden", "head", reads="final"),
            TensorRow("distillation_classifier.bias", "labels", "head", Role.BIAS),
        ),
    },
    classes={
        "DeiTModel": HeadClass("", ("trunk", "pooler")),
        "DeiTForImageClassification": HeadClass("deit.", ("trunk", "classifier")),
        "DeiTForImageClassificationWithTeacher": HeadClass("deit.", ("trunk", "two classifiers")),
        "DeiTForMaskedImageModeling": HeadClass("deit.", ("trunk", "masked image")),
    },
    default_class="DeiTForImageClassification",
    norm="layer",
    placement="pre",
    rotary=False,
    stores_head_dim=True,
    heads_divide_hidden=False,
)
