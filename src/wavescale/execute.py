"""Carry out a plan: one target tensor at a time, every source tensor dropped after its last use."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from wavescale.artifacts import NOTHING, Artifacts
from wavescale.errors import CheckpointError
from wavescale.expressions import Read
from wavescale.plan import Plan, TensorPlan

if TYPE_CHECKING:
    import torch

# Source tensors that will be needed again are kept up to this many bytes; beyond, they are read anew.
_KEPT_BYTES = 1 << 30


class _Source:
    """Reads each source tensor once where memory allows, checks it, and drops it after its last use."""

    def __init__(self, plan: Plan, read: Callable[[str], torch.Tensor], device: str) -> None:
        self._read = read
        self._device = device
        self._uses = Counter(
            node.name for tensor in plan.tensors for node in tensor.expression.walk() if isinstance(node, Read)
        )
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._checked: set[str] = set()

    def raw(self, name: str) -> torch.Tensor:
        """A tensor as it is stored, on the device.

        Raises
        ------
        CheckpointError
            It holds NaN or infinity.
        """
        tensor = self._kept.pop(name, None)
        if tensor is None:
            tensor = self._read(name).to(self._device)
            if name not in self._checked:
                check_finite(name, tensor)
                self._checked.add(name)
        self._uses[name] -= 1
        if self._uses[name] > 0:
            self._kept[name] = tensor
            while sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return tensor

    def computable(self, name: str) -> torch.Tensor:
        """A tensor in a dtype to compute in: half types in float32, all others as they are."""
        import torch

        tensor = self.raw(name)
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        return tensor.float() if half else tensor


def check_finite(name: str, tensor: torch.Tensor) -> None:
    """Refuse a source tensor that holds NaN or infinity.

    Raises
    ------
    CheckpointError
        It does.
    """
    import torch

    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise CheckpointError(
            f"{name}: {bad} of {tensor.numel()} values are NaN or infinite. The source is damaged; "
            "resizing would spread them over the whole model."
        )


def execute(
    plan: Plan, read: Callable[[str], torch.Tensor], device: str = "cpu", artifacts: Artifacts = NOTHING
) -> Iterator[tuple[TensorPlan, torch.Tensor]]:
    """Compute the target's tensors, in the plan's order.

    Parameters
    ----------
    plan
        What to do.
    read
        Gives a source tensor by its name on disk.
    device
        Where to compute.
    artifacts
        Those that the plan was made with.

    Yields
    ------
    Each tensor of the plan and its value, of the planned shape and dtype, with storage of its own.

    Raises
    ------
    CheckpointError
        A source tensor holds NaN or infinity, or two copies of a tied tensor differ.
    """
    import torch

    for copy, original in plan.ties:
        _compare(copy, read(copy), original, read(original))
    named = artifacts.named()
    source = _Source(plan, lambda name: named[name] if name in named else read(name), device)
    with torch.no_grad():
        for tensor in plan.tensors:
            dtype = getattr(torch, tensor.dtype)
            if isinstance(tensor.expression, Read):
                value = source.raw(tensor.expression.name).to(dtype, copy=True)
            else:
                value = tensor.expression.compute(source.computable).to(dtype)
            if not torch.isfinite(value).all():
                raise CheckpointError(
                    f"{tensor.name}: values exceed the range of {tensor.dtype}. Write --dtype float32 or bfloat16."
                )
            yield tensor, value.contiguous()


def _compare(copy: str, copied: torch.Tensor, original: str, value: torch.Tensor) -> None:
    import torch

    if copied.shape != value.shape or not torch.equal(copied, value):
        raise CheckpointError(
            f"{copy}: differs from {original}, but the config ties them. "
            "Set tie_word_embeddings to false in config.json to resize both."
        )
