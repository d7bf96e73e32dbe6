"""Several processes that make one checkpoint together, as `torchrun` starts them.

They are on one machine, or on several that share a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wavescale.errors import FaultError, OptionError, WavescaleError

if TYPE_CHECKING:
    from wavescale.plan import TensorPlan

T = TypeVar("T")
# Others wait while the first rank calibrates or trains a mapping.
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """A process among those that work together. A failure of one is the failure of all.

    Attributes
    ----------
    rank
        Which it is; the first is 0.
    count
        How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the first of them, which does what only one can do."""
        return self.rank == 0

    def once(self, do: Callable[[], T]) -> T:
        """What the first rank finds, on every rank.

        Raises
        ------
        WavescaleError
            The first rank failed.
        """
        if self.count == 1:
            return do()
        import torch.distributed

        found = [_tried(do) if self.first else None]
        _all(lambda: torch.distributed.broadcast_object_list(found, src=0))
        value, error = cast("tuple[T, Exception | None]", found[0])
        if error is not None:
            raise error
        return value

    def together(self, do: Callable[[], None]) -> None:
        """Every rank does its part; none goes on before all have.

        Raises
        ------
        WavescaleError
            One of them failed: the error of the first that did.
        """
        if self.count == 1:
            do()
            return
        import torch.distributed

        _, mine = _tried(do)
        errors: list[Any] = [None] * self.count
        _all(lambda: torch.distributed.all_gather_object(errors, mine))
        for error in errors:
            if error is not None:
                raise error

    def share(self, tensors: Sequence[TensorPlan]) -> list[TensorPlan]:
        """A rank's part of the tensors, in their order: the largest are dealt first, each to who has fewest bytes."""
        loads, mine = [0] * self.count, set()
        for place in sorted(range(len(tensors)), key=lambda place: -tensors[place].nbytes):
            rank = loads.index(min(loads))
            loads[rank] += tensors[place].nbytes
            if rank == self.rank:
                mine.add(place)
        return [tensor for place, tensor in enumerate(tensors) if place in mine]

    def device(self, device: str) -> str:
        """The device of this rank: of several GPUs its own."""
        return f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}" if device == "cuda" and self.count > 1 else device


ALONE = Ranks()


def _tried(do: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """A value, or an error that can be sent."""
    try:
        return do(), None
    except WavescaleError as error:
        return None, error
    except Exception as error:
        return None, FaultError(f"a process failed: {type(error).__name__}: {error}")


def _all(talk: Callable[[], object]) -> None:
    """What needs every process.

    Raises
    ------
    FaultError
        One of them is gone, or cannot be reached.
    """
    try:
        talk()
    except RuntimeError as error:
        told = str(error).partition("\n")[0]
        raise FaultError(f"another process of this run has ended or cannot be reached: {told}") from error


def world_size() -> str:
    """The number of processes as `torchrun` says it, which may be no number; 1 where it says nothing."""
    return os.environ.get("WORLD_SIZE") or "1"


@contextmanager
def launched() -> Iterator[Ranks]:
    """The ranks that `torchrun` started; this process alone where nobody did.

    Raises
    ------
    OptionError
        There are said to be others, but not where, or it is not said how many.
    FaultError
        One of them is gone.
    """
    count = world_size()
    if not count.isdecimal():
        raise OptionError(f"WORLD_SIZE is {count!r}, expected a number of processes. Unset it, or start with torchrun.")
    if int(count) == 1:
        yield ALONE
        return
    import torch.distributed

    try:
        _all(lambda: torch.distributed.init_process_group("gloo", timeout=_LONGEST_WAIT))
    except ValueError as error:
        raise OptionError(
            f"WORLD_SIZE is {count}, but the other processes cannot be found ({error}). Start them "
            "with torchrun, or unset WORLD_SIZE."
        ) from error
    try:
        yield Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
        _all(torch.distributed.barrier)  # one that leaves early would end the connections of the others
    finally:
        torch.distributed.destroy_process_group()
