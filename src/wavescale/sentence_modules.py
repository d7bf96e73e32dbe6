"""The modules of sentence-transformers behind a model: what reads its width is resized with it.

Pooling puts out vectors of the model's width, as often as it has modes. The first Dense behind it reads them as a head
of the model would, so it is resized like one; what it puts out keeps its width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavescale.architectures.schema import TensorRow
from wavescale.artifacts import Artifacts
from wavescale.checkpoint import Checkpoint, CheckpointWriter, open_checkpoint, read_json
from wavescale.checkpoint.json_files import read_modules
from wavescale.errors import CheckpointError
from wavescale.execute import execute
from wavescale.matching import match_tensors
from wavescale.methods import Piece, Resizing, Separable
from wavescale.plan import Plan, TensorPlan
from wavescale.spec import ModelSpec, Stored, read_spec

if TYPE_CHECKING:
    import torch

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What modules hand on to the next.
_VECTOR = "sentence_embedding"
# What weights may depend on; those of a class that is not known may depend on either.
_ANY = ("hidden_size", "num_hidden_layers")


@dataclass(frozen=True)
class _Kind:
    """What a class of modules has to do with the model.

    Attributes
    ----------
    states
        Fields of its config that state the width of the vectors it reads.
    depends
        Sizes that its own weights depend on.
    passes
        Whether a linear map behind it reads the model's channels, each of them as often as it is pooled.
    """

    states: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    passes: bool = False


_KINDS = {
    "Transformer": _Kind(depends=_ANY, passes=True),  # in a folder of its own: the model itself is the folder's
    "Pooling": _Kind(("word_embedding_dimension", "embedding_dimension"), passes=True),
    "Dropout": _Kind(passes=True),
    "Normalize": _Kind(),
    "Dense": _Kind(("in_features",), ("hidden_size",)),
    **dict.fromkeys(("LayerNorm", "LSTM", "CNN"), _Kind(depends=("hidden_size",))),
    "WeightedLayerPooling": _Kind(
        ("word_embedding_dimension", "embedding_dimension"), ("num_hidden_layers",), passes=True
    ),
}


class SentenceModules:
    """The modules of a source, ready to be written beside a target.

    Parameters
    ----------
    checkpoint
        The source.
    plan
        What becomes of the model.
    given
        What the plan was made with besides: orders of the model's channels.

    Raises
    ------
    CheckpointError
        A module whose weights depend on a size that changes cannot be resized exactly, lacks its weights, or lies
        outside of the folder.
    """

    def __init__(self, checkpoint: Checkpoint, plan: Plan, given: Artifacts) -> None:
        self._checkpoint, self._plan, self._given = checkpoint, plan, given
        before, after = plan.source, plan.target
        changed = {size for size in _ANY if getattr(before, size) != getattr(after, size)}
        if any(axis == "hidden" for axis, _ in given.orders):
            changed.add("hidden_size")
        self._dense: str | None = None
        self._stating: dict[str, tuple[str, ...]] = {}
        passes, wide = True, True
        for module in read_modules(checkpoint.path / "modules.json"):
            name, kind = module["path"], str(module.get("type", "")).rsplit(".", 1)[-1]
            home = checkpoint.path / name
            if home == checkpoint.path:
                continue
            weighted = any(path.is_file() for file in _WEIGHTS for path in home.rglob(file))  # routers nest modules
            known = _KINDS.get(kind, _Kind(depends=_ANY if weighted else ()))
            if kind in _KINDS and known.depends and not weighted:
                raise CheckpointError(
                    f"{home}: this sentence-transformers module has no weights, expected {' or '.join(_WEIGHTS)}. "
                    "Download it again, or remove it from modules.json."
                )
            moved = sorted(changed & set(known.depends) - ({"hidden_size"} if not wide else set()))
            if kind == "Dense" and moved:
                self._check_dense(home, passes)
                self._dense = name
            elif moved:
                raise CheckpointError(
                    f"{home}: this sentence-transformers module ({kind}) has weights of its own that depend on "
                    f"{moved[0]}, which goes from {getattr(before, moved[0])} to {getattr(after, moved[0])}. Remove it "
                    f"from modules.json and train a new one, or keep {moved[0]}."
                )
            if wide and before.hidden_size != after.hidden_size:
                self._stating[name] = known.states
            passes, wide = passes and known.passes, wide and kind != "Dense"

    def _check_dense(self, home: Path, passes: bool) -> None:
        """Refuse a Dense that does not read the model's channels as they are, or that would have to be fitted."""
        plan, config = self._plan, read_json(home / "config.json", dict)
        shape, _ = open_checkpoint(home).tensors.get("linear.weight", ((), ""))
        reason = ""
        if plan.choices.calibrate != "none":
            reason = "calibration refits the channels that it reads (--calibrate none does not)"
        elif plan.choices.mapping != "operators":
            reason = f"{plan.choices.preset} makes channels that no operator describes"
        elif not passes:
            reason = "a module in front of it changes what the model puts out"
        elif len(shape) != 2 or shape[1] % plan.source.hidden_size:
            reason = f"its linear.weight is {list(shape)}, which does not read vectors of {plan.source.hidden_size}"
        elif config.get("use_residual"):
            reason = "it adds what it reads to what it puts out"
        elif not all(config.get(field) in (None, _VECTOR) for field in ("module_input_name", "module_output_name")):
            reason = f"it does not read and put out {_VECTOR}"
        if reason:
            raise CheckpointError(
                f"{home}: this sentence-transformers module (Dense) is not resized with the model: {reason}. Remove it "
                "from modules.json and train a new one, or keep hidden_size."
            )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know."""
        return () if self._dense is None else (f"{self._dense}: its Dense is resized with the model",)

    def write(self, writer: CheckpointWriter, found: Artifacts) -> set[str]:
        """Write the weights and the configs that change.

        Parameters
        ----------
        found
            What the plan reads besides the source.

        Returns
        -------
        The names of the files, relative to the folder.
        """
        root, written = self._checkpoint.path, set()
        for name, fields in self._stating.items():
            if (config := root / name / "config.json").is_file():
                written.add(f"{name}/config.json")
                writer.write_text(f"{name}/config.json", json.dumps(self._stated(config, fields), indent=2) + "\n")
        if self._dense is not None:
            weights = open_checkpoint(root / self._dense).files[0].name
            written.update(f"{self._dense}/{file}" for file in _WEIGHTS)
            writer.write_tensors(f"{self._dense}/{weights}", self._resized(root / self._dense, found))
        return written

    def _stated(self, path: Path, fields: tuple[str, ...]) -> dict[str, Any]:
        """A module's config with the target's width where it states the source's, or a multiple of it."""
        config, (n, m) = read_json(path, dict), (self._plan.source.hidden_size, self._plan.target.hidden_size)
        for field in fields:
            width = config.get(field)
            if isinstance(width, int) and width % n == 0:
                config[field] = width // n * m
        return config

    def _resized(self, home: Path, found: Artifacts) -> dict[str, torch.Tensor]:
        """The weights of the Dense: of each pooled vector its columns are those of a head of the model."""
        import torch

        dense, width = open_checkpoint(home), self._plan.source.hidden_size
        weights = {name: dense.read(name) for name in dense.tensors}
        weight = weights["linear.weight"]
        vectors = (weight[:, start : start + width].contiguous() for start in range(0, weight.shape[1], width))
        made = [self._head(columns, found) for columns in vectors]
        return {**weights, "linear.weight": torch.cat(made, dim=1)}

    def _head(self, weight: torch.Tensor, found: Artifacts) -> torch.Tensor:
        """A linear map (outputs, hidden) that reads the model's last hidden states, for the target."""
        plan, (outputs, width) = self._plan, weight.shape
        row = TensorRow("linear.weight", "labels <- hidden", "head", reads=self._last_norm)
        dtype = str(weight.dtype).removeprefix("torch.")
        stored = {**self._stored, (row.name, None): Stored(row.name, row.name, row, None, (outputs, width), dtype)}
        target = _with_labels(read_spec(plan.config, plan.architecture), outputs)
        orders = frozenset(self._given.orders)
        method = Separable(Resizing(_with_labels(self._source, outputs), target, stored, plan.choices, orders))
        expression = method.express(Piece(row), None)
        tensor = TensorPlan(row.name, row.module, (outputs, plan.target.hidden_size), dtype, expression)
        alone = replace(plan, tensors=(tensor,), ties=())
        ((_, value),) = execute(alone, {row.name: weight}.__getitem__, artifacts=found)
        return value

    @cached_property
    def _source(self) -> ModelSpec:
        return read_spec(self._checkpoint.config, self._plan.architecture)

    @cached_property
    def _stored(self) -> Mapping[tuple[str, int | None], Stored]:
        return match_tensors(self._source, self._checkpoint.tensors)

    @property
    def _last_norm(self) -> str:
        """The norm that heads read, in the family's words."""
        rows = (row for rows in self._source.family.groups.values() for row in rows)
        return next(row.reads for row in rows if row.axes.endswith("<- hidden") and not row.in_layer)


def _with_labels(spec: ModelSpec, count: int) -> ModelSpec:
    """A model whose classifier has so many outputs."""
    config = {name: value for name, value in spec.config.items() if name != "id2label"}
    return replace(spec, config={**config, "num_labels": count})
