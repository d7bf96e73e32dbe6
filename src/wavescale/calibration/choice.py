"""What stays of an axis: blocks of channels, or the principal directions of the residual stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def kept_blocks(gram: torch.Tensor, m: int, weight: torch.Tensor | None = None, size: int = 1) -> torch.Tensor:
    """The m blocks of channels that explain most of the output, chosen one after the other.

    Pivoted Cholesky: each step takes the block that adds most to what is written, after what the
    blocks before it explain by least squares has been taken off.

    Parameters
    ----------
    gram
        (n, n): second moments of the channels.
    m
        Blocks that stay.
    weight
        (outputs, n): what reads the channels; without it each counts as itself.
    size
        Channels of one block; n is a multiple.

    Returns
    -------
    int64 of shape (m,): blocks in ascending order.

    Examples
    --------
    >>> import torch
    >>> acts = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0], [1.0, 2.0, 0.0]], dtype=torch.float64)
    >>> kept_blocks(acts.T @ acts, 2, torch.ones(1, 3)).tolist()
    [1, 2]
    """
    import torch

    gram = gram.double()
    n, blocks = len(gram), len(gram) // size
    left = torch.stack([gram[at : at + size, at : at + size] for at in range(0, n, size)])
    reads = torch.eye(size, dtype=gram.dtype, device=gram.device).expand(blocks, size, size)
    if weight is not None:
        columns = weight.double().T.reshape(blocks, size, -1)
        reads = columns @ columns.mT
    tiny = 1e-10 * gram.diagonal().mean().clamp_min(1e-30) * torch.eye(size, dtype=gram.dtype, device=gram.device)
    factor = gram.new_zeros((n, m * size))
    free = torch.ones(blocks, dtype=torch.bool, device=gram.device)
    for step in range(m):
        gain = (left * reads).sum((1, 2)).masked_fill(~free, -torch.inf)
        chosen = int(gain.argmax())
        free[chosen] = False
        here, done = slice(chosen * size, (chosen + 1) * size), step * size
        new = gram[:, here] - factor[:, :done] @ factor[here, :done].T
        root, failed = torch.linalg.cholesky_ex(new[here] + tiny)
        if failed:  # nothing of the block is left to explain
            continue
        new = torch.linalg.solve_triangular(root, new.T, upper=False).T
        factor[:, done : done + size] = new
        explained = new.reshape(blocks, size, size)
        left = left - explained @ explained.mT
    return (~free).nonzero().flatten()


def kept_heads(
    gram: torch.Tensor, weight: torch.Tensor, before: tuple[int, int], after: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Key-value heads that stay, whole with their query heads, and the query heads that stay of each.

    Parameters
    ----------
    gram
        (heads · head_dim, heads · head_dim): second moments of what the output projection reads.
    weight
        (outputs, heads · head_dim): the output projection.
    before, after
        Heads and key-value heads; no group grows.

    Returns
    -------
    Query heads and key-value heads, int64, ascending.
    """
    import torch

    group, wanted = before[0] // before[1], after[0] // after[1]
    head_dim = len(gram) // before[0]
    groups = torch.arange(before[1], device=gram.device)
    if after[1] < before[1]:
        groups = kept_blocks(gram, after[1], weight, group * head_dim)
    heads = []
    for found in groups.tolist():
        here = slice(found * group * head_dim, (found + 1) * group * head_dim)
        inside = torch.arange(group, device=gram.device)
        if wanted < group:
            inside = kept_blocks(gram[here, here], wanted, weight[:, here], head_dim)
        heads.append(found * group + inside)
    return torch.cat(heads), groups


def principal_basis(moment: torch.Tensor, m: int, mean_apart: bool) -> torch.Tensor:
    """The m directions in which the residual stream varies most.

    Where norms take off the mean (LayerNorm), the direction of equal channels stays one of equal
    channels, and the others are orthogonal to it, before and after.

    Parameters
    ----------
    moment
        (n, n): second moments of the normalised states, about their channel mean under LayerNorm.
    m
        Directions.
    mean_apart
        LayerNorm.

    Returns
    -------
    (n, m) float64 with orthonormal columns; x · basis is the target's stream (SliceGPT, Ashkboos et al.
    2024, arXiv 2401.15024).

    Examples
    --------
    >>> import torch
    >>> basis = principal_basis(torch.diag(torch.tensor([3.0, 1.0, 2.0])), 2, mean_apart=False)
    >>> basis.abs().tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    import torch

    moment = moment.double()
    n = len(moment)
    if not mean_apart:
        vectors: torch.Tensor = torch.linalg.eigh(moment).eigenvectors
        return vectors[:, -m:].flip(1)
    equal = moment.new_full((n, 1), n**-0.5)
    project = torch.eye(n, dtype=moment.dtype, device=moment.device) - equal @ equal.T
    # The direction of equal channels counts as minus one, below all others, which are not negative.
    vectors = torch.linalg.eigh(project @ moment @ project - equal @ equal.T).eigenvectors
    main = vectors[:, n - (m - 1) :] if m > 1 else vectors[:, :0]
    corner = torch.linalg.qr(
        torch.cat([moment.new_full((m, 1), m**-0.5), torch.eye(m, dtype=moment.dtype, device=moment.device)[:, 1:]], 1)
    ).Q
    rest = corner[:, 1:]  # orthogonal to equal channels of the target
    basis: torch.Tensor = equal @ moment.new_full((1, m), m**-0.5) + main @ rest.T
    return basis


def diagonal_turn(basis: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Turn a basis within its span so that a norm's weight is as good as diagonal in it.

    A matrix tied to the embedding cannot take the weight in; the target's norm keeps its diagonal.

    Parameters
    ----------
    basis
        (n, m), orthonormal columns.
    weight
        (n,): the norm's weight.
    """
    import torch

    inside = basis.T @ (weight.double()[:, None] * basis)
    turned: torch.Tensor = basis @ torch.linalg.eigh(inside).eigenvectors
    return turned
