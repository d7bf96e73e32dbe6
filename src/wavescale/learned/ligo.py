"""LiGO: W′[l′] = Σ_l d[l′, l] · [I; M_out] W[l] [I; M_in]ᵀ with M and d trained (Wang et al. 2023, arXiv 2303.00980).

As in the released code every tensor has depth weights d of its own; every target layer has maps M of
its own for query, key, value and feed-forward units, and all share one for the residual stream.
What makes units and what reads them share their map: embeddings and all that reads or writes the
residual stream, value and attention output, the two halves of a feed-forward layer. Norms and biases
take the map of their outputs, and a tied head stays tied.

Where the paper is silent: [I; M] is laid out by heads, so that each head of the source stays whole at the
head of the same number, in its first channels; under grouped queries the attention output has a map
of its own, because its heads are not the value's. Training runs without dropout and at the rate that
the user gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from wavescale.learned.mapping import LearnedMap
from wavescale.methods import Piece

if TYPE_CHECKING:
    import torch

# What is added to one-hot depth weights before they are normalised.
_DEPTH_NOISE = 0.03
# Maps that every target layer has one of.
_IN_LAYER = ("query", "key", "value", "attention output", "ffn")


def kept_first(source: Sequence[int], target: Sequence[int]) -> list[int]:
    """Where the identity of [I; M] lies: the place of every source unit among the target's, slowest axis first.

    Examples
    --------
    >>> kept_first([2, 2], [3, 3])  # two heads of two channels among three heads of three
    [0, 1, 3, 4]
    """
    strides = [prod(target[place + 1 :]) for place in range(len(target))]
    return [
        sum(at * stride for at, stride in zip(index, strides, strict=True))
        for index in product(*(range(n) for n in source))
    ]


@dataclass
class Ligo(LearnedMap):
    """The mapping of LiGO; `maps/…` are the rows M (layers, m − n, n) and `depth/…` the weights d (L′, L)."""

    def start(self) -> dict[str, torch.Tensor]:
        """Rows of M uniform, d one-hot at l′ mod L plus U(0, 0.03), both normalised to sums of one."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        before, after = (spec.sizes.num_hidden_layers for spec in (self.resizing.source, self.resizing.target))
        found: dict[str, torch.Tensor] = {}
        for piece in self.pieces:
            for _, use in self._uses(piece):
                n, m = (prod(grid) for grid in self._grids(use))
                shape = (after if use in _IN_LAYER else 1, m - n, n)
                if f"maps/{use}" not in found:
                    rows = torch.rand(shape, generator=generator)
                    found[f"maps/{use}"] = rows / rows.sum(-1, keepdim=True)
            if piece.row.in_layer:
                weights = _DEPTH_NOISE * torch.rand((after, before), generator=generator)
                weights[torch.arange(after), torch.arange(after) % before] = 1.0
                found[f"depth/{piece.row.name}/{piece.index}"] = weights / weights.sum(-1, keepdim=True)
        return found

    def made(self) -> dict[Piece, torch.Tensor]:
        matrices = {use: self.matrix(use) for piece in self.pieces for _, use in self._uses(piece)}
        return {piece: self._grown(piece, matrices) for piece in self.pieces}

    def _grown(self, piece: Piece, matrices: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
        import torch

        grown = self.source[piece]
        if piece.row.in_layer:
            grown = torch.tensordot(self.parameters[f"depth/{piece.row.name}/{piece.index}"], grown, dims=1)
        for position, use in self._uses(piece):
            matrix = matrices[use]
            if matrix is not None:
                last = grown.movedim(position + 1, -1)
                mapped = last.reshape(len(last), -1, last.shape[-1]) @ matrix.mT
                grown = mapped.reshape(*last.shape[:-1], -1).movedim(-1, position + 1)
        return self.undivided(piece, grown)

    def matrix(self, use: str) -> torch.Tensor | None:
        """[I; M] of one map, (layers, m, n), or (1, m, n) where all layers share it; None where m = n."""
        import torch

        learned = self.parameters.get(f"maps/{use}")
        if learned is None:
            return None
        n, m = learned.shape[-1], learned.shape[-1] + learned.shape[-2]
        kept = kept_first(*self._grids(use))
        places = torch.tensor(kept + sorted(set(range(m)) - set(kept)))
        identity = torch.eye(n, device=learned.device).expand(len(learned), n, n)
        return torch.cat([identity, learned], 1)[:, places.argsort().to(learned.device)]

    def _uses(self, piece: Piece) -> list[tuple[int, str]]:
        """The map of each axis that may change, with its position."""
        found = []
        for position, axis in enumerate(piece.axes.axes):
            match axis.parts[0]:
                case ("hidden",) | ("pooled",):
                    found.append((position, axis.parts[0][0]))
                case ("intermediate",):
                    found.append((position, "ffn"))
                case ("heads" | "kv_heads", "head_dim"):
                    reads_values = piece.module == "attention output" and not self._grouped
                    found.append((position, "value" if reads_values else piece.module))
        return found

    @property
    def _grouped(self) -> bool:
        specs = (self.resizing.source, self.resizing.target)
        return any(spec.sizes.num_attention_heads != spec.sizes.num_key_value_heads for spec in specs)

    def _grids(self, use: str) -> tuple[list[int], list[int]]:
        """The units of source and target as grids, so that what belongs together stays together."""
        both = [spec.sizes for spec in (self.resizing.source, self.resizing.target)]
        match use:
            case "hidden" | "pooled":
                grids = [[sizes.axes[use]] for sizes in both]
            case "ffn":
                grids = [[sizes.intermediate_size] for sizes in both]
            case "key" | "value":
                grids = [[sizes.num_key_value_heads, sizes.head_dim] for sizes in both]
            case _:
                groups = [sizes.num_attention_heads // sizes.num_key_value_heads for sizes in both]
                if groups[0] <= groups[1]:  # each head stays with its keys and values
                    grids = [
                        [sizes.num_key_value_heads, group, sizes.head_dim]
                        for sizes, group in zip(both, groups, strict=True)
                    ]
                else:
                    grids = [[sizes.num_attention_heads, sizes.head_dim] for sizes in both]
        return grids[0], grids[1]
