"""Least squares with a ridge that held-out rows choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Candidates, in units of the inputs' variance; held-out rows choose among them.
RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 100.0, 1e4)
# Of the rows, the last ones are held out: they come from other places of the text than those before.
HELD_OUT = 0.25


@dataclass(frozen=True)
class Affine:
    """y ≈ x · weightᵀ + offset; the offset is None where none was asked for.

    Attributes
    ----------
    weight
        (outputs, inputs) float64.
    offset
        (outputs,) float64.
    """

    weight: torch.Tensor
    offset: torch.Tensor | None


def fit_affine(x: torch.Tensor, y: torch.Tensor, prior: torch.Tensor, offset: bool) -> Affine:
    """The affine map from x to y by ridge regression towards a prior.

    Parameters
    ----------
    x, y
        (rows, inputs) and (rows, outputs).
    prior
        (outputs, inputs): where the weights stay as far as the rows say nothing.
    offset
        Whether a constant may be added.

    Returns
    -------
    The map; its ridge is the one of `RIDGES` that predicts the held-out rows best.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> found = fit_affine(x, x @ torch.tensor([[1.0], [2.0]]) + 3, torch.zeros(1, 2), offset=True)
    >>> found.weight.round(decimals=2).tolist(), round(float(found.offset), 2)
    ([[1.0, 2.0]], 3.0)
    """
    import torch

    # In units of their own spread, so that loud channels do not decide how far the others may move.
    spread = (x - x.mean(0) if offset else x).double().square().mean(0).sqrt()
    spread = spread.clamp_min(1e-6 * float(spread.mean()) + 1e-30)
    x, prior = x / spread.to(x.dtype), prior.double() * spread
    held = max(1, int(len(x) * HELD_OUT))
    parts = [_Moments.of(x[:-held], y[:-held], offset), _Moments.of(x[-held:], y[-held:], offset)]
    whole = _Moments.of(x, y, offset)
    train, test = parts if len(x) > held else (whole, whole)
    values, vectors = torch.linalg.eigh(train.xx)
    right = (train.xy.T - prior @ train.xx) @ vectors
    best = min(RIDGES, key=lambda ridge: test.error(prior + _shrunk(right, values, ridge) @ vectors.T, train))
    values, vectors = torch.linalg.eigh(whole.xx)
    right = (whole.xy.T - prior @ whole.xx) @ vectors
    weight = prior + _shrunk(right, values, best) @ vectors.T
    return Affine(weight / spread, whole.y - weight @ whole.x if offset else None)


def _shrunk(right: torch.Tensor, values: torch.Tensor, ridge: float) -> torch.Tensor:
    """Coefficients on the eigenvectors, given the right-hand side on them."""
    values = values.clamp_min(0.0)
    return right / (values + ridge * values.mean().clamp_min(1e-30))


@dataclass(frozen=True)
class _Moments:
    """Means of x and y, and mean products about them (about zero where no offset is fitted)."""

    x: torch.Tensor
    y: torch.Tensor
    xx: torch.Tensor
    xy: torch.Tensor
    yy: float

    @classmethod
    def of(cls, x: torch.Tensor, y: torch.Tensor, offset: bool) -> _Moments:
        x, y = x.float(), y.float()
        mean_x = x.mean(0) if offset else x.new_zeros(x.shape[1])
        mean_y = y.mean(0) if offset else y.new_zeros(y.shape[1])
        x, y, n = x - mean_x, y - mean_y, len(x)
        # Sums of thousands of float32 products; what follows from them is solved in float64.
        xx, xy = (x.T @ x).double() / n, (x.T @ y).double() / n
        return cls(mean_x.double(), mean_y.double(), xx, xy, float(y.double().square().sum() / n))

    def error(self, weight: torch.Tensor, fitted: _Moments) -> float:
        """Mean squared error of a weight whose offset fits other rows."""
        shift = (self.y - fitted.y) - weight @ (self.x - fitted.x)
        spread = self.yy - 2 * float((weight * self.xy.T).sum()) + float(((weight @ self.xx) * weight).sum())
        return spread + float(shift.square().sum())


def fit_channels(x: torch.Tensor, y: torch.Tensor, bias: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A factor (and a shift) for every channel by itself: y ≈ weight ⊙ x + bias.

    Parameters
    ----------
    x, y
        (rows, channels).
    bias
        Whether a shift may be added.

    Returns
    -------
    Weight and bias, (channels,) float64 each.
    """
    import torch

    x, y = x.double(), y.double()
    centre_x, centre_y = (x.mean(0), y.mean(0)) if bias else (torch.zeros_like(x[0]), torch.zeros_like(y[0]))
    x, y = x - centre_x, y - centre_y
    weight = (x * y).sum(0) / x.square().sum(0).clamp_min(1e-30)
    return weight, centre_y - weight * centre_x if bias else None


def fit_tied_norm(
    x: torch.Tensor, y: torch.Tensor, table: torch.Tensor, source_table: torch.Tensor, bias: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The norm before a tied matrix: logits table · (weight ⊙ x + bias) ≈ source_table · y.

    A shift of all logits changes no probability, so the tables count about their mean row.

    Parameters
    ----------
    x
        (rows, channels): the target's normalised states.
    y
        (rows, source channels): what the source's matrix reads.
    table, source_table
        (vocabulary, channels) and (vocabulary, source channels).
    bias
        Whether the norm has one.

    Returns
    -------
    Weight and bias, (channels,) float64 each.
    """
    import torch

    table, source_table = table - table.mean(0), source_table - source_table.mean(0)
    own = (table.T @ table).double()
    mixed = (table.T @ source_table).double()
    n, channels = x.shape
    x_moment, y_moment = (x.T @ x).double() / n, (x.T @ y).double() / n
    x_mean, y_mean = x.double().mean(0), y.double().mean(0)
    matrix, right = own * x_moment, (mixed * y_moment).sum(1)
    if bias:
        cross = own * x_mean[:, None]
        matrix = torch.cat([torch.cat([matrix, cross], 1), torch.cat([cross.T, own], 1)])
        right = torch.cat([right, mixed @ y_mean])
    scale = matrix.diagonal().clamp_min(1e-30).sqrt()
    matrix = matrix / scale[:, None] / scale + 1e-6 * torch.eye(len(right), dtype=matrix.dtype, device=matrix.device)
    found = torch.linalg.solve(matrix, right / scale) / scale
    return found[:channels], found[channels:] if bias else None
