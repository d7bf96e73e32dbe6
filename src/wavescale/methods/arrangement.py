"""Which orders and cells of units a resize needs: what an analysis has to find before it is carried out."""

from __future__ import annotations

from dataclasses import dataclass, field

from wavescale.artifacts import Place
from wavescale.errors import OptionError
from wavescale.methods.choices import Choices
from wavescale.spec import Sizes

# Axes with an order of their own in every layer, and those that all layers share. The channels of a head are
# not among them: rotary positions and the norms on queries and keys tell them apart.
LAYER_AXES = ("intermediate", "kv_heads", "heads")
UNIT_AXES = (*LAYER_AXES, "hidden", "pooled")


@dataclass(frozen=True)
class Arrangement:
    """What becomes of units before the axes are resized.

    Attributes
    ----------
    orders
        The axes and layers whose units are put in another order.
    merged
        The axes whose units are merged, and how many come out.
    """

    orders: frozenset[Place] = frozenset()
    merged: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Sizes, target: Sizes, choices: Choices) -> Arrangement:
        """What the choices ask for between two models.

        Raises
        ------
        OptionError
            An order that nothing reads, or heads that cannot be chosen or merged.
        """
        shrinks = {axis: m for axis, m in target.axes.items() if m < source.axes[axis] and axis in UNIT_AXES}
        if choices.width in ("norm", "merge"):
            _check_heads(source, target, choices.width)
        merged = shrinks if choices.width == "merge" else {}
        axes: set[str] = set()
        if choices.width == "norm":
            axes.update(shrinks)
        elif choices.order != "none":
            axes.update(axis for axis, m in shrinks.items() if choices.width_of(source.axes[axis], m) == "signal")
        if choices.order != "none" and averages_layers(source, target, choices):
            axes.update(LAYER_AXES)
        if "kv_heads" in axes:
            axes.add("heads")  # whose groups move with their keys and values
        axes -= {"kv_heads", "heads"} if "heads" in merged else merged.keys()
        layers = range(source.num_hidden_layers)
        places = ((axis, layer) for axis in axes for layer in (layers if axis in LAYER_AXES else (None,)))
        return cls(frozenset(places), merged)


def averages_layers(source: Sizes, target: Sizes, choices: Choices) -> bool:
    """Whether layers of the target are sums over several of the source."""
    n, m = source.num_hidden_layers, target.num_hidden_layers
    return n != m and choices.layer_map is None and choices.depth_of(n, m) == "signal"


def _check_heads(source: Sizes, target: Sizes, how: str) -> None:
    """Refuse groups that would need more query heads than one of the source has."""
    before = source.num_attention_heads // source.num_key_value_heads
    after = target.num_attention_heads // target.num_key_value_heads
    if after > before:
        raise OptionError(
            f"width {how!r} takes query heads from their own group, so {before} for each key-value head cannot become "
            f"{after}. Give num_attention_heads (--heads) {before * target.num_key_value_heads} or fewer, "
            "or use width 'signal'."
        )
