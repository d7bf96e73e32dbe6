from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavescale.errors import OptionError
from wavescale.resampling import levels, resample, resampling_matrix, taps

Array = np.ndarray[Any, Any]

ALL_WAVELETS = pywt.wavelist(kind="discrete")
SOME_WAVELETS = ("haar", "db2", "db4", "sym4", "coif3", "bior2.2", "bior4.4", "bior6.8", "rbio3.5")
# PyWavelets tabulates dmey with few digits; its own perfect reconstruction is no better.
ACCURACY = {"dmey": 1e-2}


def pywt_matrix(n: int, m: int, wavelet: str) -> Array:
    """The operator by PyWavelets alone, one impulse after the other; m/n or n/m is a power of two."""
    signal = np.eye(n)
    while signal.shape[0] > m:
        signal = pywt.dwt(signal, wavelet, mode="periodization", axis=0)[0]
    while signal.shape[0] < m:
        signal = pywt.idwt(signal, None, wavelet, mode="periodization", axis=0)
    return signal


def overlap_matrix(n: int, m: int) -> Array:
    """Area averaging from n to m cells, written out cell by cell, with orthonormal gain."""
    overlap = np.zeros((m, n))
    for target in range(m):
        for source in range(n):
            overlap[target, source] = max(0, min((target + 1) * n, (source + 1) * m) - max(target * n, source * m))
    average: Array = overlap / overlap.sum(axis=1, keepdims=True)
    gained: Array = average * np.sqrt(n / m)
    return gained


@pytest.mark.parametrize("wavelet", ALL_WAVELETS)
@pytest.mark.parametrize(("n", "m"), [(6, 12), (12, 6), (5, 20), (20, 5), (1, 2), (64, 32), (3, 24)])
def test_powers_of_two_are_the_dwt_and_its_inverse(wavelet: str, n: int, m: int) -> None:
    np.testing.assert_allclose(resampling_matrix(n, m, wavelet), pywt_matrix(n, m, wavelet), atol=1e-12)


@pytest.mark.parametrize("wavelet", ALL_WAVELETS)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 1), (12, 2), (30, 1), (7, 3)])
def test_up_then_down_is_the_identity(wavelet: str, n: int, k: int) -> None:
    up, down = resampling_matrix(n, n * 2**k, wavelet), resampling_matrix(n * 2**k, n, wavelet)
    np.testing.assert_allclose(down @ up, np.eye(n), atol=ACCURACY.get(wavelet, 1e-9))


@pytest.mark.parametrize(("n", "m"), [(6, 9), (9, 6), (4, 7), (30, 23), (576, 384), (3, 4), (5, 1), (1, 3)])
def test_haar_at_any_ratio_is_area_averaging(n: int, m: int) -> None:
    np.testing.assert_allclose(resampling_matrix(n, m), overlap_matrix(n, m), atol=1e-11)


@pytest.mark.parametrize("wavelet", SOME_WAVELETS)
@pytest.mark.parametrize(("n", "m"), [(6, 9), (8, 6), (4, 5), (7, 3)])
def test_other_ratios_are_up_overlap_down(wavelet: str, n: int, m: int) -> None:
    up, down = levels(n, m)
    fine_n, fine_m = n * 2**up, m * 2**down
    expected = pywt_matrix(fine_m, m, wavelet) @ overlap_matrix(fine_n, fine_m) @ pywt_matrix(n, fine_n, wavelet)
    np.testing.assert_allclose(resampling_matrix(n, m, wavelet), expected, atol=1e-10)


@pytest.mark.parametrize("wavelet", SOME_WAVELETS)
@pytest.mark.parametrize(("n", "m"), [(8, 16), (16, 8), (12, 18), (18, 12), (10, 7)])
def test_the_dual_is_the_transpose_of_the_way_back(wavelet: str, n: int, m: int) -> None:
    np.testing.assert_allclose(
        resampling_matrix(n, m, wavelet, dual=True), resampling_matrix(m, n, wavelet).T, atol=1e-10
    )


