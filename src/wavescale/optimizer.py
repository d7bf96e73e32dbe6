"""AdamW's state beside a checkpoint: which numbers belong to which parameter, and the same for a resized model.

The format is that of `torch.optim.Optimizer.state_dict()`, which transformers' Trainer saves as
`optimizer.pt`: parameters are numbered through the groups, and every group lists its numbers.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavescale.architectures import FAMILIES
from wavescale.artifacts import NOTHING, Artifacts, finished
from wavescale.checkpoint import CheckpointWriter, read_json
from wavescale.errors import CheckpointError, OptionError
from wavescale.execute import execute
from wavescale.matching import DTYPE_BYTES
from wavescale.memory import disk_names, empty_model
from wavescale.moments import moment_plans
from wavescale.plan import Plan
from wavescale.spec import ModelSpec, RowMatcher

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# What AdamW keeps of a parameter: averages of its gradient, of its square and, with amsgrad, the largest of those.
FIRST, SECOND, LARGEST = "exp_avg", "exp_avg_sq", "max_exp_avg_sq"

# Trainer lets weights decay that are in no LayerNorm and whose names match none of these
# (transformers 5, Trainer.get_decay_parameter_names).
_NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]

_OTHER_MODEL = "Name the optimizer state that was saved with these weights."

Slot = tuple[str, int | None]  # a table row's name, and the layer


@dataclass(frozen=True)
class AdamState:
    """AdamW's state whose every number has its place in the family's table.

    Attributes
    ----------
    values
        The state_dict.
    numbers
        The number of each parameter that has moments.
    where
        What it was read from, for errors.
    """

    values: Mapping[str, Any]
    numbers: Mapping[Slot, int]
    where: str

    def of(self, slot: Slot) -> Mapping[str, Any]:
        """What AdamW keeps of one parameter."""
        found: Mapping[str, Any] = self.values["state"][self.numbers[slot]]
        return found

    @property
    def dtype(self) -> torch.dtype:
        """A dtype that holds every moment."""
        import torch

        dtypes: set[torch.dtype] = {entry[FIRST].dtype for entry in self.values["state"].values()}
        return reduce(torch.promote_types, dtypes)


def resize_optimizer_state(
    state: Mapping[str, Any],
    source: PreTrainedModel,
    target: PreTrainedModel,
    plan: Plan,
    *,
    artifacts: Artifacts = NOTHING,
    device: str = "cpu",
) -> dict[str, Any]:
    """Resize AdamW's moments together with a model, so that its training goes on.

    Parameters
    ----------
    state
        `optimizer.state_dict()` of a torch AdamW over all parameters of `source`, as one group or
        split as transformers' Trainer does. It is left as it is.
    source, target
        The models before and after; only names and shapes are looked at.
    plan
        The plan that made `target`, as `plan_resize` gives it for the same options.
    artifacts
        Those that the plan was made with.
    device
        Where to compute.

    Returns
    -------
    A state for an AdamW over the parameters of `target`, in the same groups, with the same
    hyperparameters and steps. See `wavescale.moments` for what moments become.

    Raises
    ------
    CheckpointError
        The state is not AdamW's or belongs to another model.
    OptionError
        The plan looks at weights, and what it found there is not given.

    Examples
    --------
    >>> import torch, wavescale
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> small = GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=8))
    >>> before = torch.optim.AdamW(small.parameters())
    >>> small(torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
    >>> before.step()
    >>> large = wavescale.resize(small, hidden_size=32)
    >>> after = torch.optim.AdamW(large.parameters())
    >>> plan = wavescale.plan_resize(small, hidden_size=32)
    >>> after.load_state_dict(wavescale.resize_optimizer_state(before.state_dict(), small, large, plan))
    """
    unknown = min(plan.asks_for - artifacts.named().keys(), default=None)
    if unknown is not None and not finished(unknown):
        raise OptionError(
            f"{unknown}: the plan reads it from an analysis of the weights, which are not looked at here. "
            "Resize on disk (resize_checkpoint with optimizer_state), or without order and width."
        )
    return resized(match_state(state, source, plan), target, plan, artifacts, device)


def read_state(path: Path, plan: Plan, config: Mapping[str, Any]) -> AdamState:
    """Open an optimizer file, mapped into memory, and check that it belongs to the source of a plan.

    Parameters
    ----------
    path
        What torch saved, for example Trainer's `optimizer.pt`.
    plan
        Of the weights.
    config
        The source's config.json.

    Raises
    ------
    CheckpointError
        The file cannot be read, holds no AdamW state, or belongs to another model.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file. Name the optimizer.pt of a Trainer checkpoint.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: cannot be loaded as an optimizer state ({type(error).__name__}). It is cut short, or not what "
            "torch.save makes of optimizer.state_dict(). Name the optimizer.pt of a Trainer checkpoint."
        ) from error
    return match_state(state, empty_model(plan.family, plan.architecture, config), plan, str(path))


