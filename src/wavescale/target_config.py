"""The target's config.json: the source's, with the sizes and all that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wavescale.errors import CheckpointError
from wavescale.spec import ModelSpec, Sizes


def target_spec(spec: ModelSpec, sizes: Sizes, dtype: str | None = None, origins: Sequence[int] = ()) -> ModelSpec:
    """The target as a model without weights.

    Parameters
    ----------
    spec
        The source.
    sizes
        The target's sizes.
    dtype
        Of the output, if it is to change.
    origins
        For each target layer the source layer that lends its entry in per-layer fields.
    """
    family, source = spec.family, spec.sizes
    config: dict[str, Any] = dict(spec.config)
    config["model_type"] = family.name
    config["architectures"] = [spec.class_name]
    for name, field in family.fields.items():
        config[field] = getattr(sizes, name)
    if config.get("n_inner") == 4 * sizes.hidden_size and spec.config.get("n_inner") is None and "n_inner" in config:
        config["n_inner"] = None
    if family.stores_head_dim and (
        config.get("head_dim") is not None or sizes.head_dim * sizes.num_attention_heads != sizes.hidden_size
    ):
        config["head_dim"] = sizes.head_dim
    if config.get("pooler_output_size") is not None:
        config["pooler_output_size"] = sizes.pooled
    if origins and tuple(origins) != tuple(range(source.num_hidden_layers)):
        for field in family.per_layer_fields:
            entries = _per_layer(spec, field)
            if entries is not None:
                config[field] = [entries[origin] for origin in origins]
    if dtype is not None:
        config["dtype"] = dtype
        config.pop("torch_dtype", None)
    for field in ("_name_or_path", "auto_map"):  # code that auto_map names is never copied
        config.pop(field, None)
    return replace(spec, config=config)


def _per_layer(spec: ModelSpec, field: str) -> list[Any] | None:
    """A field with one entry per layer; sliding windows from `max_window_layers` on are written out."""
    found = spec.config.get(field)
    if found is not None:
        if not isinstance(found, list | tuple) or len(found) != spec.sizes.num_hidden_layers:
            raise CheckpointError(
                f"config.json: {field} is {found!r}, expected {spec.sizes.num_hidden_layers} entries, one a layer."
            )
        return list(found)
    if field == "layer_types" and spec.value("use_sliding_window") and spec.config.get("sliding_window") is not None:
        first = spec.value("max_window_layers")
        return [
            "sliding_attention" if layer >= first else "full_attention" for layer in range(spec.sizes.num_hidden_layers)
        ]
    return None
