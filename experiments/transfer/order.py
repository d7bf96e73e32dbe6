"""The order of training data: a function of the seed alone, the same for every method and number of processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

Example = dict[str, Any]


@dataclass(frozen=True)
class Ordered(Dataset[Example]):
    """Examples for every step of a budget.

    Entry k belongs to step k // batch. What is random in it comes from a generator made of seed and k, so a run
    that is resumed, or split over processes, draws what it would have drawn.

    Attributes
    ----------
    draw
        From a generator to an example.
    length
        Examples in the whole budget.
    seed
        Of the order.
    """

    draw: Callable[[np.random.Generator], Example]
    length: int
    seed: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> Example:
        if not 0 <= place < self.length:
            raise IndexError(place)
        return self.draw(np.random.default_rng([self.seed, place]))


@dataclass(frozen=True)
class Fixed(Dataset[Example]):
    """Examples to measure on, the same for every run."""

    examples: list[Example]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Example:
        return self.examples[place]