def match_state(state: Any, model: PreTrainedModel, plan: Plan, where: str = "the optimizer state") -> AdamState:
    """Give every moment its place in the family's table.

    Parameters
    ----------
    state
        `optimizer.state_dict()`.
    model
        Whose parameters the optimizer had; it may be without weights.
    plan
        Says the family and class.
    where
        What to call the state in errors.

    Raises
    ------
    CheckpointError
        The state is not AdamW's, or does not fit the model's parameters.
    """
    _check_adam(state, where)
    groups = _groups(model, len(state["param_groups"]), where)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    slots = _slots(model, plan)
    numbers: dict[Slot, int] = {}
    for index, (group, names) in enumerate(zip(state["param_groups"], groups, strict=True)):
        if len(group["params"]) != len(names):
            raise CheckpointError(
                f"{where}: group {index} has {len(group['params'])} parameters, {type(model).__name__} has "
                f"{len(names)} in it. Name the state of an AdamW over all parameters of this very model."
            )
        for number, name, called in zip(group["params"], names, group.get("param_names", names), strict=True):
            if called != name:
                raise CheckpointError(f"{where}: parameter {number} is {called}, expected {name}. {_OTHER_MODEL}")
            entry = state["state"].get(number)
            if entry is None:
                continue  # it has had no gradient yet
            for key in (FIRST, SECOND, LARGEST):
                if key in entry and tuple(entry[key].shape) != shapes[name]:
                    raise CheckpointError(
                        f"{where}: {key} of {name} has shape {list(entry[key].shape)}, the model's parameter has "
                        f"{list(shapes[name])}. {_OTHER_MODEL}"
                    )
            numbers[slots[name]] = number
    return AdamState(state, numbers, where)


def _check_adam(state: Any, where: str) -> None:
    import torch

    remedy = "wavescale resizes the state of torch's AdamW or Adam (exp_avg, exp_avg_sq) only; leave it out."
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(groups, list) or not isinstance(state.get("state"), Mapping):
        raise CheckpointError(f"{where}: holds no 'state' and 'param_groups'. Save optimizer.state_dict().")
    if not all(isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups):
        raise CheckpointError(f"{where}: a group of param_groups lists no params. Save optimizer.state_dict().")
    if not state["state"]:
        raise CheckpointError(f"{where}: is empty, so the optimizer made no step. {remedy}")
    for number, entry in state["state"].items():
        kept = set(entry) if isinstance(entry, Mapping) else set()
        if not {"step", FIRST, SECOND} <= kept <= {"step", FIRST, SECOND, LARGEST}:
            raise CheckpointError(f"{where}: parameter {number} has {_listed(kept)}, which is not AdamW's. {remedy}")
        for key in sorted(kept - {"step"}):
            dtype = str(getattr(entry[key], "dtype", type(entry[key]).__name__)).removeprefix("torch.")
            if dtype not in DTYPE_BYTES or not isinstance(entry[key], torch.Tensor):
                raise CheckpointError(
                    f"{where}: {key} of parameter {number} is {dtype}, expected one of {', '.join(DTYPE_BYTES)}. "
                    f"{remedy}"
                )


def _listed(kept: set[Any]) -> str:
    return ", ".join(sorted(map(str, kept))) or "nothing"


def decayed_names(model: PreTrainedModel) -> frozenset[str]:
    """The parameters that transformers' Trainer lets decay: all but norms and biases."""
    import torch
    from transformers.trainer_pt_utils import get_parameter_names

    return frozenset(get_parameter_names(model, [torch.nn.LayerNorm], _NOT_DECAYED))


def _groups(model: PreTrainedModel, count: int, where: str) -> list[list[str]]:
    """The names of an optimizer's parameters by group: all in one, or with weight decay and without."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if count == 1:
        return [names]
    if count != 2:
        raise CheckpointError(
            f"{where}: has {count} groups of parameters, expected one (AdamW(model.parameters())) or two (with weight "
            "decay and without, as transformers' Trainer makes them). Other groups do not say what is in them."
        )
    decayed = decayed_names(model)
    return [[name for name in names if (name in decayed) is wanted] for wanted in (True, False)]


def _slots(model: PreTrainedModel, plan: Plan) -> dict[str, Slot]:
    """The place of each parameter in the family's table, by its name in the model."""
    place = _placer(plan)
    return {name: place(disk) for name, disk in disk_names(model).items()}


