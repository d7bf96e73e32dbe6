"""How similar the units of an axis are: inner products of the weights that lead into them and out of them.

Every module counts alike: its weights are scaled to an overall norm of 1 (as are those of the other layer,
where two layers are compared). The weights of norms count for what units are worth, not for who resembles
whom (`experiments/LOG.md`: a few large ones would decide).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from wavescale.architectures.schema import Role
from wavescale.axes import parse_axes
from wavescale.methods import Piece
from wavescale.spec import Stored

if TYPE_CHECKING:
    import torch

    from wavescale.analysis import Subject


@dataclass(frozen=True)
class Side:
    """The weights that lead into the units of an axis, or out of them, in one tensor.

    Attributes
    ----------
    label
        The tensor, by its name in the family's table, and the side.
    reads
        Whether these weights read the units.
    weights
        One row for each unit, float32 or float64 of shape (n, d).
    """

    label: str
    reads: bool
    weights: torch.Tensor


def sides(subject: Subject, axis: str, layer: int | None, through_norms: bool = False) -> Iterator[Side]:
    """Every linear map and embedding that has the axis, in one layer or, if the layer is None, in all.

    A key-value head comes with its query heads: their queries and outputs are part of its row. Through
    norms, what reads a norm takes over its weight.
    """
    group = subject.spec.sizes.num_attention_heads // subject.spec.sizes.num_key_value_heads
    lengths = subject.spec.axis_sizes
    copies = subject.spec.head_class.ties if subject.spec.tied else ()
    for (name, at), stored in subject.stored.items():
        if name in copies or (layer is not None and at != layer):
            continue
        for index in range(len(stored.row.modules)):
            piece = Piece(stored.row, index)
            axes = piece.axes.axes
            if piece.role not in (Role.LINEAR, Role.EMBEDDING) or len(axes) < 2:
                continue
            for position, stored_axis in enumerate(axes):
                names = stored_axis.parts[0]
                wanted = "heads" if axis == "kv_heads" and "heads" in names else axis
                if wanted not in names:
                    continue
                before = prod(lengths[other] for other in names[: names.index(wanted)])
                count = lengths[wanted] // (group if wanted != axis else 1)
                value = _piece(subject, stored, piece, through_norms)
                view = value.reshape(*value.shape[:position], before, count, -1, *value.shape[position + 1 :])
                rows = view.movedim(position + 1, 0).flatten(1)
                yield Side(f"{name} {index} {position}", stored_axis.side == "in", rows)


def _piece(subject: Subject, stored: Stored, piece: Piece, through_norms: bool) -> torch.Tensor:
    """A tensor of the source, or the one of the tensors fused in it that the piece is."""
    value, axes = subject.read(stored.name), parse_axes(piece.row.axes)
    if axes.fused is not None:
        axis, lengths = axes.axes[axes.fused], subject.spec.axis_sizes
        start = sum(axis.part_size(part, lengths) for part in range(piece.index))
        value = value.narrow(axes.fused, start, axis.part_size(piece.index, lengths))
    value = value if value.dtype.itemsize > 2 else value.float()
    norm = _norm_read(subject, stored) if through_norms else None
    if norm is None or piece.input_axis is None:
        return value
    weight = subject.read(norm.name).to(value.dtype)
    return value * weight.view(*(-1 if position == piece.input_axis else 1 for position in range(value.ndim)))


def _norm_read(subject: Subject, stored: Stored) -> Stored | None:
    """The weight of the norm whose output a linear map reads."""
    norms = {
        (found.row.norm, layer): found
        for (_, layer), found in subject.stored.items()
        if found.row.role is Role.NORM_WEIGHT and found.row.norm
    }
    label, last = stored.row.reads, subject.spec.sizes.num_hidden_layers - 1
    before = stored.row.in_layer and label == "output"  # post-LN: of the layer before, or of the embeddings
    layer = last if stored.layer is None else stored.layer - 1 if before else stored.layer
    places = ((label, layer), (label, None), ("embedding", None)) if before else ((label, layer), (label, None))
    return next((norms[place] for place in places if place in norms), None)


def gram(subject: Subject, axis: str, layer: int | None, reads: bool | None = None) -> torch.Tensor:
    """Inner products of the units of an axis, float64 of shape (n, n), in one layer or over all.

    `reads` takes only the weights that read the units, or only the others.
    """
    import torch

    n = subject.spec.axis_sizes[axis]
    total = torch.zeros((n, n), dtype=torch.float64)
    for side in sides(subject, axis, layer):
        if reads not in (None, side.reads):
            continue
        rows = side.weights / side.weights.norm().clamp(min=torch.finfo(side.weights.dtype).tiny)
        total += (rows @ rows.T).cpu()
    return total


def cross_gram(subject: Subject, axis: str, layer: int, other: int) -> torch.Tensor:
    """Inner products of one layer's units (rows) with another's (columns), float64 of shape (n, n)."""
    import torch

    n = subject.spec.axis_sizes[axis]
    total = torch.zeros((n, n), dtype=torch.float64)
    for ours, theirs in zip(sides(subject, axis, layer), sides(subject, axis, other), strict=True):
        scale = (ours.weights.norm() * theirs.weights.norm()).clamp(min=torch.finfo(ours.weights.dtype).tiny)
        total += (ours.weights @ theirs.weights.T).div_(scale).cpu()
    return total


def energies(subject: Subject, axis: str, layer: int | None) -> torch.Tensor:
    """How much each unit moves: the product of the norms of its weights in every module.

    What leads into a unit multiplies, in a gated feed-forward layer and in attention as well, and so does
    what leads out of it. Over all layers, the modules that write a channel are taken together, and those
    that read it.

    Returns
    -------
    float64 of shape (n,), with a mean of 1.
    """
    import torch

    squares: dict[object, torch.Tensor] = {}
    for side in sides(subject, axis, layer, through_norms=True):
        rows = side.weights / side.weights.norm().clamp(min=torch.finfo(side.weights.dtype).tiny)
        key = side.reads if layer is None else side.label
        squares[key] = squares.get(key, 0.0) + rows.square().sum(1).double().cpu()
    found = torch.stack(list(squares.values())).sqrt().prod(0)
    mean = found.mean()
    return found / mean if mean > 0 else torch.ones_like(found)
