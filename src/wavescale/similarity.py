"""How similar the units of an axis are: inner products of the weights that lead into them and out of them.

Every module counts alike: its weights are scaled to an overall norm of 1 (as are those of the other layer,
where two layers are compared). Nothing is read but weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from wavescale.architectures.schema import Role
from wavescale.axes import parse_axes
from wavescale.methods import Piece

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


def sides(subject: Subject, axis: str, layer: int | None) -> Iterator[Side]:
    """Every linear map and embedding that has the axis, in one layer or, if the layer is None, in all.

    A key-value head comes with its query heads: their queries and outputs are part of its row.
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
                value = _piece(subject, stored.name, piece)
                view = value.reshape(*value.shape[:position], before, count, -1, *value.shape[position + 1 :])
                rows = view.movedim(position + 1, 0).flatten(1)
                yield Side(f"{name} {index} {position}", stored_axis.side == "in", rows)


def _piece(subject: Subject, name: str, piece: Piece) -> torch.Tensor:
    """A tensor of the source, or the one of the tensors fused in it that the piece is."""
    value, axes = subject.read(name), parse_axes(piece.row.axes)
    if axes.fused is not None:
        axis, lengths = axes.axes[axes.fused], subject.spec.axis_sizes
        start = sum(axis.part_size(part, lengths) for part in range(piece.index))
        value = value.narrow(axes.fused, start, axis.part_size(piece.index, lengths))
    return value if value.dtype.itemsize > 2 else value.float()


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
        total += (rows @ rows.T).double().cpu()
    return total


def cross_gram(subject: Subject, axis: str, layer: int, other: int) -> torch.Tensor:
    """Inner products of one layer's units (rows) with another's (columns), float64 of shape (n, n)."""
    import torch

    n = subject.spec.axis_sizes[axis]
    total = torch.zeros((n, n), dtype=torch.float64)
    for ours, theirs in zip(sides(subject, axis, layer), sides(subject, axis, other), strict=True):
        scale = (ours.weights.norm() * theirs.weights.norm()).clamp(min=torch.finfo(ours.weights.dtype).tiny)
        total += (ours.weights @ theirs.weights.T / scale).double().cpu()
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
    for side in sides(subject, axis, layer):
        rows = side.weights / side.weights.norm().clamp(min=torch.finfo(side.weights.dtype).tiny)
        key = side.reads if layer is None else side.label
        squares[key] = squares.get(key, 0.0) + rows.square().sum(1).double().cpu()
    found = torch.stack(list(squares.values())).sqrt().prod(0)
    mean = found.mean()
    return found / mean if mean > 0 else torch.ones_like(found)
