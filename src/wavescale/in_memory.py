"""Resize a model in memory, or into one that is there already: empty, or sharded over processes.

A parameter that is sharded (a DTensor, as FSDP2 and tensor parallelism make them) gets the rows of its own
shard; from a checkpoint on disk no others are read, and nowhere is the whole model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from wavescale.analysis import Subject
from wavescale.artifacts import NOTHING, Artifacts
from wavescale.checkpoint import RowReader, open_checkpoint
from wavescale.errors import OptionError, SizeError, WavescaleError
from wavescale.execute import Blocks, ReadRows, check_device, check_ties, execute, row_blocks, rows_of
from wavescale.findings import find
from wavescale.matching import expected_tensors
from wavescale.memory import build_model, disk_names, empty_model, model_class, model_tensors
from wavescale.plan import Plan, TensorPlan
from wavescale.ranks import ALONE, Ranks
from wavescale.resizing import plan_resize
from wavescale.spec import read_spec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from wavescale.findings import Calibrate
    from wavescale.learned.batches import TrainFile

    Source: TypeAlias = str | os.PathLike[str] | PreTrainedModel


def resize(
    model: PreTrainedModel,
    *,
    device: str | None = None,
    artifacts: Artifacts = NOTHING,
    calibrate: Calibrate | None = None,
    train_file: TrainFile | None = None,
    shard: Callable[[PreTrainedModel], object] | None = None,
    **options: Any,
) -> PreTrainedModel:
    """Resize a model in memory.

    Parameters
    ----------
    model
        A transformers model of a known family; it is left as it is.
    device
        Where to compute; by default where the model is.
    artifacts
        What `wavescale.analyse` found.
    calibrate
        As in `plan_resize`; a text file needs a model that was loaded from a folder with its tokenizer.
    train_file
        As in `resize_checkpoint`, with the same need.
    shard
        Shards a model of this class in place, as the source was (for example with `fully_shard`). It gets the new
        model before that has weights, and each process then makes its own part alone (`resize_into`). Without it
        every process has the whole model.
    options
        Sizes and choices, as in `plan_resize`.

    Returns
    -------
    A new model of the same class, dtype, device and mode, with the new config. Every parameter has
    storage of its own; ties stay ties.

    Raises
    ------
    WavescaleError
        As in `plan_resize`.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=8))
    >>> resize(model, hidden_size=32, num_hidden_layers=3).config.n_head
    4
    """
    if not hasattr(model, "state_dict"):
        raise OptionError(
            f"{type(model).__name__} {str(model)[:80]!r} is no model in memory. For a folder or a hub id there is "
            "wavescale.resize_checkpoint; or load the model with from_pretrained."
        )
    import torch

    plan = plan_resize(model, artifacts=artifacts, calibrate=calibrate, **options)
    where = str(model.device) if device is None else device
    check_device(where)
    if shard is not None:
        target = empty_model(plan.family, plan.architecture, plan.config, like=model)
        _check_fits(target, plan)
        places = _places(target)
        for tensor in plan.tensors:
            places[tensor.name].data = places[tensor.name].data.to(getattr(torch, tensor.dtype))
        shard(target)
        _fill(target, model, plan, where, artifacts, calibrate, train_file)
        return target.train(model.training)
    tensors = model_tensors(model)
    found = _found(model, plan, where, artifacts, calibrate, train_file)
    made = {tensor.name: value for tensor, value in execute(plan, lambda name: whole(tensors[name]), where, found)}
    return build_model(plan, made, like=model)


def resize_into(
    target: PreTrainedModel,
    source: Source,
    *,
    device: str | None = None,
    artifacts: Artifacts = NOTHING,
    calibrate: Calibrate | None = None,
    train_file: TrainFile | None = None,
    **options: Any,
) -> Plan:
    """Fill a model with a source in the model's size.

    Parameters
    ----------
    target
        A transformers model of the planned sizes, on any device; one on the meta device is brought to `device`.
        Its parameters may be sharded (`fully_shard`, DTensor): then every process of the mesh calls this, and
        makes and keeps its own rows alone.
    source
        A folder or hub id, of which only the rows that are needed are read; or a model, which may be sharded as
        well: then each of its tensors is gathered on every process in turn.
    device
        Where to compute, and where a target on the meta device goes; by default where the target or its mesh is, or
        the CPU. A sharded one always goes to its mesh.
    artifacts, calibrate, train_file
        As in `wavescale.resize_checkpoint`.
    options
        Choices, as in `wavescale.plan_resize`; the sizes are the target's.

    Returns
    -------
    The plan that was carried out.

    Raises
    ------
    WavescaleError
        As in `plan_resize`; or the target's parameters are not the plan's tensors, or a sharded source would have to
        be run.

    Examples
    --------
    >>> import torch
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> small = GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=8))
    >>> with torch.device("meta"):
    ...     large = GPT2LMHeadModel(GPT2Config(n_embd=32, n_head=4, n_layer=3, vocab_size=32, n_positions=8))
    >>> resize_into(large, small).keeps_function
    True
    """
    plan = plan_resize(source, like=target.config, artifacts=artifacts, calibrate=calibrate, **options)
    own = expected_tensors(read_spec(plan.config, plan.architecture))
    # A model has no place for heads of other classes.
    plan = replace(plan, tensors=tuple(tensor for tensor in plan.tensors if tensor.name in own))
    _check_fits(target, plan)
    where = device or next((str(p.device) for p in target.parameters() if not p.is_meta), _mesh_device(target) or "cpu")
    check_device(where)
    _fill(target, source, plan, where, artifacts, calibrate, train_file)
    return plan


def _found(
    source: Source, plan: Plan, device: str, given: Artifacts, calibrate: Calibrate | None, train_file: TrainFile | None
) -> Artifacts:
    """What the plan reads besides the source."""
    if isinstance(source, str | os.PathLike):
        return find(
            plan, Subject.on_disk(open_checkpoint(source), plan.architecture), given, calibrate, device, train_file
        )
    if plan.asks_for - given.named().keys() and any(map(is_sharded, source.parameters())):
        raise OptionError(
            f"{model_class(source).__name__}: is sharded, so it cannot be run or compared as a whole, which "
            "the plan asks for. Choose calibrate='none' and no order, or resize its checkpoint."
        )
    return find(plan, Subject.in_memory(source), given, calibrate, device, train_file)


def _fill(
    target: PreTrainedModel,
    source: Source,
    plan: Plan,
    device: str,
    given: Artifacts,
    calibrate: Calibrate | None,
    train_file: TrainFile | None,
) -> None:
    """Make every parameter of a target, or the shard of it that is here; a failure of one process is that of all."""
    import torch

    ranks = _sharing(target)
    found = ranks.once(lambda: _found(source, plan, device, given, calibrate, train_file))
    if any(parameter.is_meta for parameter in target.parameters()):
        tied = _tied(target)
        target.to_empty(device=_mesh_device(target) or device)
        _tie(target, tied)
        _restore_buffers(target)
    places = _places(target)

    def fill(made: Blocks, tensor: TensorPlan) -> None:
        local, offset = _local(places[tensor.name])
        inner = tuple(slice(start, start + n) for start, n in zip(offset[1:], local.shape[1:], strict=True))
        for some in row_blocks(tensor, local.shape[0]) if local.numel() else ():
            rows = range(offset[0] + some.start, offset[0] + some.stop)
            local[some.start : some.stop].copy_(made.make(tensor, rows)[(slice(None), *inner)])

    failure: WavescaleError | None = None
    with _rows(source, plan) as (read, gather), torch.no_grad():
        made = Blocks(read, device, found.named())
        for tensor in plan.tensors:
            gather(tensor)
            if failure is None:
                try:
                    fill(made, tensor)
                except WavescaleError as error:  # other processes still wait for what this one has of the source
                    failure = error
    ranks.together(lambda: _raise(failure))


def _raise(failure: WavescaleError | None) -> None:
    if failure is not None:
        raise failure


def _sharing(target: PreTrainedModel) -> Ranks:
    """The processes that hold a target together, if these are all that there are; else each is for itself."""
    import torch.distributed

    mesh: Any = next((parameter.device_mesh for parameter in _sharded(target)), None)
    if mesh is None or mesh.size() != torch.distributed.get_world_size():
        return ALONE
    return Ranks(torch.distributed.get_rank(), mesh.size())


def _mesh_device(target: PreTrainedModel) -> str | None:
    """The kind of device that a sharded model is on."""
    return next((str(parameter.device_mesh.device_type) for parameter in _sharded(target)), None)


def _sharded(target: PreTrainedModel) -> Iterator[Any]:
    return (parameter for parameter in target.parameters() if is_sharded(parameter))


@contextmanager
def _rows(source: Source, plan: Plan) -> Iterator[tuple[ReadRows, Callable[[TensorPlan], None]]]:
    """What gives rows of a source, and what is to be called before those of each target tensor are asked for."""
    if isinstance(source, str | os.PathLike):
        checkpoint = open_checkpoint(source)
        check_ties(plan, checkpoint.read)
        with RowReader(checkpoint) as read:
            yield read, lambda _: None
        return
    stored = model_tensors(source)
    here: dict[str, torch.Tensor] = {}

    def gather(tensor: TensorPlan) -> None:
        names = [name for name in tensor.expression.reads() if name in stored]
        for name in here.keys() - set(names):
            del here[name]
        for name in names:  # all processes in the same order
            if name not in here:
                here[name] = whole(stored[name])

    yield rows_of(here.__getitem__), gather


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "placements")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in one piece; a sharded one is gathered, by all processes of its mesh together."""
    sharded: Any = tensor
    found: torch.Tensor = sharded.full_tensor() if is_sharded(tensor) else tensor
    return found


