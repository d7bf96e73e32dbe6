"""What a user may choose about the method; a preset only sets the defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from wavescale.errors import OptionError
from wavescale.resampling import Boundary, wavelet_filters

Gain = Literal["role", "orthonormal"]


@dataclass(frozen=True)
class Choices:
    """How every axis is resized.

    Attributes
    ----------
    preset
        Where the defaults come from.
    width
        `replicate` copies channels, units and heads and keeps the function (growing only);
        `signal` resamples with the wavelet; `auto` replicates what grows and resamples what shrinks.
    depth
        `insert` adds layers that pass their input on (growing only); `signal` resamples over the
        layers; `stack` repeats the whole stack (growing only); `auto` inserts when growing and
        resamples when shrinking.
    wavelet
        Any discrete wavelet of PyWavelets, where `signal` is at work.
    gain
        `role`: amplitude for outputs, sum for inputs; `orthonormal`: the transform's own; `auto`:
        role when growing, orthonormal when shrinking.
    heads
        `whole` moves heads as they are; `flat` resamples all channels of all heads as one signal.
    depth_boundary
        `two-ended`, or `periodization` as in the paper's transform.
    dual
        Whether inputs use the dual operator, so that biorthogonal wavelets agree across two maps.
    details
        What the copies of an input differ by when growing: `zero`, or `antisymmetric` seeded numbers
        that sum to zero over the copies, so that the function stays and twins part.
    seed
        Of all seeded noise.
    """

    preset: Literal["default", "paper"] = "default"
    width: Literal["auto", "replicate", "signal"] = "auto"
    depth: Literal["auto", "insert", "signal", "stack"] = "auto"
    wavelet: str = "haar"
    gain: Literal["auto", "role", "orthonormal"] = "auto"
    heads: Literal["whole", "flat"] = "whole"
    depth_boundary: Boundary = "two-ended"
    dual: bool = True
    details: Literal["zero", "antisymmetric"] = "antisymmetric"
    seed: int = 0

    def width_of(self, n: int, m: int) -> Literal["replicate", "signal"]:
        """How an axis goes from n to m."""
        if self.width == "auto":
            return "replicate" if m > n else "signal"
        return self.width

    def depth_of(self, n: int, m: int) -> Literal["insert", "signal", "stack"]:
        """How n layers become m."""
        if self.depth == "auto":
            return "insert" if m > n else "signal"
        return self.depth

    def gain_of(self, n: int, m: int) -> Gain:
        """Which gain an axis takes on its way from n to m."""
        if self.gain == "auto":
            return "role" if m >= n else "orthonormal"
        return self.gain


# fmt: off
PRESETS: dict[str, Choices] = {
    "default": Choices(),
    "paper": Choices(preset="paper", width="signal", depth="signal", gain="orthonormal", heads="flat",
                     depth_boundary="periodization", dual=False, details="zero"),
}
# fmt: on


def choose(preset: str = "default", **options: Any) -> Choices:
    """The preset's choices with some of them replaced; options that are None stay.

    Raises
    ------
    OptionError
        An unknown preset, option value or wavelet; the message lists those that there are.

    Examples
    --------
    >>> choose("paper", wavelet="db2").gain
    'orthonormal'
    """
    if preset not in PRESETS:
        raise OptionError(f"preset {preset!r} is unknown; use one of {', '.join(PRESETS)}.")
    given = {name: value for name, value in options.items() if value is not None}
    hints = get_type_hints(Choices)
    known = {field.name for field in fields(Choices)} - {"preset"}
    for name, value in given.items():
        if name not in known:
            raise OptionError(f"option {name!r} is unknown; choices are {', '.join(sorted(known))}.")
        allowed = get_args(hints[name])
        if allowed and value not in allowed:
            raise OptionError(f"{name} {value!r} is unknown; use one of {', '.join(map(str, allowed))}.")
    choices = replace(PRESETS[preset], **given)
    if isinstance(choices.seed, bool) or not isinstance(choices.seed, int) or not 0 <= choices.seed < 2**32:
        raise OptionError(f"seed {choices.seed!r} is no whole number from 0 to 4,294,967,295.")
    wavelet_filters(choices.wavelet)
    return choices
