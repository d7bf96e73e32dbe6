"""What an analysis of the source found, for the plan to use: orders of units and finished tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wavescale.errors import OptionError

if TYPE_CHECKING:
    import torch

# Artifacts are read like source tensors, under names that no checkpoint has.
_ORDER, _TENSOR = "@order", "@tensor"
_CELLS, _OUTPUTS, _INPUTS = "@cells", "@outputs", "@inputs"

# An axis and a layer; None for an axis that all layers share.
Place = tuple[str, int | None]


def order_name(axis: str, layer: int | None) -> str:
    """The name under which an order is read."""
    return _name(_ORDER, axis, layer)


def cells_name(axis: str, layer: int | None) -> str:
    """The name under which the cells of merged units are read."""
    return _name(_CELLS, axis, layer)


def weights_name(axis: str, layer: int | None, reads: bool) -> str:
    """The name under which the weights of merged units are read: those of what reads them, or of the others."""
    return _name(_INPUTS if reads else _OUTPUTS, axis, layer)


def named_place(name: str) -> tuple[str, Place] | None:
    """What an analysis has to find under a name: `order` or `cells`, and where; None for other names.

    Examples
    --------
    >>> named_place("@order/intermediate/3"), named_place("@inputs/hidden"), named_place("lm_head.weight")
    (('order', ('intermediate', 3)), ('cells', ('hidden', None)), None)
    """
    kind, *place = name.split("/")
    kinds = {_ORDER: "order", _CELLS: "cells", _OUTPUTS: "cells", _INPUTS: "cells"}
    if kind not in kinds or not place:
        return None
    return kinds[kind], (place[0], int(place[1]) if len(place) > 1 else None)


def _name(kind: str, axis: str, layer: int | None) -> str:
    return f"{kind}/{axis}" if layer is None else f"{kind}/{axis}/{layer}"


def tensor_name(target: str) -> str:
    """The name under which a finished tensor of the target is read."""
    return f"{_TENSOR}/{target}"


def is_artifact(name: str) -> bool:
    """Whether a plan reads this name from artifacts and not from the source."""
    return name.startswith(tuple(f"{kind}/" for kind in (_ORDER, _TENSOR, _CELLS, _OUTPUTS, _INPUTS)))


def finished(name: str) -> bool:
    """Whether a name is that of a finished tensor of the target."""
    return name.startswith(f"{_TENSOR}/")


@dataclass(frozen=True)
class Cells:
    """Units of one axis that become one.

    Attributes
    ----------
    cells
        For each of the n source units the target unit that it goes into, int64 of shape (n,).
    outputs, inputs
        Its weight there, of shape (n,): in what makes the units, and in what reads them.
    """

    cells: torch.Tensor
    outputs: torch.Tensor
    inputs: torch.Tensor


@dataclass(frozen=True)
class Artifacts:
    """The findings of an analysis.

    Attributes
    ----------
    orders
        For an axis (`intermediate`, `hidden`, `heads`, `kv_heads`) and a layer, the source units in
        their new order: an int64 permutation of shape (n,). The layer is None for an axis that all
        layers share.
    cells
        For an axis and a layer, which source units become one, and with which weights.
    tensors
        Target tensors that are finished already, by their name on disk; they stand in for what the
        method would make.
    """

    orders: Mapping[Place, torch.Tensor] = field(default_factory=dict)
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    cells: Mapping[Place, Cells] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for (axis, layer), order in self.orders.items():
            if sorted(order.tolist()) != list(range(len(order))):
                raise OptionError(f"{order_name(axis, layer)}: is no permutation of 0 … {len(order) - 1}.")

    def named(self) -> dict[str, torch.Tensor]:
        """All of them under the names by which a plan reads them."""
        return {
            **{order_name(*place): order for place, order in self.orders.items()},
            **{cells_name(*place): found.cells for place, found in self.cells.items()},
            **{weights_name(*place, reads=False): found.outputs for place, found in self.cells.items()},
            **{weights_name(*place, reads=True): found.inputs for place, found in self.cells.items()},
            **{tensor_name(target): value for target, value in self.tensors.items()},
        }

    def merged(self, other: Artifacts) -> Artifacts:
        """These and others; where both have one, the other's."""
        return Artifacts(
            {**self.orders, **other.orders},
            {**self.tensors, **other.tensors},
            {**self.cells, **other.cells},
        )


NOTHING = Artifacts()
