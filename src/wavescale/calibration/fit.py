"""Fill in a smaller model, stage after stage, so that each computes what the source computes there.

Every stage is fitted on what the target's earlier stages really put out, so that it makes up for
their errors. What reads the residual stream takes over the map from the target's inputs to the
source's; what writes to it is fitted to what is still missing there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import sqrt
from typing import TYPE_CHECKING

from wavescale.architectures.schema import Role, TensorRow
from wavescale.axes import parse_axes
from wavescale.calibration.choice import diagonal_turn, kept_blocks, kept_heads, principal_basis
from wavescale.calibration.layers import Linear, Norm, Opened, States
from wavescale.calibration.least_squares import Affine, fit_affine, fit_channels, fit_tied_norm

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_READERS = ("query", "key", "value")
_WATCHED = ("query", "attention output", "ffn in", "ffn out")


def fit_model(
    source: PreTrainedModel,
    target: PreTrainedModel,
    layers: Sequence[int],
    batches: Sequence[Mapping[str, torch.Tensor]],
) -> None:
    """Fit a smaller model to its source, in place.

    Parameters
    ----------
    source
        In float32 and evaluation mode; it is left as it is.
    target
        Of the same class; what does not change its shape already holds the source's values.
    layers
        For every layer of the target the source layer that it is made of, ascending.
    batches
        Keyword arguments of the forward pass, to be run through both.

    Raises
    ------
    OptionError
        The source cannot be run on a batch.
    CheckpointError
        It computes NaN or infinity.
    """
    import torch

    with torch.no_grad():
        _Fit(Opened(source, batches), Opened(target, batches, trusted=True), tuple(layers)).run()


@dataclass(frozen=True)
class _Fit:
    source: Opened
    target: Opened
    layers: tuple[int, ...]

    def run(self) -> None:
        x = self.source.enter()
        self._embed(x)
        t = self.target.enter()
        for layer in range(self.layers[0]):
            x, _ = self.source.run(layer, x)
        for layer, (first, behind) in enumerate(zip(self.layers, self._ends, strict=True)):
            x, t = self._layer(layer, _Block.of(self.source, x, first, behind), t)
        self._finish(x, t)

    @property
    def _ends(self) -> tuple[int, ...]:
        return (*self.layers[1:], self.source.spec.sizes.num_hidden_layers)

    @cached_property
    def _post(self) -> bool:
        return self.source.spec.family.placement == "post"

    def _changed(self, axis: str) -> bool:
        return self.source.spec.axis_sizes[axis] != self.target.spec.axis_sizes[axis]

    @cached_property
    def basis(self) -> torch.Tensor | None:
        """The source's residual stream times this is the target's; None where the width stays.

        Post-LN norms act channel by channel, so there channels are chosen; pre-LN ones are plain once
        their weights have moved into what reads them, so there any directions may be taken.
        """
        if not self._changed("hidden"):
            return None
        import torch

        m, spec = self.target.spec.sizes.hidden_size, self.source.spec
        moment = self._stream_moment()
        if self._post:
            keep = kept_blocks(moment, m)
            return torch.eye(len(moment), dtype=torch.float64, device=moment.device)[:, keep]
        basis = principal_basis(moment, m, spec.family.norm == "layer")
        final = self.source.norm("final")
        if spec.tied and spec.family.norm == "rms" and final is not None:
            basis = diagonal_turn(basis, final.weight.detach())
        return basis

    def _stream_moment(self) -> torch.Tensor:
        """Second moments of the stream before every layer and behind the last, as norms see it."""
        layer_norm = self.source.spec.family.norm == "layer"
        stream = self.source.enter()
        total: torch.Tensor | None = None
        for layer in range(self.source.spec.sizes.num_hidden_layers + 1):
            rows = stream.rows
            if self._post:
                rows = rows - rows.mean(0)
            else:
                rows = rows - rows.mean(1, keepdim=True) if layer_norm else rows
                rows = rows / rows.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
            moment = (rows.T @ rows).double()
            total = moment if total is None else total + moment
            if layer < self.source.spec.sizes.num_hidden_layers:
                stream, _ = self.source.run(layer, stream)
        assert total is not None
        return total

    def _projected(self, stream: States) -> States:
        basis = self.basis
        return stream if basis is None else stream.map(lambda values: values @ basis.to(values.dtype))

    def _embed(self, x: States) -> None:
        if self.basis is None:
            return
        for row in self.source.rows:
            axes = parse_axes(row.axes).axes
            position = next((p for p, axis in enumerate(axes) if axis.parts == (("hidden",),)), None)
            if row.in_layer or row.role is not Role.EMBEDDING or position is None:
                continue
            stored, into = self.source.parameter(row, None), self.target.parameter(row, None)
            assert stored is not None
            assert into is not None
            values = stored.detach().movedim(position, -1) @ self.basis.to(stored.dtype)
            into.detach().copy_(values.movedim(-1, position))
        norm = self.target.norm("embedding")
        if norm is not None:
            self._refit_norm(norm, self.target.enter, self._projected(x))

    def _refit_norm(self, norm: Norm, normalised: Callable[[], States], goal: States) -> None:
        """Give a norm the weight and bias with which it comes closest to a goal, channel by channel."""
        norm.write(1.0, 0.0)
        norm.write(*fit_channels(normalised().rows, goal.rows, norm.bias is not None))

    def _layer(self, layer: int, block: _Block, t: States) -> tuple[States, States]:
        """Fit a layer of the target to a block of source layers; gives the streams behind both."""
        target, first = self.target, block.first
        heads, kv_heads = self._kept_heads(block)
        # Attention: what reads, then what writes.
        self._plain_norm("attention", layer)
        seen = self._watch(layer, t, "query") if self.basis is not None else t
        lift = _Lift(seen, block.inputs["query"], self._reader_prior("attention", first))
        channels = (_channels(heads, self.source), *(_channels(kv_heads, self.source),) * 2)
        for module, keep in zip(_READERS, channels, strict=True):
            self._read(module, layer, first, lift, keep)
        written = self._write(
            "attention output", layer, first, self._projected(block.attended).minus(t),
            self._watch(layer, t, "attention output"), channels[0],
        )  # fmt: skip
        mid = t.plus(written)
        if self._post:
            norm = target.norm("attention", layer)
            assert norm is not None
            if self.basis is not None:
                self._refit_norm(norm, partial(mid.map, norm.module), self._projected(block.inputs["ffn in"]))
            mid = mid.map(norm.module)
        # Feed-forward likewise.
        self._plain_norm("ffn", layer)
        seen = self._watch(layer, t, "ffn in") if self.basis is not None else t
        lift = _Lift(seen, block.inputs["ffn in"], self._reader_prior("ffn", first))
        units = self._kept_units(block)
        for module in ("ffn in", "ffn gate"):
            self._read(module, layer, first, lift, units)
        written = self._write(
            "ffn out", layer, first, self._projected(block.summed if self._post else block.out).minus(mid),
            self._watch(layer, t, "ffn out"), units,
        )  # fmt: skip
        out = mid.plus(written)
        if self._post:
            norm, last = target.norm("output", layer), self.source.norm("output", block.last)
            assert norm is not None
            assert last is not None
            if self.basis is not None:
                self._refit_norm(norm, partial(out.map, norm.module), self._projected(block.out))
            else:
                norm.write(last.weight.detach(), None if last.bias is None else last.bias.detach())
            out = out.map(norm.module)
        return block.out, out

    def _watch(self, layer: int, stream: States, module: str) -> States:
        return self.target.run(layer, stream, module)[1][module]

    def _plain_norm(self, label: str, layer: int) -> None:
        norm = None if self._post or self.basis is None else self.target.norm(label, layer)
        if norm is not None:
            norm.write(1.0, 0.0)

    def _reader_prior(self, label: str, layer: int | None) -> torch.Tensor | None:
        """From what a reader of the target sees to what the source's sees, if the stream lost nothing."""
        if self.basis is None or self._post:
            return self.basis
        norm = self.source.norm(label, layer)
        assert norm is not None
        n, m = self.basis.shape
        return norm.weight.detach().double()[:, None] * self.basis * sqrt(n / m)

    def _kept_heads(self, block: _Block) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if not (self._changed("heads") or self._changed("kv_heads")):
            return None, None
        writer = self.source.linear("attention output", block.first)
        assert writer is not None
        before, after = self.source.spec.sizes, self.target.spec.sizes
        return kept_heads(
            _gram(block.inputs["attention output"]), writer.weight,
            (before.num_attention_heads, before.num_key_value_heads),
            (after.num_attention_heads, after.num_key_value_heads),
        )  # fmt: skip

    def _kept_units(self, block: _Block) -> torch.Tensor | None:
        if not self._changed("intermediate"):
            return None
        writer = self.source.linear("ffn out", block.first)
        assert writer is not None
        return kept_blocks(_gram(block.inputs["ffn out"]), self.target.spec.sizes.intermediate_size, writer.weight)

    def _read(self, module: str, layer: int, first: int, lift: _Lift, keep: torch.Tensor | None) -> None:
        """A linear map that reads the residual stream: the kept outputs of the source's, behind the lift."""
        source, target = self.source.linear(module, first), self.target.linear(module, layer)
        if source is None or target is None or (keep is None and self.basis is None):
            return
        weight, bias = lift.behind(source, keep)
        if module == "query" and self.source.spec.value(self.source.spec.family.layer_scaled_attention or ""):
            factor = (layer + 1) / (first + 1)
            weight, bias = weight * factor, None if bias is None else bias * factor
        target.write(weight, bias)

    def _write(
        self, module: str, layer: int, first: int, missing: States, inputs: States, keep: torch.Tensor | None
    ) -> States:
        """A linear map that writes to the residual stream, fitted to what is missing there; gives what it writes."""
        source, target = self.source.linear(module, first), self.target.linear(module, layer)
        assert source is not None
        assert target is not None
        prior = source.weight.double() if keep is None else source.weight[:, keep].double()
        if self.basis is not None:
            prior = self.basis.T @ prior
        found = fit_affine(inputs.rows, missing.rows, prior, target.bias is not None)
        target.write(found.weight, found.offset)
        return inputs.map(target)

    def _finish(self, x: States, t: States) -> None:
        """The last norm and the head."""
        if self.basis is None:
            return
        source = self.source
        outside = [row for row in source.rows if not row.in_layer]
        maps = [row for row in outside if row.role is Role.LINEAR and source.parameter(row, None) is not None]
        norms = [row for row in outside if row.role is Role.NORM_WEIGHT and row.norm in ("final", "head")]
        seen = source.watch([*maps, *norms])
        for row in (row for row in outside if row in maps or row in norms):
            if row in norms:
                self._finish_norm(row, seen[row.name], headless=not maps)
            else:
                self._finish_map(row, seen)

    def _finish_norm(self, row: TensorRow, inputs: States, headless: bool) -> None:
        spec = self.source.spec
        source, target = self.source.norm(row.norm), self.target.norm(row.norm)
        assert source is not None
        assert target is not None
        goal = inputs.map(source.module)
        target.write(1.0, 0.0)
        plain = self.target.watch([row])[row.name].map(target.module)
        if spec.tied and row.norm == spec.family.tied_norm:
            tables = [opened.model.get_input_embeddings().weight.detach() for opened in (self.target, self.source)]
            target.write(*fit_tied_norm(plain.rows, goal.rows, tables[0], tables[1], target.bias is not None))
        elif self._post or headless:
            target.write(*fit_channels(plain.rows, self._projected(goal).rows, target.bias is not None))

    def _finish_map(self, row: TensorRow, seen: Mapping[str, States]) -> None:
        import torch

        assert self.basis is not None
        axes = parse_axes(row.axes).axes
        read, made = (next(axis.parts[0][0] for axis in axes if axis.side == side) for side in ("in", "out"))
        source, target = self.source.linears(row, None)[0], self.target.linears(row, None)[0]
        keep: torch.Tensor | None = None
        if made == "hidden":  # only post-LN heads have such a map, and their basis is a choice of channels
            keep = self.basis.argmax(0)
        elif made == "pooled" and self._changed("pooled"):
            keep = self._kept_pooled
        prior: torch.Tensor = self.basis
        if read == "pooled":
            one = torch.eye(source.weight.shape[1], dtype=torch.float64, device=self.basis.device)
            prior = one[:, self._kept_pooled] if self._changed("pooled") else one
        elif row.reads == "final" and not (self.source.spec.tied and self.source.spec.family.tied_norm == "final"):
            plain = self._reader_prior("final", None)
            assert plain is not None
            prior = plain
        lift = _Lift(self.target.watch([row])[row.name], seen[row.name], prior)
        target.write(*lift.behind(source, keep))

    @cached_property
    def _kept_pooled(self) -> torch.Tensor:
        """The outputs of the pooler that stay."""
        row = next(row for row in self.source.rows if row.axes.startswith("pooled") and row.role is Role.LINEAR)
        rows = self.source.watch([row])[row.name].map(self.source.linears(row, None)[0]).rows
        rows = rows - rows.mean(0)
        return kept_blocks(rows.T @ rows, self.target.spec.axis_sizes["pooled"])


