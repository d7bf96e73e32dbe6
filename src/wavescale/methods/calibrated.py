"""Whether a resize is calibrated, on what, and which tensors calibration makes.

Calibration runs the source and fits a smaller model to it (`wavescale.calibration`); here stands only
what a plan has to know.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import prod

from wavescale.architectures.schema import Role, TensorRow
from wavescale.errors import OptionError
from wavescale.methods.choices import Choices
from wavescale.methods.method import Piece, Resizing
from wavescale.spec import ModelSpec, Sizes, predicts_masked

# Larger models are calibrated only when asked to: source and target are held in memory and run.
AUTO_PARAMETERS = 1_000_000_000


def settled(choices: Choices, spec: ModelSpec, sizes: Sizes, writes: bool = True) -> Choices:
    """The choices with `auto` calibration settled.

    What becomes smaller, and in no way larger, is calibrated without data: language models on text that
    they write themselves, others on random input. A masked one `writes` where there is a tokenizer that knows its mask.

    Raises
    ------
    OptionError
        Calibration was asked for and cannot be done.
    """
    if choices.calibrate == "none":
        return choices
    obstacle = _obstacle(choices, spec, sizes)
    if choices.calibrate == "auto":
        if obstacle or _parameters(spec) > AUTO_PARAMETERS:
            return replace(choices, calibrate="none")
        can = generates(spec) and (writes or not predicts_masked(spec))
        return replace(choices, calibrate="generated" if can else "random")
    if obstacle:
        reason, remedy = obstacle
        raise OptionError(f"calibrate (--calibrate) {choices.calibrate}: {reason}. {remedy}, or use none.")
    if choices.calibrate == "generated" and not generates(spec):
        raise OptionError(
            f"calibrate (--calibrate) generated: {spec.class_name} writes no text. Give a text, or use random."
        )
    return choices


def left_out(choices: Choices, spec: ModelSpec, sizes: Sizes) -> tuple[str, ...]:
    """Why a resize that makes something smaller is not calibrated, where that was left to `settled`."""
    before, after = _axes(spec.sizes), _axes(sizes)
    if choices.calibrate != "auto" or all(after[name] >= n for name, n in before.items()):
        return ()
    if obstacle := _obstacle(choices, spec, sizes):
        reason, remedy = obstacle
        return (f"not calibrated, so that little of what it knows is left: {reason}. {remedy}.",)
    if (parameters := _parameters(spec)) > AUTO_PARAMETERS:
        return (
            f"not calibrated, so that little of what it knows is left: for that a source of {parameters:,} parameters "
            "and its target are held in memory in float32. If there is room, give calibrate (--calibrate) "
            "generated or a text.",
        )
    return ()


def generates(spec: ModelSpec) -> bool:
    """Whether the class writes text: from left to right, or by filling masks."""
    return spec.class_name.endswith(("ForCausalLM", "LMHeadModel")) or predicts_masked(spec)


def _parameters(spec: ModelSpec) -> int:
    return sum(prod(spec.shape(slot.row)) for slot in spec.slots())


def _axes(sizes: Sizes) -> dict[str, int]:
    return {**sizes.axes, "layers": sizes.num_hidden_layers}


def _obstacle(choices: Choices, spec: ModelSpec, sizes: Sizes) -> tuple[str, str] | None:
    """Why a resize cannot be calibrated, and what to do about it."""
    before, after = _axes(spec.sizes), _axes(sizes)
    grown = next((name for name, n in before.items() if after[name] > n), None)
    if grown is not None:
        return (
            f"it fits smaller models, but {grown} grows from {before[grown]} to {after[grown]}",
            "Shrink first and grow the result",
        )
    if before == after:
        return "nothing becomes smaller", "Give a smaller size"
    if sizes.head_dim != spec.sizes.head_dim:
        return (
            f"head_dim would change from {spec.sizes.head_dim} to {sizes.head_dim}, and heads are kept whole",
            f"Give {max(1, sizes.hidden_size // spec.sizes.head_dim)} heads",
        )
    groups = [s.num_attention_heads // s.num_key_value_heads for s in (spec.sizes, sizes)]
    if groups[1] > groups[0]:
        return (
            f"query heads per key-value head would grow from {groups[0]} to {groups[1]}, and groups are kept whole",
            f"Give {sizes.num_attention_heads // groups[0] or 1} key-value heads or more",
        )
    layers = choices.layer_map
    if layers is not None and any(a >= b for a, b in pairwise(layers)):
        return "layer_map (--layer-map) has to ascend, every layer once", "Order it"
    return None


def refits(row: TensorRow, resizing: Resizing) -> bool:
    """Whether calibration makes a tensor of this row: what changes its shape or stands where shapes change.

    Whatever writes to the residual stream is fitted anew, so that each layer makes up for the errors
    of those before it.
    """
    source, target = resizing.source, resizing.target
    changed = {name for name, n in source.axis_sizes.items() if target.axis_sizes[name] != n}
    if row.writes or Piece(row).axes.names & changed:
        return True
    drops = source.sizes.num_hidden_layers != target.sizes.num_hidden_layers
    if drops and source.family.placement == "post" and row.norm == "output":
        return True  # the norm behind the last of the layers that one stands for
    # A constant that the inputs of a map lost goes into its bias.
    weight = row.name.removesuffix("bias") + "weight"
    return row.role is Role.BIAS and any(
        stored.row.name == weight and bool(Piece(stored.row).axes.names & changed)
        for stored in resizing.stored.values()
    )
