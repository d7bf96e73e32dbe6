"""How far a resized model's outputs lie from its source's, and at which stage they first depart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavescale.architectures.schema import Role
from wavescale.artifacts import named_place
from wavescale.card import Digest, stated_digest
from wavescale.checkpoint import open_checkpoint
from wavescale.checkpoint.reader import Checkpoint
from wavescale.errors import CheckpointError, OptionError
from wavescale.execute import check_device
from wavescale.inputs import load_tokenizer, positions, random_inputs, read_text, token_inputs
from wavescale.matching import match_tensors
from wavescale.memory import load_model, quiet_loading
from wavescale.methods import Separable
from wavescale.methods.width import Usage
from wavescale.plan import Plan
from wavescale.planning import method_of
from wavescale.rounding import HALF_TOLERANCE, TOLERANCE, half_type
from wavescale.spec import ModelSpec, Sizes, read_spec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# The text that a loss is measured on: this many windows of this many tokens.
WINDOWS, WINDOW_TOKENS = 8, 512
_PROBE_SEQUENCES, _PROBE_TOKENS = 4, 32
_MASKED_SHARE = 0.15
_TEXT = "text (--text)"
_SENTENCES_AT_ONCE, _MOST_SENTENCES = 32, 512

SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A man is riding a horse.",
    "A woman is playing violin.",
    "Two men pushed carts through the woods.",
    "A monkey is playing drums.",
    "A cheetah is running behind its prey.",
    "The stock market fell sharply on Monday.",
    "Shares lost much of their value at the start of the week.",
    "The recipe calls for two eggs and a cup of flour.",
    "Mix flour and eggs into a smooth dough.",
    "The telescope found water on a distant planet.",
    "Astronomers discovered vapour around a far-away world.",
    "My train was late again this morning.",
    "The new law was passed by a narrow majority.",
)


@dataclass(frozen=True)
class Stage:
    """One stage of the model and the largest difference there, relative to the largest value.

    Attributes
    ----------
    name
        In words; layers are counted from 0 and are those of the target.
    difference
        Relative to the largest value; NaN where the target computes one.
    output
        Whether it is what the model is used for: logits, or the hidden states of a model without a head.
    compared
        The source's stage, where it has another name.
    """

    name: str
    difference: float
    output: bool = False
    compared: str = ""


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    stages
        Embedding, layers, final norm and output, in order; stages that have no counterpart are left
        out.
    tolerance
        The relative difference that still counts as rounding: 1e-4, or for half types ten times `rounding`.
    promised
        Whether the plan keeps the function.
    rounding
        For a target in a half type: its name, and the largest relative difference between the
        source's outputs in that type and in float32.
    losses
        Loss of source and target in nats per token, where a text was given or the model has a
        language-model head and a tokenizer.
    tokens
        How many tokens the loss is a mean over.
    similarity
        For encoders without a head: the largest change of a pairwise sentence similarity (cosine),
        and the rank correlation of all of them with the source's.
    changed
        Which of `source` and `output` have another config or other weights than when `output` was written; None where
        its card states no digests.
    """

    stages: tuple[Stage, ...]
    tolerance: float
    promised: bool
    rounding: tuple[str, float] | None = None
    losses: tuple[float, float] | None = None
    tokens: int = 0
    similarity: tuple[float, float] | None = None
    changed: tuple[Digest, ...] | None = None

    @property
    def output_difference(self) -> float:
        """The largest relative difference of any output; NaN where none can be compared."""
        found = [stage.difference for stage in self.stages if stage.output]
        return _largest(found) if found else nan

    @property
    def kept(self) -> bool:
        """Whether all outputs agree up to rounding."""
        return self.output_difference <= self.tolerance

    @property
    def first_departure(self) -> Stage | None:
        """The first stage whose difference is more than rounding."""
        return next((stage for stage in self.stages if not stage.difference <= self.tolerance), None)

    @property
    def verdict(self) -> str:
        """One sentence."""
        rounding = ""
        if self.rounding is not None:
            rounding = "; {} alone moves the source by {:.1e}".format(*self.rounding)
        if self.kept:
            return f"function kept: max relative difference {self.output_difference:.1e}{rounding}"
        first = self.first_departure
        if first is None:
            return (
                "outputs not compared: the residual stream was ordered, turned or mapped in a way not stored" + rounding
            )
        return (
            f"function not kept: the output differs by {self.output_difference:.1e} (relative); "
            f"first to depart: {first.name}, by {first.difference:.1e}{rounding}{self._cause if self.promised else ''}"
        )

    @property
    def _cause(self) -> str:
        """Why outputs differ although the plan keeps the function."""
        match self.changed:
            case None:
                return "; the plan keeps it, and the card states no digests that say whether source or output changed"
            case ():
                return (
                    "; the plan keeps it and neither source nor output has changed (same digests), so this model "
                    "amplifies rounding: resize with --details zero or to --dtype float32"
                )
            case changed:
                return f"; the plan keeps it, but {' and '.join(changed)} changed since (another digest)"

    def to_json(self) -> str:
        """Everything as JSON; a difference that is no number is null."""
        found = {
            **asdict(self),
            "output_difference": self.output_difference,
            "kept": self.kept,
            "verdict": self.verdict,
        }
        return json.dumps(_finite(found), indent=1)

    def __str__(self) -> str:
        width = max((len(stage.name) for stage in self.stages), default=0)
        lines = [
            f"{stage.name:<{width}}  {stage.difference:.2e}"
            + (f"  (source: {stage.compared})" if stage.compared else "")
            for stage in self.stages
        ]
        if self.losses is not None:
            lines.append(f"loss: {self.losses[0]:.4f} → {self.losses[1]:.4f} nats ({self.tokens:,} tokens)")
        if self.similarity is not None:
            lines.append(
                f"sentence similarities: largest change {self.similarity[0]:.2e}, "
                f"rank correlation {self.similarity[1]:.4f}"
            )
        if "source" in (self.changed or ()):
            lines.append("note: config or weights of the source are not those that were resized (another digest)")
        lines.append(self.verdict)
        return "\n".join(lines)


