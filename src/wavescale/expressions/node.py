"""What every node of an expression can do, and what it reads from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from wavescale.rows import Rows
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]
T = TypeVar("T")


class Source(Protocol):
    """Where an expression reads from."""

    def rows(self, name: str, rows: Rows) -> torch.Tensor:
        """Rows of a source tensor, with storage of their own, in a dtype to compute in."""

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """What is true of a whole tensor, found when it is first needed and kept for the other blocks."""


@dataclass(frozen=True)
class Expression(ABC):
    """A node: it knows its shape, its children and how to compute some of its rows."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Shape of the result."""

    @property
    def children(self) -> tuple[Expression, ...]:
        """The expressions below."""
        return ()

    @property
    def flops(self) -> int:
        """Multiplications and additions of this node alone."""
        return 0

    @property
    def scaling(self) -> float | None:
        """The most that an entry is multiplied with, where the stored dtype is enough to compute in; else None.

        It is where entries are moved, scaled by powers of two and added up no more than once, as that rounds once.
        """
        return None

    @abstractmethod
    def block(self, source: Source, rows: Rows) -> torch.Tensor:
        """Some rows of the result, with storage of their own.

        Source tensors come in float32 or float64, or as they are stored where the node has a `scaling`, and so
        does the result. An index has the dtype int64.
        """

    def add_to(self, total: torch.Tensor, source: Source, rows: Rows) -> None:
        """Add these rows of the result to a tensor of their shape."""
        total += self.block(source, rows).to(total.device)

    def compute(self, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """The whole result, from whole source tensors by name."""
        return self.block(Whole(read), range(self.shape[0]))

    def walk(self) -> Iterator[Expression]:
        """The node and all below, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()

    def reads(self) -> tuple[str, ...]:
        """The source tensors that it needs, each once, in the order of first use."""
        from wavescale.expressions.pieces import Read

        return tuple(dict.fromkeys(node.name for node in self.walk() if isinstance(node, Read)))


class Whole:
    """Source tensors that are in memory."""

    def __init__(self, read: Callable[[str], torch.Tensor]) -> None:
        self._read = read
        self._known: dict[Hashable, Any] = {}

    def rows(self, name: str, rows: Rows) -> torch.Tensor:
        tensor = self._read(name)
        found = taken(tensor, 0, rows)
        return found.clone() if found.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr() else found

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = find()
        found: T = self._known[key]
        return found


def largest(*scalings: float | None) -> float | None:
    """Of several, if all there are."""
    known = [scaling for scaling in scalings if scaling is not None]
    return max(known) if len(known) == len(scalings) else None


def replaced(shape: Shape, axis: int, length: int) -> Shape:
    """A shape with another length on one axis."""
    return (*shape[:axis], length, *shape[axis + 1 :])
