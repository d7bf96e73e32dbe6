"""A plan as JSON, there and back: dataclasses by the name of their class, tuples as lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

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
    """A dataclass as JSON, with a line for each of its fields and for each item of those that are lists.

    What a class lists as `TOTALS` is written as well: it follows from the fields.
    """
    lines = []
    for name, item in _written(value).items():
        items = ",\n  ".join(map(_line, item)) if isinstance(item, tuple) else ""
        lines.append(f"{_line(name)}: " + (f"[\n  {items}\n ]" if items else _line(item)))
    return "{\n " + ",\n ".join(lines) + "\n}"


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


def _line(value: Any) -> str:
    # Indented text is not written by json's fast encoder, and takes three times as long.
    return json.dumps(value, default=_written)


def _written(value: Any) -> dict[str, Any]:
    """A dataclass as a dictionary: what JSON has no notion of is asked for level by level."""
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"a plan holds a {type(value).__name__}, which is not written")
    found: dict[str, Any] = {"kind": type(value).__name__}
    for name in (*_totals(type(value)), *(field.name for field in fields(value))):
        item = getattr(value, name)
        found[name] = {"kind": "mapping", "items": dict(item)} if isinstance(item, Mapping) else item
    return found


def _decode(value: Any, kinds: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, kinds) for item in value)
    if isinstance(value, dict):
        values = dict(value)
        name = values.pop("kind")
        if name == "mapping":
            return values["items"]
        kind = kinds[name]
        made = kind(**{key: _decode(item, kinds) for key, item in values.items() if key not in _totals(kind)})
        for field, hint in _hints(kind).items():
            if not _fits(getattr(made, field), hint):
                raise TypeError(f"{field} of {name} is {getattr(made, field)!r}, expected {hint}")
        return made
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field states."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        wanted = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(value) == len(wanted) and all(map(_fits, value, wanted))
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
