"""The same tensor in fewer and shorter passes.

The gains of copies become one number, rows are multiplied after what is done along them, and copies of rows come with
the details that part them.
"""

from __future__ import annotations

from dataclasses import replace

from wavescale.expressions.arithmetic import Scale, Sum, scaled
from wavescale.expressions.maps import Apply
from wavescale.expressions.node import Expression
from wavescale.expressions.noise import Details, Parted
from wavescale.operators import Copies
from wavescale.rows import ALIGNED


def folded(expression: Expression) -> Expression:
    """An expression with bare copies in place of copies by a factor.

    Haar multiplies by 1/√2 on each of two axes. One half is what is left of both, which half types hold exactly, and
    the source has fewer entries than what is made of it.
    """
    match expression:
        case Sum((first, Details() as details)) if (found := _parted(first, details)) is not None:
            return found
        case Sum():
            return Sum(tuple(folded(term) for term in expression.terms))
        case _:
            return _on_source(*_bare(expression))


def _bare(expression: Expression) -> tuple[Expression, float]:
    """The same without factors, and what they come to."""
    match expression:
        case Scale():
            bare, gain = _bare(expression.of)
            return bare, gain * expression.factor
        case Apply(axis=axis, of=Apply() as rows) if axis > 0 and _multiplies(rows):
            return _bare(replace(rows, of=replace(expression, of=rows.of)))
        case Apply() if (found := expression.operator.copies()) is not None:
            bare, gain = _bare(expression.of)
            return replace(expression, operator=found[0], of=bare), found[1] * gain
        case Sum():
            return folded(expression), 1.0
        case _:
            return expression, 1.0


def _multiplies(rows: Apply) -> bool:
    """Whether an operator makes some rows, whichever they are, of fewer."""
    m = rows.operator.m
    last = range(max(0, m - ALIGNED), m)  # where padding is, which may be the mean of all
    return rows.axis == 0 and len(rows.operator.support(last)) < len(last)


def _on_source(bare: Expression, factor: float) -> Expression:
    """What `_bare` gives, times a number below all copies."""
    if isinstance(bare, Apply) and bare.operator.copies() is not None:
        return replace(bare, of=_on_source(bare.of, factor))
    return scaled(bare, factor)


def _parted(first: Expression, details: Details) -> Parted | None:
    """Copies of rows and the details on them as one node, if these are in every row from end to end."""
    bare, factor = _bare(first)
    if not details.fills_rows or not isinstance(bare, Apply) or bare.axis != 0 or bare.before != 1:
        return None
    operator = bare.operator
    count = operator.side_by_side if isinstance(operator, Copies) and operator.copies() is not None else 0
    return Parted(bare.of, factor, count, bare.after, details) if count > 1 else None
