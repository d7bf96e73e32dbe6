"""A plan as JSON, there and back: dataclasses by the name of their class, tuples as lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from wavescale.expressions import NODES
from wavescale.methods import Choices
from wavescale.operators import CopyAndPad, Cosine, Replicate, Resample, Selection
from wavescale.sizes import Decision
from wavescale.spec import Sizes

# Every class that a plan is made of, below the plan itself.
_PARTS: dict[str, type] = {
    **NODES,
    **{kind.__name__: kind for kind in (Sizes, Decision, Choices, Resample, Replicate, CopyAndPad, Selection, Cosine)},
}


def dumps(value: Any) -> str:
    """A value as JSON. What its class lists as `TOTALS` is written as well: it follows from the fields."""
    return json.dumps(_encode(value), indent=1)


def loads(text: str, *kinds: type) -> Any:
    """Read what `dumps` wrote of values of these classes.

    Raises
    ------
    KeyError, TypeError, ValueError
        The text holds something else.
    """
    return _decode(json.loads(text), {**_PARTS, **{kind.__name__: kind for kind in kinds}})


def _totals(kind: type) -> tuple[str, ...]:
    return getattr(kind, "TOTALS", ())


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        totals = {name: getattr(value, name) for name in _totals(kind)}
        return {"kind": kind.__name__, **totals, **{f.name: _encode(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return {"kind": "mapping", "items": dict(value)}
    return value


def _decode(value: Any, kinds: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, kinds) for item in value)
    if isinstance(value, dict):
        values = dict(value)
        name = values.pop("kind")
        if name == "mapping":
            return values["items"]
        kind = kinds[name]
        return kind(**{key: _decode(item, kinds) for key, item in values.items() if key not in _totals(kind)})
    return value
