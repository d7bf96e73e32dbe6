"""One axis, from n to m samples, with any discrete wavelet.

At powers of two this is the DWT's approximation band (shrinking) or the inverse DWT with zero
details (growing), as in BoT (arXiv 2603.07506, section 3). At any other ratio the signal goes up
`K` levels, is carried over by exact overlap of cells from n·2^K to m·2^J, and comes down `J` levels,
so that the decomposition level is a real number.

All operators here keep the orthonormal gain: a constant c becomes c·√(n/m).

Legend: n, m samples before and after; K, J levels up and down; N = n·2^K and M = m·2^J cells of the
fine grids; h the response of K (or J) levels to one impulse.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import ceil, gcd, isclose, log2, prod, sqrt
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from wavescale.errors import OptionError
from wavescale.rows import ALIGNED, Rows, as_rows, positions, within
from wavescale.taking import Taking, taken, taking

if TYPE_CHECKING:
    import pywt
    import torch

Boundary = Literal["periodization", "two-ended"]
BOUNDARIES: tuple[str, ...] = get_args(Boundary)

ArrayT = TypeVar("ArrayT", "np.ndarray[Any, Any]", "torch.Tensor")

# Below this many levels the cells of the fine grids are too coarse for long filters (coif3, 64 -> 96:
# 0.28 off at K = 2, 0.01 at K = 6).
FRACTIONAL_LEVELS = 6
_ROWS_AT_ONCE = 2048
# Target samples that are made by one dense product: wider bands multiply more zeros, narrower ones are more calls.
_BAND = ALIGNED // 2
# Numbers that processors multiply at once: 24 samples at a time are made in little more than half the time of 30.
_VECTOR = 8
# Target samples of a stretch where stretches lie among rows, and a product for each costs little.
_STRETCH = 4
# Up to so many taps that are the same in all rows are added one after the other rather than by dense products.
_FEW_TAPS = 4


@dataclass(frozen=True)
class Repetition:
    """One small matrix that makes the samples of a line stretch by stretch, over joined ends.

    Attributes
    ----------
    n
        Samples of a line.
    count
        Stretches.
    step
        Source samples from one stretch to the next.
    first
        The source sample at which the first begins; below 0 at the end of the line.
    matrix
        Of shape (target samples of a stretch, source samples).
    """

    n: int
    count: int
    step: int
    first: int
    matrix: np.ndarray[Any, Any]

    @cached_property
    def _begins(self) -> tuple[list[int], range]:
        """Where each stretch begins, and which of them do not reach over the ends."""
        begins = [place * self.step + self.first for place in range(self.count)]
        inside = [place for place, begin in enumerate(begins) if 0 <= begin <= self.n - self.matrix.shape[1]]
        return begins, range(inside[0], inside[-1] + 1) if inside else range(0)

    def lines(self, lines: torch.Tensor, out: torch.Tensor, gain: float) -> int:
        """Write the first target samples of lines of shape (lines, n); returns how many these are."""
        import torch

        targets = int(self.matrix.shape[0])
        # One product for all stretches.
        stretches = self._stretches(lines)
        matrix = torch.from_numpy(self.matrix.T * gain).to(lines.device, lines.dtype)
        made = self.count * targets
        if made == out.shape[1]:
            _product(stretches, matrix, out.view(-1, targets))
        else:
            out[:, :made] = (stretches @ matrix).view(-1, made)
        return made

    def _stretches(self, lines: torch.Tensor) -> torch.Tensor:
        """The stretches of all lines, of shape (stretches, source samples), one after the other in memory."""
        width = int(self.matrix.shape[1])
        if self.first == 0 and width == self.step and self.count * width == self.n:
            return lines.reshape(-1, width)
        begins, inside = self._begins
        stretches = lines.new_empty((len(lines), self.count, width))
        if inside:
            stretches[:, inside.start : inside.stop] = lines.as_strided(
                (len(lines), len(inside), width),
                (lines.stride(0), self.step * lines.stride(1), lines.stride(1)),
                lines.storage_offset() + begins[inside.start] * lines.stride(1),
            )
        # Those that reach over the ends are put together by hand.
        for place in (*range(inside.start), *range(inside.stop, self.count)):
            begin = begins[place] % self.n
            before = min(width, self.n - begin)
            stretches[:, place, :before] = lines[:, begin : begin + before]
            stretches[:, place, before:] = lines[:, : width - before]
        return stretches.view(-1, width)

    def rows(self, x: torch.Tensor, sources: Rows, targets: range, out: torch.Tensor, gain: float) -> range:
        """Write target samples that are rows, from stretches that are rows where they lie.

        Parameters
        ----------
        x
            Source samples, of shape (samples, entries), one row each.
        sources
            Which they are: all that the targets need.
        targets
            Samples to make.
        out
            Takes them, of shape (targets, entries).

        Returns
        -------
        Which of the targets are written, counted from their first. Those are left of stretches that are not whole,
        or reach over the ends.
        """
        import torch

        made, width = int(self.matrix.shape[0]), int(self.matrix.shape[1])
        begins, inside = self._begins
        places = range(max(inside.start, -(-targets.start // made)), min(inside.stop, targets.stop // made))
        if not places:
            return range(0)
        begin = positions(within(range(begins[places.start], begins[places.start] + 1), sources))[0]
        stretches = x.as_strided(
            (len(places), width, x.shape[1]),
            (self.step * x.stride(0), *x.stride()),
            x.storage_offset() + int(begin) * x.stride(0),
        )
        found = range(places.start * made - targets.start, places.stop * made - targets.start)
        matrix = torch.from_numpy(self.matrix * gain).to(x.device, x.dtype).expand(len(places), made, width)
        _product(matrix, stretches, out[found.start : found.stop].view(len(places), made, -1))
        return found


def _product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """`out[...] = a @ b` of matrices or stacks of them, without a copy where nobody asks for a gradient."""
    import torch

    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        out.copy_(a @ b)
    elif a.ndim == 3:
        torch.bmm(a, b, out=out)
    else:
        torch.mm(a, b, out=out)


@dataclass(frozen=True)
class Taps:
    """A linear operator by rows: `y[i] = Σ_t weight[i, t] · x[index[i, t]]`.

    Attributes
    ----------
    index
        (m, taps) int64, each in [0, n).
    weight
        (m, taps) float64.
    n
        Samples before.
    """

    index: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any]
    n: int

    @cached_property
    def bands(self) -> dict[Hashable, tuple[Rows, torch.Tensor]]:
        """Dense pieces of the operator that were needed so far, by the target samples that they make."""
        return {}

    @cached_property
    def matrices(self) -> dict[Hashable, torch.Tensor]:
        """The matrices of `bands`, each once."""
        return {}

    @cached_property
    def takings(self) -> dict[tuple[range, int], list[Taking]]:
        """What `_takings` has found so far."""
        return {}

    @cached_property
    def supports(self) -> dict[range, Rows]:
        """What `support` has found so far."""
        return {}

    @cached_property
    def plain(self) -> bool:
        """Whether all rows have the same few weights: Haar at whole ratios copies, or sums neighbours."""
        return self.weight.shape[1] <= _FEW_TAPS and bool((self.weight == self.weight[0]).all())

    @cached_property
    def along_lines(self) -> Repetition | None:
        """The operator as one matrix that moves along lines, if it is periodic with a short period."""
        return self._repetition(_BAND)

    @cached_property
    def along_rows(self) -> Repetition | None:
        """The same with a smaller matrix, for samples that are rows."""
        return self._repetition(_STRETCH)

    def _repetition(self, samples: int) -> Repetition | None:
        """One matrix that makes about so many samples at a time."""
        m = len(self.index)
        periods = gcd(self.n, m)
        rows, columns = m // periods, self.n // periods
        most = max(1, samples // rows)
        # Rather a few less than samples that are left over, and rather whole vectors of a processor.
        even = (found for found in range(most, most // 2, -1) if periods % found == 0)
        grouped = max(even, key=lambda found: (found * rows % _VECTOR == 0, found), default=most)
        count = periods // grouped
        if rows > 2 * _BAND or count < 2:
            return None
        targets, sources = grouped * rows, grouped * columns
        # Where the taps lie, counted on from a place near each row's own, over the joined ends.
        near = np.arange(targets)[:, None] * columns // rows
        place = (self.index[:targets] - near + self.n // 2) % self.n - self.n // 2 + near
        row = np.arange(count * targets)
        expected = (place[row % targets] + (row // targets * sources)[:, None]) % self.n
        if (
            not (expected == self.index[: len(row)]).all()
            or not (self.weight[: len(row)] == self.weight[row % targets]).all()
        ):
            return None
        row, tap = np.nonzero(self.weight[:targets])
        column = place[row, tap]
        first = int(column.min())
        matrix = np.zeros((targets, int(column.max()) + 1 - first))
        np.add.at(matrix, (row, column - first), self.weight[row, tap])
        return Repetition(self.n, count, sources, first, matrix) if matrix.shape[1] <= self.n else None

    def matrix(self) -> np.ndarray[Any, Any]:
        """The operator as a dense float64 matrix of shape (m, n)."""
        dense = np.zeros((self.index.shape[0], self.n))
        np.add.at(dense, (np.arange(self.index.shape[0])[:, None], self.index), self.weight)
        return dense

    def squared(self) -> Taps:
        """The operator whose every entry is the square of this one's.

        Taps of a row that meet in one sample make one entry, so they are summed before.

        Examples
        --------
        >>> Taps(np.array([[0, 1, 0]]), np.array([[1.0, 2.0, 3.0]]), 2).squared().matrix()
        array([[16.,  4.]])
        """
        rows = np.arange(self.index.shape[0])[:, None]
        _, where = np.unique(rows * self.n + self.index, return_inverse=True)
        entry = np.bincount(where.reshape(-1), self.weight.reshape(-1))
        return Taps(self.index, self.weight * entry[where].reshape(self.weight.shape), self.n)

    def support(self, rows: Rows) -> Rows:
        """The source samples, sorted, that some target samples are made of."""
        if not isinstance(rows, range):
            return as_rows(np.unique(self.index[rows]))
        if rows not in self.supports:
            self.supports[rows] = as_rows(np.unique(self.index[rows.start : rows.stop]))
        return self.supports[rows]

    def apply(self, x: ArrayT, axis: int = -1, rows: Rows | None = None, gain: float = 1.0) -> ArrayT:
        """Apply to one axis of an array or tensor whose length there is n.

        Half types are computed in float32 and returned in their own type. Differentiable in torch.

        Parameters
        ----------
        rows
            Target samples to make, from a tensor with the samples of `support` alone.
        gain
            Factor on the operator.
        """
        if isinstance(x, np.ndarray):
            return self._apply_numpy(x, axis) * gain
        return self._apply_torch(x, axis, rows, gain)

    def _apply_numpy(self, x: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
        compute = x.dtype if x.dtype in (np.dtype(np.float32), np.dtype(np.float64)) else _wider(x.dtype)
        moved = np.moveaxis(x, axis, 0).astype(compute, copy=False)
        out = np.zeros((self.index.shape[0], *moved.shape[1:]), dtype=compute)
        column = (-1, *([1] * (moved.ndim - 1)))
        for tap in range(self.index.shape[1]):
            out += self.weight[:, tap].astype(compute).reshape(column) * moved[self.index[:, tap]]
        result = out.astype(x.dtype, copy=False) if x.dtype.kind == "f" else out
        return np.moveaxis(result, 0, axis)

    def _apply_torch(self, x: torch.Tensor, axis: int, rows: Rows | None, gain: float) -> torch.Tensor:
        import torch

        if not x.dtype.is_floating_point:
            raise OptionError(f"resample: dtype {x.dtype} is not floating point; convert the tensor first")
        copies = self.plain and self.weight.shape[1] == 1
        half = x.dtype in (torch.float16, torch.bfloat16) and not copies
        values = x.float() if half else x
        axis %= x.ndim
        targets: Rows = range(len(self.index)) if rows is None else rows
        sources: Rows = range(self.n) if rows is None else self.support(rows)
        if self.plain:
            found = self._tap_by_tap(values, axis, targets, sources, gain)
            return found.to(x.dtype) if half else found
        shape = (*x.shape[:axis], len(targets), *x.shape[axis + 1 :])
        view = values.reshape(prod(x.shape[:axis]), len(sources), prod(x.shape[axis + 1 :]))
        out = values.new_empty((view.shape[0], len(targets), view.shape[2]))
        done = self._repeated(view, sources, targets, out, gain)
        for begin, end in (*_bands(0, done.start), *_bands(done.stop, len(targets))):
            needed, matrix = self._band(targets[begin:end], gain, values)
            part = taken(view, 1, within(needed, sources))
            if view.shape[2] == 1:
                out[:, begin:end, 0] = part[..., 0] @ matrix.T
            elif len(view) == 1:
                _product(matrix, part[0], out[0, begin:end])
            else:
                out[:, begin:end] = matrix @ part
        found = out.reshape(shape)
        return found.to(x.dtype) if half else found

    def _repeated(self, view: torch.Tensor, sources: Rows, targets: Rows, out: torch.Tensor, gain: float) -> range:
        """Write what one small matrix makes; returns which of the targets that is, counted from their first."""
        if not isinstance(targets, range):
            return range(0)
        if view.shape[2] == 1 and len(sources) == self.n and len(targets) == len(self.index):
            lines = self.along_lines
            return range(0 if lines is None else lines.lines(view[..., 0], out[..., 0], gain))
        rows = self.along_rows if len(view) == 1 else None
        return range(0) if rows is None else rows.rows(view[0], sources, targets, out[0], gain)

    def _tap_by_tap(self, x: torch.Tensor, axis: int, targets: Rows, sources: Rows, gain: float) -> torch.Tensor:
        """Copies of the source, or sums of its neighbours, times a number."""
        first, *others = self._takings(targets, sources)
        found, factor = first.of(x, axis), gain * float(self.weight[0, 0])
        if others or not isclose(factor, 1.0, rel_tol=1e-12):
            found = found * factor
        for tap, other in enumerate(others, 1):
            found = found.add(other.of(x, axis), alpha=gain * float(self.weight[0, tap]))
        return found

    def _takings(self, targets: Rows, sources: Rows) -> list[Taking]:
        """For each tap, how some target samples take it from the source samples that there are."""
        key = (targets, len(sources)) if isinstance(targets, range) else None
        if key is not None and key in self.takings:
            return self.takings[key]
        taps = self.index[positions(targets)].T
        found = [taking(positions(within(tap, sources)), len(sources)) for tap in taps]
        if key is not None:
            self.takings[key] = found
        return found

    def _band(self, targets: Rows, gain: float, like: torch.Tensor) -> tuple[Rows, torch.Tensor]:
        """Some rows of the matrix times a number, without the columns that are zero in all, and which those are not."""
        import torch

        key = (targets, gain, like.dtype, like.device) if isinstance(targets, range) else None
        if key is not None and key in self.bands:
            return self.bands[key]
        index = self.index[positions(targets)]
        needed = as_rows(np.unique(index))
        weight = np.zeros((len(index), len(needed)))
        place = positions(within(index, needed))
        np.add.at(weight, (np.arange(len(index))[:, None], place), self.weight[positions(targets)])
        # Most bands are the same matrix, which is kept once for the reason that `taking` has.
        same = (weight.tobytes(), weight.shape, gain, like.dtype, like.device)
        if same not in self.matrices:
            self.matrices[same] = torch.from_numpy(weight * gain).to(like.device, like.dtype)
        found = needed, self.matrices[same]
        if key is not None:
            self.bands[key] = found
        return found


def _bands(begin: int, end: int) -> list[tuple[int, int]]:
    """Where bands begin and end that lie between two samples."""
    return [(first, min(first + _BAND, end)) for first in range(begin, end, _BAND)]


def _wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f" and dtype.itemsize <= 2:
        return np.dtype(np.float32)
    if dtype.kind in "iub":
        return np.dtype(np.float64)
    raise OptionError(f"resample: dtype {dtype} is not supported; use float16, float32 or float64")


def wavelet_filters(name: str, dual: bool = False) -> pywt.Wavelet:
    """The discrete wavelet of that name, or the one with analysis and synthesis exchanged.

    Raises
    ------
    OptionError
        PyWavelets knows no discrete wavelet of that name.
    """
    import pywt

    if name not in pywt.wavelist(kind="discrete"):
        raise OptionError(
            f"wavelet {name!r} is not a discrete wavelet of PyWavelets; "
            "try haar, db2, sym4, coif3 or bior4.4; all are in pywt.wavelist(kind='discrete')."
        )
    wavelet = pywt.Wavelet(name)
    if dual:
        wavelet = pywt.Wavelet(f"{name} dual", filter_bank=wavelet.inverse_filter_bank)
    return wavelet


def levels(n: int, m: int, dual: bool = False) -> tuple[int, int]:
    """How many levels up (K) and down (J) lead from n to m samples.

    Powers of two take only the levels that they need; every other ratio takes
    K = max(6, ⌈log2(m/n)⌉) and J = K + round(log2(n/m)). The dual operator is the transpose of
    the way back, so it takes the levels of m → n in reverse.

    Examples
    --------
    >>> levels(96, 192), levels(192, 48), levels(64, 96)
    ((1, 0), (0, 2), (6, 5))
    """
    if dual:
        back_up, back_down = levels(m, n)
        return back_down, back_up
    octaves = log2(m / n)
    if m * 2 ** max(0, round(-octaves)) == n * 2 ** max(0, round(octaves)):
        return max(0, round(octaves)), max(0, round(-octaves))
    up = max(FRACTIONAL_LEVELS, ceil(octaves))
    return up, up + round(-octaves)


@cache
def _response(name: str, dual: bool, count: int) -> tuple[int, np.ndarray[Any, Any]]:
    """What `count` levels of synthesis make of an impulse at 0: first position and values."""
    import pywt

    if count == 0:
        return 0, np.ones(1)
    wavelet = wavelet_filters(name, dual)
    cells = wavelet.rec_len + 4
    signal = np.zeros(cells)
    signal[cells // 2] = 1.0
    for _ in range(count):
        signal = pywt.idwt(signal, None, wavelet, mode="periodization")
    length = (2**count - 1) * (wavelet.rec_len - 1) + 1
    support = np.flatnonzero(signal)
    # The filters may begin or end with zeros; the window is no longer than the iterated filter.
    centre = (cells // 2) * 2**count
    first, last = int(support[0]), int(support[-1])
    assert last - first < length, "the impulse response wrapped around"
    return first - centre, signal[first : last + 1]


def _centre_shift(first: int, values: np.ndarray[Any, Any], count: int) -> int:
    """Whole cells by which a response of `count` levels lies off the middle of its coarse cell."""
    centroid = first + float(np.arange(len(values)) @ values) / float(values.sum())
    return int(np.floor(centroid - (2**count - 1) / 2 + 0.5))


@lru_cache(maxsize=256)
def taps(n: int, m: int, wavelet: str = "haar", boundary: str = "periodization", dual: bool = False) -> Taps:
    """The operator from n to m samples, by rows, with orthonormal gain.

    Parameters
    ----------
    n, m
        Samples before and after, both at least 1.
    wavelet
        Any discrete wavelet of PyWavelets.
    boundary
        `"periodization"` joins the ends, as the paper's transform does; `"two-ended"` mirrors them
        and centres the filters, for an axis with a first and a last sample such as depth.
    dual
        The operator whose transpose leads back: equal to `taps(m, n)` transposed. For orthogonal
        wavelets the dual is the operator itself.

    Raises
    ------
    OptionError
        A size below 1, an unknown wavelet or an unknown boundary.

    Examples
    --------
    >>> taps(4, 2).matrix() * 2**0.5
    array([[1., 1., 0., 0.],
           [0., 0., 1., 1.]])
    """
    if n < 1 or m < 1:
        raise OptionError(f"resample: cannot go from {n} to {m} samples; both must be at least 1")
    if boundary not in BOUNDARIES:
        raise OptionError(f"boundary {boundary!r} is unknown; use one of {', '.join(BOUNDARIES)}")
    wavelet_filters(wavelet)
    if boundary == "periodization":
        return _periodic_taps(n, m, wavelet, dual, centred=False)
    around = _periodic_taps(2 * n, 2 * m, wavelet, dual, centred=True)
    index = around.index[:m]
    return Taps(np.where(index < n, index, 2 * n - 1 - index), around.weight[:m], n)


def _periodic_taps(n: int, m: int, wavelet: str, dual: bool, centred: bool) -> Taps:
    up, down = levels(n, m, dual)
    up_first, up_values = _response(wavelet, dual, up)
    # Low-pass analysis is the transpose of synthesis with the exchanged filter bank.
    down_first, down_values = _response(wavelet, not dual, down)
    if centred:
        up_first -= _centre_shift(up_first, up_values, up)
        down_first -= _centre_shift(down_first, down_values, down)
    # The pattern repeats every m/g rows and n/g columns: compute one period, then tile it.
    periods = gcd(n, m)
    rows, columns = m // periods, n // periods
    pieces = [
        _rows(np.arange(begin, min(begin + _ROWS_AT_ONCE, rows)), n, m, up, down, up_first, up_values, down_first,
              down_values)
        for begin in range(0, rows, _ROWS_AT_ONCE)
    ]  # fmt: skip
    begin = np.concatenate([piece[0] for piece in pieces])
    weight = np.concatenate([piece[1] for piece in pieces])
    used = np.flatnonzero(np.abs(weight).max(axis=0) > 0)
    begin, weight = begin + used[0], weight[:, used[0] : used[-1] + 1]
    steps = np.arange(periods)[:, None] * columns
    begin = (steps + begin[None, :]).reshape(-1)
    index = (begin[:, None] + np.arange(weight.shape[1])[None, :]) % n
    return Taps(index, np.tile(weight, (periods, 1)), n)


def _rows(
    rows: np.ndarray[Any, Any],
    n: int,
    m: int,
    up: int,
    down: int,
    up_first: int,
    up_values: np.ndarray[Any, Any],
    down_first: int,
    down_values: np.ndarray[Any, Any],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """First column and weights of some rows of `down · overlap · up`."""
    stretch = (n * 2**up) / (m * 2**down)  # a target cell's width in source cells
    # What each row gives to the fine source cells: its analysis filter is constant on target cells,
    # so its integral is piecewise linear and the overlap with a source cell is a difference of it.
    start = (2**down * rows + down_first) * stretch
    first_cell = np.floor(start + 1e-9).astype(np.int64)
    cells = int(np.ceil(len(down_values) * stretch)) + 1
    knots = np.arange(len(down_values) + 1) * stretch
    integral = np.concatenate([[0.0], np.cumsum(down_values)]) * stretch
    edges = (first_cell - start)[:, None] + np.arange(cells + 1)[None, :]
    on_cells = np.diff(np.interp(edges, knots, integral), axis=1) / sqrt(stretch)
    # Correlate with the synthesis response of every coarse sample that reaches those cells.
    coarse, phase = np.divmod(first_cell, 2**up)
    lowest = -((up_first + len(up_values) - 1) // 2**up) - 1
    highest = (2**up - 1 + cells - up_first) // 2**up
    padded = np.concatenate([up_values, [0.0]])
    weight = np.empty((len(rows), highest - lowest + 1))
    for column, sample in enumerate(range(lowest, highest + 1)):
        position = phase[:, None] + np.arange(cells)[None, :] - 2**up * sample - up_first
        inside = (position >= 0) & (position < len(up_values))
        weight[:, column] = np.einsum("rc,rc->r", on_cells, padded[np.where(inside, position, -1)])
    return coarse + lowest, weight


def resampling_matrix(
    n: int, m: int, wavelet: str = "haar", boundary: Boundary = "periodization", dual: bool = False
) -> np.ndarray[Any, Any]:
    """The operator from n to m samples as a float64 matrix of shape (m, n).

    Parameters and errors are those of `taps`; the gain is orthonormal (BoT, arXiv 2603.07506,
    carried to any ratio by exact overlap).

    Examples
    --------
    >>> resampling_matrix(2, 3) * 3 / (2 / 3) ** 0.5
    array([[3. , 0. ],
           [1.5, 1.5],
           [0. , 3. ]])
    """
    return taps(n, m, wavelet, boundary, dual).matrix()


def resample(
    x: ArrayT,
    size: int,
    axis: int = -1,
    wavelet: str = "haar",
    boundary: Boundary = "periodization",
    dual: bool = False,
) -> ArrayT:
    """Bring one axis of an array or tensor to another length.

    Parameters
    ----------
    x
        numpy array or torch tensor, any shape; half types are computed in float32. Differentiable
        in torch.
    size
        The new length of the axis.
    axis
        Which axis.
    wavelet, boundary, dual
        As in `taps`.

    Returns
    -------
    The same kind and dtype as `x`, with `size` in place of the axis's length. Constants are
    multiplied by √(n/m): the gain is orthonormal.

    Raises
    ------
    OptionError
        `x` is neither array nor tensor, a size below 1, an axis that `x` does not have, an unknown wavelet or
        boundary.

    Examples
    --------
    >>> import numpy as np
    >>> resample(np.array([[1.0, 1.0, 3.0, 3.0]]), 2) / 2**0.5
    array([[1., 3.]])
    """
    if not hasattr(x, "ndim"):
        raise OptionError(f"resample: found {type(x).__name__}, expected a numpy array or a torch tensor")
    if not -x.ndim <= axis < x.ndim:
        raise OptionError(f"resample: axis {axis} does not exist in an array of {x.ndim} axes")
    n = int(x.shape[axis])
    if n == size:
        return x
    return taps(n, size, wavelet, boundary, dual).apply(x, axis)
