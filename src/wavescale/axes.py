"""Axes in words: `"(heads head_dim) <- hidden"` is a linear map stored as (output, input).

Notation
--------
- axes in stored order, separated by spaces; `(a b)` is one axis made of several, slowest first;
- `out <- in` or `in -> out` marks a linear map, the arrow pointing the way data flows;
- `a + b` is one axis on which two tensors lie end to end (a fused projection).

Without an arrow every axis is an output: a bias, a norm, an embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Literal

from wavescale.errors import CheckpointError

Side = Literal["out", "in"]

_TOKEN = re.compile(r"\s*(<-|->|\(|\)|\+|[a-z_]+)")


@dataclass(frozen=True)
class Axis:
    """One stored axis: the names it is made of (per part, if fused) and the side of the map it is on."""

    parts: tuple[tuple[str, ...], ...]
    side: Side

    def part_size(self, part: int, sizes: Mapping[str, int]) -> int:
        """The length of one part, in elements."""
        return prod(sizes[name] for name in self.parts[part])

    def size(self, sizes: Mapping[str, int]) -> int:
        """The length of the whole axis, in elements."""
        return sum(self.part_size(part, sizes) for part in range(len(self.parts)))


@dataclass(frozen=True)
class Axes:
    """All axes of a tensor, in stored order."""

    axes: tuple[Axis, ...]

    @property
    def names(self) -> frozenset[str]:
        """Every axis name that occurs."""
        return frozenset(name for axis in self.axes for part in axis.parts for name in part)

    @property
    def fused(self) -> int | None:
        """The position of the axis on which several tensors lie end to end, if there is one."""
        found = [position for position, axis in enumerate(self.axes) if len(axis.parts) > 1]
        return found[0] if found else None

    def part(self, index: int) -> Axes:
        """The axes of one of the tensors that are fused here."""
        return Axes(tuple(Axis((axis.parts[index],), axis.side) if len(axis.parts) > 1 else axis for axis in self.axes))

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The stored shape, given the length of every named axis."""
        return tuple(axis.size(sizes) for axis in self.axes)


@cache
def parse_axes(text: str) -> Axes:
    """Read axes written in words.

    Parameters
    ----------
    text
        For example `"vocab hidden"`, `"(heads head_dim) <- hidden"`, or
        `"hidden -> (heads head_dim) + (heads head_dim) + (heads head_dim)"`.

    Raises
    ------
    ValueError
        The text does not follow the notation.

    Examples
    --------
    >>> parse_axes("(heads head_dim) <- hidden").shape({"heads": 3, "head_dim": 4, "hidden": 10})
    (12, 10)
    >>> [axis.side for axis in parse_axes("hidden -> intermediate").axes]
    ['in', 'out']
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text) or not tokens:
        raise ValueError(f"axes {text!r}: expected names, parentheses, '+' and one arrow")
    arrows = [token for token in tokens if token in ("<-", "->")]
    if len(arrows) > 1:
        raise ValueError(f"axes {text!r}: more than one arrow")
    if not arrows:
        return Axes(tuple(Axis(parts, "out") for parts in _read_axes(tokens, text)))
    cut = tokens.index(arrows[0])
    left, right = _read_axes(tokens[:cut], text), _read_axes(tokens[cut + 1 :], text)
    sides: tuple[Side, Side] = ("out", "in") if arrows[0] == "<-" else ("in", "out")
    return Axes(tuple(Axis(p, sides[0]) for p in left) + tuple(Axis(p, sides[1]) for p in right))


def _read_axes(tokens: list[str], text: str) -> list[tuple[tuple[str, ...], ...]]:
    axes: list[tuple[tuple[str, ...], ...]] = []
    position, joined = 0, False
    while position < len(tokens):
        token = tokens[position]
        if token == "+":
            joined, position = True, position + 1
            continue
        if token == "(":
            if ")" not in tokens[position:]:
                raise ValueError(f"axes {text!r}: a parenthesis is not closed")
            end = tokens.index(")", position)
            part = tuple(tokens[position + 1 : end])
        elif token == ")":
            raise ValueError(f"axes {text!r}: a parenthesis was not opened")
        else:
            end, part = position, (token,)
        if joined:
            axes[-1] += (part,)
        else:
            axes.append((part,))
        position, joined = end + 1, False
    return axes


def check_shape(tensor: str, axes: Axes, shape: tuple[int, ...], sizes: Mapping[str, int]) -> None:
    """Compare a stored shape with the one that the sizes ask for.

    Raises
    ------
    CheckpointError
        Names the tensor and the first axis that differs.
    """
    if len(shape) != len(axes.axes):
        raise CheckpointError(
            f"{tensor}: has {len(shape)} axes {list(shape)}, expected {len(axes.axes)}: "
            f"{list(axes.shape(sizes))}. The file may belong to another model."
        )
    for axis, found in zip(axes.axes, shape, strict=True):
        if found != axis.size(sizes):
            words = " + ".join(" × ".join(part) for part in axis.parts)
            raise CheckpointError(
                f"{tensor}: axis '{words}' is {found}, the config says {axis.size(sizes)}. "
                "Use the config.json that was saved with these weights."
            )
