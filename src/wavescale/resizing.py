"""Plan a resize, of whatever stands for a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from wavescale.artifacts import NOTHING, Artifacts
from wavescale.checkpoint import open_checkpoint
from wavescale.checkpoint.companions import left_behind
from wavescale.errors import OptionError
from wavescale.inputs import has_tokenizer
from wavescale.matching import DTYPE_BYTES, expected_tensors
from wavescale.methods import choose
from wavescale.plan import Plan
from wavescale.planning import make_plan
from wavescale.sizes import SizeRequest
from wavescale.spec import ModelSpec, read_spec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from wavescale.findings import Calibrate

    Model: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | PreTrainedModel


def plan_resize(
    model: Model,
    *,
    hidden_size: int | None = None,
    num_hidden_layers: int | None = None,
    num_attention_heads: int | None = None,
    num_key_value_heads: int | None = None,
    intermediate_size: int | None = None,
    scale_width: float | Fraction | str | None = None,
    scale_depth: float | Fraction | str | None = None,
    like: Model | None = None,
    preset: str = "default",
    width: str | None = None,
    order: str | None = None,
    depth: str | None = None,
    layer_map: str | Sequence[int] | None = None,
    wavelet: str | None = None,
    gain: str | None = None,
    details: str | None = None,
    detail_size: float | None = None,
    seed: int | None = None,
    calibrate: Calibrate | None = None,
    train_steps: int | None = None,
    train_rate: float | None = None,
    dtype: str | torch.dtype | None = None,
    architecture: str | None = None,
    drop: Sequence[str] = (),
    artifacts: Artifacts = NOTHING,
) -> Plan:
    """Plan a resize without reading a weight.

    Parameters
    ----------
    model
        A folder, a config.json, a hub id, a config (dictionary or transformers' own), or a model.
    hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads, intermediate_size
        The target's sizes, for every family under these names. What is left out follows hidden_size
        (heads at the same head_dim, intermediate size at the same ratio) or stays.
    scale_width, scale_depth
        Factors instead of sizes: on hidden size, heads, key-value heads and intermediate size; on
        layers. A number, a Fraction, or text such as `"2/3"`.
    like
        A folder, config.json, hub id, config or model to take the five sizes from.
    preset
        `default`; `paper` for BoT as we read its paper (arXiv 2603.07506); `weight-selection`, `hypercloning`,
        `bert2bert-fpi`, `bert2bert-aki`, `stack`, `interleave`, `llama-pro`, `front-dct` or `front-dct-corrected`
        of other authors; `ligo` or `mango`, mappings that are trained (growing); or `random`. docs/methods.md has
        their papers and what each chooses.
    width, depth, wavelet, gain
        Choices instead of the preset's: `replicate`, `tile`, `pad`, `signal`, `select`, `norm`, `merge`, `fpi`, `aki`
        or `dct`; `insert`, `stack`, `repeat`, `interleave`, `signal`, `first`, `drop` or `dct`; a discrete wavelet
        of PyWavelets; `role`, `orthonormal`, `variance` or `unnormalized`.
    order
        `none`, `similarity` or `matching`: similar units side by side, and layers aligned to each other,
        before `signal` averages them.
    layer_map
        For every layer of the target the source layer that it copies, counted from 0: a sequence, or
        text such as `"0,2,4"`. Without another word on layers its length is their number.
    details
        How copies that growing makes share a weight: unequally and seeded (`antisymmetric`), so that twins part,
        or equally (`zero`).
    detail_size
        How unequal their shares are; by default 1, with which a weight goes whole to one of two copies.
    seed
        Of seeded noise.
    calibrate
        What a smaller model is fitted on: a text file (a folder of images for an image model), batches
        (keyword arguments of the forward pass), `generated` (text that the model writes itself), `random`
        (tokens or pixels), or `none`. By default what only becomes smaller is calibrated without data, up to a
        billion parameters.
    train_steps, train_rate
        How many steps `ligo` and `mango` are trained for, each on one batch, and the highest learning rate.
    dtype
        Of the output: `float64`, `float32`, `bfloat16` or `float16`; by default as stored.
    architecture
        The class of transformers, for a config that names none.
    drop
        Names of tensors that are left out, or patterns such as `"v_head.*"`: what the class does not have. Without it
        such tensors are carried over where no axis of theirs changes, and refused elsewhere.
    artifacts
        What `wavescale.analyse` found; with it nothing is calibrated unless `calibrate` asks for it.

    Returns
    -------
    An immutable value to print, compare, or save as JSON.

    Raises
    ------
    WavescaleError
        Sizes, options or checkpoint cannot be used; the message says what to do.

    Examples
    --------
    >>> config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 100,
    ...           "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> plan = plan_resize(config, hidden_size=128)
    >>> plan.target.num_attention_heads, plan.keeps_function
    (8, True)
    """
    choices = choose(
        preset, width=width, order=order, depth=depth, layer_map=layer_map, wavelet=wavelet, gain=gain,
        details=details, detail_size=detail_size, seed=seed, calibrate=_calibration(calibrate), train_steps=train_steps,
        train_rate=train_rate,
    )  # fmt: skip
    request = SizeRequest(
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        intermediate_size,
        _fraction("scale_width", scale_width),
        _fraction("scale_depth", scale_depth),
        None if like is None else _config(like),
        None if choices.layer_map is None else len(choices.layer_map),
    )
    dtype = None if dtype is None else str(dtype).removeprefix("torch.")
    if dtype is not None and dtype not in DTYPE_BYTES:
        raise OptionError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPE_BYTES)}.")
    spec, found = _source(model, architecture)
    plan = make_plan(spec, found, request, choices, dtype, artifacts, _tokenized(model), _patterns(drop))
    return replace(plan, remarks=(*plan.remarks, *_left_behind(model)))


def _left_behind(model: Model) -> tuple[str, ...]:
    if not isinstance(model, str | os.PathLike):
        return ()
    path = open_checkpoint(model, weights=False).path
    return left_behind(path) if path.is_dir() else ()


def _patterns(drop: Sequence[str]) -> tuple[str, ...]:
    if isinstance(drop, str) or not all(isinstance(pattern, str) for pattern in drop):
        raise OptionError(f"drop {drop!r} is no list of patterns; give for example ['v_head.*'].")
    return tuple(drop)


def _calibration(calibrate: Calibrate | None) -> str | None:
    """The choice that stands for what the user gave."""
    if calibrate is None or (isinstance(calibrate, str) and calibrate in ("auto", "none", "generated", "random")):
        return calibrate
    return "given"


def _source(model: Model, architecture: str | None) -> tuple[ModelSpec, dict[str, tuple[tuple[int, ...], str]]]:
    if isinstance(model, str | os.PathLike):
        checkpoint = open_checkpoint(model, weights=False)
        spec = read_spec(checkpoint.config, architecture)
        return spec, checkpoint.tensors if checkpoint.complete else expected_tensors(spec)
    if hasattr(model, "state_dict") and hasattr(model, "config"):
        from wavescale.memory import model_spec, model_tensors

        tensors = model_tensors(model)
        found = {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in tensors.items()}
        return model_spec(model), found
    spec = read_spec(_config(model), architecture)
    return spec, expected_tensors(spec)


def _tokenized(model: Model) -> bool:
    """Whether a tokenizer lies beside a model; of a config alone that is not known, and taken to be so."""
    if isinstance(model, str | os.PathLike):
        checkpoint = open_checkpoint(model, weights=False)
        return not checkpoint.complete or has_tokenizer(checkpoint.path)
    return not hasattr(model, "state_dict") or has_tokenizer(Path(getattr(model, "name_or_path", "") or os.devnull))


def _config(config: Any) -> Mapping[str, Any]:
    if isinstance(config, str | os.PathLike):
        return open_checkpoint(config, weights=False).config
    config = getattr(config, "config", config)  # of a model
    if hasattr(config, "to_json_string"):
        found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
        return found
    if isinstance(config, Mapping):
        return config
    raise OptionError(f"{type(config).__name__} is no model: expected a folder, a hub id, a config or a model.")


def _fraction(name: str, value: float | Fraction | str | None) -> Fraction | None:
    if value is None:
        return None
    try:
        # Through float, so that an exponent of millions is infinite rather than a number that fills memory.
        return Fraction(float(value)) if "e" in str(value).lower() else Fraction(str(value))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise OptionError(f"{name} {value!r} is no number; give for example 1.5 or 2/3.") from error
