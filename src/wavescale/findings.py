"""Find out what a plan asks for: whatever it reads that is no tensor of the source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from wavescale.analysis import Subject
from wavescale.arranging import arrange
from wavescale.artifacts import Artifacts, finished
from wavescale.calibration import calibration_batches, fit_model
from wavescale.errors import CheckpointError, OptionError
from wavescale.execute import check_finite, execute
from wavescale.inputs import load_tokenizer
from wavescale.memory import build_model, model_tensors
from wavescale.plan import Plan
from wavescale.planning import method_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Calibrate: TypeAlias = str | os.PathLike[str] | Iterable[Mapping[str, torch.Tensor]]


def find(
    plan: Plan, subject: Subject, given: Artifacts, calibrate: Calibrate | None = None, device: str = "cpu"
) -> Artifacts:
    """The artifacts that a plan reads.

    Parameters
    ----------
    plan
        What to do.
    subject
        The source.
    given
        Artifacts that there are already.
    calibrate
        What the user gave to calibrate on: a file, a folder of images, or batches.
    device
        Where to compute.

    Raises
    ------
    OptionError, CheckpointError
        What calibration should run on cannot be read or does not suit the model.
    """
    given = arrange(plan, subject, given)
    wanted = plan.asks_for - given.named().keys()
    if not any(finished(name) for name in wanted):
        return given
    return given.merged(Artifacts(tensors=_fitted(plan, subject, calibrate, device)))


def _fitted(plan: Plan, subject: Subject, calibrate: Calibrate | None, device: str) -> dict[str, torch.Tensor]:
    """The tensors that calibration makes, by their name in the target."""
    import torch

    source = subject.load().to(device)
    for name, value in model_tensors(source).items():
        check_finite(name, value)
    batches = _batches(plan, subject, calibrate, source)
    kept = tuple(tensor for tensor in plan.tensors if not any(map(finished, tensor.expression.reads())))
    values = {t.name: value.float() for t, value in execute(replace(plan, tensors=kept), subject.read, device)}
    fitted = [tensor for tensor in plan.tensors if tensor not in kept]
    # Whatever calibration forgets shows.
    values |= {tensor.name: torch.full(tensor.shape, torch.nan, device=device) for tensor in fitted}
    target = build_model(plan, values, like=source)
    method = method_of(plan, subject.spec, subject.stored)
    layers = [method.origin(layer) for layer in range(plan.target.num_hidden_layers)]
    fit_model(source, target.eval(), layers, batches)
    found = model_tensors(target)
    for tensor in fitted:
        if not torch.isfinite(found[tensor.name]).all():
            raise CheckpointError(
                f"{tensor.name}: calibration found no finite values. The source may compute NaN or infinity on "
                "what it was calibrated on; use another text, or --calibrate none."
            )
    return {tensor.name: found[tensor.name] for tensor in fitted}


def _batches(
    plan: Plan, subject: Subject, calibrate: Calibrate | None, source: PreTrainedModel
) -> Sequence[Mapping[str, torch.Tensor]]:
    kind = plan.choices.calibrate
    tokenizer = None if subject.folder is None else load_tokenizer(subject.folder)
    if kind == "generated" or kind == "random":
        return calibration_batches(kind, source, subject.spec, None, tokenizer, plan.choices.seed)
    if isinstance(calibrate, str | os.PathLike):
        path = Path(calibrate).expanduser()
        return calibration_batches(path, source, subject.spec, subject.folder, tokenizer)
    batches = list(calibrate or ())
    if not batches:
        raise OptionError("calibrate: holds no batch; give keyword arguments of the model's forward pass.")
    return batches
