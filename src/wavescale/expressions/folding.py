"""The same tensor in fewer passes: the gains of copies become one number, on the source."""

from __future__ import annotations

from dataclasses import replace

from wavescale.expressions.arithmetic import Scale, Sum, scaled
from wavescale.expressions.maps import Apply
from wavescale.expressions.node import Expression


def folded(expression: Expression, factor: float = 1.0) -> Expression:
    """An expression times a number, with bare copies in place of copies by a factor.

    Haar multiplies by 1/√2 on each of two axes. One half is what is left of both, which half types hold exactly, and
    the source has fewer entries than what is made of it.
    """
    match expression:
        case Scale():
            return folded(expression.of, expression.factor * factor)
        case Apply() if (found := expression.operator.copies()) is not None:
            bare, gain = found
            return replace(expression, operator=bare, of=folded(expression.of, gain * factor))
        case Sum() if factor == 1.0:
            return Sum(tuple(folded(term) for term in expression.terms))
        case _:
            return scaled(expression, factor)
