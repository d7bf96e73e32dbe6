"""A model taken apart: its linear maps and norms by what they are, its layers to be run one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wavescale.architectures.schema import Role, TensorRow
from wavescale.axes import parse_axes
from wavescale.calibration.writing import not_finite
from wavescale.errors import OptionError
from wavescale.memory import disk_names, model_spec
from wavescale.methods import Piece
from wavescale.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Linear:
    """A linear map of a model, whatever way it is stored, alone or fused.

    Attributes
    ----------
    piece
        Its row and, if fused, its part.
    stored, stored_bias
        The parameters that hold it.
    start, length
        The stretch of outputs that is its own.
    """

    piece: Piece
    stored: torch.nn.Parameter
    stored_bias: torch.nn.Parameter | None
    start: int
    length: int

    @property
    def weight(self) -> torch.Tensor:
        """(outputs, inputs), a view of the stored parameter."""
        whole = self.stored.detach()
        whole = whole.T if self.piece.input_axis == 0 else whole.flatten(1)
        return whole.narrow(0, self.start, self.length)

    @property
    def bias(self) -> torch.Tensor | None:
        """(outputs,), a view."""
        return None if self.stored_bias is None else self.stored_bias.detach().narrow(0, self.start, self.length)

    def write(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Put other values in place."""
        self.weight.copy_(weight)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        found = x @ self.weight.T
        return found if self.bias is None else found + self.bias


@dataclass(frozen=True)
class Norm:
    """The weight and, for LayerNorm, the bias of a norm, and its module."""

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None
    module: torch.nn.Module

    def write(self, weight: torch.Tensor | float, bias: torch.Tensor | float | None) -> None:
        """Put other values in place."""
        import torch

        self.weight.detach().copy_(torch.as_tensor(weight))
        if self.bias is not None and bias is not None:
            self.bias.detach().copy_(torch.as_tensor(bias))


@dataclass
class States:
    """Activations, one tensor per batch, channels last.

    Attributes
    ----------
    batches
        Each (sequences, tokens, channels).
    masks
        Which tokens count, (sequences, tokens) each; None for all.
    """

    batches: list[torch.Tensor]
    masks: list[torch.Tensor | None]

    @property
    def rows(self) -> torch.Tensor:
        """All that count, (rows, channels)."""
        import torch

        found = []
        for values, mask in zip(self.batches, self.masks, strict=True):
            flat = values.reshape(-1, values.shape[-1])
            counts = mask is not None and mask.numel() == len(flat)
            found.append(flat[mask.reshape(-1).bool()] if counts and mask is not None else flat)
        return torch.cat(found)

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> States:
        """The same tokens, every batch through a function."""
        return States([change(values) for values in self.batches], self.masks)

    def minus(self, other: States) -> States:
        """The difference of two, token by token."""
        return States([a - b for a, b in zip(self.batches, other.batches, strict=True)], self.masks)

    def plus(self, other: States) -> States:
        """The sum of two, token by token."""
        return States([a + b for a, b in zip(self.batches, other.batches, strict=True)], self.masks)


class _Seen(Exception):  # noqa: N818
    """No error: it stops a forward pass of which all has been seen that is wanted."""


