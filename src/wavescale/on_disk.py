"""Resize a checkpoint on disk: look, plan, find out, write the tensors, write what belongs to them."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavescale.analysis import Subject
from wavescale.artifacts import NOTHING, Artifacts, finished
from wavescale.card import Digest, model_card, source_name
from wavescale.checkpoint import Checkpoint, CheckpointWriter, RowReader, RowWriter, open_checkpoint
from wavescale.checkpoint.companions import companions
from wavescale.checkpoint.shards import Shard
from wavescale.errors import CheckpointError, OptionError, OutputError
from wavescale.execute import Blocks, check_device, check_ties, stream
from wavescale.findings import check_given, find
from wavescale.memory import empty_model, target_config
from wavescale.optimizer import read_state, state_bytes, write_run, write_state
from wavescale.plan import Plan, TensorPlan
from wavescale.ranks import ALONE, Ranks
from wavescale.resizing import plan_resize
from wavescale.sentence_modules import SentenceModules

if TYPE_CHECKING:
    import torch

    from wavescale.findings import Calibrate
    from wavescale.learned.batches import TrainFile

_SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
# What the plan reads besides the source, while several processes write.
_FOUND = "found.pt"


def resize_checkpoint(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    max_shard_size: int | str = "5GB",
    device: str = "cpu",
    overwrite: bool = False,
    architecture: str | None = None,
    artifacts: Artifacts = NOTHING,
    optimizer_state: str | os.PathLike[str] | None = None,
    calibrate: Calibrate | None = None,
    train_file: TrainFile | None = None,
    ranks: Ranks = ALONE,
    on_plan: Callable[[Plan], None] | None = None,
    on_tensor: Callable[[TensorPlan], None] | None = None,
    **options: Any,
) -> Plan:
    """Resize a checkpoint on disk, some rows at a time, so that the model need not fit in memory.

    Parameters
    ----------
    model
        A folder or a hub id.
    out
        The folder to write; it appears whole or not at all.
    max_shard_size
        Bytes per file of weights, or text such as `"5GB"`.
    device
        Where to compute.
    overwrite
        Replace an existing checkpoint at `out`.
    architecture
        The class of transformers, for a config that names none.
    artifacts
        What `wavescale.analyse` found.
    optimizer_state
        AdamW's state of the source, as transformers' Trainer saves it (`optimizer.pt`, or its folder). It is resized
        as well, and `trainer_state.json` and `scheduler.pt` beside it are copied, so that
        `trainer.train(resume_from_checkpoint=out)` goes on. It switches off calibration by default.
    calibrate
        As in `plan_resize`.
    train_file
        What `ligo` and `mango` are trained on: a text file, for a masked image model a folder of images, or
        batches (keyword arguments of the forward pass, with labels), which are taken in their order.
    ranks
        The processes that share the work, all of which call this with the same arguments
        (`wavescale.ranks.launched`); on GPUs each takes its own.
    on_plan, on_tensor
        Called with the plan before the first tensor, on the first rank, and with each tensor's plan when this
        process has written it.
    options
        Sizes and choices, as in `plan_resize`.

    Returns
    -------
    The plan that was carried out.

    Raises
    ------
    WavescaleError
        As in `plan_resize`; or the output exists or does not fit on the disk, or a tensor holds NaN, or
        the optimizer state cannot be read or belongs to another model.
    """
    device = ranks.device(device)
    asked = _Asked(
        model, Path(out), _bytes(max_shard_size), device, overwrite, architecture, artifacts, optimizer_state,
        calibrate, train_file, options,
    )  # fmt: skip
    with ExitStack() as opened:
        job = ranks.once(lambda: opened.enter_context(_output(asked, ranks, on_plan)))
        ranks.together(lambda: _write_tensors(job, job.checkpoint(model), ranks, device, on_tensor))
        ranks.together(opened.close)  # the first rank writes what is no tensor, and the output appears
    return job.plan


@dataclass(frozen=True)
class _Asked:
    """What `resize_checkpoint` was asked for."""

    model: str | os.PathLike[str]
    out: Path
    shard_bytes: int
    device: str
    overwrite: bool
    architecture: str | None
    artifacts: Artifacts
    optimizer_state: str | os.PathLike[str] | None
    calibrate: Calibrate | None
    train_file: TrainFile | None
    options: Mapping[str, Any]

    @property
    def state_file(self) -> Path | None:
        """The file of the optimizer's state."""
        if self.optimizer_state is None:
            return None
        path = Path(self.optimizer_state).expanduser()
        return path / "optimizer.pt" if path.is_dir() else path

    @property
    def calibrated(self) -> Calibrate | None:
        """What is calibrated on; what is fitted anew has no moments."""
        return "none" if self.optimizer_state is not None and self.calibrate is None else self.calibrate


