"""The plan: everything that a resize will do, as a value, before a weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar

from wavescale.artifacts import is_artifact
from wavescale.errors import CheckpointError
from wavescale.expressions import Expression, folded
from wavescale.matching import DTYPE_BYTES
from wavescale.methods import Choices
from wavescale.plan_json import dumps, loads
from wavescale.rounding import tolerance_words
from wavescale.sizes import Decision
from wavescale.spec import Sizes
from wavescale.wording import decimal, tensor_lines


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the target.

    Attributes
    ----------
    name
        Its name on disk.
    module
        What it is in any transformer, for example `query`.
    shape, dtype
        As it will be stored.
    expression
        What it is made of.
    """

    # Written into the JSON besides the fields, from which it follows.
    TOTALS: ClassVar = ("nbytes", "flops")

    name: str
    module: str
    shape: tuple[int, ...]
    dtype: str
    expression: Expression

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def flops(self) -> int:
        """Multiplications and additions to compute it."""
        return sum(node.flops for node in self.expression.walk())

    @cached_property
    def folded(self) -> Expression:
        """What it is made of, in as few and short passes as possible."""
        return folded(self.expression)


@dataclass(frozen=True)
class Plan:
    """A resize, ready to be executed, printed, saved or compared.

    Attributes
    ----------
    family, architecture
        `model_type` and class of both models.
    source, target
        Sizes before and after.
    decisions
        Why each size is what it is.
    choices
        How the axes are resized.
    tensors
        What is written, in the order of the files.
    config
        The target's config.json.
    ties
        Pairs of stored source tensors that must be equal, because the model ties them.
    source_parameters
        Parameters before, ties counted once.
    keeps_function
        Whether the target computes what the source computes, up to rounding.
    remarks
        What a user should know.
    """

    # Written into the JSON besides the fields, from which it follows.
    TOTALS: ClassVar = ("parameters", "nbytes", "flops")

    family: str
    architecture: str
    source: Sizes
    target: Sizes
    decisions: tuple[Decision, ...]
    choices: Choices
    tensors: tuple[TensorPlan, ...]
    config: Mapping[str, Any]
    ties: tuple[tuple[str, str], ...]
    source_parameters: int
    keeps_function: bool
    remarks: tuple[str, ...]

    @property
    def asks_for(self) -> frozenset[str]:
        """The artifacts that it reads: what has to be found out before it can be executed."""
        return frozenset(name for t in self.tensors for name in t.expression.reads() if is_artifact(name))

    @property
    def parameters(self) -> int:
        """Parameters after, ties counted once."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors on disk."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the whole resize, without those that find out the artifacts it reads."""
        return sum(tensor.flops for tensor in self.tensors)

    @property
    def tolerance(self) -> str:
        """How far outputs may differ where the function is kept, in words."""
        return tolerance_words(tensor.dtype for tensor in self.tensors)

    def to_json(self) -> str:
        """The plan as JSON; `Plan.from_json` reads it back."""
        return dumps(self)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read a plan that `to_json` wrote.

        Raises
        ------
        CheckpointError
            The text is not such a plan.
        """
        try:
            plan = loads(text, Plan, TensorPlan)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"the plan cannot be read: {error!r}. It was not written by this version.") from error
        if not isinstance(plan, Plan):
            raise CheckpointError("the plan cannot be read: the file holds something else.")
        return plan

    def __str__(self) -> str:
        return "\n".join(self.lines(tensors=True))

    def lines(self, tensors: bool, every: bool = False) -> list[str]:
        """The plan as lines of text; `tensors` lists what each is made of, `every` without grouping layers."""
        lines = [f"{self.architecture} ({self.family})", "", "sizes"]
        width = max(len(decision.name) for decision in self.decisions)
        for d in self.decisions:
            lines.append(f"  {d.name:<{width}}  {d.source:>7,} → {d.target:>7,}  {d.reason}")
        lines.append("")
        if tensors:
            lines += ["tensors", *(f"  {line}" for line in self.tensor_lines(every)), ""]
        finding = ", besides training, calibration or analysis" if self.asks_for else ""
        lines += [
            f"parameters  {self.source_parameters:,} → {self.parameters:,}",
            f"output      {decimal(self.nbytes)}B, {decimal(self.flops)}FLOP to compute{finding}",
            f"function    {f'kept, up to rounding ({self.tolerance})' if self.keeps_function else 'not kept'}",
        ]
        lines += [f"note        {remark}" for remark in self.remarks]
        return lines

    def tensor_lines(self, every: bool = False) -> list[str]:
        """One line per target tensor; layers that differ only in their number share one unless `every`."""
        return tensor_lines(((t.name, t.shape, t.dtype, t.expression) for t in self.tensors), every)
