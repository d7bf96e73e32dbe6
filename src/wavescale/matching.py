"""Which row of the family's table every tensor on disk belongs to, and which belong to none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain

from wavescale.axes import check_shape, parse_axes
from wavescale.errors import CheckpointError, OptionError
from wavescale.spec import ModelSpec, RowMatcher, Slot, Stored

# Bytes of one element, by torch's name of the dtype.
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# Shape and dtype (torch's name) of tensors on disk.
Shapes = Mapping[str, tuple[tuple[int, ...], str]]


def without(found: Shapes, patterns: Sequence[str]) -> dict[str, tuple[tuple[int, ...], str]]:
    """The tensors whose names fit none of some patterns.

    Raises
    ------
    OptionError
        A pattern that fits no tensor.

    Examples
    --------
    >>> list(without({"lm_head.weight": ((2, 3), "float32"), "v_head.weight": ((1, 3), "float32")}, ["v_head.*"]))
    ['lm_head.weight']
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise OptionError(
                f"drop (--drop) {pattern!r} fits no tensor of the checkpoint; the first are {', '.join([*found][:3])}. "
                "Correct the pattern, or leave it out."
            )
    return {name: of for name, of in found.items() if not any(fnmatchcase(name, pattern) for pattern in patterns)}


def extra_tensors(spec: ModelSpec, found: Shapes) -> dict[str, tuple[tuple[int, ...], str]]:
    """The tensors that the model does not have: they fit no row of the family's table, or lie behind its last layer.

    Those that are known to be no parameters are left out.
    """
    matcher = RowMatcher(spec)
    return {name: of for name, of in found.items() if not matcher.ignored(name) and _own(matcher, name, of) is None}


def _own(matcher: RowMatcher, name: str, of: tuple[tuple[int, ...], str]) -> Stored | None:
    """What a tensor is, or None where the model has no such tensor."""
    tensor = matcher.find(name, *of)
    beyond = tensor is not None and (tensor.layer or 0) >= matcher.spec.sizes.num_hidden_layers
    return None if beyond else tensor


def check_extra(source: ModelSpec, target: ModelSpec, extra: Shapes, ordered: frozenset[str] = frozenset()) -> None:
    """Refuse extra tensors that may have an axis which changes.

    An axis may be one that changes if it is as long as one of the table's that does, or a multiple of that. A tensor
    of a numbered module may belong to a layer.

    Parameters
    ----------
    source, target
        The model before and after.
    extra
        Shape and dtype of the tensors that fit no row.
    ordered
        Axes whose units are put in another order.

    Raises
    ------
    CheckpointError
        Names the first such tensor.
    """
    changed = set()
    for row in source.rows:
        lengths = zip(parse_axes(row.axes).axes, source.shape(row), target.shape(row), strict=True)
        changed |= {n for axis, n, m in lengths if n != m or not ordered.isdisjoint(chain(*axis.parts))}
    deeper = source.sizes.num_hidden_layers != target.sizes.num_hidden_layers
    for name, (shape, dtype) in extra.items():
        reason = ""
        if dtype not in DTYPE_BYTES:
            reason = f"has dtype {dtype}"
        elif deeper and re.search(r"(?:^|\.)\d+\.", name):
            reason = "may belong to a layer, and their number changes"
        elif length := next((n for size in shape for n in sorted(changed) if size % n == 0), 0):
            reason = f"may have an axis that changes, of length {length}"
        if reason:
            raise CheckpointError(
                f"{name}: {source.class_name} has no such tensor, and one of shape {list(shape)} {reason}. Leave it "
                f"out with --drop '{name}' (drop=['{name}']), or name the class that has it with --architecture."
            )


def match_tensors(spec: ModelSpec, found: Shapes) -> dict[tuple[str, int | None], Stored]:
    """Find the table row of every tensor of a checkpoint, and check that none is missing or misshapen.

    Tensors that the model does not have are left out (`extra_tensors`). Of tied tensors that are stored under one name
    alone, whichever it is, the original is found.

    Parameters
    ----------
    spec
        The model that the config describes.
    found
        Shape and dtype (torch's name) of every tensor on disk.

    Raises
    ------
    CheckpointError
        Names the first tensor that is missing, misshapen, or of a dtype that is no float.
    """
    matcher = RowMatcher(spec)
    stored: dict[tuple[str, int | None], Stored] = {}
    for name, (shape, dtype) in found.items():
        if matcher.ignored(name):
            continue
        tensor = _own(matcher, name, (shape, dtype))
        if tensor is None:
            continue
        check_shape(f"{spec.family.name}: {name}", parse_axes(tensor.row.axes), shape, spec.axis_sizes)
        if dtype not in DTYPE_BYTES:
            raise CheckpointError(
                f"{name}: dtype is {dtype}, expected one of {', '.join(DTYPE_BYTES)}. Dequantize the checkpoint first."
            )
        key = (tensor.row.name, tensor.layer)
        if key in stored:
            raise CheckpointError(f"{name}: {stored[key].name} is the same tensor under another name; remove one.")
        stored[key] = tensor
    _find_originals(spec, stored)
    for slot in spec.slots():
        if (slot.row.name, slot.layer) not in stored and not slot.row.optional:
            raise CheckpointError(
                f"{spec.disk_name(slot)}: missing, {spec.class_name} needs it with shape {list(spec.shape(slot.row))}. "
                "The checkpoint is incomplete, or of another class (--architecture), or --drop leaves out too much."
            )
    return stored


def _find_originals(spec: ModelSpec, stored: dict[tuple[str, int | None], Stored]) -> None:
    """Take the copy of a tied tensor for the original where that is not stored."""
    rows = {row.name: row for row in spec.rows}
    for copy, original in (spec.head_class.ties if spec.tied else {}).items():
        if (copy, None) in stored and (original, None) not in stored:
            found = stored.pop((copy, None))
            name = spec.disk_name(Slot(rows[original], None))
            stored[original, None] = replace(found, row=rows[original], current_name=name)


def expected_tensors(spec: ModelSpec) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor that a checkpoint with this config has, as transformers saves it."""
    return {spec.disk_name(slot): (spec.shape(slot.row), spec.dtype) for slot in spec.slots()}
