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


def order_name(axis: str, layer: int | None) -> str:
    """The name under which an order is read."""
    return f"{_ORDER}/{axis}" if layer is None else f"{_ORDER}/{axis}/{layer}"


def tensor_name(target: str) -> str:
    """The name under which a finished tensor of the target is read."""
    return f"{_TENSOR}/{target}"


def is_artifact(name: str) -> bool:
    """Whether a plan reads this name from artifacts and not from the source."""
    return name.startswith((f"{_ORDER}/", f"{_TENSOR}/"))


def finished(name: str) -> bool:
    """Whether a name is that of a finished tensor of the target."""
    return name.startswith(f"{_TENSOR}/")


@dataclass(frozen=True)
class Artifacts:
    """The findings of an analysis.

    Attributes
    ----------
    orders
        For an axis (`intermediate`, `hidden`, `heads`, `kv_heads`) and a layer, the source units in
        their new order: an int64 permutation of shape (n,). The layer is None for an axis that all
        layers share.
    tensors
        Target tensors that are finished already, by their name on disk; they stand in for what the
        method would make.
    """

    orders: Mapping[tuple[str, int | None], torch.Tensor] = field(default_factory=dict)
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for (axis, layer), order in self.orders.items():
            if sorted(order.tolist()) != list(range(len(order))):
                raise OptionError(f"{order_name(axis, layer)}: is no permutation of 0 … {len(order) - 1}.")

    def named(self) -> dict[str, torch.Tensor]:
        """All of them under the names by which a plan reads them."""
        return {
            **{order_name(axis, layer): order for (axis, layer), order in self.orders.items()},
            **{tensor_name(target): value for target, value in self.tensors.items()},
        }

    def merged(self, other: Artifacts) -> Artifacts:
        """These and others; where both have one, the other's."""
        return Artifacts({**self.orders, **other.orders}, {**self.tensors, **other.tensors})


NOTHING = Artifacts()
