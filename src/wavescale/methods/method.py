"""What a method is: from one tensor of the target to the expression that makes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from math import prod

from wavescale.architectures.schema import Role, TensorRow
from wavescale.artifacts import Place, cells_name, order_name, weights_name
from wavescale.axes import Axes, parse_axes
from wavescale.expressions import Expression, Merge, Part, Read, Scale, Select
from wavescale.methods.arrangement import LAYER_AXES, Arrangement
from wavescale.methods.choices import Choices
from wavescale.spec import ModelSpec, Stored


@dataclass(frozen=True)
class Piece:
    """A tensor as the method sees it: a table row, or one of the tensors fused in it.

    Attributes
    ----------
    row
        The table row.
    index
        Which of the fused tensors, 0 for a tensor on its own.
    """

    row: TensorRow
    index: int = 0

    @property
    def axes(self) -> Axes:
        """The axes of this piece."""
        whole = parse_axes(self.row.axes)
        return whole if whole.fused is None else whole.part(self.index)

    @property
    def module(self) -> str:
        """What it is in any transformer, for example `query`."""
        return self.row.modules[self.index]

    @property
    def role(self) -> Role:
        """What it does."""
        return self.row.role

    @property
    def input_axis(self) -> int | None:
        """The position of the axis that reads, in a linear map."""
        return next((p for p, axis in enumerate(self.axes.axes) if axis.side == "in"), None)


@dataclass(frozen=True)
class Resizing:
    """The task: source, target and what the user chose.

    Attributes
    ----------
    source, target
        The two models, without weights.
    stored
        The source's tensors by table row name and layer.
    choices
        How to go about it.
    orders
        The axes and layers whose units an analysis has put in another order.
    """

    source: ModelSpec
    target: ModelSpec
    stored: Mapping[tuple[str, int | None], Stored]
    choices: Choices
    orders: Set[tuple[str, int | None]] = frozenset()

    def read(self, piece: Piece, layer: int | None) -> Expression:
        """A tensor of the source, or the part of it that the piece is, as it acts in its layer."""
        stored = self.stored[piece.row.name, layer]
        found: Expression = Read(stored.name, stored.shape)
        axes = parse_axes(piece.row.axes)
        if axes.fused is not None:
            axis, sizes = axes.axes[axes.fused], self.source.axis_sizes
            start = sum(axis.part_size(part, sizes) for part in range(piece.index))
            found = Part(found, axes.fused, start, axis.part_size(piece.index, sizes))
        found = self._arranged(found, piece, layer)
        divisor = self.layer_divisor(piece, layer)
        return found if divisor == 1 else Scale(found, 1 / divisor)

    def _arranged(self, expression: Expression, piece: Piece, layer: int | None) -> Expression:
        """A tensor of the source with its units in the order that an analysis wants."""
        for position, axis in enumerate(piece.axes.axes):
            names = axis.parts[0]
            for index, name in enumerate(names):
                before = prod(self.read_sizes[other] for other in names[:index])
                after = prod(self.source.axis_sizes[other] for other in names[index + 1 :])
                n, m = self.source.axis_sizes[name], self.read_sizes[name]
                at = layer if name in LAYER_AXES else None
                if name in self.arrangement.merged:
                    cells, weights = (
                        Read(cells_name(name, at), (n,)),
                        Read(weights_name(name, at, axis.side == "in"), (n,)),
                    )
                    expression = Merge(expression, cells, weights, m, name, position, before, after)
                elif (at := next((at for at in (layer, None) if (name, at) in self.reordered), -1)) != -1:
                    order = Read(order_name(name, at), (n,))
                    expression = Select(expression, order, n, name, position, before, after)
        return expression

    @property
    def reordered(self) -> Set[Place]:
        """The axes and layers whose units lie in another order when they are read."""
        return self.orders | self.arrangement.orders

    @property
    def read_sizes(self) -> dict[str, int]:
        """The lengths of axes as `read` gives them."""
        return {**self.source.axis_sizes, **self.arrangement.merged}

    @cached_property
    def arrangement(self) -> Arrangement:
        """What becomes of units before the axes are resized, by the choices."""
        return Arrangement.of(self.source.sizes, self.target.sizes, self.choices)

    def layer_divisor(self, piece: Piece, layer: int | None) -> int:
        """What the model divides a query by because of its layer's number; 1 almost everywhere."""
        field = self.source.family.layer_scaled_attention
        scaled = field and layer is not None and piece.module == "query" and self.source.value(field)
        return layer + 1 if scaled and layer is not None else 1

    def piece_shape(self, piece: Piece) -> tuple[int, ...]:
        """The shape of a piece as `read` gives it."""
        return piece.axes.shape(self.read_sizes)

    def norm(self, label: str, role: Role, layer: int | None) -> Expression:
        """The weight or bias of a norm of the source, by the norm's name in the tables."""
        row = next(s.row for s in self.stored.values() if s.row.norm == label and s.row.role is role)
        return self.read(Piece(row), layer)

    def weight_of(self, bias: Piece) -> Piece:
        """The linear map that a bias belongs to."""
        name = bias.row.name.removesuffix("bias") + "weight"
        row = next(s.row for s in self.stored.values() if s.row.name == name)
        return Piece(row, bias.index)


class Method(ABC):
    """Names what every target tensor is made of. It knows tables and operators, no files and no weights."""

    @abstractmethod
    def express(self, piece: Piece, layer: int | None) -> Expression:
        """The expression of one piece of the target, in the target's shape."""

    @abstractmethod
    def origin(self, layer: int) -> int:
        """The source layer that a target layer resembles most: it lends its entry in per-layer config fields."""

    @property
    @abstractmethod
    def remarks(self) -> tuple[str, ...]:
        """What a user should know: where the function is not kept, what has no effect."""

    @property
    @abstractmethod
    def keeps_function(self) -> bool:
        """Whether the target computes what the source computes, up to rounding."""
