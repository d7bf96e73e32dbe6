"""What a table about a model family may say.

The tables beside this file are data: no functions, no conditions. They speak names on disk, with
`{base}` for the prefix of the class that was saved (`bert.`, `model.`, or nothing) and `{layer}` for
the number of the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from wavescale.axes import parse_axes

# The axes that a resize may change; every other axis keeps its length.
RESIZABLE = ("hidden", "intermediate", "heads", "kv_heads", "head_dim", "pooled")

# The sizes that a user may give, under the names that transformers' configs give them.
SIZE_NAMES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
)


class Role(StrEnum):
    """What a tensor does: it decides which gain each of its axes needs (METHOD: gain by role)."""

    LINEAR = "linear"
    BIAS = "bias"
    NORM_WEIGHT = "norm weight"
    NORM_BIAS = "norm bias"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class TensorRow:
    """One tensor of a family, or one in each layer.

    Attributes
    ----------
    name
        Name on disk, with `{base}` and `{layer}`.
    axes
        Axes in words, see `wavescale.axes`.
    module
        What the tensor is in any transformer: `query`, `key`, `value`, `attention output`,
        `ffn in`, `ffn gate`, `ffn out`, an embedding, a norm, a head. For fused tensors the modules
        in order, joined by ` + `.
    role
        See `Role`.
    writes
        Its output is added to the residual stream (weights and biases of o_proj, down_proj).
    norm
        For norms: which one, in words.
    reads
        For linear maps and their biases: the norm whose output they read, if they read one. In a
        post-LN layer the query, key and value read the `output` norm of the layer before.
    when
        A config field that must be true for the tensor to exist; `not field` inverts it.
    optional
        Published checkpoints may lack it; what is absent in the source stays absent.
    """

    name: str
    axes: str
    module: str
    role: Role = Role.LINEAR
    writes: bool = False
    norm: str = ""
    reads: str = ""
    when: str = ""
    optional: bool = False

    def __post_init__(self) -> None:
        parsed = parse_axes(self.axes)
        fused = parsed.fused
        parts = 1 if fused is None else len(parsed.axes[fused].parts)
        if parts != len(self.modules):
            raise ValueError(f"{self.name}: {parts} fused parts in the axes, {len(self.modules)} modules")

    @property
    def modules(self) -> tuple[str, ...]:
        """The module of each fused part, or the only one."""
        return tuple(self.module.split(" + "))

    @property
    def in_layer(self) -> bool:
        """Whether every layer has one."""
        return "{layer}" in self.name


@dataclass(frozen=True)
class Field:
    """The length of a fixed axis that a config field gives; of a field with several entries the one at `index`."""

    name: str
    index: int = 0


@dataclass(frozen=True)
class Patches:
    """The length of a position table of an image model: one per patch and `extra` tokens."""

    extra: int


@dataclass(frozen=True)
class Pixels:
    """The outputs of a masked-image decoder: encoder_stride² · num_channels."""


FixedSize = int | Field | Patches | Pixels


@dataclass(frozen=True)
class HeadClass:
    """One class of transformers on top of a family's trunk.

    Attributes
    ----------
    base
        What stands before the trunk's tensors when this class is saved.
    groups
        Which groups of the family's rows it holds.
    ties
        Tensors that are the same parameter as another when the config ties embeddings.
    """

    base: str
    groups: tuple[str, ...]
    ties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """All that wavescale needs to know about a `model_type`.

    Attributes
    ----------
    name
        The config's `model_type`.
    config_class
        The class of transformers that validates the target's config.
    fields
        Config field of each size of `SIZE_NAMES` that the family has.
    defaults
        Values of the config fields used here when config.json leaves them out.
    fixed
        Lengths of the axes that are not resized.
    groups
        Rows by group; `HeadClass.groups` says which class has which.
    classes
        Head classes by name.
    default_class
        The class assumed for a config that names none.
    norm
        Kind of norm: LayerNorm takes off the mean, RMSNorm does not.
    placement
        Norm before each block (pre-LN) or after the residual sum (post-LN).
    rotary
        Rotary positions: head_dim cannot change.
    stores_head_dim
        The config can hold a head_dim other than hidden_size / heads.
    heads_divide_hidden
        The config or model class refuses a hidden_size that is no multiple of the heads.
    tied_norm
        The norm right before the matrix that may be tied to the embedding.
    ignored
        Regular expressions of tensors on disk that are no parameters.
    renamed
        Older spellings on disk and what they mean: pairs of regular expression and replacement.
    per_layer_fields
        Config fields with one entry per layer.
    layer_scaled_attention
        Config field that divides attention scores by the layer's number, if the family has one.
    scaled_attention
        Config field that, when false, leaves attention scores undivided by √head_dim, if the family has one.
    unsupported
        Config fields that change the model in a way the tables do not describe, when true.
    """

    name: str
    config_class: str
    fields: Mapping[str, str]
    defaults: Mapping[str, Any]
    fixed: Mapping[str, FixedSize]
    groups: Mapping[str, tuple[TensorRow, ...]]
    classes: Mapping[str, HeadClass]
    default_class: str
    norm: Literal["layer", "rms"]
    placement: Literal["pre", "post"]
    rotary: bool
    stores_head_dim: bool
    heads_divide_hidden: bool
    tied_norm: str = "final"
    ignored: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    per_layer_fields: tuple[str, ...] = ()
    layer_scaled_attention: str = ""
    scaled_attention: str = ""
    unsupported: tuple[str, ...] = ()
