"""From the plan of a resize to plans for AdamW's moments.

If W′ = A W Bᵀ keeps the function, the gradient of W′ is that of W through the dual operators, the
inverse transposes of A and B (METHOD, exact growth: optimizer state). First moments are averages of
gradients and follow them; second moments are averages of squares and follow the squared entries.
A copy's gradient is taken to be an equal share of its unit's, which is so for exact twins; only the
sum is certain where copies are not twins: keys and values whose copies serve different queries, and
channels beside padding under LayerNorm.

What the source has no counterpart of, because padding, zeros or constants stand there, starts with
a first moment of zero and a second moment of ordinary size, so that its first steps are ordinary:
padding takes the mean of the copies', an inserted layer takes those of the layer that it copies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from wavescale.artifacts import finished
from wavescale.errors import OptionError
from wavescale.expressions import (
    Apply,
    Concatenate,
    Constant,
    Expression,
    Merge,
    Part,
    Read,
    Restore,
    Scale,
    Select,
    Standardize,
    Sum,
    UnequalShares,
)
from wavescale.methods import copied_layer
from wavescale.plan import Plan, TensorPlan
from wavescale.wording import split_layer

Power = Literal[1, 2]


def moment_plans(plan: Plan) -> tuple[Plan, Plan]:
    """How first and second moments are made, as plans that read moments under the names of the weights.

    Parameters
    ----------
    plan
        Of the weights.

    Returns
    -------
    Two plans with the tensors of `plan`, of the same shapes.

    Raises
    ------
    OptionError
        The plan holds tensors that an analysis has finished.
    """
    before, after = plan.source.num_hidden_layers, plan.target.num_hidden_layers
    layers = plan.choices.layer_map
    inserts = layers is None and after > before and plan.choices.depth_of(before, after) == "insert"
    # Of the target tensors that copy one of the source, the first that carries it on. Only insertion makes
    # copies that do not: no gradient passes the zeros of an inserted layer, although its readers are copies.
    leads: dict[tuple[str, int | None], TensorPlan] = {}
    for tensor in plan.tensors:
        if carried(tensor.expression, 1) is not None:
            leads.setdefault(_place(tensor.name, before, after if inserts else before), tensor)
    moments: tuple[list[TensorPlan], list[TensorPlan]] = ([], [])
    for tensor in plan.tensors:
        place = _place(tensor.name, before, after if inserts else before)
        # Layers that are spread over more layers share their gradient.
        _, layer = split_layer(tensor.name)
        if inserts or layer is None:
            share = 1.0
        else:
            share = min(1.0, before / after) if layers is None else 1 / layers.count(layers[layer])
        first, second = (_scaled(carried(leads[place].expression, power), share**power) for power in _POWERS)
        first = first if leads[place] is tensor else Constant(0.0, tensor.shape)
        for plans, expression in zip(moments, (first, second), strict=True):
            plans.append(replace(tensor, expression=expression))
    firsts, seconds = (replace(plan, tensors=tuple(plans), ties=()) for plans in moments)
    return firsts, seconds


_POWERS: tuple[Power, Power] = (1, 2)


def _place(name: str, before: int, after: int) -> tuple[str, int | None]:
    """A tensor's name without its layer, and the source layer that its layer copies."""
    stem, layer = split_layer(name)
    return stem, None if layer is None else copied_layer(layer, before, after)


def _scaled(expression: Expression | None, factor: float) -> Expression:
    assert expression is not None
    return expression if factor == 1.0 else Scale(expression, factor)


def carried(expression: Expression, power: Power) -> Expression | None:
    """What a moment is made of where its weight is made of this; None where nothing of the source is carried on.

    A sum over layers with coefficients c gives each layer's moment the coefficient c / Σc², the
    inverse transpose of that row alone; its share among several target layers is not known here.

    Parameters
    ----------
    expression
        Of the weight.
    power
        1 for first moments, 2 for second.

    Raises
    ------
    OptionError
        The tensor comes finished from an analysis.
    """
    match expression:
        case Read(name) if finished(name):
            raise OptionError(
                f"{name}: this tensor comes finished from calibration, a mapping or an analysis, so its moments "
                "cannot be known. Leave the optimizer state out, or resize with operators and --calibrate none."
            )
        case Read():
            return expression
        case UnequalShares(of=of, whole=1.0):
            return carried(of, power)  # a copy's gradient does not depend on its share
        case Standardize(of=of) | Restore(of=of):
            return carried(of, power)  # the spreads of neighbouring layers are taken to be alike
        case Part(of=of) | Select(of=of):
            inner = carried(of, power)
            return None if inner is None else replace(expression, of=inner)
        case Scale(of=of, factor=factor):
            inner = carried(of, power)
            return None if inner is None else Scale(inner, factor**-power)
        case Apply(operator=operator, of=of):
            inner = carried(of, power)
            dual = operator.transposed_inverse()
            return (
                None
                if inner is None
                else replace(expression, operator=dual if power == 1 else dual.squared(), of=inner)
            )
        case Merge(of=of):
            inner = carried(of, power)
            return (
                None
                if inner is None
                else replace(expression, of=inner, entries="dual" if power == 1 else "squared dual")
            )
        case Concatenate(parts=parts):
            inners = [carried(part, power) for part in parts]
            found = tuple(inner for inner in inners if inner is not None)
            return replace(expression, parts=found) if len(found) == len(parts) else None
        case Sum(terms=terms):
            return _carried_sum(terms, power)
        case _:
            return None  # constants, shares of zero, and norms folded into inserted layers


def _carried_sum(terms: tuple[Expression, ...], power: Power) -> Expression | None:
    pairs = [(term, inner) for term in terms if (inner := carried(term, power)) is not None]
    if len(pairs) <= 1:
        return pairs[0][1] if pairs else None
    squares = [term.factor**2 if isinstance(term, Scale) else 1.0 for term, _ in pairs]
    total = sum(squares)
    return Sum(tuple(Scale(inner, (c / total) ** power) for (_, inner), c in zip(pairs, squares, strict=True)))
