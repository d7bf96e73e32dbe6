"""The best of a grid of learning rates, without trying all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def climbed(rates: Sequence[float], quality: Callable[[float], float]) -> float:
    """The best of ascending rates, where a greater quality is better and falls off on both sides of the best.

    Begins in the middle, below it in an even grid, and goes on to the next rate as long as that is better, upwards
    first, so that most of a grid need not be tried.

    Parameters
    ----------
    rates
        The grid.
    quality
        What a rate comes to; called once for each that is tried.

    Examples
    --------
    >>> tried = []
    >>> climbed([1, 2, 4, 8], lambda rate: tried.append(rate) or -abs(rate - 4))
    4
    >>> tried
    [2, 4, 8]
    """
    place = (len(rates) - 1) // 2
    found = {place: quality(rates[place])}
    for step in (1, -1):
        while 0 <= (following := place + step) < len(rates) and following not in found:
            found[following] = quality(rates[following])
            if found[following] <= found[place]:
                break
            place = following
    return rates[place]
