"""What a kept function means in each dtype: how far rounding may move outputs, and how much a plan may add to it."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

from wavescale.expressions import Expression, Fresh, UnequalShares

HALF_TYPES = ("bfloat16", "float16")
# Largest difference of outputs that still counts as rounding, relative to the largest output, where both models run
# in float32.
TOLERANCE = 1e-4
# In half types rounding depends on the model: what the source loses by them, this many times. So much may lie between
# two ways to round the same function, such as another order of its channels.
HALF_TOLERANCE = 10
# How many times larger unequal shares may make rounding; measured in `experiments/rounding.py`. In half types outputs
# are rounded with them, which leaves less room.
_BEARS = {"float64": 10.0, "float32": 10.0, **dict.fromkeys(HALF_TYPES, 4.0)}


def amplification(expressions: Iterable[Expression]) -> float:
    """How many times larger rounding becomes on the way through the map where it grows most; 1 for equal shares.

    Copies carry equal values, and what they are summed for is the same for all copies of an output. So no difference
    between copies is fed back, and layers do not multiply what they add.
    """
    return max((_of(expression) for expression in expressions), default=1.0)


def _of(expression: Expression) -> float:
    below = max(map(_of, expression.children), default=1.0)
    match expression:
        case UnequalShares():
            return below * expression.amplification
        case Fresh(factor=factor):
            return below * sqrt(1 + factor**2)
        case _:
            return below


def borne(dtypes: Iterable[str]) -> float:
    """The largest amplification with which a function still counts as kept, where tensors have these dtypes."""
    return min((_BEARS[dtype] for dtype in dtypes), default=_BEARS["float32"])


def largest_size(bears: float) -> float:
    """The largest `detail_size` whose amplification is borne, rounded down to a tenth."""
    return int(10 * sqrt(bears**2 - 1)) / 10


def half_type(dtypes: Iterable[str]) -> str | None:
    """The half type among some dtypes, if there is one."""
    found = set(dtypes)
    return next((name for name in HALF_TYPES if name in found), None)


def tolerance_words(dtypes: Iterable[str]) -> str:
    """How far outputs may differ where a function is kept, in words.

    Examples
    --------
    >>> tolerance_words(["float32"]), tolerance_words(["bfloat16", "float32"])
    ('below 1e-4 in float32', "below 10 times the source's own in bfloat16")
    """
    half = half_type(dtypes)
    if half is None:
        return "below 1e-4 in float32"
    return f"below {HALF_TOLERANCE} times the source's own in {half}"
