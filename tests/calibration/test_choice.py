from __future__ import annotations

import torch

from wavescale.calibration.choice import diagonal_turn, kept_blocks, kept_heads, principal_basis


def rows(count: int, channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((count, channels), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unexplained(acts: torch.Tensor, weight: torch.Tensor, keep: torch.Tensor) -> float:
    """What the kept channels cannot say of the output, by least squares."""
    output = acts @ weight.T
    kept = acts[:, keep]
    return float((output - kept @ torch.linalg.lstsq(kept, output).solution).norm() / output.norm())


def test_copies_of_a_channel_are_not_kept_twice() -> None:
    base = rows(500, 6)
    acts = torch.cat([base, 1.5 * base], 1)  # the louder copies say nothing new
    assert kept_blocks(acts.T @ acts, 6).tolist() == list(range(6, 12))


def test_the_choice_explains_more_than_the_loudest_channels() -> None:
    base, mixture = rows(2000, 8), rows(8, 24, 1)
    acts = base @ mixture + 0.3 * rows(2000, 24, 2)
    weight = rows(10, 24, 3)
    gram = acts.T @ acts
    keep = kept_blocks(gram, 8, weight)
    loudest = (gram.diagonal().sqrt() * weight.norm(dim=0)).topk(8).indices
    assert unexplained(acts, weight, keep) < unexplained(acts, weight, loudest)


def test_key_value_heads_keep_their_query_heads() -> None:
    acts = rows(400, 24) * torch.tensor([1.0] * 8 + [5.0] * 8 + [3.0] * 8)  # 6 heads of 4 in 3 groups
    weight = rows(5, 24, 1)
    heads, groups = kept_heads(acts.T @ acts, weight, (6, 3), (4, 2))
    assert groups.tolist() == [1, 2]
    assert heads.tolist() == [2, 3, 4, 5]


def test_query_heads_are_chosen_within_their_group() -> None:
    loud = [1.0, 9.0, 8.0, 1.0]  # the second head of the first group, the first of the second
    acts = rows(400, 16) * torch.tensor(loud).repeat_interleave(4)
    heads, groups = kept_heads(acts.T @ acts, rows(5, 16, 1), (4, 2), (2, 2))
    assert groups.tolist() == [0, 1]
    assert heads.tolist() == [1, 2]


def test_a_principal_basis_keeps_equal_channels_equal() -> None:
    states = rows(300, 3) @ rows(3, 10, 1)
    states = states - states.mean(1, keepdim=True)
    basis = principal_basis(states.T @ states, 4, mean_apart=True)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4, dtype=torch.float64))
    equal = torch.ones(10, dtype=torch.float64) @ basis
    torch.testing.assert_close(equal, torch.full((4,), float(equal[0]), dtype=torch.float64))
    # Three directions hold all of these states, so nothing is lost, and their means stay off.
    moved = states @ basis
    torch.testing.assert_close(moved @ basis.T, states)
    torch.testing.assert_close(moved.mean(1), torch.zeros(300, dtype=torch.float64))


def test_a_turn_makes_a_norms_weight_diagonal_and_keeps_the_span() -> None:
    basis = torch.linalg.qr(rows(8, 3)).Q
    weight = rows(1, 8, 1)[0].abs()
    turned = diagonal_turn(basis, weight)
    inside = turned.T @ (weight[:, None] * turned)
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()))
    torch.testing.assert_close(turned @ turned.T, basis @ basis.T)
