"""Train a mapping on the task loss of the target that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle, islice
from math import isfinite
from typing import TYPE_CHECKING

from wavescale.errors import OptionError
from wavescale.learned.mapping import LearnedMap
from wavescale.memory import disk_names

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_GRADIENT_NORM = 1.0


def train(
    mapping: LearnedMap, target: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]], steps: int, rate: float
) -> list[float]:
    """Train the parameters of a mapping, in place; nothing else is changed.

    Adam without weight decay, at a rate that falls linearly to zero, gradients clipped at a norm of one,
    one batch a step and no dropout.

    Parameters
    ----------
    mapping
        What is trained.
    target
        A model of the target's class and sizes in evaluation mode, whose parameters do not matter.
    batches
        Keyword arguments of the forward pass, with labels; taken in their order, and again from the first
        when they run out.
    steps
        How many.
    rate
        The highest learning rate.

    Returns
    -------
    The loss before each step.

    Raises
    ------
    OptionError
        The model has no loss on a batch, or the loss is not finite.
    """
    import torch
    from torch.func import functional_call

    parameters = list(mapping.parameters.values())
    if not parameters or steps == 0:
        return []
    names = {disk: name for name, disk in disk_names(target).items()}
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    losses: list[float] = []
    for batch in islice(cycle(batches), steps):
        inputs = {name: value.to(mapping.device) for name, value in batch.items()}
        with torch.enable_grad():
            made = {names[disk]: value for disk, value in mapping.tensors().items()}
            found = functional_call(target, made, kwargs=inputs)
        loss = getattr(found, "loss", None)
        if loss is None:
            raise OptionError(
                f"train_file (--train-file): {type(target).__name__} gives no loss on {', '.join(batch) or 'nothing'}. "
                "Give batches with labels from Python, as a class with a head takes them (--architecture names one)."
            )
        losses.append(float(loss.detach()))
        if not isfinite(losses[-1]):
            raise OptionError(
                f"train_rate (--train-rate) {rate:g}: the loss is {losses[-1]:g} at step {len(losses)}. "
                "Use a smaller rate, or batches on which the source has a loss."
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
        optimizer.step()
        schedule.step()
    return losses
