"""The same tensor in fewer and shorter passes: the gains of copies become one number, and rows are multiplied last."""

from __future__ import annotations

from dataclasses import replace

from wavescale.expressions.arithmetic import Scale, Sum, scaled
from wavescale.expressions.maps import Apply
from wavescale.expressions.node import Expression
from wavescale.rows import ALIGNED


def folded(expression: Expression, factor: float = 1.0) -> Expression:
    """An expression times a number, with bare copies in place of copies by a factor.

    Haar multiplies by 1/√2 on each of two axes. One half is what is left of both, which half types hold exactly, and
    the source has fewer entries than what is made of it. For the same reason what is done along rows is done before
    these become more.
    """
    match expression:
        case Apply(axis=axis, of=Apply() as rows) if axis > 0 and _multiplies(rows):
            return folded(replace(rows, of=replace(expression, of=rows.of)), factor)
        case Scale():
            return folded(expression.of, expression.factor * factor)
        case Apply() if (found := expression.operator.copies()) is not None:
            bare, gain = found
            return replace(expression, operator=bare, of=folded(expression.of, gain * factor))
        case Sum() if factor == 1.0:
            return Sum(tuple(folded(term) for term in expression.terms))
        case _:
            return scaled(expression, factor)


def _multiplies(rows: Apply) -> bool:
    """Whether an operator makes some rows, whichever they are, of fewer."""
    m = rows.operator.m
    last = range(max(0, m - ALIGNED), m)  # where padding is, which may be the mean of all
    return rows.axis == 0 and len(rows.operator.support(last)) < len(last)