@pytest.mark.parametrize("wavelet", SOME_WAVELETS)
def test_adjointness(wavelet: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(24), rng.standard_normal(36)
    forward = resample(x, 36, wavelet=wavelet) @ y
    backward = x @ resample(y, 24, wavelet=wavelet, dual=True)
    assert forward == pytest.approx(backward, abs=1e-10)


@pytest.mark.parametrize("wavelet", ["bior2.2", "bior4.4", "bior6.8"])
def test_two_linear_layers_agree_under_dual_operators_and_not_without(wavelet: str) -> None:
    rng = np.random.default_rng(1)
    inner, outer = rng.standard_normal((16, 5)), rng.standard_normal((3, 16))
    wide = resample(inner, 32, axis=0, wavelet=wavelet)
    np.testing.assert_allclose(resample(outer, 32, wavelet=wavelet, dual=True) @ wide, outer @ inner, atol=1e-11)
    assert np.abs(resample(outer, 32, wavelet=wavelet) @ wide - outer @ inner).max() > 1e-3


@pytest.mark.parametrize("wavelet", SOME_WAVELETS)
@pytest.mark.parametrize("boundary", ["periodization", "two-ended"])
@pytest.mark.parametrize(("n", "m"), [(12, 6), (6, 12), (12, 9), (30, 41)])
def test_constants_are_multiplied_by_the_root_of_the_ratio(wavelet: str, boundary: Any, n: int, m: int) -> None:
    np.testing.assert_allclose(resampling_matrix(n, m, wavelet, boundary).sum(axis=1), np.sqrt(n / m), atol=1e-9)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym4", "coif3", "bior4.4", "bior6.8"])
@pytest.mark.parametrize(("n", "m"), [(80, 40), (40, 80), (80, 20), (60, 40), (40, 60), (72, 60)])
def test_depth_is_centred(wavelet: str, n: int, m: int) -> None:
    matrix = resampling_matrix(n, m, wavelet, "two-ended")
    centres = matrix @ np.arange(n) / matrix.sum(axis=1)
    expected = (np.arange(m) + 0.5) * n / m - 0.5
    inner = slice(m * 3 // 10, m - m * 3 // 10)  # the mirrored ends pull what a long filter can reach
    coarse_layer = max(1, n / m)
    assert np.abs(centres - expected)[inner].max() < (0.25 + 0.01) * coarse_layer


@pytest.mark.parametrize("wavelet", ["db2", "coif3", "sym4"])
def test_depth_does_not_wrap_around_where_the_periodic_transform_does(wavelet: str) -> None:
    ended = np.abs(resampling_matrix(48, 24, wavelet, "two-ended"))
    periodic = np.abs(resampling_matrix(48, 24, wavelet, "periodization"))
    assert ended[0, 24:].sum() == 0.0
    assert ended[-1, :24].sum() == 0.0
    assert periodic[:, 24:][0].sum() + periodic[:, :24][-1].sum() > 1e-3


def test_haar_keeps_less_energy_than_coif3_off_powers_of_two() -> None:
    assert (resampling_matrix(64, 100, "haar") ** 2).sum() / 64 == pytest.approx(0.79, abs=0.01)
    assert (resampling_matrix(64, 100, "coif3") ** 2).sum() / 64 == pytest.approx(0.99, abs=0.01)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("count", [1, 2])
def test_three_axes_agree_with_dwtn_and_idwtn(wavelet: str, count: int) -> None:
    rng = np.random.default_rng(2)
    module = rng.standard_normal((4, 12, 20)).astype(np.float32)
    small, band = module, module.astype(np.float64)
    large, synthesis = module, module.astype(np.float64)
    for _ in range(count):
        band = pywt.dwtn(band, wavelet, mode="periodization")["aaa"]
        synthesis = pywt.idwtn({"aaa": synthesis}, wavelet, mode="periodization")
    for axis in range(3):
        small = resample(small, module.shape[axis] // 2**count, axis=axis, wavelet=wavelet)
        large = resample(large, module.shape[axis] * 2**count, axis=axis, wavelet=wavelet)
    np.testing.assert_allclose(small, band, atol=1e-6 * np.abs(band).max())
    np.testing.assert_allclose(large, synthesis, atol=1e-6 * np.abs(synthesis).max())


@given(n=st.integers(1, 40), m=st.integers(1, 40), wavelet=st.sampled_from(SOME_WAVELETS))
def test_any_ratio_keeps_constants_and_has_its_dual(n: int, m: int, wavelet: str) -> None:
    matrix = resampling_matrix(n, m, wavelet)
    np.testing.assert_allclose(matrix.sum(axis=1), np.sqrt(n / m), atol=1e-8)
    np.testing.assert_allclose(resampling_matrix(m, n, wavelet, dual=True), matrix.T, atol=1e-8)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_torch_agrees_with_the_matrix_on_every_axis(axis: int, dtype: torch.dtype) -> None:
    x = torch.randn((4, 6, 10), generator=torch.Generator().manual_seed(0)).to(dtype)
    found = resample(x, 9, axis=axis, wavelet="db2")
    matrix = torch.from_numpy(resampling_matrix(x.shape[axis], 9, "db2"))
    expected = torch.movedim(torch.movedim(x.double(), axis, -1) @ matrix.T, -1, axis)
    assert found.dtype == dtype
    # Half types are computed in float32, so only the last rounding is theirs.
    rounding = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(found, expected.to(dtype), rtol=rounding, atol=rounding)


@pytest.mark.parametrize(("n", "m", "wavelet"), [(96, 144, "haar"), (128, 256, "db4"), (200, 100, "coif3")])
def test_how_a_tensor_lies_in_memory_does_not_matter(n: int, m: int, wavelet: str) -> None:
    x = torch.randn(n, 5, dtype=torch.float64).t()
    expected = x @ torch.from_numpy(resampling_matrix(n, m, wavelet)).T
    torch.testing.assert_close(resample(x, m, wavelet=wavelet), expected)
    torch.testing.assert_close(resample(x[:, ::2], m, wavelet=wavelet), resample(x[:, ::2].clone(), m, wavelet=wavelet))


@pytest.mark.parametrize("wavelet", ["haar", "db4", "coif3", "bior2.2"])
@pytest.mark.parametrize(("n", "m"), [(64, 128), (128, 64), (96, 144), (80, 112), (66, 99), (61, 97)])
def test_rows_are_made_of_their_support_alone(n: int, m: int, wavelet: str) -> None:
    operator = taps(n, m, wavelet)
    whole = torch.randn((n, 7), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.from_numpy(operator.matrix()) @ whole
    for rows in (range(m), range(8, 40), range(5, 50), range(m - 11, m), range(2), range(m - 1, m)):
        support = operator.support(rows)
        x = whole[support.start : support.stop] if isinstance(support, range) else whole[torch.from_numpy(support)]
        torch.testing.assert_close(operator.apply(x, 0, rows, gain=2.0), 2 * expected[rows.start : rows.stop])
        lying = x.t().contiguous().t()
        torch.testing.assert_close(operator.apply(lying, 0, rows), expected[rows.start : rows.stop])


def test_no_lines_stay_no_lines() -> None:
    assert resample(torch.empty(0, 8), 12, wavelet="db2").shape == (0, 12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numpy_keeps_dtype_and_agrees_with_torch(dtype: Any) -> None:
    x = np.random.default_rng(3).standard_normal((3, 8)).astype(dtype)
    found = resample(x, 12, wavelet="sym4")
    assert found.dtype == dtype
    np.testing.assert_allclose(found, resample(torch.from_numpy(x), 12, wavelet="sym4").numpy(), rtol=2e-3, atol=1e-3)


def test_gradients_flow_through() -> None:
    x = torch.randn((2, 6), dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda t: resample(t, 9, wavelet="db2"), (x,))
    rows = torch.randn((32, 2), dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda t: resample(t, 64, axis=0, wavelet="db2"), (rows,))


def test_the_same_size_changes_nothing() -> None:
    x = np.arange(5.0)
    assert resample(x, 5, wavelet="coif3") is x


def test_long_axes_need_no_dense_matrix() -> None:
    operator = taps(28672, 57344, "db2")
    assert operator.index.shape[1] <= 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "at least 1"),
        ({"size": 4, "axis": 3}, "axis 3"),
        ({"size": 4, "wavelet": "nope"}, "'nope'"),
        ({"size": 4, "wavelet": "gaus1"}, "'gaus1'"),
        ({"size": 4, "boundary": "circular"}, "two-ended"),
    ],
)
def test_errors_name_what_was_found(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        resample(np.ones((2, 6)), **arguments)


def test_integer_tensors_are_refused() -> None:
    with pytest.raises(OptionError, match="int64"):
        resample(torch.arange(4), 2)


def test_a_list_is_refused() -> None:
    with pytest.raises(OptionError, match="found list, expected a numpy array or a torch tensor"):
        resample([1.0, 2.0], 4)  # type: ignore[type-var]
