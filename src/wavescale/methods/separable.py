"""One operator per axis: W′[l′] = Σ_l D[l′, l] · A_out W[l] A_inᵀ, for BoT and for exact growth alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt
from zlib import crc32

from wavescale.architectures.schema import RESIZABLE, Role
from wavescale.errors import OptionError
from wavescale.expressions import (
    Apply,
    Concatenate,
    Constant,
    Expression,
    Fresh,
    Part,
    Restore,
    Standardize,
    Sum,
    UnequalShares,
    scaled,
)
from wavescale.methods.depth import Chosen, DepthMap, Insert, Signal
from wavescale.methods.method import Method, Piece, Resizing
from wavescale.methods.width import (
    AxisMap,
    CosineMap,
    DrawnMap,
    PadMap,
    ResidualMap,
    SelectMap,
    SignalMap,
    UnitMap,
    Usage,
    usage,
)
from wavescale.operators import Copies, CopyAndPad, Cosine, Resample

# The axes of heads that lie together in one stored axis, which is what is resized where heads are flat.
_FLAT_HEADS = (("heads", "head_dim"), ("kv_heads", "head_dim"))


@dataclass(frozen=True)
class Separable(Method):
    """Combine the layers first, in the source's width, then bring each axis to its length."""

    resizing: Resizing

    @cached_property
    def maps(self) -> dict[str, AxisMap]:
        """How each resizable axis changes; axes that keep their length are left out."""
        source, target = self.resizing.read_sizes, self.resizing.target.sizes.axes
        axes: tuple[tuple[str, ...], ...] = tuple((name,) for name in RESIZABLE)
        if self.resizing.choices.heads == "flat":
            axes = (*((name,) for name in RESIZABLE if all(name not in flat for flat in _FLAT_HEADS)), *_FLAT_HEADS)
        found = {}
        for names in axes:
            axis = " × ".join(names)
            changed = self._map(axis, prod(source[name] for name in names), prod(target[name] for name in names))
            if changed is not None:
                found[axis] = changed
        return found

    def _map(self, name: str, n: int, m: int) -> AxisMap | None:
        choices, family = self.resizing.choices, self.resizing.source.family
        source, target = self.resizing.source.sizes, self.resizing.target.sizes
        how, gain = choices.width_of(n, m), choices.gain_of(n, m)
        kv_heads = (source.num_key_value_heads, target.num_key_value_heads)
        grouped = name == "heads" and how in ("replicate", "tile") and UnitMap.fits(n, m, kv_heads)
        if name == "heads" and how in ("fpi", "aki", "pad"):
            _check_groups(how, (n, m), kv_heads)
        if n == m and not (grouped and kv_heads[0] != kv_heads[1]):
            return None
        _check_direction(how, name, n, m)
        match how:
            case "signal":
                return SignalMap(n, m, gain, choices.wavelet, choices.dual, normed=name == "hidden")
            case "merge":  # of what merging leaves alone: the channels of a head
                return SignalMap(n, m, gain, choices.wavelet, choices.dual)
            case "select" | "norm":
                return SelectMap(n, m, gain, first=how == "norm")
            case "dct":
                return CosineMap(n, m, gain)
            case "fpi" | "aki":
                # Query heads are drawn with their keys and values.
                drawn = crc32((name if name != "kv_heads" else "heads").encode()) ^ choices.seed
                tied_norm = family.tied_norm if name == "hidden" and self.resizing.source.tied else ""
                groups = kv_heads if name == "heads" else None
                return DrawnMap(n, m, gain, drawn, groups, tied_norm, copies=how == "fpi" and name != "hidden")
            case "pad" if name not in ("hidden", "head_dim", "pooled"):  # channels of a head and outputs are copied
                return PadMap(n, m, gain)
        tiled = how == "tile"
        if name == "hidden":
            layer_norm, post = family.norm == "layer", family.placement == "post"
            return ResidualMap(n, m, gain, layer_norm, post, family.tied_norm, tiled, once=how == "pad")
        return UnitMap(n, m, gain, kv_heads if grouped else None, tiled)

    @cached_property
    def depth(self) -> DepthMap:
        """How the layers change."""
        choices = self.resizing.choices
        n = self.resizing.source.sizes.num_hidden_layers
        m = self.resizing.target.sizes.num_hidden_layers
        if choices.layer_map is not None:
            _check_layer_map(choices.layer_map, n, m)
            return Chosen(self.resizing, choices.layer_map)
        if n == m:
            return Chosen(self.resizing, tuple(range(n)))
        how = choices.depth_of(n, m)
        if how in ("insert", "stack", "interleave", "repeat") and m < n:
            raise OptionError(
                f"depth {how!r} adds layers, it cannot make {n} layers {m}. "
                "Use depth 'signal', 'first' or 'drop', or leave the choice out."
            )
        if how in ("first", "drop") and m > n:
            raise OptionError(
                f"depth {how!r} takes layers away, it cannot make {n} layers {m}. Use depth 'insert' or 'stack'."
            )
        match how:
            case "insert":
                return Insert(self.resizing)
            case "signal":
                resample = Resample.of(n, m, choices.wavelet, choices.depth_boundary)
                return Signal(self.resizing, resample, choices.gain_of(n, m))
            case "dct":
                return Signal(self.resizing, Cosine(n=n, m=m), choices.gain_of(n, m), choices.standardized)
            case _:
                return Chosen.of(self.resizing, how)

    def origin(self, layer: int) -> int:
        return self.depth.origin(layer)

    def behind(self, layer: int) -> int:
        """The source layer whose output a target layer's resembles: of a calibrated one the last it stands for."""
        if self.resizing.choices.calibrate == "none":
            return self.origin(layer)
        return self.depth.before - 1 if layer == self.depth.after - 1 else self.origin(layer + 1) - 1

    def express(self, piece: Piece, layer: int | None) -> Expression:
        if self.resizing.choices.standardized:
            return self._standardized(piece, layer)
        found = self._combined(piece, layer)
        return self._with_next(found, piece, layer) if self.resizing.choices.width == "aki" else found

    def _combined(self, piece: Piece, layer: int | None) -> Expression:
        source = self.resizing.read(piece, None) if layer is None else self.depth.express(piece, layer)
        if isinstance(source, Constant) and source.value == 0.0:
            assert layer is not None
            # Copies that are read with weight zero stay twins for ever, unless something parts them.
            found = self._resized(self.resizing.read(piece, self.origin(layer)), piece, layer, whole=0.0)
            if any(isinstance(node, UnequalShares) for node in found.walk()):
                return found
            return Constant(0.0, piece.axes.shape(self.resizing.target.axis_sizes))
        source = scaled(source, self._factor(piece, layer))
        terms = [self._resized(source, piece, layer), *self._fresh(source, piece, layer)]
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def _standardized(self, piece: Piece, layer: int | None) -> Expression:
        """What the transform makes of standardised tensors, with a mean and spread put back (FRONT's script).

        They are those of the source layer of the same number, or of its last where layers are added.
        By role a mean takes the gain that constants take; as released it stays.
        """
        gain = 1.0
        if layer is not None and isinstance(self.depth, Signal):
            like = self.resizing.read(piece, min(layer, self.depth.before - 1))
            source = self.depth.express(piece, layer)
            gain *= float(self.depth.coefficients(piece.row.writes)[layer].sum())
        else:
            like = self.resizing.read(piece, None if layer is None else self.origin(layer))
            if piece.axes.shape(self.resizing.target.axis_sizes) == like.shape:
                return self._combined(piece, layer)
            source = Standardize(like)
        made = self._resized(source, piece, layer)
        operators = (node.operator for node in made.walk() if isinstance(node, Apply))
        gain *= prod(operator.gain * sqrt(operator.n / operator.m) for operator in operators)
        restored = Restore(made, like, 1.0 if self.resizing.choices.gain == "unnormalized" else gain)
        return scaled(restored, self._factor(piece, layer))

    def _with_next(self, found: Expression, piece: Piece, layer: int | None) -> Expression:
        """New outputs from the next layer (bert2BERT's advanced knowledge initialisation); of the last one its own."""
        outputs = [position for position, axis in enumerate(piece.axes.axes) if axis.side != "in"]
        if layer is None or len(outputs) != 1 or piece.role not in (Role.LINEAR, Role.BIAS):
            return found
        (position,) = outputs
        names = piece.axes.axes[position].parts[0]
        before, after = self.resizing.read_sizes, self.resizing.target.axis_sizes
        # Of heads × head_dim whole heads are new, and lie behind the others.
        kept = before[names[0]] * prod(after[name] for name in names[1:])
        length = prod(after[name] for name in names)
        origin = self.origin(layer)
        following = min(origin + 1, self.depth.before - 1)
        if kept == length or following == origin:
            return found
        other = self._resized(self.resizing.read(piece, following), piece, layer)
        return Concatenate((Part(found, position, 0, kept), Part(other, position, kept, length - kept)), position)

    def _resized(self, source: Expression, piece: Piece, layer: int | None, whole: float = 1.0) -> Expression:
        """A tensor in the source's shape with every axis brought to its length.

        What is read comes before what is written: copies of an output then read their inputs in the same shares, so
        that they stay equal to the bit, and a difference from rounding does not grow from layer to layer.

        Parameters
        ----------
        whole
            What the shares of copies sum to, as in `UnequalShares`.
        """
        before, after = self.resizing.read_sizes, self.resizing.target.axis_sizes
        names = {position: self._mapped(axis.parts[0]) for position, axis in enumerate(piece.axes.axes)}
        uses = [
            (usage(piece, axis.side, name), position, index)
            for position, axis in enumerate(piece.axes.axes)
            for index, name in enumerate(names[position])
        ]
        done: set[tuple[int, int]] = set()
        for use, position, index in sorted(uses, key=lambda found: found[0] not in (Usage.READ, Usage.QUERY)):
            here = names[position]
            lengths = [
                after[name] if (position, at) in done else before[name] for at, name in enumerate(here) if len(here) > 1
            ]
            done.add((position, index))
            found = self.maps.get(here[index])
            if found is None:
                continue
            operator = found.operator(use, piece.row.norm or piece.row.reads)
            outer, inner = prod(lengths[:index]), prod(lengths[index + 1 :])
            source = Apply(operator, source, here[index], position, outer, inner)
            if self._parts(piece, found, use) and isinstance(operator, Copies) and len(operator.pairs):
                seed = crc32(f"{piece.row.name} {piece.index} {layer} {here[index]}".encode()) << 32
                spread, seed = self.resizing.choices.detail_size, seed | self.resizing.choices.seed
                source = UnequalShares(source, operator, here[index], position, outer, inner, seed, spread, whole)
        return source

    def _parts(self, piece: Piece, axis: AxisMap, use: Usage) -> bool:
        """Whether copies on an axis get unequal shares: inputs of linear maps, and channels of a query."""
        parted = self.resizing.choices.details != "zero" and piece.role is Role.LINEAR
        return parted and axis.gain == "role" and use in (Usage.READ, Usage.QUERY)

    def _fresh(self, like: Expression, piece: Piece, layer: int | None) -> list[Expression]:
        """What new units and readers of padding begin with."""
        if self.resizing.choices.width != "pad" or piece.role is not Role.LINEAR:
            return []
        after = self.resizing.target.axis_sizes
        padded = []
        for position, axis in enumerate(piece.axes.axes):
            names = self._mapped(axis.parts[0])
            for index, name in enumerate(names):
                use, found = usage(piece, axis.side, name), self.maps.get(name)
                drawn = Usage.WRITE if isinstance(found, PadMap) else Usage.READ
                if found is None or use is not drawn or not isinstance(found, PadMap | ResidualMap):
                    continue
                operator = found.operator(use, "")
                assert isinstance(operator, CopyAndPad)
                before, behind = (prod(after[other] for other in part) for part in (names[:index], names[index + 1 :]))
                padded.append((operator, position, before, behind))
        if not padded:
            return []
        seed = crc32(f"{piece.row.name} {piece.index} {layer} new".encode()) << 32 | self.resizing.choices.seed
        return [Fresh(like, tuple(padded), piece.axes.shape(after), seed, self.resizing.choices.detail_size)]

    def _factor(self, piece: Piece, layer: int | None) -> float:
        family, source = self.resizing.source.family, self.resizing.source
        factor, heads = 1.0, self.maps.get("head_dim")
        if heads is not None and heads.gain == "role" and piece.module == "query" and not source.scales_scores:
            factor *= sqrt(heads.n / heads.m)  # queries make up for a division by √head_dim, which is not done here
        if source.tied and ("hidden" in self.maps or "hidden" in self.resizing.arrangement.merged):
            tied = self._tied_factor
            if piece.row.norm == family.tied_norm:
                factor *= tied
            elif piece.row.reads == family.tied_norm and piece.role is Role.LINEAR:
                factor /= tied  # another head that reads the same norm and is not tied
        return factor * self.resizing.layer_divisor(piece, layer)

    @property
    def _tied_factor(self) -> float:
        if "hidden" in self.maps:
            return self.maps["hidden"].tied_factor
        n, m = self.resizing.source.sizes.hidden_size, self.resizing.target.sizes.hidden_size
        return n / m if self.resizing.choices.gain_of(n, m) == "role" else 1.0

    def _mapped(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The axes in one stored axis as maps take them: flat heads are one with their channels."""
        flat = len(names) > 1 and self.resizing.choices.heads == "flat"
        return (" × ".join(names),) if flat else names

    @property
    def keeps_function(self) -> bool:
        return self.depth.exact and not self._departures

    @cached_property
    def _departures(self) -> tuple[str, ...]:
        """The width axes that change the function, in words."""
        source, target, choices = self.resizing.source, self.resizing.target, self.resizing.choices
        found = [f"{name} {axis.n} to {axis.m}" for name, axis in self.maps.items() if not axis.exact]
        merged = self.resizing.arrangement.merged
        found += [f"{name} {source.axis_sizes[name]} to {m} merged" for name, m in merged.items()]
        before, after = source.sizes, target.sizes
        groups = (before.num_key_value_heads, after.num_key_value_heads)
        heads = (before.num_attention_heads, after.num_attention_heads)
        heads_change = heads[0] != heads[1] or groups[0] != groups[1] or before.head_dim != after.head_dim
        if choices.heads == "flat" and heads_change:
            found.append("heads as flat channels")
        elif groups[0] != groups[1] and not found and not UnitMap.fits(*heads, groups):
            found.append(f"{heads[0]}/{groups[0]} heads to {heads[1]}/{groups[1]} (no room for every query head)")
        return tuple(found)

    @property
    def remarks(self) -> tuple[str, ...]:
        source, target, choices = self.resizing.source, self.resizing.target, self.resizing.choices
        remarks = []
        if not self.keeps_function:
            changes = list(self._departures)
            if not self.depth.exact:
                changes.append(f"layers {self.depth.before} to {self.depth.after} by {self.depth.describe()}")
            remarks.append(f"the function is not kept: {'; '.join(changes)}")
        hidden = self.maps.get("hidden")
        if isinstance(hidden, ResidualMap) and hidden.once and not hidden.exact and hidden.gain == "role":
            remarks.append(
                f"beside padding post-LN {source.family.name} comes close to its function (verify says how "
                f"close); width 'replicate' keeps it at whole multiples of hidden_size {hidden.n}"
            )
        elif isinstance(hidden, ResidualMap) and not hidden.exact and hidden.gain == "role":
            remarks.append(
                f"post-LN {source.family.name} keeps its function only at whole multiples of hidden_size {hidden.n}; "
                f"at {hidden.m} it comes close (verify says how close)"
            )
        if isinstance(hidden, DrawnMap):
            remarks.append(
                "channels drawn at random are not copied equally often, so norms see another mean and variance; "
                "width 'replicate' copies them equally often"
            )
        if choices.width == "aki" and self.maps:
            remarks.append("new outputs of a layer come from the layer behind it, and are no copies of its own")
        if choices.gain == "unnormalized" and source.sizes != target.sizes:
            remarks.append(
                "the transform has no norm: what is left of a weight is multiplied by √(n/m) for each axis, layers "
                "included; front-dct-corrected takes gains by role"
            )
        if source.sizes == target.sizes and self.depth.exact and not self.resizing.orders:
            remarks.append("nothing changes: give a size, such as --hidden-size or --scale-width")
        shrinks = [name for name, n in source.sizes.axes.items() if target.sizes.axes[name] < n]
        if target.sizes.num_hidden_layers < source.sizes.num_hidden_layers:
            shrinks.append("layers")
        if shrinks:
            remarks.append(f"a start, not a finished model (smaller: {', '.join(shrinks)}): train it before use")
        uses_wavelet = isinstance(self.depth, Signal) or any(isinstance(axis, SignalMap) for axis in self.maps.values())
        if choices.wavelet != "haar" and not uses_wavelet:
            remarks.append(
                f"wavelet {choices.wavelet} has no effect: nothing is resampled (width or depth 'signal' use it)"
            )
        fewer = any(isinstance(axis, SignalMap | SelectMap) for axis in self.maps.values())
        if choices.gain == "variance" and not (fewer or self.resizing.arrangement.merged):
            remarks.append(
                "gain variance has no effect: no units are averaged or picked (width 'signal', 'select', 'norm' or "
                "'merge' that shrinks uses it)"
            )
        if choices.order != "none" and not self.resizing.arrangement.orders | self.resizing.arrangement.merged.keys():
            remarks.append(
                f"order {choices.order} has no effect: nothing is averaged (width 'signal' or 'merge' that shrinks, or "
                "depth 'signal', use it)"
            )
        return tuple(remarks)


def _check_groups(how: str, heads: tuple[int, int], groups: tuple[int, int]) -> None:
    """Refuse query heads that cannot be drawn with their keys and values."""
    if heads[0] * groups[1] != heads[1] * groups[0]:
        raise OptionError(
            f"width {how!r} takes key-value heads whole with their query heads, so {heads[0]}/{groups[0]} heads cannot "
            f"become {heads[1]}/{groups[1]}. Give {heads[0] * groups[1] // groups[0]} heads, or use width 'replicate'."
        )


def _check_direction(how: str, name: str, n: int, m: int) -> None:
    """Refuse a way to resize that cannot take an axis from n to m."""
    if how in ("replicate", "fpi", "aki", "pad") and m < n:
        raise OptionError(
            f"width {how!r} {'pads' if how == 'pad' else 'copies'}, it cannot make {name} smaller ({n} to {m}). "
            "Use width 'signal', or leave the choice out: what grows is then copied and what shrinks resampled."
        )
    if how in ("select", "norm", "merge") and m > n:
        raise OptionError(
            f"width {how!r} makes less of what there is, it cannot make {name} larger ({n} to {m}). "
            "Use width 'replicate', which copies."
        )
    if how == "tile" and m % n:
        near = f"{m // n * n} and {m // n * n + n}" if m > n else f"{n} and {2 * n}"
        raise OptionError(
            f"width 'tile' repeats the whole axis, it cannot make {name} {m} from {n}, which is no whole multiple. "
            f"Nearest that fit: {near}; or use width 'replicate' to grow by any ratio and 'signal' to shrink."
        )


def _check_layer_map(layers: tuple[int, ...], n: int, m: int) -> None:
    """Refuse a map from n source layers to m that names others, or too few or too many."""
    beyond = next((layer for layer in layers if layer >= n), None)
    if beyond is not None:
        raise OptionError(
            f"layer_map (--layer-map) names layer {beyond}, the source has {n} layers. Give numbers from 0 to {n - 1}."
        )
    if len(layers) != m:
        raise OptionError(
            f"layer_map (--layer-map) names {len(layers)} layers, num_hidden_layers (--layers, --scale-depth) asks "
            f"for {m}. Name one source layer for each, or leave the size out: the map then sets it."
        )
