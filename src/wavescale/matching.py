"""Which row of the family's table every tensor on disk belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from wavescale.axes import check_shape, parse_axes
from wavescale.errors import CheckpointError
from wavescale.spec import ModelSpec, RowMatcher, Stored

# Bytes of one element, by torch's name of the dtype.
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def match_tensors(
    spec: ModelSpec, found: Mapping[str, tuple[tuple[int, ...], str]]
) -> dict[tuple[str, int | None], Stored]:
    """Find the table row of every tensor of a checkpoint, and check that none is missing or misshapen.

    Parameters
    ----------
    spec
        The model that the config describes.
    found
        Shape and dtype (torch's name) of every tensor on disk.

    Raises
    ------
    CheckpointError
        Names the first tensor that is unknown, missing, misshapen, or of a dtype that is no float.
    """
    matcher = RowMatcher(spec)
    stored: dict[tuple[str, int | None], Stored] = {}
    for name, (shape, dtype) in found.items():
        if matcher.ignored(name):
            continue
        tensor = matcher.find(name, shape, dtype)
        if tensor is None:
            raise CheckpointError(
                f"{name}: no row of the {spec.family.name} table fits this tensor {list(shape)}. The class may be one "
                "that wavescale does not know; CONTRIBUTING.md shows how to describe it."
            )
        check_shape(f"{spec.family.name}: {name}", parse_axes(tensor.row.axes), shape, spec.axis_sizes)
        if dtype not in DTYPE_BYTES:
            raise CheckpointError(
                f"{name}: dtype is {dtype}, expected one of {', '.join(DTYPE_BYTES)}. Dequantize the checkpoint first."
            )
        key = (tensor.row.name, tensor.layer)
        if key in stored:
            raise CheckpointError(f"{name}: {stored[key].name} is the same tensor under another name; remove one.")
        if tensor.layer is not None and tensor.layer >= spec.sizes.num_hidden_layers:
            raise CheckpointError(
                f"{name}: layer {tensor.layer} is beyond the {spec.sizes.num_hidden_layers} layers of the config. "
                "Use the config.json that was saved with these weights."
            )
        stored[key] = tensor
    for slot in spec.slots():
        if (slot.row.name, slot.layer) not in stored and not slot.row.optional:
            raise CheckpointError(
                f"{spec.disk_name(slot)}: missing, {spec.class_name} needs it with shape {list(spec.shape(slot.row))}. "
                "The checkpoint is incomplete, or of another class (--architecture)."
            )
    return stored


def expected_tensors(spec: ModelSpec) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor that a checkpoint with this config has, as transformers saves it."""
    return {spec.disk_name(slot): (spec.shape(slot.row), spec.dtype) for slot in spec.slots()}
