"""What an analysis of the source found, for the plan to use: orders of units and finished tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wavescale.errors import OptionError

if TYPE_CHECKING:
    import torch

# Artifacts are read like source tensors, under names that no checkpoint has.
_ORDER, _TENSOR, _KEEP, _READ = "@order", "@tensor", "@keep", "@read"


def order_name(axis: str, layer: int | None) -> str:
    """The name under which an order is read."""
    return f"{_ORDER}/{axis}" if layer is None else f"{_ORDER}/{axis}/{layer}"


def tensor_name(target: str) -> str:
    """The name under which a finished tensor of the target is read."""
    return f"{_TENSOR}/{target}"


def keep_name(axis: str, layer: int) -> str:
    """The name under which the units that stay are read."""
    return f"{_KEEP}/{axis}/{layer}"


def read_name(axis: str, layer: int) -> str:
    """The name under which the matrix of what reads those units is read."""
    return f"{_READ}/{axis}/{layer}"


def keep_beside(read: str) -> str:
    """The name of the units that stay, from that of the matrix of what reads them."""
    return _KEEP + read.removeprefix(_READ)


def finished(name: str) -> bool:
    """Whether a name is that of a finished tensor of the target."""
    return name.startswith(f"{_TENSOR}/")


@dataclass(frozen=True)
class Units:
    """The units of one layer that stay, and how what read all of them reads these.

    Attributes
    ----------
    keep
        int64 positions in the source, shape (m,).
    read
        (m, n): the weights that read the units become W · readᵀ.
    """

    keep: torch.Tensor
    read: torch.Tensor


@dataclass(frozen=True)
class Artifacts:
    """The findings of an analysis.

    Attributes
    ----------
    orders
        For an axis (`intermediate`, `hidden`, `heads`, `kv_heads`) and a layer, the source units in
        their new order: an int64 permutation of shape (n,). The layer is None for an axis that all
        layers share.
    units
        For the axis `intermediate` and every layer, the units that stay.
    tensors
        Target tensors that are finished already, by their name on disk; they stand in for what the
        method would make.
    """

    orders: Mapping[tuple[str, int | None], torch.Tensor] = field(default_factory=dict)
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    units: Mapping[tuple[str, int], Units] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for (axis, layer), order in self.orders.items():
            if sorted(order.tolist()) != list(range(len(order))):
                raise OptionError(f"{order_name(axis, layer)}: is no permutation of 0 … {len(order) - 1}.")

    def named(self) -> dict[str, torch.Tensor]:
        """All of them under the names by which a plan reads them."""
        return {
            **{order_name(axis, layer): order for (axis, layer), order in self.orders.items()},
            **{keep_name(axis, layer): found.keep for (axis, layer), found in self.units.items()},
            **{read_name(axis, layer): found.read for (axis, layer), found in self.units.items()},
            **{tensor_name(target): value for target, value in self.tensors.items()},
        }

    def merged(self, other: Artifacts) -> Artifacts:
        """These and others; where both have one, the other's."""
        return Artifacts(
            {**self.orders, **other.orders}, {**self.tensors, **other.tensors}, {**self.units, **other.units}
        )


NOTHING = Artifacts()