@dataclass(frozen=True)
class _Block:
    """A kept source layer and the dropped ones behind it, on the source's own input.

    Attributes
    ----------
    first, last
        The kept layer and the last dropped one.
    inputs
        What the kept layer's linear maps read.
    attended
        The stream, or in post-LN the sum before the norm, behind the kept layer's attention.
    summed
        In post-LN the sum before the last norm.
    out
        The stream behind the last layer.
    """

    first: int
    last: int
    inputs: Mapping[str, States]
    attended: States
    summed: States
    out: States

    @classmethod
    def of(cls, source: Opened, x: States, first: int, behind: int) -> _Block:
        out, inputs = source.run(first, x, *_WATCHED)
        attention = source.linear("attention output", first)
        assert attention is not None
        attended = x.plus(inputs["attention output"].map(attention))
        last_inputs: Mapping[str, States] = inputs
        for layer in range(first + 1, behind):
            out, last_inputs = source.run(layer, out, "ffn in", "ffn out")
        writer = source.linear("ffn out", behind - 1)
        assert writer is not None
        summed = last_inputs["ffn in"].plus(last_inputs["ffn out"].map(writer))
        return cls(first, behind - 1, inputs, attended, summed, out)


class _Lift:
    """The map from what the target reads to what the source reads there, found when it is needed."""

    def __init__(self, target: States, source: States, prior: torch.Tensor | None) -> None:
        self._target, self._source, self._prior = target, source, prior
        self._found: dict[bool, Affine] = {}

    def behind(self, linear: Linear, keep: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias with which the target computes the kept outputs of a linear map of the source."""
        weight = linear.weight if keep is None else linear.weight[keep]
        bias = None if linear.bias is None else linear.bias if keep is None else linear.bias[keep]
        if self._prior is None:
            return weight, bias
        offset = bias is not None
        if offset not in self._found:
            self._found[offset] = fit_affine(self._target.rows, self._source.rows, self._prior, offset)
        found = self._found[offset]
        lifted = weight.double() @ found.weight
        return lifted, None if bias is None or found.offset is None else bias.double() + weight.double() @ found.offset


def _channels(heads: torch.Tensor | None, opened: Opened) -> torch.Tensor | None:
    """The channels of some heads, in one axis of all."""
    import torch

    if heads is None:
        return None
    head_dim = opened.spec.sizes.head_dim
    return (heads[:, None] * head_dim + torch.arange(head_dim, device=heads.device)).flatten()


def _gram(states: States) -> torch.Tensor:
    rows = states.rows
    return (rows.T @ rows).double()
