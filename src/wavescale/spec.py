"""A model as its config describes it: family, class, sizes and the tensors that it must have.

Reads no weight and imports neither torch nor transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wavescale.architectures import FAMILIES
from wavescale.architectures.schema import Family, Field, HeadClass, Patches, Pixels, TensorRow
from wavescale.axes import parse_axes
from wavescale.errors import CheckpointError, UnknownArchitectureError

# Far beyond any model, and small enough to be counted through.
_LARGEST, _MOST_LAYERS = 1 << 24, 1 << 13


@dataclass(frozen=True)
class Sizes:
    """The lengths that a resize may change, in units; `pooled` is what a pooler puts out."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    head_dim: int
    pooled: int

    @property
    def axes(self) -> dict[str, int]:
        """The resizable axes of the tables and their lengths."""
        return {
            "hidden": self.hidden_size,
            "intermediate": self.intermediate_size,
            "heads": self.num_attention_heads,
            "kv_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "pooled": self.pooled,
        }


@dataclass(frozen=True)
class Slot:
    """One tensor that a model has: its table row and, inside a layer, the layer's number."""

    row: TensorRow
    layer: int | None


@dataclass(frozen=True)
class ModelSpec:
    """A model without its weights.

    Attributes
    ----------
    family
        Its table.
    class_name
        The class of transformers that was saved.
    config
        config.json as a dictionary.
    tied
        Whether the class ties embeddings and the config agrees.
    """

    family: Family
    class_name: str
    config: Mapping[str, Any]
    tied: bool

    @property
    def head_class(self) -> HeadClass:
        """The row of the class in the family's table."""
        return self.family.classes[self.class_name]

    def value(self, field: str) -> Any:
        """A config field, or the family's default where config.json leaves it out."""
        found = self.config.get(field)
        return self.family.defaults.get(field) if found is None else found

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes that the config states or implies.

        Raises
        ------
        CheckpointError
            A size is missing, is no positive integer, or heads do not fit hidden_size.
        """
        hidden = self._size("hidden_size")
        heads = self._size("num_attention_heads")
        kv_heads = heads
        if "num_key_value_heads" in self.family.fields and self.value("num_key_value_heads") is not None:
            kv_heads = self._size("num_key_value_heads")
        head_dim = self.value("head_dim") if self.family.stores_head_dim else None
        if head_dim is None:
            if hidden % heads:
                raise CheckpointError(
                    f"config.json: hidden_size {hidden} is no multiple of {heads} heads, and no head_dim is given. "
                    "Correct the config."
                )
            head_dim = hidden // heads
        head_dim = _positive("head_dim", head_dim)
        if heads % kv_heads:
            raise CheckpointError(f"config.json: {heads} heads are no multiple of {kv_heads} key-value heads.")
        intermediate = self.value(self.family.fields["intermediate_size"])
        return Sizes(
            hidden_size=hidden,
            num_hidden_layers=self._size("num_hidden_layers", _MOST_LAYERS),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            # GPT-2 leaves n_inner out where it is four times the width.
            intermediate_size=4 * hidden if intermediate is None else self._size("intermediate_size"),
            head_dim=head_dim,
            pooled=_positive("pooler_output_size", self.value("pooler_output_size") or hidden),
        )

    def _size(self, name: str, largest: int = _LARGEST) -> int:
        field = self.family.fields[name]
        return _positive(field, self.value(field), largest)

    @cached_property
    def axis_sizes(self) -> dict[str, int]:
        """The length of every axis that the family's tables name."""
        fixed = {name: self._fixed(size) for name, size in self.family.fixed.items()}
        return {**fixed, **self.sizes.axes}

    def _fixed(self, size: int | Field | Patches | Pixels) -> int:
        match size:
            case int():
                return size
            case Field("num_labels"):
                labels = self.config.get("id2label")
                counted = len(labels) if isinstance(labels, Mapping | list) else 0
                return counted or _positive("num_labels", self.config.get("num_labels") or 2)
            case Field(name, index):
                found = self.value(name)
                several = isinstance(found, list | tuple) and len(found) > index
                return _positive(name, found[index] if several else found)
            case Patches(extra):
                image, patch = (_pair(name, self.value(name)) for name in ("image_size", "patch_size"))
                return (image[0] // patch[0]) * (image[1] // patch[1]) + extra
            case Pixels():
                stride, channels = (_positive(name, self.value(name)) for name in ("encoder_stride", "num_channels"))
                return stride**2 * channels

    @property
    def scales_scores(self) -> bool:
        """Whether attention scores are divided by √head_dim."""
        return not self.family.scaled_attention or bool(self.value(self.family.scaled_attention))

    def has(self, row: TensorRow) -> bool:
        """Whether the config asks for this tensor."""
        if not row.when:
            return True
        negated, field = row.when.startswith("not "), row.when.removeprefix("not ")
        return bool(self.value(field)) is not negated

    @cached_property
    def rows(self) -> tuple[TensorRow, ...]:
        """The rows of the family's table that this class has, with this config."""
        return tuple(row for group in self.head_class.groups for row in self.family.groups[group] if self.has(row))

    def slots(self) -> Iterator[Slot]:
        """Every tensor that a checkpoint of this model has, tied copies left out, layer by layer."""
        tied = self.head_class.ties if self.tied else {}
        for row in self.rows:
            if row.name in tied:
                continue
            if row.in_layer:
                for layer in range(self.sizes.num_hidden_layers):
                    yield Slot(row, layer)
            else:
                yield Slot(row, None)

    def disk_name(self, slot: Slot) -> str:
        """The name under which transformers saves this tensor."""
        return slot.row.name.format(base=self.head_class.base, layer=slot.layer)

    def name_of(self, stored: Stored, layer: int | None) -> str:
        """The name of a tensor from disk in this class, whatever its prefix was; of another class's head it stays."""
        row = stored.row
        return self.disk_name(Slot(row, layer)) if row in self.rows else stored.name_at(layer)

    def shape(self, row: TensorRow) -> tuple[int, ...]:
        """The stored shape of a tensor at this model's sizes."""
        return parse_axes(row.axes).shape(self.axis_sizes)

    @property
    def dtype(self) -> str:
        """The dtype that the config states, in torch's words without the prefix."""
        found = self.config.get("dtype") or self.config.get("torch_dtype") or "float32"
        return str(found).removeprefix("torch.")


def _positive(field: str, found: Any, largest: int = _LARGEST) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= largest:
        raise CheckpointError(
            f"config.json: {field} is {found!r}, expected an integer from 1 to {largest:,}. Correct the config."
        )
    return found


def _pair(field: str, value: Any) -> tuple[int, int]:
    pair = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    return _positive(field, pair[0]), _positive(field, pair[1])


def predicts_masked(spec: ModelSpec) -> bool:
    """Whether the model predicts masked tokens: it has a head over the vocabulary, and reads both ways."""
    heads = any(slot.row.axes == "vocab" for slot in spec.slots())
    return heads and spec.family.placement == "post" and not spec.value("is_decoder")


def read_spec(config: Mapping[str, Any], architecture: str | None = None) -> ModelSpec:
    """Find the family and class of a config.

    Parameters
    ----------
    config
        config.json as a dictionary.
    architecture
        A class of transformers, for a config that names none or to read it as another.

    Raises
    ------
    UnknownArchitectureError
        No table for the family or the class; the message lists those that there are.
    CheckpointError
        The config asks for something that the family's table does not describe.

    Examples
    --------
    >>> spec = read_spec({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4})
    >>> spec.class_name, spec.sizes.head_dim, spec.tied
    ('LlamaForCausalLM', 16, False)
    """
    if architecture is not None:
        family = next((f for f in FAMILIES.values() if architecture in f.classes), None)
        if family is None:
            known = ", ".join(name for f in FAMILIES.values() for name in f.classes)
            raise UnknownArchitectureError(f"architecture {architecture!r} is not known. Known classes: {known}.")
        if config.get("model_type") not in (None, family.name):
            raise UnknownArchitectureError(
                f"architecture {architecture!r} belongs to {family.name}, but the config says "
                f"model_type {config['model_type']!r}."
            )
        class_name = architecture
    else:
        family, class_name = _named(config)
    spec = ModelSpec(family, class_name, config, tied=False)
    if config.get("quantization_config"):
        raise CheckpointError(
            "config.json has a quantization_config: quantized weights cannot be resized. Dequantize the model first "
            "(model.dequantize(), then save_pretrained), or take the quantization_config out if the weights are plain."
        )
    for field in family.unsupported:
        if spec.value(field):
            raise CheckpointError(f"config.json: {field} is true; wavescale does not resize {family.name} with it.")
    tied = bool(spec.head_class.ties) and bool(spec.value("tie_word_embeddings"))
    return ModelSpec(family, class_name, config, tied)


def _named(config: Mapping[str, Any]) -> tuple[Family, str]:
    model_type = config.get("model_type")
    if model_type is None:
        raise UnknownArchitectureError(
            "config.json has no model_type. Say which class of transformers the weights belong to, "
            "for example --architecture BertForMaskedLM (in Python: architecture='BertForMaskedLM')."
        )
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UnknownArchitectureError(
            f"model_type {model_type!r} is not known. Known families: {', '.join(FAMILIES)}. "
            "A family is one table; CONTRIBUTING.md shows how to add it."
        )
    classes = config.get("architectures") or [family.default_class]
    named = classes[0] if isinstance(classes, list | tuple) else classes
    if not isinstance(named, str) or named not in family.classes:
        raise UnknownArchitectureError(
            f"{family.name} class {named!r} is not known. Known: {', '.join(family.classes)}. "
            "Name one with --architecture if the weights fit it."
        )
    return family, named


def todays_name(family: Family, name: str) -> str:
    """A tensor's name in today's spelling: old checkpoints, and models that were loaded from them, have others."""
    for old, new in family.renamed:
        name = re.sub(old, new, name)
    return name


@dataclass(frozen=True)
class Stored:
    """A tensor on disk: its table row, its layer, and its name in today's spelling."""

    name: str
    current_name: str
    row: TensorRow
    layer: int | None
    shape: tuple[int, ...]
    dtype: str

    def name_at(self, layer: int | None) -> str:
        """The name that this tensor has in another layer, in today's spelling."""
        if self.layer is None or layer is None:
            return self.current_name
        stem = self.row.name.partition("{layer}")[0].removeprefix("{base}")
        before, _, after = self.current_name.partition(f"{stem}{self.layer}.")
        return f"{before}{stem}{layer}.{after}"


class RowMatcher:
    """Finds the one table row of each tensor on disk."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        own = set(spec.head_class.groups)
        groups = sorted(spec.family.groups.items(), key=lambda item: item[0] not in own)
        bases = {head.base for head in spec.family.classes.values()}
        self._base = "(?:" + "|".join(re.escape(base) for base in sorted(bases, key=len, reverse=True)) + ")"
        self._patterns: list[tuple[re.Pattern[str], TensorRow]] = []
        seen: set[str] = set()
        for name, rows in groups:
            for row in rows:
                # Heads of different classes share names (classifier.weight): the class's own comes first.
                if row.name not in seen or name in own:
                    seen.add(row.name)
                    self._patterns.append((self._compile(row.name), row))

    def _compile(self, name: str) -> re.Pattern[str]:
        text = re.escape(name).replace(r"\{base\}", self._base).replace(r"\{layer\}", r"(?P<layer>\d+)")
        return re.compile(text)

    def ignored(self, name: str) -> bool:
        """Whether a tensor on disk is known to be no parameter."""
        return any(re.search(pattern, name) for pattern in self.spec.family.ignored)

    def find(self, name: str, shape: tuple[int, ...], dtype: str) -> Stored | None:
        """What a tensor on disk is, or None where no row fits."""
        current = todays_name(self.spec.family, name)
        for pattern, row in self._patterns:
            found = pattern.fullmatch(current)
            if found:
                return Stored(name, current, row, int(found["layer"]) if row.in_layer else None, shape, dtype)
        return None