@dataclass(frozen=True)
class _Job:
    """What every rank needs to know to write tensors.

    Attributes
    ----------
    source, digest
        The checkpoint's folder, and its fingerprint where other ranks read it as well.
    plan
        What to do.
    folder, shards
        Where the tensors are written.
    found
        What the plan reads besides the source; other ranks than the first have it in a file.
    """

    source: Path
    digest: str
    plan: Plan
    folder: Path
    shards: tuple[Shard, ...]
    found: Mapping[str, torch.Tensor] | None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "found": None}

    def named(self) -> Mapping[str, torch.Tensor]:
        """What was found, from the file if need be."""
        import torch

        if self.found is not None:
            return self.found
        named: dict[str, torch.Tensor] = torch.load(self.folder / _FOUND, weights_only=True, mmap=True)
        return named

    def checkpoint(self, model: str | os.PathLike[str]) -> Checkpoint:
        """The source; a model of the hub lies elsewhere on each machine.

        Raises
        ------
        CheckpointError
            It is not here, or this machine has another version of it.
        """
        if self.source.is_dir():
            return open_checkpoint(self.source)
        here = open_checkpoint(model)
        if here.fingerprint() != self.digest:
            raise CheckpointError(
                f"{here.path}: holds another version of {model} than the first process reads. Put the model into a "
                "folder that all machines share, and name that."
            )
        return here


def _write_tensors(
    job: _Job, checkpoint: Checkpoint, ranks: Ranks, device: str, on_tensor: Callable[[TensorPlan], None] | None
) -> None:
    """Write the rank's share of the tensors, each rank from another file on."""
    mine = {tensor.name for tensor in ranks.share(job.plan.tensors)}
    files = [[tensor for tensor in shard.tensors if tensor.name in mine] for shard in job.shards]
    first = ranks.rank * len(files) // ranks.count
    with RowReader(checkpoint) as read, RowWriter(job.folder, job.shards) as rows:
        stream(
            Blocks(read, device, job.named()),
            lambda tensor, stretch, value: rows.write(tensor.name, stretch.start, value),
            files[first:] + files[:first],
            on_tensor,
        )


@contextmanager
def _output(asked: _Asked, ranks: Ranks, on_plan: Callable[[Plan], None] | None) -> Iterator[_Job]:
    """All but the tensors: everything is looked at and found out before; config, card and moments are written after."""
    checkpoint, target, moments = open_checkpoint(asked.model), asked.out, None
    _check_apart(asked, checkpoint)
    plan = _planned(asked, checkpoint)
    check_given(plan, asked.calibrated, asked.train_file)
    modules = SentenceModules(checkpoint, plan, asked.artifacts)
    plan = replace(plan, remarks=(*plan.remarks, *modules.remarks))
    check_device(asked.device)
    target_config(plan)
    if asked.state_file is not None:
        moments = read_state(asked.state_file, plan, checkpoint.config)
    # Moments are parked on the disk before they are saved: twice the room. Other ranks find in a file what was found.
    besides = 0 if moments is None else 2 * state_bytes(plan, moments)
    if ranks.count > 1 and any(map(finished, plan.asks_for)):
        besides += 4 * plan.parameters
    writer = CheckpointWriter(target, plan.tensors, asked.shard_bytes, asked.overwrite, besides)
    if on_plan is not None:
        on_plan(plan)
    subject = Subject.on_disk(checkpoint, asked.architecture)
    found = find(plan, subject, asked.artifacts, asked.calibrated, asked.device, asked.train_file)
    check_ties(plan, checkpoint.read)
    with writer:
        if ranks.count > 1:
            writer.write_pickle(_FOUND, found.named())
        digest = checkpoint.fingerprint() if ranks.count > 1 else ""
        yield _Job(checkpoint.path, digest, plan, writer.folder, writer.shards, found.named())
        (writer.folder / _FOUND).unlink(missing_ok=True)
        if moments is not None and asked.state_file is not None:
            empty = empty_model(plan.family, plan.architecture, plan.config)
            write_state(moments, empty, plan, writer, found, asked.device)
            write_run(asked.state_file.parent, writer)
        written = modules.write(writer, found)
        for path in companions(checkpoint.path):
            name = path.relative_to(checkpoint.path).as_posix()
            if name not in written:
                writer.copy(path, name)
        writer.write_text("config.json", json.dumps(dict(plan.config), indent=2) + "\n")
        writer.write_text("wavescale.json", plan.to_json())
        digests: dict[Digest, str] = {
            "source": checkpoint.fingerprint(),
            "output": open_checkpoint(writer.folder).fingerprint(),
        }
        writer.write_text("README.md", _card(asked, plan, checkpoint, digests))


