from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dct, idct

from wavescale.operators import Cosine
from wavescale.rows import Rows


@pytest.mark.parametrize(("n", "m"), [(8, 4), (4, 8), (9, 5), (5, 9), (6, 6), (3, 1)])
def test_the_operator_is_scipys_transform_cut_off_or_filled_up(n: int, m: int) -> None:
    x = np.random.default_rng(0).standard_normal((n, 3))
    kept = np.zeros((m, 3))
    kept[: min(n, m)] = dct(x, axis=0)[:m]
    # Without a norm, as FRONT has it, the transform is √(n/m) times the orthonormal one.
    found = Cosine(n=n, m=m, gain=(n / m) ** 0.5).apply(torch.from_numpy(x), 0)
    assert np.allclose(found, idct(kept, axis=0), atol=1e-12)


def test_it_acts_on_the_axis_that_is_named() -> None:
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    operator = Cosine(n=6, m=4, gain=0.7)
    expected = torch.einsum("mn,anb->amb", torch.from_numpy(operator.matrix()), x)
    assert torch.allclose(operator.apply(x, 1), expected)


@pytest.mark.parametrize("rows", [range(1, 4), np.array([0, 3])], ids=str)
def test_some_rows_are_those_of_the_whole(rows: Rows) -> None:
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    operator = Cosine(n=6, m=4, gain=0.7)
    assert torch.allclose(operator.apply(x, 1, rows), operator.apply(x, 1)[:, list(rows)])


def test_growing_and_cutting_off_again_is_the_identity() -> None:
    there, back = Cosine(n=5, m=8).matrix(), Cosine(n=8, m=5).matrix()
    assert np.allclose(back @ there, np.eye(5), atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(8, 5), (5, 8)])
def test_its_dual_is_the_inverse_transpose(n: int, m: int) -> None:
    operator = Cosine(n=n, m=m, gain=1.3)
    assert np.allclose(operator.transposed_inverse().matrix(), np.linalg.pinv(operator.matrix()).T, atol=1e-12)
    assert np.allclose(operator.squared().matrix(), operator.matrix() ** 2, atol=1e-12)
