from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
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
    Fresh,
    Merge,
    Part,
    Read,
    Restore,
    Scale,
    Select,
    Standardize,
    Sum,
    UnequalShares,
    folded,
    scaled,
)
from wavescale.expressions.node import Whole
from wavescale.operators import CopyAndPad, Cosine, Replicate, Resample, Selection
from wavescale.rows import positions

SOURCE = {
    "k": torch.tensor([2, 0]),
    "w": torch.arange(24.0, dtype=torch.float64).view(6, 4),
    "o": torch.tensor([2, 0, 1]),
    "s": torch.tensor([2.0, 1.0, -1.0]),
    "c": torch.tensor([1, 0, 1]),
    "g": torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64),
    "wide": torch.arange(600.0, dtype=torch.float64).view(6, 100).sin(),
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
    (Standardize(W), (SOURCE["w"] - 11.5) / 50**0.5),
    (Restore(G, W, 2.0), SOURCE["g"] * 50**0.5 + 23.0),
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


def shares(of: Expression, n: int, axis: int, before: int = 1, after: int = 1, tiled: bool = False) -> UnequalShares:
    """An expression whose n units on an axis are copied twice, in unequal shares."""
    operator = Replicate(n=n, m=2 * n, divide="count", tiled=tiled)
    return UnequalShares(Apply(operator, of, "x", axis, before, after), operator, "x", axis, before, after, 7, 0.5)


WIDE = Read("wide", (6, 100))
SHARES = [
    shares(W, 4, 1),
    shares(W, 4, 1, tiled=True),
    shares(W, 2, 1, before=2),
    shares(W, 2, 1, after=2),
    shares(W, 6, 0),
    shares(W, 3, 0, after=2),
    shares(W, 3, 0, before=2, tiled=True),
    shares(shares(W, 4, 1), 6, 0),
    # Rows so long that they share signs.
    shares(WIDE, 100, 1),
    shares(WIDE, 100, 1, tiled=True),
    shares(WIDE, 6, 0),
    UnequalShares(Apply(ODD := Replicate(n=4, m=11, divide="count"), W, "x", 1), ODD, "x", 1, 1, 1, 7, 2.0, 0.0, 0.5),
    UnequalShares(Apply(TALL := Replicate(n=6, m=13, divide="count"), W, "x", 0), TALL, "x", 0, 1, 1, 7, 2.0),
]

UNITS = (CopyAndPad(n=3, m=5, padding="zero", once=True), 0, 1, 2)
FRESH = [
    Fresh(W, (UNITS,), (10, 4), 7),
    Fresh(W, (UNITS, (CopyAndPad(n=4, m=9, padding="zero", once=True), 1, 1, 1)), (10, 9), 7, 2.0),
    Fresh(Read("wide", (6, 100)), (UNITS,), (10, 100), 7),
]


def test_rows_share_signs_and_no_two_have_the_same() -> None:
    found = shares(WIDE, 100, 1).compute(SOURCE.__getitem__)
    signs = (found[:, ::2] / found[:, 1::2]).abs().log().sign()
    assert torch.equal(signs[1:, :36], signs[:-1, 64:])
    assert len(set(map(tuple, signs.tolist()))) == len(signs)