def _local(parameter: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The part of a parameter that is here, and where in the whole it begins."""
    if not is_sharded(parameter):
        return parameter.detach(), (0,) * parameter.ndim
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    sharded: Any = parameter
    _, offset = compute_local_shape_and_global_offset(sharded.shape, sharded.device_mesh, sharded.placements)
    return sharded.detach().to_local(), tuple(offset)


def _places(target: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """Parameters by their name on disk."""
    parameters = dict(target.named_parameters())
    return {disk: parameters[name] for name, disk in disk_names(target).items()}


def _check_fits(target: PreTrainedModel, plan: Plan) -> None:
    """Refuse a target whose parameters are not the plan's tensors."""
    found = {disk: tuple(parameter.shape) for disk, parameter in _places(target).items()}
    wanted = {tensor.name: tensor.shape for tensor in plan.tensors}
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise SizeError(
                f"{name}: has shape {found.get(name, 'none')} in {model_class(target).__name__}, "
                f"{wanted.get(name, 'none')} in the plan. Make the target of the source's class, from plan.config."
            )


def _restore_buffers(target: PreTrainedModel) -> None:
    """Compute again the buffers that no checkpoint holds, as transformers does after loading on the meta device."""
    for parameter in target.parameters():
        parameter._is_hf_initialized = True
    target.initialize_weights()


def _tied(target: PreTrainedModel) -> list[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in target.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [found for found in names.values() if len(found) > 1]


def _tie(target: PreTrainedModel, tied: list[list[str]]) -> None:
    """Make names mean one parameter again, which `to_empty` parts."""
    for first, *others in tied:
        for name in others:
            module, _, own = name.rpartition(".")
            setattr(target.get_submodule(module), own, target.get_parameter(first))
