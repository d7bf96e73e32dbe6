"""Carry out a plan, block by block: some rows of a target tensor, made of the source rows that they need.

Apart from a few that an operator needs at once, no tensor is in memory as a whole, neither of the source nor
of the target, and a block stays in a processor's cache on its way from the source's file into the target's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import isfinite, prod
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from wavescale.artifacts import NOTHING, Artifacts
from wavescale.errors import CheckpointError, OptionError
from wavescale.expressions import Constant, Expression, Read, Sum
from wavescale.matching import DTYPE_BYTES
from wavescale.plan import Plan, TensorPlan
from wavescale.rows import COMPUTED_BYTES, Rows, blocks
from wavescale.taking import taken

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
# Each thread holds a block of its own, and more threads than this fill no disk faster.
_MOST_THREADS = 16
# Threads that keep a GPU busy while others read and write.
_GPU_THREADS = 4
# The most that glibc can be made to keep when it is freed, and a page of what it writes beside it.
_LARGEST_KEPT = (32 << 20) - (4 << 10)
# In place of what has not been found out yet, which may be None.
_UNKNOWN: Any = object()
# Gives rows of a source tensor by its name on disk, as they are stored, with storage of their own.
ReadRows = Callable[[str, Rows], "torch.Tensor"]
# Takes rows of a target tensor.
WriteRows = Callable[[TensorPlan, range, "torch.Tensor"], None]


def rows_of(read: Callable[[str], torch.Tensor]) -> ReadRows:
    """Rows of tensors that are in memory as a whole."""

    def read_rows(name: str, rows: Rows) -> torch.Tensor:
        return taken(read(name), 0, rows).clone() if isinstance(rows, range) else taken(read(name), 0, rows)

    return read_rows


@dataclass
class _Known:
    """What was found out about whole tensors."""

    values: dict[Hashable, Any] = field(default_factory=dict)
    locks: dict[Hashable, Lock] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        found: T = self.values.get(key, _UNKNOWN)
        if found is _UNKNOWN:
            with self.lock:
                lock = self.locks.setdefault(key, Lock())
            with lock:
                if key not in self.values:
                    self.values[key] = find()
                found = self.values[key]
        return found


@dataclass(frozen=True)
class _Source:
    """Source tensors for expressions: checked, on the device, and in a dtype to compute in unless `stored`."""

    read: ReadRows
    device: str
    stored: bool
    known: _Known

    def rows(self, name: str, rows: Rows) -> torch.Tensor:
        import torch

        found = self.read(name, rows).to(self.device)
        check_finite(name, found)
        half = found.dtype in (torch.float16, torch.bfloat16)
        return found.float() if half and not self.stored else found

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        return self.known.once((self.stored, key), find)


def check_finite(name: str, tensor: torch.Tensor) -> None:
    """Refuse a source tensor, or rows of it, that holds NaN or infinity.

    Raises
    ------
    CheckpointError
        It does.
    """
    import torch

    if not _finite(tensor):
        bad = int((~torch.isfinite(tensor)).sum())
        raise CheckpointError(
            f"{name}: {bad} of {tensor.numel()} values are NaN or infinite. The source is damaged; "
            "resizing would spread them over the whole model."
        )


def check_device(device: str) -> None:
    """Refuse a device that cannot be computed on.

    Raises
    ------
    OptionError
        torch does not know it, it is not there, or nothing is computed on it.
    """
    import torch

    try:
        empty = torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}. Use cpu.") from error
    if empty.is_meta:
        raise OptionError("device 'meta' cannot be used here: nothing is computed there. Use cpu, or load the weights.")


def _finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite. A sum shows it in one pass, unless finite values overflow it."""
    import torch

    if not tensor.is_floating_point():
        return True
    total = tensor.sum(dtype=torch.float32 if tensor.dtype == torch.float16 else tensor.dtype)
    return isfinite(float(total)) or bool(torch.isfinite(tensor).all())


class Blocks:
    """The target's tensors in blocks.

    Parameters
    ----------
    read
        Gives rows of the source.
    device
        Where to compute.
    named
        Tensors that a plan reads besides those of the source, by name (`Artifacts.named`).
    """

    def __init__(self, read: ReadRows, device: str = "cpu", named: Mapping[str, torch.Tensor] | None = None) -> None:
        named, known = named or {}, _Known()
        in_memory = rows_of(named.__getitem__)

        def read_rows(name: str, rows: Rows) -> torch.Tensor:
            return (in_memory if name in named else read)(name, rows)

        self._device, self._known = device, known
        self._stored, self._computable = (_Source(read_rows, device, stored, known) for stored in (True, False))

    @property
    def on_cpu(self) -> bool:
        """Whether blocks are computed where they are read and written."""
        return self._device == "cpu"

    def make(self, tensor: TensorPlan, rows: range) -> torch.Tensor:
        """Some rows of a tensor of the plan, in the planned dtype, contiguous, with storage of their own.

        Raises
        ------
        CheckpointError
            A source tensor holds NaN or infinity, or the dtype cannot hold a value.
        """
        import torch

        dtype = getattr(torch, tensor.dtype)
        expression, scaling = self._known.once(("folded", tensor.name), lambda: self._folded(tensor))
        with torch.no_grad():
            made = expression.block(self._computable if scaling is None else self._stored, rows)
            value = made.to(self._device, dtype)
        # What was finite and has not grown still is.
        grown = scaling is None or scaling > 1 or made.dtype != dtype
        if grown and not _finite(value):
            raise CheckpointError(
                f"{tensor.name}: values exceed the range of {tensor.dtype}. Write --dtype float32 or bfloat16."
            )
        return value.contiguous()

    def _folded(self, tensor: TensorPlan) -> tuple[Expression, float | None]:
        """What a tensor is made of, and its scaling if the stored dtype is enough to compute in."""
        expression = tensor.folded
        scaling = expression.scaling
        if (scaling is not None and scaling < 1) or any(isinstance(node, Sum) for node in expression.walk()):
            # Sums, and halves of the smallest numbers, are rounded to the dtype that they are computed in, so that
            # has to be the target's.
            stored = {str(self._stored.rows(name, range(1)).dtype) for name in expression.reads()}
            if stored != {f"torch.{tensor.dtype}"}:
                return expression, None
        return expression, scaling


