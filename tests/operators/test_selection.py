from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavescale.operators import Selection, spread_evenly


@st.composite
def shrinking(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 3000))
    return n, draw(st.integers(1, n))


def released(n: int, m: int) -> torch.Tensor:
    """The positions of weight_selection.py as its authors released it, in float64 instead of float32."""
    if n % m == 0:
        return torch.arange(m) * (n // m)
    return torch.round(torch.linspace(0, n - 1, m, dtype=torch.float64)).long()


@given(shrinking())
def test_positions_are_those_of_the_authors_code(sizes: tuple[int, int]) -> None:
    n, m = sizes
    found, expected = Selection(n=n, m=m).positions, released(n, m).numpy()
    # A position halfway between two samples may fall on either in floating point; here it goes to the even one.
    halfway = np.zeros(m, bool) if m == 1 else (2 * np.arange(m) * (n - 1)) % (2 * (m - 1)) == m - 1
    np.testing.assert_array_equal(found[~halfway], expected[~halfway])
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(("n", "m"), [(768, 384), (768, 512), (3072, 1536), (1024, 768), (4096, 2560), (576, 384)])
def test_at_usual_widths_positions_are_those_of_float32_as_well(n: int, m: int) -> None:
    float32 = torch.round(torch.linspace(0, n - 1, m)).long().numpy()
    np.testing.assert_array_equal(Selection(n=n, m=m).positions, np.arange(m) * (n // m) if n % m == 0 else float32)


@given(shrinking())
def test_positions_rise_and_spread_from_the_first_to_the_last(sizes: tuple[int, int]) -> None:
    n, m = sizes
    spread = spread_evenly(n, m)
    assert len(spread) == m
    assert spread[0] == 0
    assert (np.diff(spread) > 0).all()
    assert m == 1 or spread[-1] == n - 1
    assert (np.diff(Selection(n=n, m=m).positions) > 0).all()


def test_what_stays_is_not_touched() -> None:
    x = torch.randn((3, 7, 2))
    assert torch.equal(Selection(n=7, m=3).apply(x, 1), x[:, [0, 3, 6]])
    assert torch.equal(Selection(n=7, m=7).apply(x, 1), x)


def test_it_costs_nothing_without_a_gain_and_says_what_it_does() -> None:
    assert Selection(n=6, m=3).multiplications == 0
    assert Selection(n=6, m=3).scaled(0.5).multiplications == 3
    assert Selection(n=6, m=3).describe() == "the first of every 2 kept"
    assert Selection(n=6, m=4, gain=2.0).describe() == "evenly spaced ones kept × 2"
