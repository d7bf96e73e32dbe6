"""The plan: everything that a resize will do, as a value, before a weight is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from math import prod
from typing import Any

from wavescale.architectures.schema import RESIZABLE
from wavescale.artifacts import NOTHING, Artifacts, keep_name, order_name, tensor_name
from wavescale.axes import check_shape, parse_axes
from wavescale.errors import CheckpointError, OptionError
from wavescale.expressions import (
    NODES,
    Apply,
    Concatenate,
    Constant,
    Details,
    Expression,
    FoldDiagonal,
    FoldVector,
    Mix,
    Part,
    Read,
    Scale,
    Select,
    Sum,
)
from wavescale.methods import Choices, Method, Piece, Resizing, Separable
from wavescale.operators import CopyAndPad, Operator, Replicate, Resample
from wavescale.sizes import Decision, SizeRequest, resolve_sizes
from wavescale.spec import ModelSpec, RowMatcher, Sizes, Stored
from wavescale.target_config import target_spec

# Bytes of one element, by torch's name of the dtype.
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the target.

    Attributes
    ----------
    name
        Its name on disk.
    module
        What it is in any transformer, for example `query`.
    shape, dtype
        As it will be stored.
    expression
        What it is made of.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    dtype: str
    expression: Expression

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def flops(self) -> int:
        """Multiplications and additions to compute it."""
        return sum(node.flops for node in self.expression.walk())


@dataclass(frozen=True)
class Plan:
    """A resize, ready to be executed, printed, saved or compared.

    Attributes
    ----------
    family, architecture
        `model_type` and class of both models.
    source, target
        Sizes before and after.
    decisions
        Why each size is what it is.
    choices
        How the axes are resized.
    tensors
        What is written, in the order of the files.
    config
        The target's config.json.
    ties
        Pairs of stored source tensors that must be equal, because the model ties them.
    source_parameters
        Parameters before, ties counted once.
    keeps_function
        Whether the target computes what the source computes, up to rounding.
    remarks
        What a user should know.
    """

    family: str
    architecture: str
    source: Sizes
    target: Sizes
    decisions: tuple[Decision, ...]
    choices: Choices
    tensors: tuple[TensorPlan, ...]
    config: Mapping[str, Any]
    ties: tuple[tuple[str, str], ...]
    source_parameters: int
    keeps_function: bool
    remarks: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """Parameters after, ties counted once."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors on disk."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the whole resize."""
        return sum(tensor.flops for tensor in self.tensors)

    def to_json(self) -> str:
        """The plan as JSON; `Plan.from_json` reads it back."""
        return json.dumps(_encode(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read a plan that `to_json` wrote.

        Raises
        ------
        CheckpointError
            The text is not such a plan.
        """
        try:
            plan = _decode(json.loads(text))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the plan cannot be read: {error}. It was not written by this version.") from error
        if not isinstance(plan, Plan):
            raise CheckpointError("the plan cannot be read: the file holds something else.")
        return plan

    def __str__(self) -> str:
        return "\n".join(self.lines(tensors=True))

    def lines(self, tensors: bool, every: bool = False) -> list[str]:
        """The plan as lines of text; `tensors` lists what each is made of, `every` without grouping layers."""
        lines = [f"{self.architecture} ({self.family})", "", "sizes"]
        width = max(len(decision.name) for decision in self.decisions)
        for d in self.decisions:
            lines.append(f"  {d.name:<{width}}  {d.source:>7,} → {d.target:>7,}  {d.reason}")
        lines.append("")
        if tensors:
            lines += ["tensors", *(f"  {line}" for line in self.tensor_lines(every)), ""]
        lines += [
            f"parameters  {self.source_parameters:,} → {self.parameters:,}",
            f"output      {decimal(self.nbytes)}B, {decimal(self.flops)}FLOP to compute",
            f"function    {'kept' if self.keeps_function else 'not kept'}",
        ]
        lines += [f"note        {remark}" for remark in self.remarks]
        return lines

    def tensor_lines(self, every: bool = False) -> list[str]:
        """One line per target tensor; layers that differ only in their number share one unless `every`."""
        groups: dict[tuple[str, ...], list[int | None]] = {}
        for tensor in self.tensors:
            name, layer = (tensor.name, None) if every else split_layer(tensor.name)
            text = describe(tensor.expression, None if every else "*")
            groups.setdefault((name, str(list(tensor.shape)), tensor.dtype, text), []).append(layer)
        lines = []
        for (name, shape, dtype, text), layers in groups.items():
            numbered = [layer for layer in layers if layer is not None]
            shown = name.replace("*", _ranges(numbered), 1) if numbered else name
            lines.append(f"{shown}  {shape} {dtype}  {text}")
        return lines


