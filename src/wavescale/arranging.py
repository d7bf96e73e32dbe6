"""The orders and cells of units that a plan asks for, found from the source's weights alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wavescale.artifacts import NOTHING, Artifacts, named_place
from wavescale.merging import merged_units
from wavescale.methods import averages_layers
from wavescale.ordering import similar_orders
from wavescale.pairing import PAIRINGS, greedy_pairs
from wavescale.picking import largest_first
from wavescale.plan import Plan

if TYPE_CHECKING:
    from wavescale.analysis import Subject


def arrange(plan: Plan, subject: Subject, given: Artifacts = NOTHING) -> Artifacts:
    """Find the orders and cells that a plan reads.

    Parameters
    ----------
    plan
        Made with an order, or with a width that looks at the weights.
    subject
        The source.
    given
        What is known already.

    Returns
    -------
    What the plan reads; of what is given as well, that.
    """
    promised = {name: place for name in plan.asks_for if (place := named_place(name)) is not None}
    if promised.keys() <= given.named().keys():
        return given
    places = set(promised.values())
    orders = {place for kind, place in places if kind == "order"}
    cells = {place for kind, place in places if kind == "cells"}
    choices, source, target = plan.choices, plan.source, plan.target
    pair, align = PAIRINGS.get(choices.order, greedy_pairs), averages_layers(source, target, choices)
    picked = {place for place in orders if choices.width == "norm" and target.axes[place[0]] < source.axes[place[0]]}
    found = Artifacts(
        orders={
            **largest_first(subject, target, picked, align),
            **similar_orders(subject, target, orders - picked, pair, align),
        },
        cells=merged_units(subject, target, cells, pair, choices.gain_of(1, 0), align),
    )
    return found.merged(given)
