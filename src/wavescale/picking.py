"""Units by what they are worth: an order in which those that stay come first (METHOD, shrinking: norm products)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from wavescale.artifacts import Place
from wavescale.ordering import aligned, layer_before
from wavescale.similarity import cross_gram, energies
from wavescale.spec import Sizes

if TYPE_CHECKING:
    import torch

    from wavescale.analysis import Subject


def largest_first(subject: Subject, target: Sizes, wanted: Collection[Place], align: bool) -> dict[Place, torch.Tensor]:
    """Put the units of largest energy first, and among them keep the order that they have.

    Parameters
    ----------
    subject
        The source.
    target
        Sizes that the source is resized to.
    wanted
        Axes and layers. Of a key-value head that stays the query heads of largest energy come first.
    align
        Whether layers are averaged, so that the units that stay lie where the layer before has its most similar
        ones.

    Returns
    -------
    int64 permutations of shape (n,).
    """
    import torch

    found: dict[Place, torch.Tensor] = {}
    for axis, layer in sorted(wanted, key=lambda place: (place[0] == "heads", place[1] or 0)):
        n, m = subject.spec.axis_sizes[axis], target.axes[axis]
        energy = energies(subject, axis, layer)
        if axis == "heads":
            groups = found.get(("kv_heads", layer), torch.arange(subject.spec.sizes.num_key_value_heads))
            heads = torch.arange(n).view(len(groups), -1)[groups[: target.num_key_value_heads]]
            best = energy[heads].topk(m // len(heads), dim=1).indices.sort(dim=1).values
            stay = heads.gather(1, best).flatten()
        else:
            stay = energy.topk(m).indices.sort().values
        earlier = layer_before(found, axis, layer) if align and axis != "heads" else None
        if earlier is not None and layer is not None:
            cross = cross_gram(subject, axis, earlier, layer)[found[axis, earlier][:m]]
            stay = stay[aligned(cross[:, stay], 1)]
        gone = torch.ones(n, dtype=torch.bool)
        gone[stay] = False
        found[axis, layer] = torch.cat([stay, gone.nonzero().flatten()])
    return found