def decimal(number: float) -> str:
    """A number with three digits and a decimal prefix.

    Examples
    --------
    >>> decimal(109_482_240), decimal(512)
    ('109 M', '512 ')
    """
    prefixes = ["", "k", "M", "G", "T", "P"]
    while abs(number) >= 999.5 and len(prefixes) > 1:
        number /= 1000
        prefixes.pop(0)
    return f"{number:.3g} {prefixes[0]}"


def split_layer(name: str) -> tuple[str, int | None]:
    """A tensor's name with a star for its layer's number, and that number; None for a tensor outside the layers."""
    parts = name.split(".")
    for position, part in enumerate(parts):
        # A number inside the name is the layer's; `decoder.0.weight` has it in second place of three.
        if part.isdigit() and len(parts) - position > 2:
            return ".".join([*parts[:position], "*", *parts[position + 1 :]]), int(part)
    return name, None


def _ranges(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return "{" + ",".join(str(a) if a == b else f"{a}..{b}" for a, b in spans) + "}"


def describe(expression: Expression, star: str | None = None) -> str:
    """An expression in words; `star` stands in for the layer's number in source names."""
    match expression:
        case Read(name):
            return (split_layer(name)[0] if star else name).rsplit(".", 2)[-2] + ("" if star else f" ({name})")
        case Part(of, _, start, length):
            return f"{describe(of, star)}[{start}:{start + length}]"
        case Concatenate(parts):
            return " | ".join(describe(part, star) for part in parts)
        case Apply(operator, of, name):
            return f"{describe(of, star)} · {name} {operator.n}→{operator.m}: {operator.describe()}"
        case Select(of, index, n, name):
            how = "reordered" if index.shape[0] == n else f"{n}→{index.shape[0]}: chosen units"
            return f"{describe(of, star)} · {name} {how}"
        case Mix(of, matrix, name):
            return f"{describe(of, star)} · {name} {matrix.shape[1]}→{matrix.shape[0]}: refitted"
        case Scale(of, factor):
            return f"{factor:.4g}·{describe(of, star)}"
        case Sum(terms):
            shown = [describe(term, star) for term in terms[:4]]
            return f"({' + '.join(shown)}{f' + {len(terms) - 4} more' if len(terms) > 4 else ''})"
        case FoldDiagonal(of, diagonal):
            return f"{describe(of, star)}·diag({describe(diagonal, star)})"
        case FoldVector(of, vector):
            return f"{describe(of, star)}·{describe(vector, star)}"
        case Details(name=name, seed=seed):
            return f"antisymmetric details on {name}" + ("" if star else f" (seed {seed})")
        case Constant(value):
            return f"constant {value:g}"
        case _:
            return f"{type(expression).__name__}({', '.join(describe(child, star) for child in expression.children)})"


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


def make_plan(
    spec: ModelSpec,
    found: Mapping[str, tuple[tuple[int, ...], str]],
    request: SizeRequest,
    choices: Choices,
    dtype: str | None = None,
    artifacts: Artifacts = NOTHING,
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

    Raises
    ------
    SizeError, OptionError, CheckpointError
        Sizes that do not fit, choices that contradict them, tensors that are not as the config says.
    """
    sizes, decisions, remarks = resolve_sizes(spec, request)
    stored = match_tensors(spec, found)
    ties = _split_ties(spec, stored)
    # The layers that lend their per-layer config fields are known once the method is.
    orders, units = _check_orders(spec, artifacts), _check_units(spec, sizes, artifacts)
    draft = Resizing(spec, target_spec(spec, sizes, dtype), stored, choices, orders, units)
    method = Separable(draft)
    origins = tuple(method.origin(layer) for layer in range(sizes.num_hidden_layers))
    target = target_spec(spec, sizes, dtype, origins)
    return Plan(
        family=spec.family.name,
        architecture=spec.class_name,
        source=spec.sizes,
        target=sizes,
        decisions=decisions,
        choices=choices,
        tensors=_replace(tuple(_tensors(draft, method, dtype)), artifacts),
        config=target.config,
        ties=ties,
        source_parameters=sum(prod(tensor.shape) for tensor in stored.values()),
        keeps_function=method.keeps_function,
        remarks=(*remarks, *method.remarks),
    )


def _split_ties(spec: ModelSpec, stored: dict[tuple[str, int | None], Stored]) -> tuple[tuple[str, str], ...]:
    """Take copies of tied tensors out of the source, and say which must be equal."""
    pairs = []
    if spec.tied:
        for copy, original in spec.head_class.ties.items():
            if (copy, None) in stored and (original, None) in stored:
                pairs.append((stored.pop((copy, None)).name, stored[original, None].name))
    return tuple(pairs)


def _tensors(resizing: Resizing, method: Method, dtype: str | None) -> Iterable[TensorPlan]:
    layers = resizing.target.sizes.num_hidden_layers
    firsts: dict[str, Stored] = {}
    for stored in resizing.stored.values():
        firsts.setdefault(stored.row.name, stored)
    for first in firsts.values():
        for layer in range(layers) if first.row.in_layer else (None,):
            expression = _whole(first, layer, method)
            shape = parse_axes(first.row.axes).shape(resizing.target.axis_sizes)
            if expression.shape != shape:
                raise AssertionError(f"{first.name}: planned {expression.shape}, expected {shape}")
            like = first if layer is None else resizing.stored[first.row.name, method.origin(layer)]
            yield TensorPlan(first.name_at(layer), first.row.module, shape, dtype or like.dtype, expression)


def _check_orders(spec: ModelSpec, artifacts: Artifacts) -> frozenset[tuple[str, int | None]]:
    for (axis, layer), order in artifacts.orders.items():
        if axis not in RESIZABLE or (layer is not None and layer >= spec.sizes.num_hidden_layers):
            raise OptionError(f"{order_name(axis, layer)}: the source has no such axis or layer.")
        if len(order) != spec.axis_sizes[axis]:
            raise OptionError(
                f"{order_name(axis, layer)}: orders {len(order)} units, the source has {spec.axis_sizes[axis]}."
            )
    return frozenset(artifacts.orders)


def _check_units(spec: ModelSpec, sizes: Sizes, artifacts: Artifacts) -> dict[str, int]:
    units: dict[str, int] = {}
    for (axis, layer), found in artifacts.units.items():
        if axis != "intermediate" or layer >= spec.sizes.num_hidden_layers:
            raise OptionError(
                f"{keep_name(axis, layer)}: units are chosen on the axis 'intermediate', in layers 0 to "
                f"{spec.sizes.num_hidden_layers - 1}."
            )
        n, m = spec.axis_sizes[axis], sizes.axes[axis]
        if tuple(found.keep.shape) != (m,) or tuple(found.read.shape) != (m, n):
            raise OptionError(
                f"{keep_name(axis, layer)}: keeps {len(found.keep)} units and reads {list(found.read.shape)}, "
                f"the sizes ask for {m} of {n}."
            )
        units[axis] = m
    for axis in units:
        missing = [layer for layer in range(spec.sizes.num_hidden_layers) if (axis, layer) not in artifacts.units]
        if missing:
            raise OptionError(f"{keep_name(axis, missing[0])}: missing; units are chosen in every layer or in none.")
    return units


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


_CLASSES: dict[str, type] = {
    **NODES,
    **{kind.__name__: kind for kind in (Plan, TensorPlan, Sizes, Decision, Choices, Resample, Replicate, CopyAndPad)},
}


# What the JSON of a plan says besides its fields: totals that follow from them.
_TOTALS = {"TensorPlan": ("nbytes", "flops"), "Plan": ("parameters", "nbytes", "flops")}


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value).__name__
        totals = {name: getattr(value, name) for name in _TOTALS.get(kind, ())}
        return {"kind": kind, **totals, **{f.name: _encode(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return {"kind": "mapping", "items": dict(value)}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if isinstance(value, dict):
        values = dict(value)
        kind = values.pop("kind")
        if kind == "mapping":
            return values["items"]
        totals = _TOTALS.get(kind, ())
        return _CLASSES[kind](**{name: _decode(item) for name, item in values.items() if name not in totals})
    return value


__all__ = [
    "DTYPE_BYTES",
    "Operator",
    "Plan",
    "TensorPlan",
    "expected_tensors",
    "make_plan",
    "match_tensors",
    "split_layer",
]
