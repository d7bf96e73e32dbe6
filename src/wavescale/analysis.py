"""Analyse a source before planning: what an analysis finds, the plan uses.

An analysis is a function from a subject to artifacts. Those here need no data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wavescale.artifacts import NOTHING, Artifacts
from wavescale.checkpoint import Checkpoint, open_checkpoint
from wavescale.matching import match_tensors
from wavescale.memory import load_model, model_spec, model_tensors
from wavescale.pairing import similar_order
from wavescale.similarity import gram
from wavescale.spec import ModelSpec, Stored, read_spec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Subject:
    """A source that is analysed.

    Attributes
    ----------
    spec
        The model without its weights.
    stored
        Its tensors by table row name and layer.
    read
        Gives a tensor by its name on disk.
    load
        Gives the model itself on a device, in float32 and ready to be run.
    folder
        Where it lies on disk, if it does.
    """

    spec: ModelSpec
    stored: Mapping[tuple[str, int | None], Stored]
    read: Callable[[str], torch.Tensor]
    load: Callable[[str], PreTrainedModel]
    folder: Path | None = None

    @classmethod
    def on_disk(cls, checkpoint: Checkpoint, architecture: str | None = None) -> Subject:
        """A checkpoint."""
        spec = read_spec(checkpoint.config, architecture)

        def load(device: str) -> PreTrainedModel:
            return load_model(checkpoint.path, spec.class_name).to(device)

        return cls(spec, match_tensors(spec, checkpoint.tensors), checkpoint.read, load, checkpoint.path)

    @classmethod
    def in_memory(cls, model: PreTrainedModel) -> Subject:
        """A model, which is left as it is."""
        spec, tensors = model_spec(model), model_tensors(model)
        found = {name: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in tensors.items()}
        path = Path(model.name_or_path)
        folder = path if model.name_or_path and path.is_dir() else None
        return cls(spec, match_tensors(spec, found), tensors.__getitem__, partial(_runnable, model), folder)


Analysis = Callable[[Subject], Artifacts]


def _runnable(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """A model on a device, in float32 and evaluation mode: itself, or a copy."""
    import torch

    ready = all(parameter.dtype is torch.float32 for parameter in model.parameters()) and not model.training
    here = ready and model.device == torch.empty(0, device=device).device
    if here:
        return model
    copy: PreTrainedModel = deepcopy(model).float().eval().to(device)
    if "flash" in (copy.config._attn_implementation or ""):  # takes half types alone
        copy.set_attn_implementation("sdpa")
    return copy


def analyse(
    model: str | os.PathLike[str] | PreTrainedModel, analyses: Iterable[Analysis], architecture: str | None = None
) -> Artifacts:
    """Run analyses on a source, one after the other, and put their findings together.

    Parameters
    ----------
    model
        A folder, a hub id, or a model.
    analyses
        For example `[similar_units]`.
    architecture
        The class of transformers, for a config that names none.

    Returns
    -------
    What `plan_resize`, `resize` and `resize_checkpoint` take as `artifacts`.

    Raises
    ------
    CheckpointError
        The source cannot be read.
    """
    on_disk = isinstance(model, str | os.PathLike)
    subject = Subject.on_disk(open_checkpoint(model), architecture) if on_disk else Subject.in_memory(model)
    artifacts = NOTHING
    for analysis in analyses:
        artifacts = artifacts.merged(analysis(subject))
    return artifacts


def similar_units(subject: Subject) -> Artifacts:
    """Put similar units of each feed-forward layer side by side, so that a low-pass averages like with like.

    The option `order` does so for all axes; this is for FFN units alone.
    """
    layers = range(subject.spec.sizes.num_hidden_layers)
    return Artifacts({("intermediate", layer): similar_order(gram(subject, "intermediate", layer)) for layer in layers})