def _placer(plan: Plan) -> Callable[[str], Slot]:
    matcher = RowMatcher(ModelSpec(FAMILIES[plan.family], plan.architecture, plan.config, tied=False))

    def place(name: str) -> Slot:
        found = matcher.find(name, (), "")
        return (name, None) if found is None else (found.row.name, found.layer)

    return place


def resized(
    state: AdamState,
    target: PreTrainedModel,
    plan: Plan,
    artifacts: Artifacts = NOTHING,
    device: str = "cpu",
    keep: Callable[[torch.Tensor], torch.Tensor] = lambda moment: moment,
) -> dict[str, Any]:
    """The state of an AdamW over the target's parameters.

    Parameters
    ----------
    state, plan, artifacts, device
        As in `resize_optimizer_state`.
    target
        Whose parameters to number; it may be without weights.
    keep
        What to do with each finished moment, for example to move it out of memory.
    """
    groups = _groups(target, len(state.values["param_groups"]), state.where)
    names = [name for group in groups for name in group]
    numbers = {name: number for number, name in enumerate(names)}
    slots = {slot: numbers[name] for name, slot in _slots(target, plan).items() if name in numbers}
    entries: dict[int, dict[str, Any]] = {}
    for number, key, moment in _moments(state, plan, slots, artifacts, device):
        entries.setdefault(number, {})[key] = keep(moment) if key != "step" else moment
    return {
        "state": dict(sorted(entries.items())),
        "param_groups": [
            {
                **group,
                "params": [numbers[name] for name in own],
                **({"param_names": own} if "param_names" in group else {}),
            }
            for group, own in zip(state.values["param_groups"], groups, strict=True)
        ],
    }


def _moments(
    state: AdamState, plan: Plan, numbers: Mapping[Slot, int], artifacts: Artifacts, device: str
) -> Iterator[tuple[int, str, Any]]:
    """Number in the target, key and value of all that AdamW keeps."""
    place, known = _placer(plan), artifacts.named()
    firsts, seconds = moment_plans(plan)
    sources: dict[str, list[Slot]] = {}
    for tensor in seconds.tensors:
        found = [place(name) for name in tensor.expression.reads() if name not in known]
        # A parameter that has had no gradient yet has no moments, and then its copies have none.
        if all(slot in state.numbers for slot in found) and place(tensor.name) in numbers:
            sources[tensor.name] = found
    dtype = str(state.dtype).removeprefix("torch.")
    for tensor in seconds.tensors:
        if tensor.name in sources:
            step = state.of(sources[tensor.name][0])["step"]
            yield numbers[place(tensor.name)], "step", step.clone() if hasattr(step, "clone") else step
    largest = all(LARGEST in entry for entry in state.values["state"].values())
    for key, part in ((FIRST, firsts), (SECOND, seconds), *([(LARGEST, seconds)] if largest else [])):
        wanted = tuple(replace(tensor, dtype=dtype) for tensor in part.tensors if tensor.name in sources)

        def read(name: str, key: str = key) -> torch.Tensor:
            found: torch.Tensor = state.of(place(name))[key]
            return found

        for tensor, moment in execute(replace(part, tensors=wanted), read, device, artifacts):
            yield numbers[place(tensor.name)], key, moment.cpu()


def write_state(
    state: AdamState,
    target: PreTrainedModel,
    plan: Plan,
    writer: CheckpointWriter,
    artifacts: Artifacts = NOTHING,
    device: str = "cpu",
) -> None:
    """Write the resized state as `optimizer.pt`, one moment in memory at a time."""
    writer.write_pickle("optimizer.pt", resized(state, target, plan, artifacts, device, writer.parked))


def write_run(folder: Path, writer: CheckpointWriter) -> None:
    """Copy what Trainer needs besides to go on: how far the run is, and the schedule of the learning rate.

    The best checkpoint so far is of another size, so it is forgotten; seeds are not carried over.
    """
    scheduler, progress = folder / "scheduler.pt", folder / "trainer_state.json"
    if scheduler.is_file():
        writer.copy(scheduler, scheduler.name)
    if progress.is_file():
        run = read_json(progress, dict)
        run |= {key: None for key in run if re.fullmatch(r"best_\w+", key)}
        writer.write_text(progress.name, json.dumps(run, indent=2) + "\n")


def state_bytes(plan: Plan, state: AdamState) -> int:
    """Bytes that the moments of the target take on disk."""
    kept = len({key for entry in state.values["state"].values() for key in entry} - {"step"})
    return kept * plan.parameters * state.dtype.itemsize
