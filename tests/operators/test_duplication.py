from __future__ import annotations

import numpy as np
import pytest

from wavescale.operators import CopyAndPad, Replicate, copied_units


@pytest.mark.parametrize(("n", "m"), [(3, 3), (3, 6), (4, 12)])
def test_tiles_are_the_whole_axis_again_and_again(n: int, m: int) -> None:
    expected = np.tile(np.arange(n), m // n)
    np.testing.assert_array_equal(Replicate(n=n, m=m, tiled=True).copied, expected)
    np.testing.assert_array_equal(CopyAndPad(n=n, m=m, padding="zero", tiled=True).copied, expected)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads"), [((4, 8), (2, 4)), ((4, 8), (2, 2)), ((4, 4), (2, 4)), ((6, 24), (2, 4)), ((4, 12), (4, 12))]
)
def test_every_query_head_stays_with_its_group_and_is_copied_as_often_as_the_others(
    heads: tuple[int, int], kv_heads: tuple[int, int], tiled: bool
) -> None:
    found = copied_units(*heads, kv_heads, tiled).reshape(kv_heads[1], -1)
    groups = copied_units(*kv_heads, tiled=tiled)
    np.testing.assert_array_equal(found // (heads[0] // kv_heads[0]), np.broadcast_to(groups[:, None], found.shape))
    np.testing.assert_array_equal(np.bincount(found.reshape(-1)), heads[1] // heads[0])


def test_heads_and_groups_that_grow_alike_are_plain_tiles() -> None:
    np.testing.assert_array_equal(copied_units(6, 18, (2, 6), tiled=True), np.tile(np.arange(6), 3))


def test_tiles_say_so() -> None:
    assert Replicate(n=2, m=4, divide="count", tiled=True).describe() == "copies ÷ count end to end"
    assert CopyAndPad(n=2, m=4, padding="zero", tiled=True).describe() == "2 copies end to end"