def verify(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    text: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> Verification:
    """Run source and target on the same input and compare them stage by stage.

    Hidden states of different width are compared through the plan's own operator: what the source
    has, resized like a tensor that writes to the residual stream, against what the target has. Where the
    plan put the residual stream in an order, or calibration in directions, that it found, its states are
    left out, for neither is stored: the outputs of a head are compared alone.

    Parameters
    ----------
    model
        The source: a folder or hub id.
    out
        What `resize_checkpoint` wrote: its folder, or a hub id.
    text
        A text file: the loss of both models is taken on its first 4,096 tokens as 8 windows of 512;
        for an encoder without a head its first 512 lines are the sentences that are compared. Without one,
        tokens are drawn at random and encoders compare a few built-in sentences.
    device
        Where to run.

    Raises
    ------
    CheckpointError
        One of the two cannot be loaded, or `out` was not written by wavescale, or from a source of other sizes; or
        there is no such text, or no tokenizer for it.
    OptionError
        A text for a model that has no loss on it, or a device that is not there.
    """
    # What wavescale has written has an owner on the hub: owner/name.
    if not Path(out).expanduser().exists() and str(out).count("/") != 1:
        raise CheckpointError(f"{out}: no such folder. Give the one that wavescale resize wrote.")
    check_device(device)
    source, target = open_checkpoint(model), open_checkpoint(out)
    plan = _plan(target)
    family = source.config.get("model_type") or plan.family  # old configs name none
    if family != plan.family:
        raise CheckpointError(
            f"{model}: is not what {out} was made from: it is a {family}, expected a {plan.family}. Give the source of "
            f"{out}."
        )
    spec = read_spec(source.config, plan.architecture)
    if spec.sizes != plan.source:
        raise CheckpointError(
            f"{model}: is not what {out} was made from: its sizes are {_words(spec.sizes)}; "
            f"expected {_words(plan.source)}. Give the source of {out}."
        )
    models = [load_model(checkpoint.path, plan.architecture).to(device) for checkpoint in (source, target)]
    tokenizer = load_tokenizer(source.path)
    encoder = plan.architecture.endswith("Model") and spec.family.placement == "post"
    if text is not None:
        _check_text(Path(text), source.path, tokenizer, _has_loss(spec) or encoder, plan.architecture)
    tokens = _tokens(tokenizer, Path(text)) if text is not None and _has_loss(spec) else None
    inputs = {name: value.to(device) for name, value in _probe(spec, tokens).items()}
    states = [_run(m, spec, inputs) for m in models]
    method = method_of(plan, spec, match_tensors(spec, source.tensors))
    stages = _compare(method, states[0], states[1], _rearranged(plan))
    losses, count, similarity = None, 0, None
    if tokens is not None:
        windows = tokens[: WINDOWS * WINDOW_TOKENS]
        losses = (_loss(models[0], spec, tokenizer, windows), _loss(models[1], spec, tokenizer, windows))
        count = len(windows)
    elif tokenizer is not None and encoder:
        sentences = SENTENCES if text is None else _sentences(Path(text))
        similarity = _similarity(*(_cosines(m, tokenizer, sentences) for m in models))
    half = half_type(tensor.dtype for tensor in plan.tensors)
    rounding = None if half is None else (half, _rounding(models[0], half, spec, inputs, states[0]))
    tolerance = TOLERANCE if rounding is None else max(TOLERANCE, HALF_TOLERANCE * rounding[1])
    changed = _changed(source, target)
    return Verification(tuple(stages), tolerance, plan.keeps_function, rounding, losses, count, similarity, changed)


def _changed(source: Checkpoint, target: Checkpoint) -> tuple[Digest, ...] | None:
    """Which of the two have another digest than the target's card states."""
    both: dict[Digest, Checkpoint] = {"source": source, "output": target}
    stated = {of: stated_digest(target.path / "README.md", of) for of in both}
    if None in stated.values():
        return None
    return tuple(of for of, checkpoint in both.items() if checkpoint.fingerprint() != stated[of])


def _check_text(path: Path, source: Path, tokenizer: Any, used: bool, architecture: str) -> None:
    """Refuse a text that would not be read."""
    read_text(path, _TEXT)
    if not used:
        raise OptionError(f"{_TEXT} {path}: {architecture} has no loss on text. Leave it out.")
    if tokenizer is None:
        raise CheckpointError(f"{source}: has no tokenizer, which {_TEXT} needs. Save one there, or leave it out.")


def _rounding(
    source: PreTrainedModel, dtype: str, spec: ModelSpec, inputs: dict[str, torch.Tensor], exact: _States
) -> float:
    """How far the source's outputs in a half type lie from those in float32; converts the model."""
    import torch

    half: torch.dtype = getattr(torch, dtype)
    rounded = {name: value.to(half) if value.is_floating_point() else value for name, value in inputs.items()}
    found = _run(source.to(dtype=half), spec, rounded)
    return _largest(_difference(value, found.results[name].float()) for name, value in exact.results.items())


def _words(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size}" for name, size in vars(sizes).items())


def _plan(target: Checkpoint) -> Plan:
    path = target.path / "wavescale.json"
    if not path.is_file():
        raise CheckpointError(f"{target.path}: has no wavescale.json, so it was not written by wavescale resize.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}. Write the output again.") from error
    return Plan.from_json(text)


def _tokens(tokenizer: Any, path: Path) -> torch.Tensor:
    import torch

    with quiet_loading():  # a text longer than the model's window is cut into windows below
        ids = tokenizer(read_text(path, _TEXT), add_special_tokens=False)["input_ids"]
    found = torch.tensor(ids[: WINDOWS * WINDOW_TOKENS])
    if len(found) < _PROBE_SEQUENCES * _PROBE_TOKENS:
        raise CheckpointError(
            f"{_TEXT} {path}: has only {len(found)} tokens, at least {_PROBE_SEQUENCES * _PROBE_TOKENS} are needed. "
            "Give a longer text."
        )
    return found


def _sentences(path: Path) -> tuple[str, ...]:
    found = tuple(line.strip() for line in read_text(path, _TEXT).splitlines() if line.strip())[:_MOST_SENTENCES]
    if len(found) < 3:
        raise CheckpointError(f"{_TEXT} {path}: has {len(found)} lines, at least 3 sentences are needed, one a line.")
    return found


def _probe(spec: ModelSpec, tokens: torch.Tensor | None) -> dict[str, torch.Tensor]:
    if tokens is None:
        return random_inputs(spec, _PROBE_SEQUENCES, _PROBE_TOKENS)
    length = min(_PROBE_TOKENS, positions(spec))
    return token_inputs(spec, tokens[: _PROBE_SEQUENCES * length].view(_PROBE_SEQUENCES, length))


@dataclass
class _States:
    """What a model computed: residual stream after each stage, final norm, outputs by name."""

    hidden: list[torch.Tensor]
    final: torch.Tensor | None
    outputs: dict[str, torch.Tensor]
    headless: bool

    @property
    def results(self) -> dict[str, torch.Tensor]:
        """What the model is used for: its outputs, or its last hidden states as well where it has no head."""
        last = self.hidden[-1] if self.final is None else self.final
        return {**({"last": last} if self.headless else {}), **self.outputs}


def _run(model: PreTrainedModel, spec: ModelSpec, inputs: dict[str, torch.Tensor]) -> _States:
    import torch

    caught: dict[str, torch.Tensor] = {}
    row = next((s.row for s in spec.slots() if s.row.norm == "final" and s.row.role is Role.NORM_WEIGHT), None)
    handle = None
    if row is not None:
        norm = model.get_submodule(row.name.format(base=spec.head_class.base).removesuffix(".weight"))

        def keep(_module: torch.nn.Module, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> None:
            caught["in"], caught["out"] = given[0], result

        handle = norm.register_forward_hook(keep)
    try:
        with torch.no_grad():
            found = model(**inputs, output_hidden_states=True, return_dict=True)
    finally:
        if handle is not None:
            handle.remove()
    hidden = list(found.hidden_states)
    if "in" in caught:
        hidden[-1] = caught["in"]
    outputs = {
        name: value
        for name, value in found.items()
        if torch.is_tensor(value) and value.ndim > 0 and name not in ("loss", "last_hidden_state", "hidden_states")
    }
    return _States(hidden, caught.get("out"), outputs, headless="last_hidden_state" in found)


@dataclass(frozen=True)
class _Expected:
    """What the target should hold where the source holds `x`, if the resize were exact."""

    method: Separable

    def _resized(self, axis: str, use: Usage, x: torch.Tensor) -> torch.Tensor:
        found = self.method.maps.get(axis)
        return x if found is None else found.operator(use, "final").apply(x, -1)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """The residual stream."""
        return self._resized("hidden", Usage.WRITE, x)

    def final_norm(self, x: torch.Tensor) -> torch.Tensor:
        """The output of the last norm, which takes on a factor before a tied matrix."""
        source, hidden = self.method.resizing.source, self.method.maps.get("hidden")
        before_tied = hidden is not None and source.tied and source.family.tied_norm == "final"
        factor = hidden.tied_factor if hidden is not None and before_tied else 1.0
        return self._resized("hidden", Usage.NORM_BIAS, x) * factor

    def output(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """An output by its name in transformers."""
        return self._resized("pooled", Usage.WRITE, x) if name == "pooler_output" else x


def _rearranged(plan: Plan) -> frozenset[str]:
    """The axes whose units lie in an order, in cells, in directions or in a mapping that are not stored."""
    found = {place[1][0] for name in plan.asks_for if (place := named_place(name)) is not None}
    if plan.choices.calibrate != "none":
        found |= {axis for axis, n in plan.source.axes.items() if plan.target.axes[axis] != n}
    if plan.choices.mapping != "operators":
        found |= plan.source.axes.keys()
    return frozenset(found)


def _compare(method: Separable, source: _States, target: _States, rearranged: frozenset[str]) -> list[Stage]:
    stages = [] if "hidden" in rearranged else _compare_states(method, source, target)
    expected = _Expected(method)
    for name, value in source.outputs.items():
        if name in target.outputs and not (name == "pooler_output" and "pooled" in rearranged):
            difference = _difference(expected.output(name, value), target.outputs[name])
            stages.append(Stage(name.replace("_", " "), difference, output=True))
    return stages


def _compare_states(method: Separable, source: _States, target: _States) -> list[Stage]:
    """The residual stream, where a layer of the target stands for one of the source's, and the last norm."""
    expected, headless = _Expected(method), target.headless
    stages = [Stage("embedding", _difference(expected.residual(source.hidden[0]), target.hidden[0]))]
    before, after = len(source.hidden) - 1, len(target.hidden) - 1
    behind = [method.behind(layer) for layer in range(after)]
    for layer, origin in enumerate(behind):
        # Compare where the source's layer is complete: behind the last target layer that comes from it.
        if layer == after - 1 or behind[layer + 1] != origin:
            difference = _difference(expected.residual(source.hidden[origin + 1]), target.hidden[layer + 1])
            stages.append(Stage(f"layer {layer}", difference, compared="" if origin == layer else f"layer {origin}"))
    if behind[-1] != before - 1:  # what comes behind reads the source's last layer
        difference = _difference(expected.residual(source.hidden[-1]), target.hidden[-1])
        stages.append(Stage("end of layers", difference, compared=f"layer {before - 1}"))
    if source.final is not None and target.final is not None:
        difference = _difference(expected.final_norm(source.final), target.final)
        stages.append(Stage("final norm", difference, output=headless))
    elif headless:
        stages[-1] = replace(stages[-1], output=True)
    return stages


def _difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    largest = float((expected - found).abs().max())
    return largest if largest == 0.0 else largest / max(float(expected.abs().max()), 1e-30)


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _largest(differences: Iterable[float]) -> float:
    """The largest; NaN is larger than any."""
    return max(differences, key=lambda difference: (isnan(difference), difference))


def _has_loss(spec: ModelSpec) -> bool:
    return any(slot.row.axes == "vocab <- hidden" for slot in spec.slots()) or spec.tied


def _loss(model: PreTrainedModel, spec: ModelSpec, tokenizer: Any, tokens: torch.Tensor) -> float:
    """Mean loss in nats: next token, or masked tokens of a masked language model."""
    import torch
    from torch.nn import functional as F

    masked = spec.family.placement == "post" and not spec.value("is_decoder")
    generator = torch.Generator().manual_seed(0)
    length = min(WINDOW_TOKENS, positions(spec))
    total, count = 0.0, 0
    for window in torch.split(tokens, length):
        ids = window[None].to(model.device)
        with torch.no_grad():
            if masked:
                chosen = torch.rand(ids.shape, generator=generator).to(ids.device) < _MASKED_SHARE
                found = model(torch.where(chosen, tokenizer.mask_token_id, ids))
                logits = found.logits if "logits" in found else found.prediction_logits
                loss = F.cross_entropy(logits[chosen], ids[chosen], reduction="sum")
                count += int(chosen.sum())
            else:
                logits = model(ids).logits
                loss = F.cross_entropy(logits[0, :-1].float(), ids[0, 1:], reduction="sum")
                count += ids.shape[1] - 1
        total += float(loss)
    return total / count


def _cosines(model: PreTrainedModel, tokenizer: Any, sentences: Sequence[str]) -> torch.Tensor:
    """Cosine of every pair of sentences, mean-pooled, as a flat tensor."""
    import torch

    # In batches of like lengths, so that little is padded.
    order = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))
    pooled = []
    for some in (order[at : at + _SENTENCES_AT_ONCE] for at in range(0, len(order), _SENTENCES_AT_ONCE)):
        lines = [sentences[place] for place in some]
        batch = tokenizer(lines, padding=True, truncation=True, max_length=128, return_tensors="pt")
        batch = {name: value.to(model.device) for name, value in batch.items()}
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        pooled.append((states * mask).sum(1) / mask.sum(1))
    back = torch.tensor(order, device=model.device).argsort()
    vectors = torch.nn.functional.normalize(torch.cat(pooled)[back], dim=-1)
    row, column = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return (vectors @ vectors.T)[row, column].cpu()


def _similarity(source: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
    import torch

    ranks = torch.stack([values.argsort().argsort().double() for values in (source, target)])
    return float((source - target).abs().max()), float(torch.corrcoef(ranks)[0, 1])
