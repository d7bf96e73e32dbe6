"""What a trained mapping is: a few parameters, and from the source's weights to the target's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from wavescale.architectures.schema import TensorRow
from wavescale.axes import parse_axes
from wavescale.methods import Piece, Resizing
from wavescale.spec import ModelSpec, Stored

if TYPE_CHECKING:
    import torch


@dataclass
class LearnedMap(ABC):
    """A linear map from all weights of a source to those of a larger target.

    Attributes
    ----------
    resizing
        Source and target.
    read
        Gives a source tensor by its name on disk.
    names
        The target's tensors, by their name on disk.
    seed
        Of the start.
    device
        Where to compute.
    parameters
        What is trained, by name; the source's weights are not.
    """

    resizing: Resizing
    read: Callable[[str], torch.Tensor]
    names: Set[str]
    seed: int = 0
    device: str = "cpu"
    parameters: dict[str, torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = {
            name: value.to(self.device).requires_grad_() for name, value in self.start().items() if value.numel()
        }

    @abstractmethod
    def start(self) -> dict[str, torch.Tensor]:
        """The parameters before training, float32 on the CPU, the same for the same seed."""

    @abstractmethod
    def made(self) -> Mapping[Piece, torch.Tensor]:
        """The target, as functions of the parameters: each of `pieces` in all layers, (layers, …), or as (1, …)."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """The target's tensors by their name on disk, as functions of the parameters."""
        import torch

        made, found = self.made(), {}
        for first in self.rows:
            pieces = [made[Piece(first.row, index)] for index in range(len(first.row.modules))]
            fused = parse_axes(first.row.axes).fused
            whole = pieces[0] if fused is None else torch.cat(pieces, fused + 1)
            for layer, value in zip(_layers(first.row, self.resizing.target), whole, strict=True):
                found[self.resizing.target.name_of(first, layer)] = value
        return found

    @cached_property
    def rows(self) -> list[Stored]:
        """One source tensor for each row of the table that the target has."""
        firsts: dict[str, Stored] = {}
        for stored in self.resizing.stored.values():
            firsts.setdefault(stored.row.name, stored)
        name = self.resizing.target.name_of
        return [first for first in firsts.values() if name(first, 0 if first.row.in_layer else None) in self.names]

    @cached_property
    def pieces(self) -> list[Piece]:
        """What the target's tensors are put together from, in the order of the table."""
        return [Piece(first.row, index) for first in self.rows for index in range(len(first.row.modules))]

    @cached_property
    def source(self) -> Mapping[Piece, torch.Tensor]:
        """Each piece of the source in all layers, as it acts there: (layers, …), or (1, …) outside the layers."""
        import torch

        return {
            piece: torch.stack(
                [
                    self.resizing.read(piece, layer).compute(self._float)
                    for layer in _layers(piece.row, self.resizing.source)
                ]
            )
            for piece in self.pieces
        }

    def _float(self, name: str) -> torch.Tensor:
        return self.read(name).detach().to(self.device).float()

    def undivided(self, piece: Piece, made: torch.Tensor) -> torch.Tensor:
        """A piece of the target as it is stored: the model divides some queries by their layer's number."""
        if not piece.row.in_layer:
            return made
        divisors = [self.resizing.layer_divisor(piece, layer) for layer in range(len(made))]
        if set(divisors) == {1}:
            return made
        return made * made.new_tensor(divisors).view(-1, *(1 for _ in made.shape[1:]))


def _layers(row: TensorRow, spec: ModelSpec) -> list[int] | list[None]:
    """The layers that have a row, or None alone."""
    return list(range(spec.sizes.num_hidden_layers)) if row.in_layer else [None]