def test_fresh_numbers_stand_where_nothing_was_and_are_as_large_as_the_source() -> None:
    for expression, rows, columns in ((FRESH[0], 6, 4), (FRESH[1], 6, 4)):
        found = expression.compute(SOURCE.__getitem__)
        assert not found[:rows, :columns].any()
        size = expression.factor * float(SOURCE["w"].square().mean().sqrt())
        new = torch.cat([found[rows:].flatten(), found[:rows, columns:].flatten()])
        torch.testing.assert_close(new.abs().double(), torch.full_like(new, size, dtype=torch.float64))
        assert set(new.sign().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize(
    "expression",
    [*(expression for expression, _ in CASES), *SHARES, *FRESH],
    ids=lambda value: type(value).__name__,
)
def test_some_rows_are_those_of_the_whole(expression: Expression) -> None:
    whole = expression.compute(SOURCE.__getitem__)
    source, count = Whole(SOURCE.__getitem__), expression.shape[0]
    generator = np.random.default_rng(0)
    stretches = [range(begin, end) for begin in range(count) for end in range(begin + 1, count + 1)]
    some = [stretches[place] for place in generator.permutation(len(stretches))[:40]]
    for rows in [*some, *(generator.permutation(count)[: max(1, count // 2)] for _ in range(3))]:
        torch.testing.assert_close(expression.block(source, rows), whole[positions(rows)], rtol=1e-12, atol=1e-12)


def test_a_block_may_be_changed_without_changing_the_source() -> None:
    for expression, _ in CASES:
        before = {name: value.clone() for name, value in SOURCE.items()}
        expression.block(Whole(SOURCE.__getitem__), range(1)).zero_()
        assert all(torch.equal(SOURCE[name], value) for name, value in before.items()), expression


@pytest.mark.parametrize(
    "expression",
    [Scale(W, -0.25), Apply(CopyAndPad(n=4, m=10, padding="cycle", gain=0.5), W, "x", 1), Part(W, 1, 1, 2),
     Apply(Replicate(n=6, m=24, divide="count"), W, "x", 0), Apply(Selection(n=6, m=3, gain=2.0), W, "x", 0),
     Sum((W, Scale(W, 0.5)))],
)  # fmt: skip
def test_what_is_exact_is_the_same_in_half_types(expression: Expression) -> None:
    assert expression.scaling is not None
    half = {"w": torch.randn((6, 4), generator=torch.Generator().manual_seed(0)).bfloat16()}
    found = expression.compute(half.__getitem__)
    assert torch.equal(found, expression.compute(lambda name: half[name].float()).bfloat16())


def test_gains_of_copies_become_one_number_on_the_source() -> None:
    rows = Apply(Resample.of(6, 12, "haar"), W, "x", 0)
    both = Apply(Resample.of(4, 8, "haar"), rows, "y", 1)
    for expression, scaling in (
        (both, 0.5),
        (scaled(both, 2.0), 1.0),
        (rows, None),
        (Sum((both, Constant(1.0, (12, 8)))), None),
    ):
        assert folded(expression).scaling == scaling
        found, whole = (one.compute(SOURCE.__getitem__) for one in (folded(expression), expression))
        torch.testing.assert_close(found, whole)
    half = {"w": torch.randn((6, 4), generator=torch.Generator().manual_seed(0)).bfloat16()}
    wide = both.compute(lambda name: half[name].float()).bfloat16()
    assert torch.equal(folded(both).compute(half.__getitem__), wide)


def test_rows_are_multiplied_after_what_is_done_along_them() -> None:
    wide, tall = Replicate(n=4, m=8, divide="count"), Replicate(n=6, m=12)
    long = Apply(wide, Apply(tall, W, "x", 0), "y", 1)
    assert folded(long) == Apply(tall, Apply(replace(wide, divide="no"), Scale(W, 0.5), "y", 1), "x", 0)
    torch.testing.assert_close(folded(long).compute(SOURCE.__getitem__), long.compute(SOURCE.__getitem__))
    # Fewer rows are made first, and so is what takes all rows for any of them.
    for rows in (Resample.of(600, 300, "db2"), CopyAndPad(n=600, m=800, padding="mean"), Cosine(n=600, m=1200)):
        expression = Apply(Resample.of(4, 8, "db2"), Apply(rows, Read("tall", (600, 4)), "x", 0), "y", 1)
        assert folded(expression) == expression


@pytest.mark.parametrize("shared", SHARES, ids=str)
def test_shares_of_copied_rows_take_the_gains_below_them(shared: UnequalShares) -> None:
    rows = Apply(Replicate(n=shared.shape[0], m=2 * shared.shape[0]), shared, "rows", 0)
    found, whole = folded(Scale(rows, 3.0)), Scale(rows, 3.0).compute(SOURCE.__getitem__)
    assert not any(isinstance(node, Scale) for node in found.walk())
    torch.testing.assert_close(found.compute(SOURCE.__getitem__), whole)
    assert torch.equal(whole[::2], whole[1::2])  # copies of an output read the same


def test_what_rounds_is_not_exact() -> None:
    for expression in (
        Scale(W, 0.3),
        Apply(Replicate(n=4, m=12, divide="count"), W, "x", 1),
        Apply(CopyAndPad(n=4, m=6, padding="mean"), W, "x", 1),
        Sum((W, W, W)),
        Sum((Sum((W, W)), W)),
        Apply(Resample.of(4, 2, "haar"), W, "x", 1),
    ):
        assert expression.scaling is None


def test_every_node_has_a_case() -> None:
    covered = {type(node).__name__ for expression, _ in CASES for node in expression.walk()}
    assert covered | {"UnequalShares", "Fresh"} == set(NODES)


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
