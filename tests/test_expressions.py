from __future__ import annotations

from typing import Any

import pytest
import torch

from wavescale.expressions import (
    NODES,
    Apply,
    Concatenate,
    Constant,
    Expression,
    FoldDiagonal,
    FoldVector,
    Mean,
    Merge,
    Noise,
    Part,
    Read,
    Scale,
    Select,
    Sum,
)
from wavescale.operators import CopyAndPad, Replicate, Resample, Selection

SOURCE = {
    "k": torch.tensor([2, 0]),
    "w": torch.arange(24.0, dtype=torch.float64).view(6, 4),
    "o": torch.tensor([2, 0, 1]),
    "s": torch.tensor([2.0, 1.0, -1.0]),
    "c": torch.tensor([1, 0, 1]),
    "g": torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64),
}
W, G = Read("w", (6, 4)), Read("g", (4,))
# Three units become two: the second alone, and twice the first less the third.
MERGED = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, -1.0]], dtype=torch.float64)
DUAL = torch.linalg.inv(MERGED @ MERGED.T) @ MERGED


def merged(before: int, after: int, entries: Any = "plain") -> Merge:
    return Merge(W, Read("c", (3,)), Read("s", (3,)), 2, "x", 0, before, after, entries)


CASES: list[tuple[Expression, Any]] = [
    (W, SOURCE["w"]),
    (Part(W, 0, 2, 3), SOURCE["w"][2:5]),
    (Concatenate((W, W), 1), torch.cat([SOURCE["w"], SOURCE["w"]], 1)),
    (Select(W, Read("o", (3,)), 3, "x", 0, 2), SOURCE["w"].view(2, 3, 4)[:, [2, 0, 1]].reshape(6, 4)),
    (Select(W, Read("k", (2,)), 3, "x", 0, 2), SOURCE["w"].view(2, 3, 4)[:, [2, 0]].reshape(4, 4)),
    (merged(2, 1), torch.einsum("mn,bnk->bmk", MERGED, SOURCE["w"].view(2, 3, 4)).reshape(4, 4)),
    (merged(1, 2), torch.einsum("mn,nak->mak", MERGED, SOURCE["w"].view(3, 2, 4)).reshape(4, 4)),
    (merged(2, 1, "dual"), torch.einsum("mn,bnk->bmk", DUAL, SOURCE["w"].view(2, 3, 4)).reshape(4, 4)),
    (
        merged(2, 1, "squared dual"),
        torch.einsum("mn,bnk->bmk", DUAL.square(), SOURCE["w"].view(2, 3, 4)).reshape(4, 4),
    ),
    (Scale(W, -2.0), -2 * SOURCE["w"]),
    (FoldDiagonal(W, G, 1), SOURCE["w"] @ torch.diag(SOURCE["g"])),
    (FoldVector(W, G, 1), SOURCE["w"] @ SOURCE["g"]),
    (FoldVector(W, Read("g", (4,)), 1), SOURCE["w"] @ SOURCE["g"]),
    (Sum((W, Scale(W, 2.0), W)), 4 * SOURCE["w"]),
    (Mean(W, (2, 3)), torch.full((2, 3), 11.5)),
    (Constant(3.0, (2, 5)), torch.full((2, 5), 3.0)),
    (Apply(Replicate(n=2, m=4), W, "heads", 0, 1, 3), SOURCE["w"].view(2, 3, 4).repeat_interleave(2, 0).view(12, 4)),
    (Apply(Replicate(n=3, m=6, divide="count"), W, "x", 0, 2), SOURCE["w"].repeat_interleave(2, 0) / 2),
    (Apply(CopyAndPad(n=4, m=9, padding="mean"), G, "hidden", 0), torch.tensor([1.0, 1, 2, 2, 3, 3, 4, 4, 2.5])),
    (Apply(CopyAndPad(n=4, m=6, padding="cycle", gain=2.0), G, "hidden", 0), torch.tensor([2.0, 4, 6, 8, 2, 4])),
    (Apply(CopyAndPad(n=4, m=8, padding="zero", tiled=True), G, "hidden", 0), torch.tensor([1.0, 2, 3, 4, 1, 2, 3, 4])),
    (Apply(Selection(n=4, m=2), G, "hidden", 0), torch.tensor([1.0, 3])),
    (Apply(CopyAndPad(n=4, m=6, padding="zero"), G, "hidden", 0), torch.tensor([1.0, 2, 3, 4, 0, 0])),
    (Apply(Resample.of(4, 2, "haar").scaled(0.5**0.5), G, "hidden", 0), torch.tensor([1.5, 3.5])),
]


@pytest.mark.parametrize(("expression", "expected"), CASES, ids=lambda value: type(value).__name__)
def test_nodes_compute_what_they_say_in_the_shape_they_say(expression: Expression, expected: torch.Tensor) -> None:
    found = expression.compute(SOURCE.__getitem__)
    assert tuple(found.shape) == expression.shape
    torch.testing.assert_close(found, expected.to(found.dtype))


def test_every_node_has_a_case() -> None:
    covered = {type(node).__name__ for expression, _ in CASES for node in expression.walk()}
    assert covered | {"Noise", "Details"} == set(NODES)


def test_noise_is_the_same_for_the_same_seed_and_has_the_spread_it_says() -> None:
    first, again, other = (Noise(0.5, seed, (200, 50)).compute(SOURCE.__getitem__) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(0.5, rel=0.03)


def test_an_expression_lists_what_it_reads_once() -> None:
    assert Sum((FoldDiagonal(W, G, 1), W)).reads() == ("w", "g")


def test_operators_as_matrices_agree_with_applying_them() -> None:
    x = torch.randn((3, 6, 5), dtype=torch.float64)
    for operator in (
        Replicate(n=6, m=10, divide="root"),
        Replicate(n=6, m=12, groups=(2, 4), divide="count", gain=3.0),
        Replicate(n=6, m=12, groups=(2, 2), divide="count", tiled=True),
        CopyAndPad(n=6, m=16, padding="mean", gain=0.7),
        CopyAndPad(n=6, m=16, padding="cycle", tiled=True),
        Selection(n=6, m=4, gain=2.0),
        Resample.of(6, 9, "db2"),
    ):
        matrix = torch.from_numpy(operator.matrix())
        torch.testing.assert_close(operator.apply(x, 1), torch.einsum("mn,anb->amb", matrix, x))
