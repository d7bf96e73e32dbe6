"""Which size becomes what: one table, read from the top.

An explicit size beats a scale, a scale beats a layer map's length, that beats `--like`, and `--like`
beats following. Each decision is kept, so that a plan can say why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm
from typing import Any, Literal

from wavescale.errors import SizeError
from wavescale.spec import ModelSpec, Sizes, read_spec


@dataclass(frozen=True)
class SizeRule:
    """How one size is found.

    Attributes
    ----------
    name
        Its name in Python and in configs.
    flag
        Its option on the command line.
    scale
        The scale that multiplies it.
    follows
        The size whose ratio it takes when nothing else decides, or nothing: then it stays.
    keeps
        What stays the same when it follows.
    """

    name: str
    flag: str
    scale: Literal["width", "depth"]
    follows: str = ""
    keeps: str = ""


SIZE_TABLE = (
    SizeRule("hidden_size", "--hidden-size", "width"),
    SizeRule("num_hidden_layers", "--layers", "depth"),
    SizeRule("num_attention_heads", "--heads", "width", follows="hidden_size", keeps="the same head_dim"),
    SizeRule("num_key_value_heads", "--kv-heads", "width", follows="hidden_size", keeps="the same head_dim"),
    SizeRule("intermediate_size", "--intermediate-size", "width", follows="hidden_size", keeps="the same ratio"),
)


# Far beyond any model there is: a slip of the keyboard should not fill the disk or the screen.
LARGEST = {"width": 2**22, "depth": 2**13}


@dataclass(frozen=True)
class Decision:
    """One size, before and after, and the reason."""

    name: str
    source: int
    target: int
    reason: str


@dataclass(frozen=True)
class SizeRequest:
    """What the user asked for; every field may be left out.

    Attributes
    ----------
    hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads, intermediate_size
        Explicit sizes, in units.
    scale_width, scale_depth
        Factors, for example 1.5 or Fraction(2, 3).
    like
        A config (as a dictionary) to take sizes from.
    mapped_layers
        Length of a layer map.
    """

    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    intermediate_size: int | None = None
    scale_width: Fraction | None = None
    scale_depth: Fraction | None = None
    like: Mapping[str, Any] | None = None
    mapped_layers: int | None = None


def resolve_sizes(spec: ModelSpec, request: SizeRequest) -> tuple[Sizes, tuple[Decision, ...], tuple[str, ...]]:
    """Find the target's sizes.

    Returns
    -------
    The sizes, a decision for each of the five, and remarks about what `like` says and is not taken.

    Raises
    ------
    SizeError
        A size that is no positive integer, does not fit the others, or that the family refuses;
        the message names the nearest valid sizes.
    """
    scales = {"width": request.scale_width, "depth": request.scale_depth}
    for option, scale in scales.items():
        if scale is not None and scale <= 0:
            raise SizeError(f"scale_{option} is {scale}, expected a number above 0.")
    like, remarks = (None, ()) if request.like is None else _read_like(spec, request.like)
    found: dict[str, int] = {}
    decisions: list[Decision] = []
    for rule in SIZE_TABLE:
        source = getattr(spec.sizes, rule.name)
        explicit, scale = getattr(request, rule.name), scales[rule.scale]
        if rule.name not in spec.family.fields:
            found[rule.name] = found["num_attention_heads"]
            if explicit not in (None, found[rule.name]):
                raise SizeError(
                    f"{rule.name} ({rule.flag}) is {explicit}, but {spec.family.name} has no key-value heads of its "
                    f"own: they are its {found[rule.name]} attention heads. Leave the option out."
                )
            continue
        if explicit is not None:
            if isinstance(explicit, bool) or not isinstance(explicit, int) or explicit < 1:
                raise SizeError(f"{rule.name} ({rule.flag}) is {explicit!r}, expected a positive integer.")
            target, reason = explicit, "given"
        elif scale is not None:
            target, reason = _times(spec, rule, source, scale), f"scale_{rule.scale} {scale}"
        elif rule.name == "num_hidden_layers" and request.mapped_layers is not None:
            target, reason = request.mapped_layers, "length of layer_map"
        elif like is not None:
            target, reason = getattr(like, rule.name), "like"
        elif rule.follows and found[rule.follows] != getattr(spec.sizes, rule.follows):
            target = _follow(spec, request, rule, found)
            reason = f"follows {rule.follows} at {rule.keeps}"
        else:
            target, reason = source, "stays"
        if target > LARGEST[rule.scale]:
            raise SizeError(f"{rule.name} would be {target}; wavescale goes up to {LARGEST[rule.scale]}.")
        found[rule.name] = target
        decisions.append(Decision(rule.name, source, target, reason))
    sizes = _complete(spec, found, decisions, _whole_step(spec, request, "hidden_size"))
    return sizes, tuple(decisions), remarks


def _times(spec: ModelSpec, rule: SizeRule, source: int, scale: Fraction) -> int:
    target = source * scale
    if target.denominator == 1 and target >= 1:
        return int(target)
    step = source
    for other in SIZE_TABLE:
        if other.scale == rule.scale and other.name in spec.family.fields:
            step = gcd(step, getattr(spec.sizes, other.name))
    lower, upper = _around(Fraction(scale), Fraction(1, step))
    valid = " and ".join(str(ratio) for ratio in (lower, upper) if ratio > 0)
    raise SizeError(
        f"scale_{rule.scale} {_number(scale)} makes {rule.name} {_number(target)} ({source} × {_number(scale)}), which "
        f"is no positive integer. Nearest scales that fit all sizes: {valid}; or give {rule.flag} as well."
    )


def _follow(spec: ModelSpec, request: SizeRequest, rule: SizeRule, found: Mapping[str, int]) -> int:
    source, leader = getattr(spec.sizes, rule.name), getattr(spec.sizes, rule.follows)
    target = Fraction(source * found[rule.follows], leader)
    if target.denominator == 1:
        return int(target)
    lower, upper = _around(Fraction(found[rule.follows]), Fraction(_whole_step(spec, request, rule.follows)))
    raise SizeError(
        f"{rule.follows} {found[rule.follows]} makes {rule.name} {_number(target)} ({source} at {rule.follows} "
        f"{leader}, {rule.keeps}), which is no integer. Nearest {rule.follows} that fits: "
        f"{' or '.join(_number(size) for size in (lower, upper) if size > 0)}; or give {rule.flag} as well."
    )


def _whole_step(spec: ModelSpec, request: SizeRequest, leader: str) -> int:
    """The step in which a size may change so that every size that still has to follow it comes out whole."""
    source = step = int(getattr(spec.sizes, leader))
    for other in SIZE_TABLE:
        if other.follows == leader and other.name in spec.family.fields and getattr(request, other.name) is None:
            step = gcd(step, getattr(spec.sizes, other.name))
    return source // step


def _around(value: Fraction, step: Fraction) -> tuple[Fraction, Fraction]:
    below = value // step * step
    return below, below + step


def _number(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"


def _complete(spec: ModelSpec, found: Mapping[str, int], decisions: list[Decision], step: int) -> Sizes:
    """Check the five sizes against each other and the family; fill in what they imply.

    `step` is that of hidden_size for sizes that follow it.
    """
    family, source = spec.family, spec.sizes
    hidden, heads, kv_heads = found["hidden_size"], found["num_attention_heads"], found["num_key_value_heads"]
    if heads % kv_heads:
        why = next((decision.reason for decision in decisions if decision.name == "num_key_value_heads"), "")
        because = f" (which {why})" if why.startswith("follows") else ""
        valid = sorted((n for n in range(1, heads + 1) if heads % n == 0), key=lambda n: (abs(n - kv_heads), n))[:2]
        raise SizeError(
            f"num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}{because}. Nearest "
            f"num_key_value_heads that fit: {' or '.join(map(str, sorted(valid)))} (--kv-heads)."
        )
    head_dim = source.head_dim
    if family.heads_divide_hidden and hidden % heads:
        fits = [size for size in _around(Fraction(hidden), Fraction(lcm(heads, step))) if size > 0]
        near = sorted((n for n in range(1, hidden + 1) if hidden % n == 0), key=lambda n: (abs(n - heads), n))[:2]
        raise SizeError(
            f"hidden_size {hidden} is no multiple of num_attention_heads {heads}, which {family.config_class} "
            f"refuses. Nearest hidden_size for {heads} heads: {' or '.join(map(_number, fits))}; nearest "
            f"num_attention_heads for hidden_size {hidden}: {' or '.join(map(str, sorted(near)))} (--heads)."
        )
    if not family.stores_head_dim:
        head_dim = hidden // heads
    if family.rotary and head_dim != source.head_dim:
        raise SizeError(
            f"head_dim would change from {source.head_dim} to {head_dim}; rotary positions tie each channel of a head "
            "to a frequency, so it must stay. Choose hidden_size and num_attention_heads at the same head_dim."
        )
    return replace(
        source,
        **found,
        head_dim=head_dim,
        # A pooler as wide as the model stays so; one with a width of its own keeps it.
        pooled=hidden if source.pooled == source.hidden_size else source.pooled,
    )


def _read_like(spec: ModelSpec, config: Mapping[str, Any]) -> tuple[Sizes, tuple[str, ...]]:
    like = read_spec(config)
    if spec.family.rotary and like.sizes.head_dim != spec.sizes.head_dim:
        raise SizeError(
            f"like: head_dim is {like.sizes.head_dim}, the source has {spec.sizes.head_dim}; rotary positions tie each "
            "channel of a head to a frequency, so head_dim cannot change. Give the sizes one by one."
        )
    remarks = []
    if like.family is not spec.family:
        remarks.append(f"like: model_type {like.family.name} is not taken, the output stays {spec.family.name}")
    for field in ("vocab_size", *_POSITION_FIELDS, "type_vocab_size", "image_size", "patch_size"):
        ours, theirs = spec.value(field), like.value(field)
        if ours is not None and theirs is not None and ours != theirs:
            remarks.append(f"like: {field} {theirs} is not taken, the output keeps {ours}")
    if like.sizes.head_dim != spec.sizes.head_dim and spec.family.stores_head_dim:
        remarks.append(f"like: head_dim {like.sizes.head_dim} is not taken, the output keeps {spec.sizes.head_dim}")
    return like.sizes, tuple(remarks)


_POSITION_FIELDS = ("max_position_embeddings", "n_positions", "rope_parameters", "rope_theta", "rope_scaling")
