"""What a user may choose about the method; a preset only sets the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from operator import index
from typing import Any, Literal, get_args, get_origin, get_type_hints

from wavescale.errors import OptionError
from wavescale.resampling import Boundary, wavelet_filters

Gain = Literal["role", "orthonormal", "variance", "unnormalized"]
Mapping = Literal["operators", "ligo", "mango", "random"]
Width = Literal["replicate", "signal", "tile", "pad", "select", "norm", "merge", "fpi", "aki", "dct"]
Depth = Literal["insert", "signal", "stack", "interleave", "repeat", "first", "drop", "dct"]


@dataclass(frozen=True)
class Choices:
    """How every axis is resized.

    Attributes
    ----------
    preset
        Where the defaults come from.
    width
        `replicate` copies channels, units and heads and keeps the function (growing only); `tile`
        does so with copies of the whole axis one after the other (whole multiples only); `pad` leaves what is
        there as it is, and what is new reads at random and writes nothing yet (growing only; channels of a head
        and pooled outputs are copied); `signal`
        resamples with the wavelet; `select` keeps evenly spaced channels, units and heads as they are
        (shrinking only), `norm` those of largest weights; `merge` puts the most similar ones together,
        weighed by their energy (shrinking only); `fpi` keeps all and copies some at random (growing
        only), where `aki` takes those from the next layer; `dct` keeps the first cosine coefficients;
        `auto` replicates what grows and resamples what shrinks.
    order
        In which order units lie where `signal` takes fewer of them or averages layers: `none` as they
        are; `similarity` with similar ones side by side, paired greedily, and layers aligned to each
        other; `matching` the same with the pairs of largest total similarity. `merge` pairs by it, too.
    depth
        `insert` adds layers that pass their input on (growing only); `signal` resamples over the
        layers, with the wavelet, `dct` with cosines; `stack` repeats the whole stack, `repeat` as often as it
        fits and then its last layers, `interleave` each layer (growing only); `first` keeps the first
        layers and `drop` evenly spaced ones, the first and the last among them (shrinking only); `auto` inserts
        when growing; when shrinking it drops layers if the rest is calibrated, and else resamples.
    layer_map
        For every layer of the target the source layer that it copies, counted from 0; it takes the
        place of `depth`.
    wavelet
        Any discrete wavelet of PyWavelets, where `signal` is at work.
    gain
        `role`: amplitude for outputs, sum for inputs; `orthonormal`: the transform's own; `variance`
        (shrinking only): that of units and of what they contribute, by what is known of their
        similarity; `unnormalized` (`dct` only): the transform without a norm, which multiplies by
        √(n/m); `auto`: role when growing, orthonormal when shrinking, variance when merging.
    heads
        `whole` moves heads as they are; `flat` takes all channels of all heads as one axis.
    depth_boundary
        `two-ended`, or `periodization` as in the paper's transform.
    dual
        Whether inputs use the dual operator, so that biorthogonal wavelets agree across two maps.
    standardized
        Whether every tensor is standardised before the transform and takes its mean and spread back
        after it (`dct` only).
    details
        How copies of an input share its weights when growing: equally (`zero`), or unequally by seeded
        `antisymmetric` details, which sum to zero over the copies, so that the function stays and twins part.
    detail_size
        How unequal shares are: of two copies one takes (1 + size)/2 of a weight and the other (1 - size)/2. With
        1 a weight goes whole to one of them. With `pad` also the size of new numbers, as a multiple of a tensor's
        root mean square. Rounding grows with it; a plan says where it is too large to call the function kept.
    seed
        Of all seeded noise.
    calibrate
        What a smaller model is fitted on (`wavescale.calibration`): text that the source writes
        itself (`generated`), `random` input, what the user has `given`, or nothing (`none`); `auto`
        needs no data and is settled by `wavescale.methods.settled`. A calibrated model has layers
        dropped, and heads, units and directions of the residual stream chosen.
    mapping
        Who makes the target's tensors (`wavescale.learned`): `operators`, one for each axis, which all
        choices above describe; `ligo` and `mango`, trained on the task loss (growing only); `random`,
        the library's own initialisation. With the others only `seed` matters of what stands above.
    train_steps
        Steps that `ligo` and `mango` are trained for, one batch each.
    train_rate
        Their highest learning rate.
    """

    preset: Literal[
        "default", "paper", "weight-selection", "hypercloning", "bert2bert-fpi", "bert2bert-aki", "stack", "interleave",
        "llama-pro", "front-dct", "front-dct-corrected", "ligo", "mango", "random"
    ] = "default"  # fmt: skip
    width: Literal["auto", "replicate", "signal", "tile", "pad", "select", "norm", "merge", "fpi", "aki", "dct"] = (
        "auto"
    )
    order: Literal["none", "similarity", "matching"] = "none"
    depth: Literal["auto", "insert", "signal", "stack", "interleave", "repeat", "first", "drop", "dct"] = "auto"
    layer_map: tuple[int, ...] | None = None
    wavelet: str = "haar"
    gain: Literal["auto", "role", "orthonormal", "variance", "unnormalized"] = "auto"
    heads: Literal["whole", "flat"] = "whole"
    depth_boundary: Boundary = "two-ended"
    dual: bool = True
    standardized: bool = False
    details: Literal["zero", "antisymmetric"] = "antisymmetric"
    detail_size: float = 1.0
    seed: int = 0
    calibrate: Literal["auto", "none", "generated", "random", "given"] = "auto"
    mapping: Mapping = "operators"
    train_steps: int = 100
    train_rate: float = 3e-3

    @property
    def trains(self) -> bool:
        """Whether a mapping is trained before the tensors are made."""
        return self.mapping in ("ligo", "mango")

    def width_of(self, n: int, m: int) -> Width:
        """How an axis goes from n to m."""
        if self.width == "auto":
            return "replicate" if m >= n else "signal"
        return self.width

    def depth_of(self, n: int, m: int) -> Depth:
        """How n layers become m."""
        if self.depth == "auto":
            return "insert" if m > n else "signal" if self.calibrate == "none" else "drop"
        return self.depth

    def gain_of(self, n: int, m: int) -> Gain:
        """Which gain an axis takes on its way from n to m."""
        if self.gain == "auto" and m < n:
            return "variance" if self.width == "merge" else "orthonormal"
        return "role" if self.gain == "auto" or (self.gain == "variance" and m >= n) else self.gain


# fmt: off
PRESETS: dict[str, Choices] = {
    "default": Choices(),
    "paper": Choices(preset="paper", width="signal", depth="signal", gain="orthonormal", heads="flat",
                     depth_boundary="periodization", dual=False, details="zero", calibrate="none"),
    # Initializing Models with Larger Ones (Xu et al. 2024, arXiv 2311.18823): no tensor takes a factor.
    "weight-selection": Choices(preset="weight-selection", width="select", depth="first", gain="orthonormal",
                                heads="flat", details="zero", calibrate="none"),
    # Scaling Smart (Samragh et al. 2024, arXiv 2409.12903); it says nothing about depth.
    "hypercloning": Choices(preset="hypercloning", width="tile", details="zero", calibrate="none"),
    # bert2BERT (Chen et al. 2022, arXiv 2110.07143): function-preserving and advanced knowledge initialisation.
    "bert2bert-fpi": Choices(preset="bert2bert-fpi", width="fpi", depth="repeat", details="zero", calibrate="none"),
    "bert2bert-aki": Choices(preset="bert2bert-aki", width="aki", depth="repeat", details="zero", calibrate="none"),
    # StackBERT (Gong et al. 2019, PMLR 97), G_stack (Du et al. 2024, arXiv 2405.15319); in width copies.
    "stack": Choices(preset="stack", depth="stack", details="zero", calibrate="none"),
    # Each layer repeated in its place, which the authors of StackBERT and G_stack compare with.
    "interleave": Choices(preset="interleave", depth="interleave", details="zero", calibrate="none"),
    # LLaMA Pro (Wu et al. 2024, arXiv 2401.02415): block expansion; in width copies.
    "llama-pro": Choices(preset="llama-pro", depth="insert", details="zero", calibrate="none"),
    # FRONT (Shen et al. 2026, arXiv 2603.07523), as its script has it, and with the gains of METHOD "Gain".
    "front-dct": Choices(preset="front-dct", width="dct", depth="dct", gain="unnormalized", heads="flat",
                         standardized=True, details="zero", calibrate="none"),
    "front-dct-corrected": Choices(preset="front-dct-corrected", width="dct", depth="dct", gain="role", heads="flat",
                                   standardized=True, details="zero", calibrate="none"),
    # Learning to Grow (Wang et al. 2023, arXiv 2303.00980).
    "ligo": Choices(preset="ligo", depth="stack", details="zero", calibrate="none", mapping="ligo"),
    # Multi-linear operators (Pan et al. 2023, arXiv 2310.10699).
    "mango": Choices(preset="mango", depth="stack", details="zero", calibrate="none", mapping="mango"),
    "random": Choices(preset="random", details="zero", calibrate="none", mapping="random"),
}
# fmt: on


def choose(preset: str = "default", **options: Any) -> Choices:
    """The preset's choices with some of them replaced; options that are None stay.

    Raises
    ------
    OptionError
        An unknown preset, option value or wavelet; the message lists those that there are. A layer map
        that is none, or that comes with a choice of depth.

    Examples
    --------
    >>> choose("paper", wavelet="db2").gain
    'orthonormal'
    >>> choose(layer_map="0,0,1").layer_map
    (0, 0, 1)
    """
    if preset not in PRESETS:
        raise OptionError(f"preset {preset!r} is unknown; use one of {', '.join(PRESETS)}.")
    given = {name: value for name, value in options.items() if value is not None}
    hints = get_type_hints(Choices)
    known = {field.name for field in fields(Choices)} - {"preset"}
    for name, value in given.items():
        if name not in known:
            raise OptionError(f"option {name!r} is unknown; choices are {', '.join(sorted(known))}.")
        allowed = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        if allowed and value not in allowed:
            raise OptionError(f"{name} {value!r} is unknown; use one of {', '.join(map(str, allowed))}.")
    if "layer_map" in given:
        if given.get("depth", "auto") != "auto":
            raise OptionError(
                f"layer_map (--layer-map) says what every layer copies, so depth {given['depth']!r} has no effect. "
                "Leave one of the two out."
            )
        given["layer_map"] = _layer_map(given["layer_map"])
    _check_mapping(PRESETS[preset], given)
    _check_cosines(
        replace(PRESETS[preset], **{name: given[name] for name in ("width", "depth", "gain") if name in given})
    )
    _settle_calibration(given)
    choices = replace(PRESETS[preset], **given)
    if isinstance(choices.seed, bool) or not isinstance(choices.seed, int) or not 0 <= choices.seed < 2**32:
        raise OptionError(f"seed {choices.seed!r} is no whole number from 0 to 4,294,967,295.")
    _check_details(choices, given)
    wavelet_filters(choices.wavelet)
    return choices


def _check_details(choices: Choices, given: dict[str, Any]) -> None:
    size = choices.detail_size
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < inf:
        raise OptionError(f"detail_size (--detail-size) {size!r} is no positive number; give for example 3.")
    if "detail_size" in given and choices.details == "zero" and choices.width != "pad":
        raise OptionError(
            f"detail_size (--detail-size) {size!r} has no effect without details. Leave it out, or add "
            "details antisymmetric or width pad."
        )


# Options that describe operators, and those that describe training.
_OPERATORS = ("width", "order", "depth", "layer_map", "wavelet", "gain", "details", "detail_size", "calibrate")
_TRAINING = ("train_steps", "train_rate")


def _check_mapping(preset: Choices, given: dict[str, Any]) -> None:
    """Refuse options that have no effect on who makes the tensors, and numbers that train nothing."""
    if preset.mapping != "operators":
        if given.get("calibrate") == "auto":
            del given["calibrate"]
        idle = next((name for name in _OPERATORS if given.get(name, "none") != "none"), None)
        if idle is not None:
            raise OptionError(
                f"{idle} {given[idle]!r} has no effect with {preset.preset!r}, which makes every tensor itself. "
                "Leave one of the two out."
            )
        given.pop("order", None)
    idle = next((name for name in _TRAINING if name in given), None)
    if idle is not None and not preset.trains:
        raise OptionError(
            f"{idle} {given[idle]!r} has no effect: {preset.preset!r} trains nothing. Leave it out, or take "
            "ligo or mango."
        )
    steps, rate = given.get("train_steps", 0), given.get("train_rate", 1.0)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise OptionError(f"train_steps (--train-steps) {steps!r} is no number of steps; give for example 100.")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < inf:
        raise OptionError(f"train_rate (--train-rate) {rate!r} is no learning rate; give for example 3e-3.")


def _check_cosines(choices: Choices) -> None:
    """Refuse what only the cosine transform has with anything else."""
    if (choices.width, choices.depth) == ("dct", "dct"):
        return
    found = f"found width {choices.width!r} and depth {choices.depth!r}; use 'dct' for both"
    if choices.gain == "unnormalized":
        raise OptionError(f"gain (--gain) unnormalized is of cosines, {found}, or gain role or orthonormal.")
    if choices.standardized:
        raise OptionError(f"preset {choices.preset!r} is of cosines, {found}, or another preset.")


# Options that say how to resize; what is not calibrated follows them.
_SWITCHES = ("width", "order", "gain", "wavelet", "depth", "layer_map")


def _settle_calibration(given: dict[str, Any]) -> None:
    """Who says how to resize gets that and no more, unless calibration is asked for and goes with it."""
    chosen = [name for name in _SWITCHES if given.get(name, "auto") not in ("auto", "none")]
    resampled = [name for name in chosen if name not in ("depth", "layer_map") or given[name] in ("signal", "dct")]
    if given.get("calibrate", "auto") == "auto" and chosen:
        given["calibrate"] = "none"
    if resampled and given["calibrate"] != "none":
        name = resampled[0]
        raise OptionError(
            f"{name} {given[name]!r} resamples, calibrate (--calibrate) {given['calibrate']!r} chooses and refits "
            "instead. Leave one of the two out."
        )


def _layer_map(value: object) -> tuple[int, ...]:
    """A layer map from text such as `"0,2,4"` or from a sequence of whole numbers."""
    layers: tuple[int, ...] = ()
    try:
        if isinstance(value, str):
            layers = tuple(int(part) for part in value.split(","))
        elif isinstance(value, Sequence):
            layers = tuple(index(layer) for layer in value)
    except (TypeError, ValueError):
        pass  # refused below, together with what is empty
    if not layers or min(layers) < 0:
        raise OptionError(
            f"layer_map (--layer-map) {value!r} is no list of layers; expected whole numbers from 0, one for each "
            "layer of the target. Give for example 0,2,4."
        )
    return layers
