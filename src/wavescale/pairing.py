"""Which units belong together: pairs, an order of pairs of pairs, and who is whose counterpart elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Pairing = Callable[["torch.Tensor"], list[tuple[int, int]]]

# Partners of each unit that an optimal matching looks at; those that are left alone are paired greedily.
_NEIGHBOURS = 8


def greedy_pairs(similarity: torch.Tensor) -> list[tuple[int, int]]:
    """Pair units, the most similar first.

    Two units that are each other's best free partner are a pair of the greedy matching, so that all such
    pairs are taken at once (Preis 1999, locally heaviest edges).

    Parameters
    ----------
    similarity
        (n, n) symmetric; the diagonal is not looked at.

    Returns
    -------
    ⌊n/2⌋ pairs, the most similar first.

    Examples
    --------
    >>> import torch
    >>> units = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.8]])
    >>> greedy_pairs(units @ units.T)
    [(0, 2), (1, 3)]
    """
    import torch

    n = len(similarity)
    free = torch.arange(n, device=similarity.device)
    # Exactly symmetric, so that of equal ones the first two are each other's best: every round finds a pair.
    left = torch.maximum(similarity, similarity.T).fill_diagonal_(-torch.inf)
    pairs: list[tuple[int, int]] = []
    while len(free) > 1:
        best = left.argmax(dim=1)
        unit = torch.arange(len(free), device=free.device)
        first = unit[(best[best] == unit) & (unit < best)]
        pairs += zip(free[first].tolist(), free[best[first]].tolist(), strict=True)
        stay = torch.ones(len(free), dtype=torch.bool, device=free.device)
        stay[first] = stay[best[first]] = False
        free, left = free[stay], left[stay][:, stay]
    return _ranked(pairs, similarity)


def optimal_pairs(similarity: torch.Tensor) -> list[tuple[int, int]]:
    """Pair units so that the pairs' similarities have the largest sum (Edmonds 1965, by networkx).

    Every unit is offered its 8 most similar ones; beyond 9 units the sum is therefore the largest among
    pairs of near neighbours. Parameters and result are those of `greedy_pairs`.

    Examples
    --------
    >>> import torch
    >>> chain = torch.tensor([[0.0, 0.8, 0.1, 0.0], [0.8, 0.0, 0.9, 0.1], [0.1, 0.9, 0.0, 0.8], [0.0, 0.1, 0.8, 0.0]])
    >>> greedy_pairs(chain), optimal_pairs(chain)
    ([(1, 2), (0, 3)], [(0, 1), (2, 3)])
    """
    import networkx
    import torch

    n = len(similarity)
    apart = similarity.clone().fill_diagonal_(-torch.inf)
    near = apart.topk(min(_NEIGHBOURS, max(n - 1, 0)), dim=1)
    graph = networkx.Graph()
    graph.add_nodes_from(range(n))
    for unit, (values, partners) in enumerate(zip(near.values.tolist(), near.indices.tolist(), strict=True)):
        graph.add_weighted_edges_from((unit, partner, value) for value, partner in zip(values, partners, strict=True))
    pairs = [(min(pair), max(pair)) for pair in networkx.max_weight_matching(graph, maxcardinality=True)]
    alone = torch.tensor(sorted(set(range(n)) - {unit for pair in pairs for unit in pair}), dtype=torch.int64)
    pairs += [(int(alone[a]), int(alone[b])) for a, b in greedy_pairs(similarity[alone][:, alone])]
    return _ranked(pairs, similarity)


def _ranked(pairs: list[tuple[int, int]], similarity: torch.Tensor) -> list[tuple[int, int]]:
    return sorted(pairs, key=lambda pair: (-float(similarity[pair]), pair))


PAIRINGS: dict[str, Pairing] = {"similarity": greedy_pairs, "matching": optimal_pairs}


def clusters(gram: torch.Tensor, m: int, pair: Pairing = greedy_pairs) -> list[list[int]]:
    """Put n units into m clusters: pairs first, and where fewer are wanted, pairs of pairs.

    Of each round only the most similar pairs are taken, as many as are needed. A cluster is described
    by the sum of its units.

    Parameters
    ----------
    gram
        (n, n): inner products of what describes the units.
    m
        Clusters, from 1 to n.
    pair
        How to pair: `greedy_pairs` or `optimal_pairs`.

    Returns
    -------
    Clusters in the order of their first units, which come first.

    Examples
    --------
    >>> import torch
    >>> units = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.8]])
    >>> clusters(units @ units.T, 3), clusters(units @ units.T, 2)
    ([[0, 2], [1], [3]], [[0, 2], [1, 3]])
    """
    import torch

    found = [[unit] for unit in range(len(gram))]
    while len(found) > m:
        pairs = pair(cosines(gram))[: len(found) - m]
        second = {b: a for a, b in pairs}
        merged = {a: [*found[a], *found[b]] for a, b in pairs}
        stay = [at for at in range(len(found)) if at not in second]
        place = {at: index for index, at in enumerate(stay)}
        gram = _summed(gram, torch.tensor([place[second.get(at, at)] for at in range(len(found))]))
        found = [merged.get(at, found[at]) for at in stay]
    return found


def cosines(gram: torch.Tensor) -> torch.Tensor:
    """Cosines from inner products; those of a zero are 0."""
    import torch

    norm = gram.diagonal().clamp(min=0).sqrt()
    scale = torch.where(norm > 0, 1 / norm, 0.0)
    return (gram * scale[:, None]).mul_(scale[None, :])


def similar_order(gram: torch.Tensor, pair: Pairing = greedy_pairs) -> torch.Tensor:
    """An order of n units in which pairs stand side by side, pairs of pairs too, and so on.

    Parameters
    ----------
    gram, pair
        As in `clusters`.

    Returns
    -------
    int64 of shape (n,): the units in their new order. Of an odd number one is left over and comes last.

    Examples
    --------
    >>> import torch
    >>> units = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.8]])
    >>> similar_order(units @ units.T)
    tensor([0, 2, 1, 3])
    """
    import torch

    blocks, size = [[unit] for unit in range(len(gram))], 1
    while len(blocks) > 1:
        # A block that is short stays at the end, so that all others begin at a multiple of their size.
        full = len(blocks) if len(blocks[-1]) == size else len(blocks) - 1
        pairs = sorted(pair(cosines(gram[:full, :full])))
        paired = {at for both in pairs for at in both}
        arranged = [at for both in pairs for at in both]
        arranged += [at for at in range(len(blocks)) if at not in paired]
        blocks = [
            [unit for at in arranged[start : start + 2] for unit in blocks[at]] for start in range(0, len(blocks), 2)
        ]
        index = torch.arange(len(arranged), device=gram.device) // 2
        gram = _summed(gram[arranged][:, arranged], index)
        size *= 2
    return torch.tensor([unit for block in blocks for unit in block], dtype=torch.int64)


def counterparts(similarity: torch.Tensor) -> torch.Tensor:
    """Give every row a column of its own so that the similarities have the largest sum (by scipy).

    Parameters
    ----------
    similarity
        (n, n); rows and columns are units of two layers.

    Returns
    -------
    int64 of shape (n,): the column of each row.

    Examples
    --------
    >>> import torch
    >>> counterparts(torch.tensor([[0.9, 0.8], [0.8, 0.1]]))
    tensor([1, 0])
    """
    import torch
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(similarity.double().cpu().numpy(), maximize=True)[1])


def _summed(gram: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Inner products of sums: rows and columns with the same index are added up."""
    m = int(index.max()) + 1
    rows = gram.new_zeros((m, len(gram))).index_add_(0, index, gram)
    return gram.new_zeros((m, m)).index_add_(1, index, rows)
