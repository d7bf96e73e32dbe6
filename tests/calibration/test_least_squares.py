from __future__ import annotations

import torch

from wavescale.calibration.least_squares import fit_affine, fit_channels, fit_tied_norm


def rows(count: int, channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((count, channels), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_an_affine_map_is_found() -> None:
    x, weight = rows(400, 6), rows(3, 6, 1)
    found = fit_affine(x, x @ weight.T - 2.0, torch.zeros(3, 6), offset=True)
    torch.testing.assert_close(found.weight, weight, atol=2e-3, rtol=0)
    assert found.offset is not None
    torch.testing.assert_close(found.offset, torch.full((3,), -2.0, dtype=torch.float64), atol=2e-3, rtol=0)


def test_without_an_offset_the_map_goes_through_zero() -> None:
    x, weight = rows(400, 6) + 1.0, rows(3, 6, 1)
    found = fit_affine(x, x @ weight.T, torch.zeros(3, 6), offset=False)
    assert found.offset is None
    torch.testing.assert_close(found.weight, weight, atol=2e-3, rtol=0)


def test_where_rows_are_noise_the_prior_stays() -> None:
    x, prior = rows(40, 30), rows(2, 30, 1)
    noisy = fit_affine(x, x @ prior.T + 30 * rows(40, 2, 2), prior, offset=False).weight
    plain = torch.linalg.lstsq(x, x @ prior.T + 30 * rows(40, 2, 2)).solution.T
    assert (noisy - prior).norm() < 0.2 * (plain - prior).norm()


def test_channels_get_a_factor_and_a_shift_each() -> None:
    x = rows(200, 4)
    weight, bias = fit_channels(x, x * torch.tensor([1.0, -2.0, 0.5, 3.0]) + 1.5, bias=True)
    torch.testing.assert_close(weight, torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64))
    assert bias is not None
    torch.testing.assert_close(bias, torch.full((4,), 1.5, dtype=torch.float64))
    assert fit_channels(x, x, bias=False)[1] is None


def test_the_norm_before_a_tied_matrix_is_found_through_its_logits() -> None:
    x, table, weight, bias = rows(300, 5), rows(50, 5, 1), rows(1, 5, 2)[0], rows(1, 5, 3)[0]
    # The source's own matrix shifts all logits alike, which no probability shows.
    found = fit_tied_norm(x, weight * x + bias, table, table + 7.0, bias=True)
    torch.testing.assert_close(found[0], weight, atol=1e-3, rtol=1e-3)
    assert found[1] is not None
    torch.testing.assert_close(found[1], bias, atol=1e-3, rtol=1e-3)
