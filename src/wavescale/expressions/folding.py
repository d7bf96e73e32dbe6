"""The same tensor in fewer and shorter passes.

The gains of copies become one number, and rows are multiplied after what is done along them.
"""

from __future__ import annotations

from dataclasses import replace

from wavescale.expressions.arithmetic import Scale, Sum, power_of_two, scaled
from wavescale.expressions.maps import Apply
from wavescale.expressions.node import Expression
from wavescale.expressions.shares import UnequalShares
from wavescale.rows import ALIGNED


def folded(expression: Expression) -> Expression:
    """An expression with bare copies in place of copies by a factor.

    Haar multiplies by 1/√2 on each of two axes. One half is what is left of both, which half types hold exactly, and
    the source has fewer entries than what is made of it. Unequal shares take the factor with their own.
    """
    match expression:
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
        case UnequalShares():
            bare, gain = _bare(expression.of)
            return replace(expression, of=bare, gain=1.0), gain * expression.gain
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
    """What `_bare` gives, times a number below all copies, or in the shares that they take."""
    match bare:
        case UnequalShares():
            return replace(bare, gain=power_of_two(factor))
        case Apply() if bare.operator.copies() is not None:
            return replace(bare, of=_on_source(bare.of, factor))
        case _:
            return scaled(bare, factor)