def check_ties(plan: Plan, read: Callable[[str], torch.Tensor]) -> None:
    """Refuse a source whose tied tensors are stored twice and differ.

    Raises
    ------
    CheckpointError
        They do.
    """
    import torch

    for copy, original in plan.ties:
        copied, value = read(copy), read(original)
        if copied.shape != value.shape or not torch.equal(copied, value):
            raise CheckpointError(
                f"{copy}: differs from {original}, but the config ties them. "
                "Set tie_word_embeddings to false in config.json to resize both."
            )


def execute(
    plan: Plan, read: Callable[[str], torch.Tensor], device: str = "cpu", artifacts: Artifacts = NOTHING
) -> Iterator[tuple[TensorPlan, torch.Tensor]]:
    """Compute the target's tensors in memory, one after the other, in the plan's order.

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
    check_ties(plan, read)
    made = Blocks(rows_of(read), device, artifacts.named())
    for tensor in plan.tensors:
        yield tensor, made.make(tensor, range(tensor.shape[0]))


def stream(
    made: Blocks,
    write: WriteRows,
    files: Sequence[Sequence[TensorPlan]],
    on_tensor: Callable[[TensorPlan], None] | None = None,
) -> None:
    """Make tensors in blocks and hand these on, on as many threads as torch computes with, up to sixteen.

    Each thread reads, computes and writes a block before it takes the next, so that these overlap among
    threads, or among processes with one thread each; a GPU has four threads at least. Blocks are the same whatever
    the number of threads, and so is what is written. Tensors of zeros are not written.

    Parameters
    ----------
    made
        Makes the blocks.
    write
        Takes them, from several threads at once and in any order.
    files
        The tensors, file by file.
    on_tensor
        Called when a tensor is written.

    Raises
    ------
    CheckpointError
        As in `Blocks.make`.
    """
    import torch

    _keep_what_is_freed()
    before = torch.get_num_threads()
    threads = min(before if made.on_cpu else max(before, _GPU_THREADS), _MOST_THREADS)
    queue, lock = _Queue(files), Lock()
    left = {tensor.name: sum(1 for _ in row_blocks(tensor)) for tensors in files for tensor in tensors}
    stopped = False

    def work(alone: bool = False) -> None:
        nonlocal stopped
        if not alone:
            torch.set_num_threads(1)
        file = None
        while not stopped:
            file, tensor, rows = queue.following(file)
            if tensor is None:
                return
            try:
                if not _zero(tensor):
                    write(tensor, rows, made.make(tensor, rows))
            except BaseException:
                stopped = True
                raise
            with lock:
                left[tensor.name] -= 1
                if left[tensor.name] == 0 and on_tensor is not None:
                    on_tensor(tensor)

    if threads == 1:
        work(alone=True)
        return
    try:
        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(work) for _ in range(threads)]
            for one in running:
                try:
                    one.result()
                except BaseException:
                    stopped = True
                    raise
    finally:
        torch.set_num_threads(before)


def _keep_what_is_freed() -> None:
    """Let each block be made in the memory of the block before.

    glibc gives a large allocation back to the system when it is freed, and writing to the next one takes a page fault
    for every 4 kB, until one as large has been freed once (M_MMAP_THRESHOLD in mallopt(3)). So one is, untouched.
    """
    import torch

    torch.empty(_LARGEST_KEPT, dtype=torch.uint8)


class _Queue:
    """Blocks of several files. A thread keeps to a file of its own while it can: a file takes one writer at a time."""

    def __init__(self, files: Sequence[Sequence[TensorPlan]]) -> None:
        self._left = {number: _blocks(tensors) for number, tensors in enumerate(files)}
        self._threads: Counter[int] = Counter()
        self._lock = Lock()

    def following(self, file: int | None) -> tuple[int | None, TensorPlan | None, range]:
        """The next block for a thread that was busy with a file, and the file that it is busy with now."""
        with self._lock:
            while self._left:
                if file not in self._left:
                    file = min(self._left, key=self._threads.__getitem__)
                    self._threads[file] += 1
                found = next(self._left[file], None)
                if found is not None:
                    return file, *found
                del self._left[file]
        return None, None, range(0)


def _blocks(tensors: Sequence[TensorPlan]) -> Iterator[tuple[TensorPlan, range]]:
    for tensor in tensors:
        for rows in row_blocks(tensor):
            yield tensor, rows


def row_blocks(tensor: TensorPlan, here: int | None = None) -> Iterator[range]:
    """The rows of a target tensor in blocks that are small, and made of little.

    Parameters
    ----------
    tensor
        Its plan.
    here
        How many rows there are, where they are not all.
    """
    rows, *rest = tensor.shape
    here = rows if here is None else here
    reads = sum(prod(node.shape) for node in tensor.expression.walk() if isinstance(node, Read))
    stored = tensor.folded.scaling is not None  # and so computed, unless the source has another dtype
    itemsize = DTYPE_BYTES[tensor.dtype] if stored else COMPUTED_BYTES
    yield from blocks((here, *rest), reads * here // max(1, rows), itemsize)


def _zero(tensor: TensorPlan) -> bool:
    return isinstance(tensor.expression, Constant) and tensor.expression.value == 0.0
