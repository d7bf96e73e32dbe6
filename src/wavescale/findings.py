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
from wavescale.inputs import given_batches, load_tokenizer
from wavescale.learned import Ligo, Mango, train, training_batches
from wavescale.memory import build_model, fresh_model, model_tensors, quiet_loading
from wavescale.plan import Plan
from wavescale.planning import method_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from wavescale.learned.batches import TrainFile

    Calibrate: TypeAlias = str | os.PathLike[str] | Iterable[Mapping[str, torch.Tensor]]


def find(
    plan: Plan,
    subject: Subject,
    given: Artifacts,
    calibrate: Calibrate | None = None,
    device: str = "cpu",
    train_file: TrainFile | None = None,
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
    train_file
        What the user gave to train a mapping on: a file, a folder of images, or batches with labels.

    Raises
    ------
    OptionError, CheckpointError
        What calibration should run on, or training, cannot be read or does not suit the model.
    """
    check_given(plan, calibrate, train_file)
    given = arrange(plan, subject, given)
    wanted = plan.asks_for - given.named().keys()
    if not any(finished(name) for name in wanted):
        return given
    match plan.choices.mapping:
        case "random":
            made = _initialised(plan)
        case "ligo" | "mango":
            made = _learned(plan, subject, train_file, device)
        case _:
            made = _fitted(plan, subject, given, calibrate, device)
    return Artifacts(tensors=made).merged(given)


def check_given(plan: Plan, calibrate: Calibrate | None, train_file: TrainFile | None) -> None:
    """Whether there is something to calibrate on, and to train on where a mapping is trained, and nowhere else.

    A plan can be made where its files are not.

    Raises
    ------
    OptionError
        It is missing, is not there, or has no effect.
    """
    if plan.choices.calibrate == "given" and _missing(calibrate):
        raise OptionError(
            f"calibrate (--calibrate) {calibrate}: no such file. Give a text, for image models a folder of images, or "
            "generated, random or none."
        )
    choices = plan.choices
    if choices.trains and choices.train_steps > 0 and train_file is None:
        raise OptionError(
            f"{choices.mapping} is trained on the task loss, and train_file (--train-file) is missing. Give a text, or "
            "from Python batches with labels."
        )
    if train_file is not None and not choices.trains:
        raise OptionError(
            f"train_file (--train-file) has no effect: {choices.preset!r} trains nothing. Leave it out, or use ligo or "
            "mango (--calibrate takes what a smaller model is fitted on)."
        )
    if _missing(train_file):
        raise OptionError(f"train_file (--train-file) {train_file}: no such file. Give a text, or a folder of images.")


def _missing(given: object) -> bool:
    """Whether it is a path with nothing there."""
    return isinstance(given, str | os.PathLike) and not Path(given).expanduser().exists()


def _initialised(plan: Plan) -> dict[str, torch.Tensor]:
    """The target's tensors as transformers draws them."""
    drawn = model_tensors(fresh_model(plan.family, plan.architecture, plan.config, plan.choices.seed))
    return {tensor.name: drawn[tensor.name] for tensor in plan.tensors}


def mapping_of(plan: Plan, subject: Subject, device: str = "cpu") -> Ligo | Mango:
    """The mapping that a plan trains, at its start.

    Raises
    ------
    CheckpointError
        A source tensor holds NaN or infinity.
    """
    copies = {copy for copy, _ in plan.ties}
    stored = {place: found for place, found in subject.stored.items() if found.name not in copies}
    for found in stored.values():
        check_finite(found.name, subject.read(found.name))
    kind = Ligo if plan.choices.mapping == "ligo" else Mango
    names = {tensor.name for tensor in plan.tensors}
    return kind(method_of(plan, subject.spec, stored).resizing, subject.read, names, plan.choices.seed, device)


def _learned(plan: Plan, subject: Subject, train_file: TrainFile | None, device: str) -> dict[str, torch.Tensor]:
    """The target's tensors from a mapping that is trained first."""
    import torch

    choices, mapping = plan.choices, mapping_of(plan, subject, device)
    if train_file is not None and choices.train_steps > 0:
        batches = training_batches(train_file, subject.spec, subject.folder, choices.train_steps, choices.seed)
        with torch.no_grad():
            target = build_model(plan, mapping.tensors(), like=subject.load("cpu"))
        train(mapping, target.to(device).eval(), batches, choices.train_steps, choices.train_rate)
    with torch.no_grad():
        made = mapping.tensors()
    return {name: value.contiguous().cpu() for name, value in made.items()}


def _fitted(
    plan: Plan, subject: Subject, given: Artifacts, calibrate: Calibrate | None, device: str
) -> dict[str, torch.Tensor]:
    """The tensors that calibration makes, by their name in the target; what is given stays as it is."""
    import torch

    source = subject.load(device)
    for name, value in model_tensors(source).items():
        check_finite(name, value)
    with quiet_loading():
        batches = _batches(plan, subject, calibrate, source)
    there = given.named().keys()
    kept = tuple(t for t in plan.tensors if all(name in there or not finished(name) for name in t.expression.reads()))
    values = {t.name: value.float() for t, value in execute(replace(plan, tensors=kept), subject.read, device, given)}
    fitted = [tensor for tensor in plan.tensors if tensor not in kept]
    # Whatever calibration forgets shows.
    values |= {tensor.name: torch.full(tensor.shape, torch.nan, device=device) for tensor in fitted}
    target = build_model(plan, values, like=source)
    method = method_of(plan, subject.spec, subject.stored)
    layers = [method.origin(layer) for layer in range(plan.target.num_hidden_layers)]
    with quiet_loading():
        fit_model(source, target.eval(), layers, batches)
    found = model_tensors(target)
    for tensor in fitted:
        if not torch.isfinite(found[tensor.name]).all():
            raise CheckpointError(
                f"{tensor.name}: calibration found no finite values. The source may compute NaN or infinity on "
                "what it was calibrated on; use another text, or --calibrate none."
            )
    return {tensor.name: found[tensor.name].cpu() for tensor in fitted}


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
    return given_batches(() if calibrate is None else calibrate, "calibrate")
