from __future__ import annotations

import numpy as np
import pytest
import torch

from wavescale.operators import CopyAndPad, Replicate, Resample, Selection, gathering
from wavescale.taking import taken

ORDERS = {
    "one stretch": np.arange(3, 9),
    "few stretches": np.array([4, 5, 0, 1, 2, 9]),
    "pairs": np.arange(24) // 2,
    "fours": np.arange(48) // 4,
    "three times": np.arange(36) // 3,
    "one of two": np.arange(0, 12, 2),
    "two of three, repeated": np.array([3 * k + place for k in range(4) for place in (0, 0, 2)]),
    "any": np.array([7, 0, 11, 0, 3, 5, 2, 9, 1, 4, 10, 6, 8]),
    "none": np.array([], dtype=np.int64),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int8]
)
@pytest.mark.parametrize(
    ("shape", "axis"), [((12,), 0), ((5, 12), 1), ((12, 5), 0), ((2, 12, 1, 1), 1), ((2, 12, 3), 1), ((2, 12, 80), -2)]
)  # fmt: skip
def test_every_order_is_taken(order: str, dtype: torch.dtype, shape: tuple[int, ...], axis: int) -> None:
    x = torch.randint(-99, 99, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = x.index_select(axis, torch.from_numpy(ORDERS[order]))
    assert torch.equal(taken(x, axis, ORDERS[order]), wanted)
    turned = x.transpose(0, -1).contiguous().transpose(0, -1)
    assert torch.equal(taken(turned, axis, ORDERS[order]), wanted)


def test_gradients_follow_what_is_repeated() -> None:
    x = torch.ones(3, 12, requires_grad=True)
    torch.autograd.backward(taken(x, 1, ORDERS["pairs"]).sum())
    assert x.grad is not None
    assert (x.grad == 2).all()


def test_blocks_share_what_is_known_of_their_rows() -> None:
    # What is kept for each block lies between blocks that are freed, and the heap grows with a checkpoint's size.
    for operator in (Replicate(n=512, m=1024), CopyAndPad(n=512, m=1024, padding="cycle"), Selection(n=1024, m=512)):
        first, second = (gathering._block(operator, rows)[1] for rows in (range(128), range(128, 256)))
        assert first is second
    taps = Resample.of(512, 1024, "haar").taps()
    found = [taps._takings(rows, taps.support(rows)) for rows in (range(128), range(128, 256))]
    assert found[0][0] is found[1][0]
