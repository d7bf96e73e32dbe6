"""Orders of units in which a low-pass averages like with like, along width and over the layers.

Reordering keeps the function (METHOD, shrinking): one order of the residual stream, and in each layer one of
the FFN units and one of the key-value groups, whose query heads come with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from wavescale.artifacts import Place
from wavescale.pairing import Pairing, counterparts, similar_order
from wavescale.similarity import cross_gram, gram
from wavescale.spec import Sizes

if TYPE_CHECKING:
    import torch

    from wavescale.analysis import Subject


def similar_orders(
    subject: Subject, target: Sizes, wanted: Collection[Place], pair: Pairing, align: bool
) -> dict[Place, torch.Tensor]:
    """Orders of the source's units.

    Parameters
    ----------
    subject
        The source.
    target
        Sizes that the source is resized to: only where an axis shrinks are its units sorted.
    wanted
        Axes and layers. Query heads are sorted within their group, and the groups if `kv_heads` is wanted.
    pair
        How units are paired.
    align
        Whether layers are averaged, so that a layer takes the order in which its units resemble those of the
        layer before most.

    Returns
    -------
    int64 permutations of shape (n,).
    """
    import torch

    found: dict[Place, torch.Tensor] = {}
    for axis, layer in sorted(wanted, key=lambda place: (place[0], -1 if place[1] is None else place[1])):
        if axis == "heads":
            continue
        n, m = subject.spec.axis_sizes[axis], target.axes[axis]
        order = similar_order(gram(subject, axis, layer), pair) if m < n else torch.arange(n)
        earlier = layer_before(found, axis, layer) if align else None
        if earlier is not None and layer is not None:
            cross = cross_gram(subject, axis, earlier, layer)[found[axis, earlier]][:, order]
            order = order[aligned(cross, cell_size(n, m))]
        found[axis, layer] = order
    for axis, layer in sorted(wanted, key=lambda place: place[1] or 0):
        if axis == "heads" and layer is not None:
            groups = found.get(("kv_heads", layer), torch.arange(subject.spec.sizes.num_key_value_heads))
            earlier = layer_before(found, "heads", layer) if align else None
            across = None
            if earlier is not None:
                across = cross_gram(subject, "heads", earlier, layer)[found["heads", earlier]]
            found["heads", layer] = _head_order(subject, target, layer, groups, across, pair)
    return found


def layer_before(found: Mapping[Place, object], axis: str, layer: int | None) -> int | None:
    """The last layer before this one that something was found for; None for the first and outside the layers."""
    if layer is None:
        return None
    return max((at for name, at in found if name == axis and at is not None and at < layer), default=None)


def cell_size(n: int, m: int) -> int:
    """How many of n units become one of m: the power of two that is no smaller than n/m, 1 where none goes."""
    size = 1
    while size * m < n:
        size *= 2
    return size


def aligned(cross: torch.Tensor, block: int) -> torch.Tensor:
    """Rearrange one layer's blocks of units so that each lies where the other layer's most similar one does.

    Parameters
    ----------
    cross
        (n, n): inner products of the other layer's units (rows) with this one's, both as they lie.
    block
        Units per block; those beyond the last whole block stay where they are.

    Returns
    -------
    int64 positions of shape (n,).

    Examples
    --------
    >>> import torch
    >>> units = torch.eye(4)
    >>> aligned(units @ units[[2, 3, 0, 1]].T, 2)
    tensor([2, 3, 0, 1])
    """
    import torch

    n = len(cross)
    count = n // block
    whole = cross[: count * block, : count * block].reshape(count, block, count, block).sum((1, 3))
    places = torch.arange(n)
    return torch.cat(
        [places[: count * block].view(count, block)[counterparts(whole)].flatten(), places[count * block :]]
    )


def _head_order(
    subject: Subject, target: Sizes, layer: int, groups: torch.Tensor, cross: torch.Tensor | None, pair: Pairing
) -> torch.Tensor:
    """The query heads, group by group; within a group sorted, or aligned with the layer before."""
    import torch

    n, m = subject.spec.sizes.num_attention_heads, target.num_attention_heads
    heads = torch.arange(n).view(len(groups), -1)[groups]
    if heads.shape[1] == 1:
        return heads.flatten()
    own = gram(subject, "heads", layer)
    found = []
    for place, members in enumerate(heads):
        if m < n:
            members = members[similar_order(own[members][:, members], pair)]
        if cross is not None:
            rows = cross[place * len(members) : (place + 1) * len(members)]
            members = members[aligned(rows[:, members], cell_size(n, m))]
        found.append(members)
    return torch.cat(found)
