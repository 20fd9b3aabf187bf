"""Row maps: which rows of an operand one output row needs.

A map is a pair of tables over output rows ``q``: rows ``lo[q]..hi[q]`` of the operand are needed
for output row ``q``. Both are nondecreasing and clipped to real rows, since padding is made, not
loaded; ``lo[q] > hi[q]`` means the row needs nothing of this operand. The same tables along the
other axis are column maps. Tables are cached by their parameters: identical layers share one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

_CACHED = 4096
_CACHED_RASTERS = 256


@dataclass(frozen=True)
class RowMap:
    """``lo`` and ``hi`` by output row.

    ``reduces``: the operand is not looked at through a window but folded row by row into an
    accumulator, so output row 0 depends on every row and yet holds none of them.
    ``whole``: every output row needs every operand row (a barrier).
    ``period`` and ``start``: from row ``start`` on, until the bottom clips it, the map repeats
    every ``period`` output rows, shifted.
    """

    lo: tuple[int, ...]
    hi: tuple[int, ...]
    reduces: bool = False
    whole: bool = False
    period: int = 1
    start: int = 0


def _table(rows_in: int, lo: Callable[[int], int], hi: Callable[[int], int], rows_out: int, period: int = 1) -> RowMap:
    """Clip to real rows; take the monotone hull (only reflecting pads need it)."""
    start = next((q for q in range(rows_out) if lo(q) >= 0), rows_out)
    high = accumulate((max(-1, min(hi(q), rows_in - 1)) for q in range(rows_out)), max)
    low = [max(0, min(lo(q), rows_in)) for q in range(rows_out)]
    low = list(accumulate(reversed(low), min))[::-1]
    return RowMap(tuple(low), tuple(high), period=period, start=start)


@lru_cache(_CACHED)
def window(rows_in: int, rows_out: int, kernel: int = 1, stride: int = 1, dilation: int = 1, pad: int = 0) -> RowMap:
    """Convolution and pooling: lo = q*s - p, hi = q*s - p + d(k-1). Identity by default.

    >>> window(4, 4, kernel=3, pad=1).lo, window(4, 4, kernel=3, pad=1).hi
    ((0, 0, 1, 2), (1, 2, 3, 3))
    """
    reach = dilation * (kernel - 1)
    return _table(rows_in, lambda q: q * stride - pad, lambda q: q * stride - pad + reach, rows_out)


@lru_cache(_CACHED)
def transposed(rows_in: int, rows_out: int, kernel: int, stride: int, dilation: int, pad: int) -> RowMap:
    """Transposed convolution: lo = ceil((q+p-d(k-1))/s), hi = floor((q+p)/s).

    >>> transposed(2, 4, kernel=2, stride=2, dilation=1, pad=0).lo
    (0, 0, 1, 1)
    """
    reach = dilation * (kernel - 1)
    return _table(rows_in, lambda q: -((reach - q - pad) // stride), lambda q: (q + pad) // stride, rows_out, stride)


@lru_cache(_CACHED)
def spread(rows_in: int, rows_out: int, factor: int) -> RowMap:
    """One operand row makes ``factor`` output rows: nearest upsampling, depth-to-space."""
    return _table(rows_in, lambda q: q // factor, lambda q: q // factor, rows_out, factor)


@lru_cache(_CACHED)
def gather(rows_in: int, rows_out: int, factor: int) -> RowMap:
    """``factor`` operand rows make one output row: space-to-depth."""
    return _table(rows_in, lambda q: q * factor, lambda q: q * factor + factor - 1, rows_out)


@lru_cache(_CACHED)
def barrier(rows_in: int, rows_out: int) -> RowMap:
    """Every output row needs every operand row."""
    return RowMap((0,) * rows_out, (rows_in - 1,) * rows_out, whole=rows_in > 1)


@lru_cache(_CACHED)
def reduction(rows_in: int, rows_out: int) -> RowMap:
    """A streaming reduction over all rows (global pooling, a fully connected layer on a map)."""
    return RowMap((0,) * rows_out, (rows_in - 1,) * rows_out, reduces=True)


@lru_cache(_CACHED)
def broadcast(rows_out: int) -> RowMap:
    """A one-row operand used for every output row (a squeeze-excite vector)."""
    return RowMap((0,) * rows_out, (0,) * rows_out)


@lru_cache(_CACHED_RASTERS)
def raster(rows: RowMap, cols: RowMap, cols_in: int) -> RowMap:
    """Both maps as one over pixels, numbered row by row from the left.

    Output pixel q * outs + x needs pixels lo(q) * cols_in + lo(x) to hi(q) * cols_in + hi(x) and, since
    pixels are made in order, whatever lies between. O(output pixels).

    >>> raster(window(2, 2, kernel=3, pad=1), window(3, 3, kernel=3, pad=1), 3).hi
    (4, 5, 5, 5, 5, 5)
    """
    outs = len(cols.lo)
    beyond = max(rows.hi, default=-1) * cols_in + cols_in
    low, high = [beyond] * (len(rows.lo) * outs), [-1] * (len(rows.lo) * outs)
    for q, (top, bottom) in enumerate(zip(rows.lo, rows.hi, strict=True)):
        for x, (left, right) in enumerate(zip(cols.lo, cols.hi, strict=True)):
            if top <= bottom and left <= right:
                low[q * outs + x] = top * cols_in + left
                high[q * outs + x] = bottom * cols_in + right
    low = list(accumulate(reversed(low), min))[::-1]
    return RowMap(
        tuple(low), tuple(accumulate(high, max)), rows.reduces, rows.whole, rows.period * outs, rows.start * outs
    )


@lru_cache(_CACHED)
def padded(rows_in: int, rows_out: int, top: int, mode: str) -> RowMap:
    """Explicit padding or cropping (negative ``top``). Constant pads need no operand row."""
    if mode == "constant":
        return window(rows_in, rows_out, pad=top)

    def source(q: int) -> int:
        row = q - top
        if mode == "reflect" and rows_in > 1:
            period = 2 * (rows_in - 1)
            row %= period
            return min(row, period - row)
        return row % rows_in if mode == "wrap" else max(0, min(row, rows_in - 1))

    return _irregular(_table(rows_in, source, source, rows_out))


def _irregular(rowmap: RowMap) -> RowMap:
    """A map that is not promised to repeat anywhere."""
    return replace(rowmap, start=len(rowmap.lo))


@lru_cache(_CACHED)
def resized(
    rows_in: int, rows_out: int, scale: Fraction, mode: str, coordinates: str, nearest: str = "round_prefer_floor"
) -> RowMap:
    """Resize, every ONNX coordinate transformation, in exact arithmetic.

    Nearest needs one row, linear floor(x) and the next, cubic one before and two after.
    """

    def place(q: int) -> Fraction:
        return _coordinate(q, rows_in, rows_out, scale, coordinates)

    def above(q: int) -> int:
        return place(q).__floor__() - (1 if mode == "cubic" else 0)

    def below(q: int) -> int:
        return place(q).__floor__() + (2 if mode == "cubic" else 1)

    def copied(q: int) -> int:
        return min(_round(place(q), nearest), rows_in - 1)

    if mode == "nearest":
        table = _table(rows_in, copied, lambda q: max(0, copied(q)), rows_out, scale.numerator)
    else:
        table = _table(rows_in, above, below, rows_out, scale.numerator)
    return _irregular(table) if coordinates == "align_corners" else table


def _coordinate(q: int, rows_in: int, rows_out: int, scale: Fraction, mode: str) -> Fraction:
    if mode == "asymmetric":
        return q / scale
    if mode == "align_corners":
        return Fraction(q * (rows_in - 1), max(rows_out - 1, 1))
    if mode == "tf_half_pixel_for_nn":
        return (q + Fraction(1, 2)) / scale
    if mode == "pytorch_half_pixel" and rows_out == 1:
        return Fraction(0)
    shift = Fraction(rows_in, 2) * (1 - Fraction(rows_out) / (scale * rows_in)) if mode == "half_pixel_symmetric" else 0
    return shift + (q + Fraction(1, 2)) / scale - Fraction(1, 2)


def _round(x: Fraction, mode: str) -> int:
    if mode == "floor":
        return x.__floor__()
    if mode == "ceil":
        return x.__ceil__()
    half = Fraction(1, 2)
    return (x - half).__ceil__() if mode == "round_prefer_floor" else (x + half).__floor__()
