"""Similar units become one, weighed by their energy: filters that look at what they average (METHOD, shrinking)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from wavescale.artifacts import Cells, Place
from wavescale.methods import Gain
from wavescale.ordering import layer_before
from wavescale.pairing import Pairing, clusters, counterparts
from wavescale.similarity import cross_gram, energies, gram
from wavescale.spec import Sizes

if TYPE_CHECKING:
    import torch

    from wavescale.analysis import Subject


def merged_units(
    subject: Subject, target: Sizes, wanted: Collection[Place], pair: Pairing, gain: Gain, align: bool
) -> dict[Place, Cells]:
    """Put similar units of each axis together.

    Parameters
    ----------
    subject
        The source.
    target
        Sizes that the source is resized to.
    wanted
        Axes and layers. Query heads are merged within the groups that become one.
    pair
        How units are paired.
    gain
        What the weights keep, see `cell_weights`.
    align
        Whether layers are averaged, so that a layer's cells lie where the layer before has its most similar ones.

    Returns
    -------
    Cells and weights for every axis and layer.
    """
    import torch

    found: dict[Place, Cells] = {}
    for axis, layer in sorted(wanted, key=lambda place: (place[0] == "heads", place[1] or 0, place[0])):
        m = target.axes[axis]
        outputs, inputs = (gram(subject, axis, layer, reads=reads) for reads in (False, True))
        earlier = layer_before(found, axis, layer) if align else None
        before = None if earlier is None else found[axis, earlier].cells
        cross = None if earlier is None or layer is None else cross_gram(subject, axis, earlier, layer)
        if axis == "heads":
            groups = found.get(("kv_heads", layer))
            kv_heads = torch.arange(subject.spec.sizes.num_key_value_heads) if groups is None else groups.cells
            cells = _head_cells(outputs + inputs, kv_heads, m, before, cross, pair)
        else:
            cells = _numbered(clusters(outputs + inputs, m, pair))
            if before is not None and cross is not None:
                cells = _realigned(cells, before, cross)
        energy = energies(subject, axis, layer)
        found[axis, layer] = cell_weights(cells, energy, outputs, inputs, gain, normed=axis == "hidden")
    return found


def _numbered(groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """The group of each unit."""
    import torch

    cells = torch.empty(sum(map(len, groups)), dtype=torch.int64)
    for number, group in enumerate(groups):
        cells[list(group)] = number
    return cells


def _realigned(cells: torch.Tensor, before: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """The same cells numbered so that each has the number of the most similar one of the layer before."""
    import torch

    m = int(cells.max()) + 1
    sums = cross.new_zeros((m, cross.shape[1])).index_add_(0, before, cross)
    to = counterparts(cross.new_zeros((m, m)).index_add_(1, cells, sums))
    place = torch.empty(m, dtype=torch.int64)
    place[to] = torch.arange(m)
    return place[cells]


def _head_cells(
    own: torch.Tensor,
    groups: torch.Tensor,
    m: int,
    before: torch.Tensor | None,
    cross: torch.Tensor | None,
    pair: Pairing,
) -> torch.Tensor:
    """The cells of query heads: those of every group that comes out, or stays, lie together."""
    import torch

    group_of = groups.repeat_interleave(len(own) // len(groups))
    slots = m // (int(groups.max()) + 1)
    cells = torch.empty_like(group_of)
    for group in range(m // slots):
        members = (group_of == group).nonzero().flatten()
        inside = _numbered(clusters(own[members][:, members], slots, pair))
        if cross is not None and before is not None:
            theirs = (before // slots == group).nonzero().flatten()
            inside = _realigned(inside, before[theirs] - group * slots, cross[theirs][:, members])
        cells[members] = group * slots + inside
    return cells


def cell_weights(
    cells: torch.Tensor, energy: torch.Tensor, outputs: torch.Tensor, inputs: torch.Tensor, gain: Gain, normed: bool
) -> Cells:
    """Weights with which units become one, as outputs and as inputs.

    Within a cell, what makes the units is averaged with weights a ∝ energy. Units are taken to vary
    together as what makes them does: their covariance C is `outputs`. By role, each reader d takes the
    coefficient b = Ca / aᵀCa, by which its unit regresses on the average; equal units give the plain sum.
    For `variance`, the average is scaled to the units' mean variance Σ aᵢCᵢᵢ, and the sum Σ bᵢdᵢ to the
    variance Σ Cᵢⱼ dᵢ·dⱼ of what the units contribute. Orthonormal, √a is the filter on both sides.

    Parameters
    ----------
    cells
        The cell of each unit, int64 of shape (n,).
    energy
        Positive, of shape (n,).
    outputs, inputs
        (n, n): inner products of what makes the units, and of what reads them.
    gain
        See above.
    normed
        A norm stands between the two sides: its weight is averaged like an output.

    Returns
    -------
    Cells with float32 weights.

    Examples
    --------
    >>> import torch
    >>> energy, apart = torch.ones(2), torch.eye(2)
    >>> found = cell_weights(torch.tensor([0, 0]), energy, apart, apart, "variance", normed=False)
    >>> found.outputs.tolist(), found.inputs.tolist()   # strangers
    ([0.7071067690849304, 0.7071067690849304], [1.0, 1.0])
    """
    import torch

    def per_cell(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(int(cells.max()) + 1).index_add_(0, cells, values)[cells]

    total = per_cell(energy)
    share = torch.where(total > 0, energy / total, 1 / per_cell(torch.ones_like(energy)))  # dead units share alike
    if gain == "orthonormal":
        return Cells(cells, share.sqrt().float(), share.sqrt().float())
    together = (cells[:, None] == cells[None, :]).to(outputs.dtype)
    covariance = (outputs * together) @ share
    variance = per_cell(share * covariance)
    written, read = share, torch.where(variance > 0, covariance / variance, 1.0)
    if gain == "variance":
        scale = _ratio(per_cell(share * outputs.diagonal()), variance)
        contributed = per_cell((outputs * inputs * together).sum(1))
        kept = per_cell(read * ((inputs * together) @ read)) * variance
        read = read * _ratio(contributed, kept) / (scale.square() if normed else scale)
        written = share * scale
    return Cells(cells, written.float(), read.float())


def _ratio(wanted: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """The square root of a ratio of squares, 1 where one of them vanishes."""
    import torch

    good = (wanted > 0) & (found > 1e-12 * wanted)
    return torch.where(good, wanted / torch.where(good, found, 1.0), 1.0).sqrt()
