from __future__ import annotations

import pytest
import torch

from wavescale.bits import integers_of, memory_of, room_for, tensor_of

DTYPES = [torch.bool, torch.uint8, torch.float8_e4m3fn, torch.bfloat16, torch.float16, torch.float32, torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_bits_go_there_and_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    integers = integers_of(tensor)
    assert integers.shape == shape
    assert torch.equal(tensor_of(integers, dtype), tensor)
    room = room_for(shape, dtype)
    memory_of(room)[:] = memory_of(integers)
    assert torch.equal(tensor_of(room, dtype), tensor)


def test_they_share_memory() -> None:
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    memory_of(integers_of(tensor))[:] = bytes([0x80, 0x3F] * 3)
    assert tensor.tolist() == [1.0, 1.0, 1.0]