class Opened:
    """A model whose layers can be run one by one, on fixed batches.

    Parameters
    ----------
    model
        Of a known family, in float32 and evaluation mode.
    batches
        Keyword arguments of its forward pass.
    trusted
        Whether it runs on the batches and what it computes is finite, so that nobody has to look.
    """

    def __init__(
        self, model: PreTrainedModel, batches: Sequence[Mapping[str, torch.Tensor]], trusted: bool = False
    ) -> None:
        self.model, self._trusted = model, trusted
        self.spec: ModelSpec = model_spec(model)
        named = dict(model.named_parameters())
        self._names = {disk: name for name, disk in disk_names(model).items()}
        self._parameters = {disk: named[name] for disk, name in self._names.items()}
        self._rows = {(slot.row.name, slot.layer): slot for slot in self.spec.slots()}
        self._batches = [{k: v.to(model.device) for k, v in batch.items()} for batch in batches]
        # What layers of each kind are called with, batch by batch, by the first layer of the kind.
        self._calls: dict[int, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    @property
    def masks(self) -> list[torch.Tensor | None]:
        """Which tokens of every batch count."""
        return [batch.get("attention_mask") for batch in self._batches]

    @cached_property
    def rows(self) -> tuple[TensorRow, ...]:
        """The table rows that the model has, each once."""
        return tuple(dict.fromkeys(slot.row for slot in self.spec.slots()))

    def disk_name(self, row: TensorRow, layer: int | None) -> str:
        """The name on disk of a tensor."""
        return self.spec.disk_name(self._rows[row.name, layer])

    def parameter(self, row: TensorRow, layer: int | None) -> torch.nn.Parameter | None:
        """The parameter of a row, if the model has it."""
        return self._parameters.get(self.disk_name(row, layer)) if (row.name, layer) in self._rows else None

    def module(self, row: TensorRow, layer: int | None) -> torch.nn.Module:
        """The module that holds a parameter."""
        found: torch.nn.Module = self.model.get_submodule(self._names[self.disk_name(row, layer)].rpartition(".")[0])
        return found

    def bias_row(self, row: TensorRow) -> TensorRow | None:
        """The row of the bias beside a weight."""
        name = row.name.removesuffix("weight") + "bias"
        return next((other for other in self.rows if other.name == name), None)

    def linears(self, row: TensorRow, layer: int | None) -> list[Linear]:
        """The linear maps that a row holds: one, or those fused in it."""
        weight = self.parameter(row, layer)
        assert weight is not None
        beside = self.bias_row(row)
        bias = None if beside is None else self.parameter(beside, layer)
        found, start = [], 0
        axes = parse_axes(row.axes)
        outputs = next(axis for axis in axes.axes if axis.side == "out")
        for index in range(len(row.modules)):
            part = outputs.part_size(index if len(outputs.parts) > 1 else 0, self.spec.axis_sizes)
            found.append(Linear(Piece(row, index), weight, bias, start, part))
            start += part
        return found

    def linear(self, module: str, layer: int) -> Linear | None:
        """A linear map of a layer by what it is, for example `ffn out`; None where the family has none."""
        for row in self.rows:
            if row.in_layer and row.role is Role.LINEAR and module in row.modules:
                return self.linears(row, layer)[row.modules.index(module)]
        return None

    def norm(self, label: str, layer: int | None = None) -> Norm | None:
        """A norm by its name in the tables."""
        row = next((r for r in self.rows if r.norm == label and r.role is Role.NORM_WEIGHT), None)
        if row is None:
            return None
        weight, beside = self.parameter(row, layer), self.bias_row(row)
        assert weight is not None
        return Norm(weight, None if beside is None else self.parameter(beside, layer), self.module(row, layer))

    def _layer(self, layer: int) -> torch.nn.Module:
        row = next(row for row in self.rows if row.in_layer and row.writes)
        parts = self._names[self.disk_name(row, layer)].split(".")
        found: torch.nn.Module = self.model.get_submodule(".".join(parts[: parts.index(str(layer)) + 1]))
        return found

    @cached_property
    def _kinds(self) -> list[int]:
        """For every layer the first of its kind: full and sliding attention have masks of their own."""
        types = self.spec.value("layer_types") or [""] * self.spec.sizes.num_hidden_layers
        return [types.index(found) for found in types]

    def enter(self) -> States:
        """The residual stream before the first layer.

        Raises
        ------
        OptionError
            The model cannot be run on a batch.
        CheckpointError
            It computes NaN or infinity.
        """
        self._calls = {first: [] for first in sorted(set(self._kinds))}

        def keep(first: int) -> Any:
            def hook(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                self._calls[first].append((args, kwargs))
                if first == max(self._calls):
                    raise _Seen

            return hook

        handles = [self._layer(first).register_forward_pre_hook(keep(first), with_kwargs=True) for first in self._calls]
        try:
            for number, batch in enumerate(self._batches):
                with suppress(_Seen), self._blaming(number):
                    self._forward(batch)
        finally:
            for handle in handles:
                handle.remove()
        return self._checked([_stream(args, kwargs) for args, kwargs in self._calls[0]])

    @contextmanager
    def _blaming(self, number: int) -> Iterator[None]:
        """Say which batch the model cannot be run on."""
        try:
            yield
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if self._trusted:
                raise
            raise OptionError(
                f"calibrate (--calibrate): {type(self.model).__name__} cannot be run on batch {number} "
                f"({', '.join(self._batches[number])}): {str(error).partition(chr(10))[0]}. "
                "Give keyword arguments of its forward pass."
            ) from error

    def _checked(self, stream: list[torch.Tensor]) -> States:
        import torch

        if not self._trusted and not all(bool(torch.isfinite(values).all()) for values in stream):
            raise not_finite(self.model)
        return States(stream, self.masks)

    def _forward(self, batch: Mapping[str, torch.Tensor]) -> Any:
        import torch

        decodes = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        with torch.no_grad():
            return self.model(**batch, **decodes)

    def run(self, layer: int, stream: States, *watched: str) -> tuple[States, dict[str, States]]:
        """A layer's output, and what goes into the named linear maps of it.

        Parameters
        ----------
        stream
            The residual stream before the layer.
        watched
            For example `query`, `attention output`, `ffn in`, `ffn out`.

        Raises
        ------
        CheckpointError
            The model computes NaN or infinity.
        """
        import torch

        found: dict[str, list[torch.Tensor]] = {name: [] for name in watched}
        places = [(found[name], self._holder(name, layer)) for name in watched]
        out: list[torch.Tensor] = []
        with _inputs(places), torch.no_grad():
            for number, (values, call) in enumerate(zip(stream.batches, self._calls[self._kinds[layer]], strict=True)):
                args, kwargs = call
                result = self._layer(layer)(*_with_stream(args, values), **_with_stream_named(args, kwargs, values))
                out.append(result[0] if isinstance(result, tuple) else result)
                for seen in found.values():  # of a layer that takes its tokens in chunks in as many parts
                    seen[number:] = [torch.cat(seen[number:], 1)] if len(seen) > number + 1 else seen[number:]
        return self._checked(out), {name: States(values, self.masks) for name, values in found.items()}

    def _holder(self, module: str, layer: int) -> torch.nn.Module:
        row = next(r for r in self.rows if r.in_layer and r.role is Role.LINEAR and module in r.modules)
        return self.module(row, layer)

    def watch(self, rows: Sequence[TensorRow]) -> dict[str, States]:
        """Run the whole model and keep what goes into modules outside the layers, by the row's name."""
        found: dict[str, list[torch.Tensor]] = {row.name: [] for row in rows}
        with _inputs([(found[row.name], self.module(row, None)) for row in rows], enough=True):
            for batch in self._batches:
                with suppress(_Seen):
                    self._forward(batch)
        return {name: States(values, self.masks) for name, values in found.items()}


@contextmanager
def _inputs(places: Sequence[tuple[list[torch.Tensor], torch.nn.Module]], enough: bool = False) -> Iterator[None]:
    """Keep the first input of modules while they are run; where that is enough, no more is run than it takes."""
    import torch

    def keep(values: list[torch.Tensor]) -> Any:
        def hook(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            found = given[0].detach()
            values.append(found.movedim(1, -1) if isinstance(module, torch.nn.Conv2d) else found)
            if enough and len({len(others) for others, _ in places}) == 1:
                raise _Seen

        return hook

    handles = [module.register_forward_pre_hook(keep(values)) for values, module in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# A layer takes the residual stream first, with or without its name.
_STREAM = "hidden_states"


def _stream(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    stream: torch.Tensor = args[0] if args else kwargs[_STREAM]
    return stream.detach()


def _with_stream(args: tuple[Any, ...], stream: torch.Tensor) -> tuple[Any, ...]:
    return (stream, *args[1:]) if args else ()


def _with_stream_named(args: tuple[Any, ...], kwargs: Mapping[str, Any], stream: torch.Tensor) -> dict[str, Any]:
    return dict(kwargs) if args else {**kwargs, _STREAM: stream}
