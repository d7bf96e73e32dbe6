"""Make a plan: sizes, then what each tensor of the target is made of, then the checks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from wavescale.architectures.schema import RESIZABLE
from wavescale.artifacts import NOTHING, Artifacts, finished, order_name, tensor_name
from wavescale.axes import parse_axes
from wavescale.errors import OptionError
from wavescale.expressions import Concatenate, Expression, Fresh, Part, Read, UnequalShares
from wavescale.matching import Shapes, check_extra, extra_tensors, match_tensors, without
from wavescale.methods import (
    Choices,
    Method,
    Piece,
    Resizing,
    Separable,
    check_growth,
    left_out,
    mapping_remarks,
    refits,
    settled,
)
from wavescale.plan import Plan, TensorPlan
from wavescale.rounding import amplification, borne, half_type, largest_size
from wavescale.sizes import SizeRequest, resolve_sizes
from wavescale.spec import ModelSpec, Stored, read_spec
from wavescale.target_config import target_spec


def make_plan(
    spec: ModelSpec,
    found: Shapes,
    request: SizeRequest,
    choices: Choices,
    dtype: str | None = None,
    artifacts: Artifacts = NOTHING,
    writes: bool = True,
    drop: Sequence[str] = (),
) -> Plan:
    """Plan a resize. Pure: no file is opened and no weight is read.

    Parameters
    ----------
    spec
        The source, from its config.
    found
        Shape and dtype of every source tensor.
    request, choices
        What the user wants.
    dtype
        Of the output (`float64`, `float32`, `bfloat16`, `float16`); without it every tensor keeps its own.
    artifacts
        What an analysis found; only its names and shapes are looked at.
    writes
        Whether a masked language model can write text: it takes a tokenizer that knows the mask.
    drop
        Patterns of tensors that are left out.

    Raises
    ------
    SizeError, OptionError, CheckpointError
        Sizes that do not fit, choices that contradict them, tensors that are not as the config says.
    """
    sizes, decisions, remarks = resolve_sizes(spec, request)
    kept = without(found, drop)
    stored, extra = match_tensors(spec, kept), extra_tensors(spec, kept)
    ties = _split_ties(spec, stored)
    asked = _beside(artifacts, choices)
    choices = settled(asked, spec, sizes, writes)
    mapped = choices.mapping != "operators"
    if mapped or choices.calibrate != "none":
        remarks = (*remarks, *_leave_out_strangers(spec, stored))
    check_growth(choices, spec.sizes, sizes)
    # The layers that lend their per-layer config fields are known once the method is.
    draft = Resizing(spec, target_spec(spec, sizes, dtype), stored, choices, _check_orders(spec, artifacts))
    method = Separable(draft)
    origins = tuple(method.origin(layer) for layer in range(sizes.num_hidden_layers))
    target = target_spec(spec, sizes, dtype, origins)
    check_extra(spec, target, extra, frozenset(axis for axis, _ in artifacts.orders))
    tensors = _replace(tuple(_tensors(draft, method, dtype)), artifacts)
    said = mapping_remarks(draft) if mapped else method.remarks
    keeps = not mapped and method.keeps_function
    amplified = _amplification_remarks(choices, tensors) if keeps else ()
    return Plan(
        family=spec.family.name,
        architecture=spec.class_name,
        source=spec.sizes,
        target=sizes,
        decisions=decisions,
        choices=choices,
        tensors=(*tensors, *_carried_over(extra, dtype)),
        config=target.config,
        ties=ties,
        source_parameters=sum(
            map(prod, (*(t.shape for t in stored.values()), *(shape for shape, _ in extra.values())))
        ),
        keeps_function=keeps and not amplified,
        remarks=(
            *remarks,
            *_extra_remarks(found.keys() - kept.keys(), extra),
            *said,
            *amplified,
            *_detail_remarks(choices, tensors),
            *_calibration_remarks(choices, tensors),
            *left_out(asked, spec, sizes),
        ),
    )


def method_of(plan: Plan, spec: ModelSpec, stored: Mapping[tuple[str, int | None], Stored]) -> Separable:
    """The method that a plan was made with, given the source that it was made for."""
    return Separable(Resizing(spec, read_spec(plan.config, plan.architecture), stored, plan.choices))


_CALIBRATED_ON = {
    "generated": "text that the model writes itself",
    "random": "random input",
    "given": "what was given",
}


def _calibration_remarks(choices: Choices, tensors: tuple[TensorPlan, ...]) -> tuple[str, ...]:
    if choices.calibrate not in _CALIBRATED_ON:
        return ()
    fitted = sum(any(map(finished, tensor.expression.reads())) for tensor in tensors)
    return (
        f"calibrated on {_CALIBRATED_ON[choices.calibrate]}: {fitted} tensors are chosen and refitted by running it",
    )


def _carried_over(extra: Shapes, dtype: str | None) -> Iterable[TensorPlan]:
    """Tensors that fit no row and have no axis that changes, as they are."""
    for name, (shape, own) in extra.items():
        yield TensorPlan(name, "extra", shape, dtype or own, Read(name, shape))


def _extra_remarks(dropped: Collection[str], extra: Shapes) -> tuple[str, ...]:
    return (
        *([f"left out with --drop: {', '.join(sorted(dropped))}"] if dropped else []),
        *([f"carried over unchanged, as no axis of theirs changes: {', '.join(extra)}"] if extra else []),
    )


def _amplification_remarks(choices: Choices, tensors: tuple[TensorPlan, ...]) -> tuple[str, ...]:
    """Whether copies differ by so much that rounding moves the outputs."""
    found = amplification(tensor.expression for tensor in tensors)
    dtypes = {tensor.dtype for tensor in tensors}
    bears = borne(dtypes)
    if found <= bears:
        return ()
    return (
        f"the function is not kept: detail_size {choices.detail_size:g} makes rounding {found:.3g} times as large, and "
        f"in {half_type(dtypes) or 'float32'} {bears:g} times is the most that is called kept; give detail_size "
        f"(--detail-size) {largest_size(bears):g} or less",
    )


def _detail_remarks(choices: Choices, tensors: tuple[TensorPlan, ...]) -> tuple[str, ...]:
    if choices.detail_size == 1.0:
        return ()
    if any(isinstance(node, UnequalShares | Fresh) for tensor in tensors for node in tensor.expression.walk()):
        return ()
    return (f"detail_size {choices.detail_size:g} has no effect: nothing is copied with gains by role, or padded",)


def _split_ties(spec: ModelSpec, stored: dict[tuple[str, int | None], Stored]) -> tuple[tuple[str, str], ...]:
    """Take copies of tied tensors out of the source, and say which must be equal."""
    pairs = []
    if spec.tied:
        for copy, original in spec.head_class.ties.items():
            if (copy, None) in stored and (original, None) in stored:
                pairs.append((stored.pop((copy, None)).name, stored[original, None].name))
    return tuple(pairs)


def _beside(artifacts: Artifacts, choices: Choices) -> Choices:
    """The choices beside what an analysis found, which is resized as it says; calibration chooses by itself."""
    if not artifacts.named():
        return choices
    if choices.calibrate == "auto":
        return replace(choices, calibrate="none")
    if choices.calibrate != "none" and artifacts.orders:
        raise OptionError(
            f"calibrate (--calibrate) {choices.calibrate!r} chooses units by itself, so artifacts with orders "
            "have no effect. Leave one of the two out."
        )
    return choices


def _leave_out_strangers(spec: ModelSpec, stored: dict[tuple[str, int | None], Stored]) -> tuple[str, ...]:
    """Take tensors of heads that the class does not have out of the source: where the model is run they do nothing."""
    strangers = [key for key, found in stored.items() if found.row not in spec.rows]
    names = [stored.pop(key).name for key in strangers]
    if not names:
        return ()
    return (
        f"left out, as {spec.class_name} does not have them: {', '.join(names)} (--architecture names another class)",
    )


def _tensors(resizing: Resizing, method: Method, dtype: str | None) -> Iterable[TensorPlan]:
    layers = resizing.target.sizes.num_hidden_layers
    firsts: dict[str, Stored] = {}
    for stored in resizing.stored.values():
        firsts.setdefault(stored.row.name, stored)
    calibrated, mapped = resizing.choices.calibrate != "none", resizing.choices.mapping != "operators"
    fitted = {first.row: mapped or (calibrated and refits(first.row, resizing)) for first in firsts.values()}
    for first in firsts.values():
        for layer in range(layers) if first.row.in_layer else (None,):
            shape = parse_axes(first.row.axes).shape(resizing.target.axis_sizes)
            name = resizing.target.name_of(first, layer)
            expression = Read(tensor_name(name), shape) if fitted[first.row] else _whole(first, layer, method)
            if expression.shape != shape:
                raise AssertionError(f"{first.name}: planned {expression.shape}, expected {shape}")
            like = first if layer is None else resizing.stored[first.row.name, method.origin(layer)]
            yield TensorPlan(name, first.row.module, shape, dtype or like.dtype, expression)


def _check_orders(spec: ModelSpec, artifacts: Artifacts) -> frozenset[tuple[str, int | None]]:
    for (axis, layer), order in artifacts.orders.items():
        if axis not in RESIZABLE or (layer is not None and layer >= spec.sizes.num_hidden_layers):
            raise OptionError(f"{order_name(axis, layer)}: the source has no such axis or layer.")
        if len(order) != spec.axis_sizes[axis]:
            raise OptionError(
                f"{order_name(axis, layer)}: orders {len(order)} units, the source has {spec.axis_sizes[axis]}."
            )
    return frozenset(artifacts.orders)


def _replace(tensors: tuple[TensorPlan, ...], artifacts: Artifacts) -> tuple[TensorPlan, ...]:
    """Put finished tensors in the place of what the method would make."""
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    for name, value in artifacts.tensors.items():
        if shapes.get(name) != tuple(value.shape):
            raise OptionError(f"artifact {name}: has shape {list(value.shape)}, the target has {shapes.get(name)}.")
    return tuple(
        replace(tensor, expression=Read(tensor_name(tensor.name), tensor.shape))
        if tensor.name in artifacts.tensors
        else tensor
        for tensor in tensors
    )


def _whole(stored: Stored, layer: int | None, method: Method) -> Expression:
    pieces = [method.express(Piece(stored.row, index), layer) for index in range(len(stored.row.modules))]
    if len(pieces) == 1:
        return pieces[0]
    axis = parse_axes(stored.row.axes).fused
    assert axis is not None
    if all(isinstance(piece, Part) for piece in pieces):
        return pieces[0].children[0]  # nothing changes: the tensor as it is stored
    return Concatenate(tuple(pieces), axis)
