from __future__ import annotations

import numpy as np
import pytest

from wavescale.operators import CopyAndPad, Cosine, Operator, Replicate, Resample

GROWING: list[Operator] = [
    *(Replicate(n=5, m=m, divide=divide, gain=1.7) for m in (5, 8, 15) for divide in ("no", "count", "root")),
    Replicate(n=4, m=6, groups=(2, 3), divide="count"),
    *(Replicate(n=5, m=m, divide=divide, drawn=3, gain=0.7) for m in (8, 15) for divide in ("no", "count")),
    Replicate(n=4, m=10, groups=(2, 5), divide="count", drawn=3),
    *(Cosine(n=5, m=m, gain=1.3) for m in (8, 10)),
    *(CopyAndPad(n=5, m=m, padding=padding, gain=0.3) for m in (5, 8, 17) for padding in ("mean", "zero", "cycle")),
    *(Resample.of(8, m, name).scaled(2.5) for m in (16, 32) for name in ("haar", "db2", "bior2.2", "bior6.8")),
]  # fmt: skip
SHRINKING: list[Operator] = [
    *(Resample.of(16, m, name).scaled(0.4) for m in (8, 4) for name in ("haar", "db2", "bior2.2", "bior6.8")),
    *(Cosine(n=16, m=m, gain=0.4) for m in (11, 8)),
]


@pytest.mark.parametrize("operator", GROWING, ids=str)
def test_growing_and_the_dual_transposed_is_the_identity(operator: Operator) -> None:
    dual = operator.transposed_inverse().matrix()
    np.testing.assert_allclose(operator.matrix().T @ dual, np.eye(operator.n), atol=1e-12)


@pytest.mark.parametrize("operator", SHRINKING, ids=str)
def test_shrinking_and_the_dual_transposed_is_the_identity(operator: Operator) -> None:
    dual = operator.transposed_inverse().matrix()
    np.testing.assert_allclose(operator.matrix() @ dual.T, np.eye(operator.m), atol=1e-12)


@pytest.mark.parametrize("operator", [o for o in GROWING if isinstance(o, Replicate) and o.n != o.m], ids=str)
def test_the_dual_of_copies_is_the_smallest_there_is(operator: Operator) -> None:
    np.testing.assert_allclose(operator.transposed_inverse().matrix(), np.linalg.pinv(operator.matrix()).T, atol=1e-12)


@pytest.mark.parametrize(
    "operator", [*GROWING, *SHRINKING, Resample.of(3, 12, "coif3"), Resample.of(7, 5, "db4")], ids=str
)
def test_the_squared_dual_has_squared_entries_and_padding_the_mean_of_the_others(operator: Operator) -> None:
    dual = operator.transposed_inverse()
    entries, squared = dual.matrix() ** 2, dual.squared().matrix()
    fed = entries.any(axis=1)
    np.testing.assert_allclose(squared[fed], entries[fed], rtol=1e-12, atol=1e-15)
    if not fed.all():
        mean = np.broadcast_to(entries[fed].mean(axis=0), squared[~fed].shape)
        np.testing.assert_allclose(squared[~fed], mean, rtol=1e-12)


def test_squares_of_copies_are_squared_no_further() -> None:
    with pytest.raises(ValueError, match="power of 4"):
        Replicate(n=2, m=4, divide="square").squared()
