"""Tensors as integers of the same bits and back: numpy knows no bfloat16 and no float8, but moves them as these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Integers = np.ndarray[Any, Any]


def integers_of(tensor: torch.Tensor) -> Integers:
    """The entries of a tensor on the CPU as integers of the same bits, in the same memory.

    Examples
    --------
    >>> import torch
    >>> integers_of(torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    array([ 16256, -16384], dtype=int16)
    """
    import torch

    found: Integers = tensor.view(getattr(torch, _integer(tensor.dtype))).numpy()
    return found


def tensor_of(integers: Integers, dtype: torch.dtype) -> torch.Tensor:
    """The tensor whose bits these integers are, in the same memory."""
    import torch

    return torch.from_numpy(integers).view(dtype)


def room_for(shape: tuple[int, ...], dtype: torch.dtype) -> Integers:
    """Memory for a tensor that is still to be filled."""
    return np.empty(shape, dtype=_integer(dtype))


def memory_of(integers: Integers) -> memoryview:
    """The bytes of contiguous integers, to be read or written."""
    return integers.reshape(-1).view(np.uint8).data


def _integer(dtype: torch.dtype) -> str:
    return f"int{8 * dtype.itemsize}"
