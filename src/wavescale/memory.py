"""Models in memory: their tensors under the names of disk, and back, by transformers' own conversion."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from wavescale.architectures import FAMILIES
from wavescale.checkpoint import open_checkpoint
from wavescale.errors import CheckpointError, SizeError
from wavescale.matching import match_tensors
from wavescale.plan import Plan
from wavescale.spec import ModelSpec, read_spec, todays_name

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def model_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A model's parameters under the names that `save_pretrained` gives them, one name per parameter.

    Buffers that are not saved are left out, and of tied parameters the copies, found by identity.
    """
    from transformers.core_model_loading import revert_weight_conversion

    own = {id(parameter) for parameter in model.parameters()}
    first: dict[int, str] = {}
    state: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in own and first.setdefault(id(value), name) == name:
            state[name] = value.detach()
    return {_in_todays_spelling(model, name): value for name, value in revert_weight_conversion(model, state).items()}


def _in_todays_spelling(model: PreTrainedModel, name: str) -> str:
    """A name on disk; models that were loaded from old files would be saved under the old names."""
    family = FAMILIES.get(model.config.model_type)
    return name if family is None else todays_name(family, name)


def disk_names(model: PreTrainedModel) -> dict[str, str]:
    """The name that `save_pretrained` gives each parameter, by its name in `named_parameters`.

    Works on models without weights. A parameter that is not stored as it is has no entry.
    """
    from transformers.core_model_loading import revert_weight_conversion

    parameters = dict(model.named_parameters())
    names = {id(parameter): name for name, parameter in parameters.items()}
    stored = revert_weight_conversion(model, parameters)
    return {names[id(value)]: _in_todays_spelling(model, disk) for disk, value in stored.items() if id(value) in names}


def model_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """A model's class of transformers; `fully_shard` puts one of its own in front of it."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    sharded = fsdp is not None and isinstance(model, getattr(fsdp, "FSDPModule", ()))
    return type(model).__mro__[2] if sharded else type(model)


def model_spec(model: PreTrainedModel) -> ModelSpec:
    """A model in memory as a spec; whether it ties embeddings is read off its parameters."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["architectures"] = [model_class(model).__name__]
    spec = read_spec(config)
    if not spec.head_class.ties:
        return spec
    output = model.get_output_embeddings()
    tied = output is not None and output.weight is model.get_input_embeddings().weight
    return ModelSpec(spec.family, spec.class_name, {**config, "tie_word_embeddings": tied}, tied)


def target_config(plan: Plan) -> Any:
    """The target's config as transformers' class, which validates it.

    Raises
    ------
    SizeError
        The class refuses the config.
    """
    try:
        return _config(plan.family, plan.config)
    except Exception as error:  # transformers raises several types of its own here
        raise SizeError(f"{FAMILIES[plan.family].config_class} refuses the new sizes: {error}") from error


def _config(family: str, config: Mapping[str, Any]) -> Any:
    import transformers

    values = {key: value for key, value in config.items() if key not in ("model_type", "transformers_version")}
    return getattr(transformers, FAMILIES[family].config_class)(**values)


def empty_model(
    family: str, class_name: str, config: Mapping[str, Any], like: PreTrainedModel | None = None
) -> PreTrainedModel:
    """A model that has parameters with names, shapes and ties, but no weights.

    Parameters
    ----------
    like
        A model of the class, from which it takes over what is in no config.

    Raises
    ------
    CheckpointError
        transformers refuses the config.
    """
    import torch
    import transformers

    with quiet_loading(), torch.device("meta"):
        try:
            made = _config(family, config)
            model: PreTrainedModel
            if like is None:
                model = getattr(transformers, class_name)(made)
            else:
                made._attn_implementation = like.config._attn_implementation
                model = model_class(like)(made, **_arguments(like))
        except Exception as error:  # as above
            raise CheckpointError(f"config.json: {class_name} refuses it: {error}") from error
    if like is not None:
        _take_over_generation(model, like)
    return model


def _arguments(like: PreTrainedModel) -> dict[str, Any]:
    """What a model's class was made with besides a config: encoders without a head may be without a pooler."""
    return {"add_pooling_layer": False} if getattr(like, "pooler", like) is None else {}


