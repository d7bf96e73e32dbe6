"""What every operator on one axis can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from wavescale.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, kw_only=True)
class Operator(ABC):
    """A linear map of one axis from n to m samples, as a value that can be printed and compared.

    Attributes
    ----------
    n, m
        Samples before and after.
    gain
        Factor on the whole operator.
    """

    n: int
    m: int
    gain: float = 1.0

    @abstractmethod
    def apply(self, x: torch.Tensor, axis: int, rows: Rows | None = None) -> torch.Tensor:
        """Apply to one axis of length n; the result has length m there and the same dtype.

        With `rows` it is made of these target samples alone, and `x` holds the source samples of
        `support` there and no others.
        """

    def support(self, rows: Rows) -> Rows:
        """The source samples, sorted, that some target samples are made of."""
        return range(self.n)

    @property
    def scaling(self) -> float | None:
        """The largest entry where all are zero or powers of two and one in a row; else None.

        Half types then lose nothing, but for the last bits of the smallest numbers where it is below one.
        """
        return None

    def copies(self) -> tuple[Self, float] | None:
        """Where every target sample is one source sample times the same number: the bare copies, and the number."""
        return None

    @property
    @abstractmethod
    def multiplications(self) -> int:
        """Multiplications for one line along the axis."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for a person, without the sizes."""

    @abstractmethod
    def transposed_inverse(self) -> Operator:
        """How gradients follow when weights go through this operator, from n to m samples again.

        The inverse transpose: A (AᵀA)⁻¹ when growing, (AAᵀ)⁻¹ A when shrinking (METHOD, optimizer
        state). Padding has no gradient in the source, so it gets zero.
        """

    @abstractmethod
    def squared(self) -> Operator:
        """The operator with squared entries: how the mean squares of independent numbers follow.

        Padding takes the mean of the samples that the others get, so that it is of their size.
        """

    @property
    def gain_text(self) -> str:
        """The factor for `describe`, nothing where it is 1."""
        return "" if self.gain == 1.0 else f" × {self.gain:.4g}"

    def scaled(self, factor: float) -> Self:
        """The same operator with another factor on top."""
        return replace(self, gain=self.gain * factor)

    def matrix(self) -> np.ndarray[Any, Any]:
        """The operator as a float64 matrix of shape (m, n)."""
        import torch

        return self.apply(torch.eye(self.n, dtype=torch.float64), 0).numpy()


class Transform(Operator):
    """An operator that is a transform of signals, so that layers can be resampled with it as well."""

    @abstractmethod
    def weights(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """The same as `matrix`, without torch: a plan needs it."""
