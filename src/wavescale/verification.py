"""How far a resized model's outputs lie from its source's, and at which stage they first depart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavescale.architectures.schema import Role
from wavescale.checkpoint import open_checkpoint
from wavescale.checkpoint.reader import Checkpoint
from wavescale.errors import CheckpointError
from wavescale.matching import match_tensors
from wavescale.memory import load_model, quiet_loading
from wavescale.methods import Resizing, Separable
from wavescale.methods.width import Usage
from wavescale.plan import Plan
from wavescale.spec import ModelSpec, read_spec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# The text that a loss is measured on: this many windows of this many tokens.
WINDOWS, WINDOW_TOKENS = 8, 512
_PROBE_SEQUENCES, _PROBE_TOKENS = 4, 32
_MASKED_SHARE = 0.15
# Largest relative difference that still counts as rounding, by the coarser of the two dtypes.
_TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}

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
    """One stage of the model and the largest difference there, relative to the largest value."""

    name: str
    difference: float


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    stages
        Embedding, layers, final norm and output, in order; stages that have no counterpart are left
        out.
    tolerance
        The relative difference that still counts as rounding.
    losses
        Loss of source and target in nats per token, where a text was given or the model has a
        language-model head and a tokenizer.
    tokens
        How many tokens the loss is a mean over.
    similarity
        For encoders without a head: the largest change of a pairwise sentence similarity (cosine),
        and the rank correlation of all of them with the source's.
    """

    stages: tuple[Stage, ...]
    tolerance: float
    losses: tuple[float, float] | None = None
    tokens: int = 0
    similarity: tuple[float, float] | None = None

    @property
    def output_difference(self) -> float:
        """The relative difference of the last stage."""
        return self.stages[-1].difference

    @property
    def kept(self) -> bool:
        """Whether the outputs agree up to rounding."""
        return self.output_difference <= self.tolerance

    @property
    def first_departure(self) -> Stage | None:
        """The first stage whose difference is more than rounding."""
        return next((stage for stage in self.stages if not stage.difference <= self.tolerance), None)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.kept:
            return f"function kept: max relative difference {self.output_difference:.1e}"
        first = self.first_departure
        assert first is not None
        return (
            f"function not kept: the output differs by {self.output_difference:.1e} (relative); "
            f"{first.name} departs first, by {first.difference:.1e}"
        )

    def __str__(self) -> str:
        width = max(len(stage.name) for stage in self.stages)
        lines = [f"{stage.name:<{width}}  {stage.difference:.2e}" for stage in self.stages]
        if self.losses is not None:
            lines.append(f"loss: {self.losses[0]:.4f} → {self.losses[1]:.4f} nats ({self.tokens:,} tokens)")
        if self.similarity is not None:
            lines.append(
                f"sentence similarities: largest change {self.similarity[0]:.2e}, "
                f"rank correlation {self.similarity[1]:.4f}"
            )
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
    has, resized like a tensor that writes to the residual stream, against what the target has.

    Parameters
    ----------
    model
        The source: a folder or hub id.
    out
        What `resize_checkpoint` wrote.
    text
        A text file: the loss of both models is taken on its first 4,096 tokens as 8 windows of 512;
        for an encoder without a head its lines are the sentences that are compared. Without one,
        tokens are drawn at random and encoders compare a few built-in sentences.
    device
        Where to run.

    Raises
    ------
    CheckpointError
        One of the two cannot be loaded, or `out` was not written by wavescale.
    """
    import torch

    source, target = open_checkpoint(model), open_checkpoint(out)
    plan = _plan(target)
    spec = read_spec(source.config, plan.architecture)
    models = [load_model(checkpoint.path, plan.architecture).to(device) for checkpoint in (source, target)]
    tokenizer = _tokenizer(source.path)
    tokens = _tokens(tokenizer, Path(text)) if text is not None and tokenizer is not None and _has_loss(spec) else None
    inputs = _probe(spec, tokens)
    with torch.no_grad():
        states = [_run(m, spec, {name: value.to(device) for name, value in inputs.items()}) for m in models]
    stages = _compare(_method(source, target, spec, plan), states[0], states[1])
    dtypes = {tensor.dtype for tensor in plan.tensors} | {dtype for _, dtype in source.tensors.values()}
    tolerance = max(_TOLERANCE[dtype] for dtype in dtypes if dtype in _TOLERANCE)
    losses, count, similarity = None, 0, None
    if tokens is not None:
        windows = tokens[: WINDOWS * WINDOW_TOKENS]
        losses = (_loss(models[0], spec, tokenizer, windows), _loss(models[1], spec, tokenizer, windows))
        count = len(windows)
    elif tokenizer is not None and plan.architecture.endswith("Model") and spec.family.placement == "post":
        sentences = SENTENCES if text is None else _sentences(Path(text))
        similarity = _similarity(*(_cosines(m, tokenizer, sentences) for m in models))
    return Verification(tuple(stages), tolerance, losses, count, similarity)


def _plan(target: Checkpoint) -> Plan:
    path = target.path / "wavescale.json"
    if not path.is_file():
        raise CheckpointError(f"{target.path}: has no wavescale.json, so it was not written by wavescale resize.")
    return Plan.from_json(path.read_text(encoding="utf-8"))


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "tokenizer.model", "vocab.json")):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError):
        return None


def _tokens(tokenizer: Any, path: Path) -> torch.Tensor:
    import torch

    with quiet_loading():  # a text longer than the model's window is cut into windows below
        ids = tokenizer(_read_text(path), add_special_tokens=False)["input_ids"]
    found = torch.tensor(ids[: WINDOWS * WINDOW_TOKENS])
    if len(found) < _PROBE_SEQUENCES * _PROBE_TOKENS:
        raise CheckpointError(
            f"{path}: has only {len(found)} tokens, at least {_PROBE_SEQUENCES * _PROBE_TOKENS} are needed. "
            "Give a longer text."
        )
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as text: {error}.") from error


def _sentences(path: Path) -> tuple[str, ...]:
    found = tuple(line.strip() for line in _read_text(path).splitlines() if line.strip())[:512]
    if len(found) < 3:
        raise CheckpointError(f"{path}: has {len(found)} lines, at least 3 sentences are needed, one a line.")
    return found


def _probe(spec: ModelSpec, tokens: torch.Tensor | None) -> dict[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(0)
    if "patch_height" in spec.axis_sizes:
        image = spec.value("image_size")
        height, width = (image, image) if isinstance(image, int) else image
        shape = (_PROBE_SEQUENCES, spec.axis_sizes["channels"], height, width)
        inputs = {"pixel_values": torch.randn(shape, generator=generator)}
        if "MaskedImage" in spec.class_name:
            patches = spec.axis_sizes["positions"] - (2 if spec.family.name == "deit" else 1)
            inputs["bool_masked_pos"] = torch.rand((_PROBE_SEQUENCES, patches), generator=generator) < 0.5
        return inputs
    length = min(_PROBE_TOKENS, spec.axis_sizes.get("positions", _PROBE_TOKENS) - 2)
    if tokens is not None:
        ids = tokens[: _PROBE_SEQUENCES * length].view(_PROBE_SEQUENCES, length)
    else:
        ids = torch.randint(0, spec.axis_sizes["vocab"], (_PROBE_SEQUENCES, length), generator=generator)
    if "MultipleChoice" in spec.class_name or "DoubleHeads" in spec.class_name:
        ids = ids.view(-1, 2, length)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@dataclass
class _States:
    """What a model computed: residual stream after each stage, final norm, outputs by name."""

    hidden: list[torch.Tensor]
    final: torch.Tensor | None
    outputs: dict[str, torch.Tensor]


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
    return _States(hidden, caught.get("out"), outputs)


def _method(source: Checkpoint, target: Checkpoint, spec: ModelSpec, plan: Plan) -> Separable:
    stored = match_tensors(spec, source.tensors)
    return Separable(Resizing(spec, read_spec(target.config, plan.architecture), stored, plan.choices))


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


def _compare(method: Separable, source: _States, target: _States) -> list[Stage]:
    expected = _Expected(method)
    stages = [Stage("embedding", _difference(expected.residual(source.hidden[0]), target.hidden[0]))]
    layers = len(target.hidden) - 1
    for layer in range(layers):
        origin = method.origin(layer)
        # Compare where the source's layer is complete: behind the last target layer that comes from it.
        if layer == layers - 1 or method.origin(layer + 1) != origin:
            difference = _difference(expected.residual(source.hidden[origin + 1]), target.hidden[layer + 1])
            stages.append(Stage(f"layer {layer}", difference))
    if source.final is not None and target.final is not None:
        stages.append(Stage("final norm", _difference(expected.final_norm(source.final), target.final)))
    for name, value in source.outputs.items():
        if name in target.outputs:
            difference = _difference(expected.output(name, value), target.outputs[name])
            stages.append(Stage(name.replace("_", " "), difference))
    return stages


def _difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max())


def _has_loss(spec: ModelSpec) -> bool:
    return any(slot.row.axes == "vocab <- hidden" for slot in spec.slots()) or spec.tied


def _loss(model: PreTrainedModel, spec: ModelSpec, tokenizer: Any, tokens: torch.Tensor) -> float:
    """Mean loss in nats: next token, or masked tokens of a masked language model."""
    import torch
    from torch.nn import functional as F

    masked = spec.family.placement == "post" and not spec.value("is_decoder")
    generator = torch.Generator().manual_seed(0)
    length = min(WINDOW_TOKENS, spec.axis_sizes.get("positions", WINDOW_TOKENS) - (2 if masked else 0))
    total, count = 0.0, 0
    for window in torch.split(tokens, length):
        ids = window[None].to(model.device)
        with torch.no_grad():
            if masked:
                chosen = torch.rand(ids.shape, generator=generator).to(ids.device) < _MASKED_SHARE
                logits = model(torch.where(chosen, tokenizer.mask_token_id, ids)).logits
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

    batch = tokenizer(list(sentences), padding=True, truncation=True, max_length=128, return_tensors="pt")
    batch = {name: value.to(model.device) for name, value in batch.items()}
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    row, column = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return (vectors @ vectors.T)[row, column].cpu()


def _similarity(source: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
    import torch

    ranks = torch.stack([values.argsort().argsort().double() for values in (source, target)])
    return float((source - target).abs().max()), float(torch.corrcoef(ranks)[0, 1])
