"""What a plan is made of, in words for a person."""

from __future__ import annotations

from collections.abc import Iterable

from wavescale.artifacts import finished
from wavescale.expressions import (
    Apply,
    Concatenate,
    Constant,
    Expression,
    FoldDiagonal,
    FoldVector,
    Fresh,
    Merge,
    Part,
    Read,
    Restore,
    Scale,
    Select,
    Shape,
    Standardize,
    Sum,
    UnequalShares,
)


def decimal(number: float) -> str:
    """A number with three digits and a decimal prefix.

    Examples
    --------
    >>> decimal(109_482_240), decimal(512)
    ('109 M', '512 ')
    """
    prefixes = ["", "k", "M", "G", "T", "P"]
    while abs(number) >= 999.5 and len(prefixes) > 1:
        number /= 1000
        prefixes.pop(0)
    return f"{number:.3g} {prefixes[0]}"


def describe(expression: Expression, star: str | None = None) -> str:
    """An expression in words; `star` stands in for the layer's number in source names."""
    match expression:
        case Read(name) if finished(name):
            return "comes finished (see the notes)"
        case Read(name):
            return (split_layer(name)[0] if star else name).rsplit(".", 2)[-2] + ("" if star else f" ({name})")
        case Part(of, _, start, length):
            return f"{describe(of, star)}[{start}:{start + length}]"
        case Concatenate(parts):
            return " | ".join(describe(part, star) for part in parts)
        case Apply(operator, of, name):
            return f"{describe(of, star)} · {name} {operator.n}→{operator.m}: {operator.describe()}"
        case Select(of, index, n, name):
            how = "reordered" if index.shape[0] == n else f"{n}→{index.shape[0]}: chosen units"
            return f"{describe(of, star)} · {name} {how}"
        case Merge(of, cells, _, m, name):
            return f"{describe(of, star)} · {name} {cells.shape[0]}→{m}: similar units merged"
        case Scale(Restore() as of, factor):
            return f"{factor:.4g}·({describe(of, star)})"
        case Scale(of, factor):
            return f"{factor:.4g}·{describe(of, star)}"
        case Sum(terms):
            shown = [describe(term, star) for term in terms[:4]]
            return f"({' + '.join(shown)}{f' + {len(terms) - 4} more' if len(terms) > 4 else ''})"
        case FoldDiagonal(of, diagonal):
            return f"{describe(of, star)}·diag({describe(diagonal, star)})"
        case FoldVector(of, vector):
            return f"{describe(of, star)}·{describe(vector, star)}"
        case Standardize(of):
            return f"z({describe(of, star)})"
        case Restore(of, like):
            return f"{describe(of, star)}, with mean and spread of {describe(like, star)}"
        case UnequalShares(of=of, name=name, seed=seed, spread=spread, whole=whole):
            shares = f"{describe(of, star)} · {name} in shares of {whole:g} ± {spread:g}"
            return shares + ("" if star else f" (seed {seed})")
        case Fresh(padded=padded, seed=seed, factor=factor):
            size = "" if factor == 1.0 else f"{factor:.4g}·"
            return f"{size}new numbers beside {len(padded)} padded axes" + ("" if star else f" (seed {seed})")
        case Constant(value):
            return f"constant {value:g}"
        case _:
            return f"{type(expression).__name__}({', '.join(describe(child, star) for child in expression.children)})"


def tensor_lines(tensors: Iterable[tuple[str, Shape, str, Expression]], every: bool = False) -> list[str]:
    """One line per target tensor; layers that differ only in their number share one unless `every`.

    Parameters
    ----------
    tensors
        Name, shape, dtype and expression of each.
    """
    groups: dict[tuple[str, ...], list[int | None]] = {}
    for full_name, shape, dtype, expression in tensors:
        name, layer = (full_name, None) if every else split_layer(full_name)
        text = describe(expression, None if every else "*")
        groups.setdefault((name, str(list(shape)), dtype, text), []).append(layer)
    lines = []
    for (name, stored_shape, dtype, text), layers in groups.items():
        numbered = [layer for layer in layers if layer is not None]
        shown = name.replace("*", _ranges(numbered), 1) if numbered else name
        lines.append(f"{shown}  {stored_shape} {dtype}  {text}")
    return lines


def split_layer(name: str) -> tuple[str, int | None]:
    """A tensor's name with a star for its layer's number, and that number; None for a tensor outside the layers."""
    parts = name.split(".")
    for position, part in enumerate(parts):
        # A number inside the name is the layer's; `decoder.0.weight` has it in second place of three.
        if part.isdigit() and len(parts) - position > 2:
            return ".".join([*parts[:position], "*", *parts[position + 1 :]]), int(part)
    return name, None


def _ranges(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return "{" + ",".join(str(a) if a == b else f"{a}..{b}" for a, b in spans) + "}"
