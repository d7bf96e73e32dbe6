from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wavescale.pairing import clusters, cosines, counterparts, greedy_pairs, optimal_pairs, similar_order


def similarities(n: int, seed: int) -> torch.Tensor:
    units = torch.randn((n, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return cosines(units @ units.T)


def pairings(units: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    if not units:
        return [[]]
    first, *rest = units
    return [
        [(first, other), *found]
        for at, other in enumerate(rest)
        for found in pairings(tuple(rest[:at] + rest[at + 1 :]))
    ]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_takes_the_most_similar_pair_that_is_left_each_time(seed: int) -> None:
    n = 21
    found = similarities(n, seed)
    free, expected = set(range(n)), []
    while len(free) > 1:
        pair = max(((a, b) for a in free for b in free if a < b), key=lambda pair: float(found[pair]))
        expected.append(pair)
        free -= set(pair)
    assert greedy_pairs(found) == expected


@pytest.mark.parametrize("seed", range(5))
def test_optimal_pairs_are_the_best_of_all(seed: int) -> None:
    found = similarities(8, seed)
    best = max(sum(float(found[pair]) for pair in pairs) for pairs in pairings(tuple(range(8))))
    assert sum(float(found[pair]) for pair in optimal_pairs(found)) == pytest.approx(best)


def test_optimal_is_no_worse_than_greedy_and_pairs_everyone() -> None:
    found = similarities(61, 3)
    sums = [sum(float(found[pair]) for pair in pair_up(found)) for pair_up in (greedy_pairs, optimal_pairs)]
    assert sums[1] > sums[0]
    assert len({unit for pair in optimal_pairs(found) for unit in pair}) == 60


def test_units_that_are_equal_or_zero_are_paired_as_well() -> None:
    assert greedy_pairs(cosines(torch.zeros(6, 6))) == [(0, 1), (2, 3), (4, 5)]
    assert len(optimal_pairs(cosines(torch.ones(12, 12)))) == 6


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 20), seed=st.integers(0, 100))
def test_an_order_is_a_permutation_whose_blocks_start_at_multiples_of_their_size(n: int, seed: int) -> None:
    units = torch.randn((n, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gram = units @ units.T
    order = similar_order(gram)
    assert sorted(order.tolist()) == list(range(n))
    sides = [(order[at].item(), order[at + 1].item()) for at in range(0, n - 1, 2)]
    assert sorted(sides) == sorted(greedy_pairs(cosines(gram)))


def test_pairs_of_pairs_stand_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    quads = torch.randn((5, 1, 1, 64), generator=generator)
    pairs = quads + 0.2 * torch.randn((5, 2, 1, 64), generator=generator)
    units = (pairs + 0.01 * torch.randn((5, 2, 2, 64), generator=generator)).reshape(20, 64)
    shuffled = torch.randperm(20, generator=generator)
    gram = units[shuffled] @ units[shuffled].T
    found = shuffled[similar_order(gram)].view(10, 2)
    assert torch.equal(found[:, 0] // 2, found[:, 1] // 2)
    assert torch.equal(found[::2, 0] // 4, found[1::2, 0] // 4)
    for m, size in ((10, 2), (5, 4)):
        groups = [shuffled[group] // size for group in clusters(gram, m)]
        assert all((group == group[0]).all() and len(group) == size for group in groups)


@pytest.mark.parametrize("m", range(1, 12))
def test_clusters_hold_every_unit_once(m: int) -> None:
    found = clusters(similarities(11, 1), m)
    assert len(found) == m
    assert sorted(unit for group in found for unit in group) == list(range(11))


@pytest.mark.parametrize("seed", range(6))
def test_counterparts_are_the_best_of_all(seed: int) -> None:
    found = torch.from_numpy(np.random.default_rng(seed).standard_normal((6, 6)))
    best = max(float(found[range(6), order].sum()) for order in permutations(range(6)))
    assert float(found[range(6), counterparts(found)].sum()) == pytest.approx(best)


def test_counterparts_undo_a_permutation() -> None:
    units = torch.randn((50, 8), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(counterparts(units[order] @ units.T), order)


def test_pairs_are_found_where_rounding_makes_a_similarity_one_sided() -> None:
    # Each unit's best is another's: 0 → 1 → 2 → 0, by the last bit.
    more = 1.0 + torch.finfo(torch.float64).eps
    similarity = torch.tensor([[1.0, more, 1.0], [1.0, 1.0, more], [more, 1.0, 1.0]], dtype=torch.float64)
    assert greedy_pairs(similarity) == [(0, 1)]