def _take_over_generation(model: PreTrainedModel, like: PreTrainedModel) -> None:
    if like.can_generate() and like.generation_config is not None:
        model.generation_config = deepcopy(like.generation_config)


def fresh_model(family: str, class_name: str, config: Mapping[str, Any], seed: int) -> PreTrainedModel:
    """A model that transformers initialises, in float32 on the CPU; torch's own random state stays as it is.

    Raises
    ------
    CheckpointError
        transformers refuses the config.
    """
    import transformers

    with quiet_loading(), seeded(seed):
        try:
            model: PreTrainedModel = getattr(transformers, class_name)(_config(family, config))
        except Exception as error:  # as above
            raise CheckpointError(f"config.json: {class_name} refuses it: {error}") from error
    return model.float()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the random state of torch, and of a GPU if the device is one, and put it back."""
    import torch

    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def build_model(plan: Plan, tensors: Mapping[str, torch.Tensor], like: PreTrainedModel) -> PreTrainedModel:
    """A model of the plan's class and config that holds these tensors.

    Raises
    ------
    CheckpointError
        transformers finds tensors missing, left over or misshapen.
    """
    config = target_config(plan)
    config._attn_implementation = like.config._attn_implementation
    dtypes = {tensor.dtype for tensor in tensors.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else like.dtype
    with quiet_loading():
        model, info = model_class(like).from_pretrained(
            None, config=config, state_dict=dict(tensors), dtype=dtype, output_loading_info=True, **_arguments(like)
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise CheckpointError(
                f"{model_class(like).__name__}: {kind.replace('_', ' ')} after resizing: {sorted(info[kind])}"
            )
    if len({tensor.dtype for tensor in tensors.values()}) > 1:  # as planned, such as norms in float32 in a half type
        parameters = dict(model.named_parameters())
        for name, disk in disk_names(model).items():
            parameters[name].data = tensors[disk].to(parameters[name].device)
    _take_over_generation(model, like)
    return model.to(like.device).train(like.training)


def load_model(folder: Path, class_name: str) -> PreTrainedModel:
    """A checkpoint as a model of a class of transformers, in float32 and ready to be run.

    Raises
    ------
    CheckpointError
        transformers cannot load it, or tensors are missing or misshapen.
    """
    import torch
    import transformers

    cls = getattr(transformers, class_name)
    checkpoint = open_checkpoint(folder)
    stored = checkpoint.tensors
    # A damaged file is told here, in one line, before a model of the config's sizes is made.
    match_tensors(read_spec(checkpoint.config, class_name), stored)
    # An encoder that was saved without its pooler computes without it.
    pooled = "add_pooling_layer" not in signature(cls).parameters or any("pooler." in name for name in stored)
    arguments = {} if pooled else {"add_pooling_layer": False}
    with quiet_loading(), _without_adapters(folder) as plain:
        try:
            model, info = cls.from_pretrained(plain, dtype=torch.float32, output_loading_info=True, **arguments)
        except Exception as error:  # of several types: unknown activations, junk in an index, sizes that do not fit
            raise CheckpointError(f"{folder}: transformers cannot load it: {error!r}. Correct its files.") from error
    if info["missing_keys"] or info["mismatched_keys"]:
        raise CheckpointError(
            f"{folder}: tensors missing or misshapen: "
            f"{sorted(map(str, [*info['missing_keys'], *info['mismatched_keys']]))[:5]}"
        )
    loaded: PreTrainedModel = model.eval()
    return loaded


@contextmanager
def _without_adapters(folder: Path) -> Iterator[Path]:
    """A checkpoint without the adapter that may lie beside it, which transformers would put into the model."""
    if not (folder / "adapter_config.json").is_file():
        yield folder
        return
    with TemporaryDirectory() as plain:
        for path in folder.iterdir():
            if not path.name.startswith("adapter_"):
                (Path(plain) / path.name).symlink_to(path.resolve())
        yield Path(plain)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' bars and remarks off the terminal while a model is put together, or run to look into it."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
