"""Mango: every weight of the target from all weights of the source, by a ring of four cores (Pan et al. 2023).

The maps of all layers are cut into blocks of D × D and put into one tensor of B blocks, I inputs, O
outputs and L layers. It goes through a matrix product operator in tensor-ring form (arXiv 2310.10699):

    W′[b′, i′, o′, l′] = Σ S_B[q, b, b′, r] S_O[r, o, o′, s] S_L[s, l, l′, t] S_I[t, i, i′, q] W[b, i, o, l]

over b, o, l, i and the ranks q, r, s, t, whose cores are trained on the task loss. No code of the paper is
public, and neither its layout of blocks, their order, its start nor what becomes of other tensors.
This is a re-implementation, with these choices:

- Blocks: query, key, value, attention output and the feed-forward maps of a layer, each (O, I), in the
  order of the table, a wide map's blocks one after the other. What does not fill its last block is
  padded with zeros, and the target leaves out what would copy padding. Grouped keys and values are
  repeated for their query heads, and averaged over them afterwards.
- All ranks are 1, which the paper finds to suffice.
- Everything else takes one trained map of the residual stream, D′ × D, on each block of D of its axes;
  norms and biases of layers also take trained depth weights. A tied head stays tied.
- The start copies: unit j′ of a block is unit j′ mod D (bert2BERT's and HyperCloning's copies), inputs are
  divided by the number of copies, layers are stacked (l′ mod L), and noise of 3% parts the copies. At
  whole multiples of the width, without new layers and noise, that keeps the function.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING

from wavescale.architectures.schema import Role
from wavescale.learned.mapping import LearnedMap
from wavescale.methods import Piece
from wavescale.spec import ModelSpec

if TYPE_CHECKING:
    import torch

# Size of the noise that parts copies, relative to what it is added to.
_NOISE = 0.03


@dataclass(frozen=True)
class Block:
    """A block of D × D: the map that it is cut from, and its place there."""

    piece: Piece
    output: int
    input: int


@dataclass
class Mango(LearnedMap):
    """The mapping of Mango: cores `S_B`, `S_O`, `S_L` and `S_I`, `width` and `depth` for all other tensors.

    Attributes
    ----------
    rank
        All four ranks of the ring.
    """

    rank: int = 1

    def start(self) -> dict[str, torch.Tensor]:
        """Copies and stacked layers, with noise."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        before, after = (spec.sizes.num_hidden_layers for spec in (self.resizing.source, self.resizing.target))
        stacked = torch.eye(before)[:, torch.arange(after) % before]
        copied = torch.eye(self._widths[0])[:, torch.arange(self._widths[1]) % self._widths[0]]
        starts = {"S_B": self._block_start(), "S_O": copied, "S_L": stacked, "S_I": copied / self._copies()[:, None]}

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator) * (_NOISE / sqrt(shape[-2]))

        found = {"width": (copied + noise(*copied.shape)).T, "depth": (stacked + noise(*stacked.shape)).T}
        for name, base in starts.items():
            core = noise(self.rank, self.rank, *base.shape)
            core[0, 0] += base
            found[name] = core.permute(0, 2, 3, 1).contiguous()  # (rank, from, to, rank)
        return found

    def _block_start(self) -> torch.Tensor:
        """Which block each block copies, (B, B′), divided by the number of copies of its inputs."""
        import torch

        source, target = self.blocks(self.resizing.source), self.blocks(self.resizing.target)
        found = torch.zeros(len(source), len(target))
        for place, block in enumerate(target):
            rows, columns = self._counts(block.piece, self.resizing.source)
            wide = self._counts(block.piece, self.resizing.target)[1]
            origin = Block(block.piece, block.output % rows, block.input % columns)
            found[source.index(origin), place] = 1 / len(range(block.input % columns, wide, columns))
        return found

    def _copies(self) -> torch.Tensor:
        """How often each of the D units of a block is copied, (D,)."""
        import torch

        return torch.bincount(torch.arange(self._widths[1]) % self._widths[0]).float()

    @property
    def _widths(self) -> tuple[int, int]:
        return self.resizing.source.sizes.hidden_size, self.resizing.target.sizes.hidden_size

    def _maps(self) -> list[Piece]:
        return [piece for piece in self.pieces if piece.row.in_layer and piece.role is Role.LINEAR]

    def _lengths(self, piece: Piece, spec: ModelSpec) -> tuple[int, ...]:
        """The shape of a piece, with grouped keys and values as long as the queries."""
        sizes = spec.axis_sizes
        return piece.axes.shape({**sizes, "kv_heads": sizes["heads"]})

    def _counts(self, piece: Piece, spec: ModelSpec) -> tuple[int, int]:
        """Blocks of a map by outputs and inputs."""
        place = piece.input_axis
        assert place is not None
        lengths, width = self._lengths(piece, spec), spec.sizes.hidden_size
        return _blocks(lengths[1 - place], width), _blocks(lengths[place], width)

    def blocks(self, spec: ModelSpec) -> list[Block]:
        """The blocks of a layer, in their order in the tensor."""
        return [
            Block(piece, *place)
            for piece in self._maps()
            for place in product(*(range(count) for count in self._counts(piece, spec)))
        ]

    def made(self) -> dict[Piece, torch.Tensor]:
        maps = self.unstacked(self.contract(self.stacked()))
        found = {piece: maps[piece] if piece in maps else self._mapped(piece) for piece in self.pieces}
        return {piece: self.undivided(piece, value) for piece, value in found.items()}

    def stacked(self) -> torch.Tensor:
        """The source's maps as one tensor (B, I, O, L)."""
        import torch

        width, parts = self._widths[0], []
        for piece in self._maps():
            value = self._repeated(piece, self.source[piece])
            if piece.input_axis == 1:
                value = value.mT  # (L, inputs, outputs)
            cut = _cut(_cut(value, 2, width), 1, width)  # (L, inputs / D, D, outputs / D, D)
            parts.append(cut.permute(3, 1, 2, 4, 0).flatten(0, 1))
        return torch.cat(parts)

    def contract(self, source: torch.Tensor) -> torch.Tensor:
        """(B, I, O, L) through the ring, (B′, I′, O′, L′)."""
        import torch

        found = torch.einsum("biol,qbcr->cqriol", source, self.parameters["S_B"])
        found = torch.einsum("cqriol,ropt->cqtipl", found, self.parameters["S_O"])
        found = torch.einsum("cqtipl,tlmu->cquipm", found, self.parameters["S_L"])
        return torch.einsum("cquipm,uijq->cjpm", found, self.parameters["S_I"])

    def unstacked(self, tensor: torch.Tensor) -> dict[Piece, torch.Tensor]:
        """The target's maps from (B′, I′, O′, L′), each (L′, …)."""
        import torch

        found, at = {}, 0
        for piece in self._maps():
            rows, columns = self._counts(piece, self.resizing.target)
            part = torch.unflatten(tensor[at : at + rows * columns], 0, (rows, columns))
            at += rows * columns
            value = part.permute(4, 1, 2, 0, 3).flatten(3, 4).flatten(1, 2)  # (L′, inputs, outputs)
            place = piece.input_axis
            value = value.mT if place == 1 else value
            for axis in (0, 1):
                value = value.index_select(axis + 1, self._places(piece, axis).to(value.device))
            found[piece] = self._averaged(piece, value)
        return found

    def _places(self, piece: Piece, axis: int) -> torch.Tensor:
        """Where an axis of the target lies in its blocks: first of all where copies of the source's units do."""
        import torch

        n, m = (self._lengths(piece, spec)[axis] for spec in (self.resizing.source, self.resizing.target))
        before, after = self._widths
        places = torch.arange(_blocks(m, after) * after)
        padding = places // after % _blocks(n, before) * before + places % after % before >= n
        return padding.int().argsort(stable=True)[:m].sort().values

    def _mapped(self, piece: Piece) -> torch.Tensor:
        """A piece outside the ring, (L′, …) or (1, …)."""
        import torch

        value = self._repeated(piece, self.source[piece])
        if piece.row.in_layer:
            value = torch.tensordot(self.parameters["depth"], value, dims=1)
        for position, axis in enumerate(piece.axes.axes):
            if not set(axis.parts[0]) & {"hidden", "intermediate", "heads", "kv_heads", "pooled"}:
                continue
            cut = _cut(value.movedim(position + 1, -1), -1, self._widths[0])
            places = self._places(piece, position).to(cut.device)
            origins = torch.arange(_blocks(len(places), self._widths[1]), device=cut.device) % cut.shape[-2]
            matrix = self.parameters["width"]
            if axis.side == "in":
                matrix = matrix / self._copies().to(cut.device)
                cut = cut / torch.bincount(origins, minlength=cut.shape[-2])[:, None].clamp(min=1)
            mapped = (cut @ matrix.T)[..., origins, :].flatten(-2)[..., places]
            value = mapped.movedim(-1, position + 1)
        return self._tied(piece, self._averaged(piece, value))

    def _tied(self, piece: Piece, value: torch.Tensor) -> torch.Tensor:
        """The norm before a tied head divides by the copies that the head sums over; other heads undo it."""
        source = self.resizing.source
        if source.tied and piece.row.norm == source.family.tied_norm:
            return value * (self._widths[0] / self._widths[1])
        if source.tied and piece.row.reads == source.family.tied_norm and piece.role is Role.LINEAR:
            return value * (self._widths[1] / self._widths[0])
        return value

    def _repeated(self, piece: Piece, value: torch.Tensor) -> torch.Tensor:
        """Grouped keys and values once for each of their query heads."""
        return self._regrouped(piece, value, self.resizing.source, repeat=True)

    def _averaged(self, piece: Piece, value: torch.Tensor) -> torch.Tensor:
        """Keys and values of the query heads of a group as one."""
        return self._regrouped(piece, value, self.resizing.target, repeat=False)

    def _regrouped(self, piece: Piece, value: torch.Tensor, spec: ModelSpec, repeat: bool) -> torch.Tensor:
        import torch

        sizes = spec.sizes
        group = sizes.num_attention_heads // sizes.num_key_value_heads
        place = next((p for p, axis in enumerate(piece.axes.axes, 1) if "kv_heads" in axis.parts[0]), None)
        if place is None or group == 1:
            return value
        opened = torch.unflatten(value, place, (sizes.num_key_value_heads, -1, sizes.head_dim))
        if repeat:
            return opened.repeat_interleave(group, place + 1).flatten(place, place + 2)
        return opened.mean(place + 1).flatten(place, place + 1)


def _blocks(length: int, width: int) -> int:
    """How many blocks hold an axis."""
    return -(-length // width)


def _cut(value: torch.Tensor, axis: int, width: int) -> torch.Tensor:
    """An axis in blocks of a width, (…, blocks, width, …), the last one padded with zeros."""
    import torch
    from torch.nn import functional as F

    last = value.movedim(axis, -1)
    padded = torch.unflatten(F.pad(last, (0, -last.shape[-1] % width)), -1, (-1, width))
    place = axis % value.ndim
    return padded.movedim((-2, -1), (place, place + 1))