def _check_apart(asked: _Asked, checkpoint: Checkpoint) -> None:
    """Refuse an output that lies in the source, or that would replace what is read, which may be links."""
    target, source = asked.out.resolve(), checkpoint.path.resolve()
    if source in (target, *target.parents):
        inside = "is the source itself" if target == source else "lies in the source"
        raise OutputError(f"{asked.out}: {inside}, which is never touched. Choose another folder.")
    given = [asked.state_file, asked.calibrated, asked.train_file]
    files = [Path(path).expanduser() for path in given if isinstance(path, str | os.PathLike)]
    for path in (checkpoint.path, *sorted(checkpoint.path.iterdir()), *files):
        if target in path.resolve().parents:
            held = "the source" if path == checkpoint.path else path.name
            raise OutputError(f"{asked.out}: holds {held}, so it is not replaced. Choose another folder.")


def _planned(asked: _Asked, checkpoint: Checkpoint) -> Plan:
    """The plan, with what the optimizer's state changes in it."""
    plan = plan_resize(
        checkpoint.path, architecture=asked.architecture, artifacts=asked.artifacts, calibrate=asked.calibrated,
        **asked.options,
    )  # fmt: skip
    if asked.state_file is None:
        return plan
    if plan.choices.calibrate != "none":
        raise OptionError(
            f"calibrate {asked.calibrate!r} does not go with optimizer_state (--optimizer-state): what is fitted anew "
            "has no moments. Leave one of the two out."
        )
    if asked.calibrate is None and plan.parameters < plan.source_parameters:
        told = "not calibrated, because what is fitted anew has no moments: a weaker start than without optimizer_state"
        plan = replace(plan, remarks=(*plan.remarks, told))
    return plan


def _card(asked: _Asked, plan: Plan, checkpoint: Checkpoint, digests: Mapping[Digest, str]) -> str:
    name = source_name(str(asked.model), checkpoint.path)
    given = {
        **asked.options,
        "architecture": asked.architecture,
        "optimizer_state": None if asked.state_file is None else asked.state_file.name,
        "calibrate": asked.calibrated,
        "train_file": asked.train_file,
    }
    drops = [("drop", pattern) for pattern in given.pop("drop", ())]
    flags = [
        f"{_FLAGS.get(key, '--' + key.replace('_', '-'))} {shlex.quote(_shown(key, value))}"
        for key, value in [*given.items(), *drops]
        if isinstance(value, str | os.PathLike | int | float | Fraction | tuple | list)
        and value != _DEFAULTS.get(key)
        and not (key in ("calibrate", "train_file") and isinstance(value, tuple | list))
    ]
    command = " ".join(["wavescale resize", shlex.quote(name), shlex.quote(asked.out.name), *flags])
    if asked.artifacts.named():
        command += "\n# together with orders or tensors that wavescale.analyse found, which the command does not repeat"
    card = checkpoint.path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return model_card(plan, name, command, digests, text)


def _shown(option: str, value: object) -> str:
    """An option's value as the command line takes it, without the path that it may be."""
    if option == "layer_map" and not isinstance(value, str) and isinstance(value, Sequence):
        return ",".join(map(str, value))
    path = Path(str(value)).expanduser()
    if option not in ("like", "calibrate", "train_file") or not path.exists():
        return str(value)
    return (path.parent if option == "like" and path.is_file() else path).resolve().name


_DEFAULTS = {"preset": "default", "seed": 0}
_FLAGS = {"num_hidden_layers": "--layers", "num_attention_heads": "--heads", "num_key_value_heads": "--kv-heads"}


def _bytes(size: int | str) -> int:
    if isinstance(size, int):
        found = size
    elif not isinstance(size, str):
        raise OptionError(f"max_shard_size {size!r} is no number of bytes and no text; give for example 5GB.")
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
        unit = _SIZE_UNITS.get(match[2].upper()) if match else None
        if match is None or unit is None:
            raise OptionError(f"max_shard_size {size!r} is no size with its unit; give for example 5GB or 500MB.")
        found = int(float(match[1]) * unit)
    if found < 1:
        raise OptionError(f"max_shard_size {size!r} is no positive size; give for example 5GB.")
    return found
