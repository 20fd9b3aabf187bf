"""Row maps against naive operators: which input rows change an output row when they are changed.

Every judge here is a NumPy function of a column of numbers, written from the operator's definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate, pairwise, product

import numpy as np
import numpy.typing as npt
import pytest

from fusecut import rowmap
from fusecut.rowmap import RowMap

Rows = npt.NDArray[np.float64]
Naive = Callable[[Rows], Rows]
Taps = list[set[int]]


def influences(naive: Naive, rows_in: int) -> Taps:
    """For each output row, the input rows that change it when they are perturbed."""
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, rows_in)
    before = naive(base)
    found: Taps = [set() for _ in before]
    for row in range(rows_in):
        changed = base.copy()
        changed[row] += 1.0
        for q in np.flatnonzero(np.abs(naive(changed) - before) > 1e-9):
            found[int(q)].add(row)
    return found


def assert_exact(table: RowMap, taps: Taps) -> None:
    """lo..hi spans exactly the rows that matter; an empty window where none does."""
    assert len(table.lo) == len(table.hi) == len(taps)
    for q, rows in enumerate(taps):
        if rows:
            assert (table.lo[q], table.hi[q]) == (min(rows), max(rows)), f"row {q}"
        else:
            assert table.lo[q] > table.hi[q], f"row {q} needs nothing"


def assert_covers(table: RowMap, taps: Taps) -> None:
    """No row that matters lies outside lo..hi."""
    assert len(table.lo) == len(table.hi) == len(taps)
    for q, rows in enumerate(taps):
        assert all(table.lo[q] <= row <= table.hi[q] for row in rows), f"row {q}"


def assert_tightest_monotone_hull(table: RowMap, taps: Taps) -> None:
    high = list(accumulate((max(rows) for rows in taps), max))
    low = list(accumulate((min(rows) for rows in reversed(taps)), min))[::-1]
    assert (list(table.lo), list(table.hi)) == (low, high)


# Windows -----------------------------------------------------------------------------------------


def conv(kernel: int, stride: int, dilation: int, top: int, bottom: int) -> Naive:
    def run(x: Rows) -> Rows:
        padded = np.concatenate([np.zeros(top), x, np.zeros(bottom)])
        out = (len(padded) - dilation * (kernel - 1) - 1) // stride + 1
        return np.array([sum(padded[q * stride + dilation * i] for i in range(kernel)) for q in range(out)])

    return run


WINDOWS = [
    (rows, k, s, d, top, bottom)
    for rows, k, s, d, top, bottom in product((1, 2, 5, 9), (1, 2, 3, 5), (1, 2, 3), (1, 2, 3), (0, 1, 3), (0, 2))
    if rows + top + bottom > d * (k - 1)
]


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_convolution_rows_are_those_that_change_the_output(dilation: int) -> None:
    for rows, k, s, d, top, bottom in WINDOWS:
        if d != dilation:
            continue
        taps = influences(conv(k, s, d, top, bottom), rows)
        table = rowmap.window(rows, len(taps), k, s, d, top)
        (assert_exact if d == 1 and s <= k else assert_covers)(table, taps)


def test_a_window_is_the_hull_of_its_taps_clipped_to_real_rows() -> None:
    for rows, k, s, d, top, bottom in WINDOWS:
        out = (rows + top + bottom - d * (k - 1) - 1) // s + 1
        table = rowmap.window(rows, out, k, s, d, top)
        for q in range(out):
            first, last = q * s - top, q * s - top + d * (k - 1)
            assert table.lo[q] == min(max(first, 0), rows)
            assert table.hi[q] == max(min(last, rows - 1), -1)


def test_a_window_over_padding_alone_needs_nothing() -> None:
    table = rowmap.window(2, 6, pad=2)
    assert [lo <= hi for lo, hi in zip(table.lo, table.hi, strict=True)] == [False, False, True, True, False, False]


def scatter(kernel: int, stride: int, dilation: int, pad: int, rows_out: int) -> Naive:
    """Transposed convolution by its definition: every input row adds into the output, pads cut off."""

    def run(x: Rows) -> Rows:
        full = np.zeros((len(x) - 1) * stride + dilation * (kernel - 1) + 1 + rows_out)
        for row, value in enumerate(x):
            for i in range(kernel):
                full[row * stride + dilation * i] += value
        return full[pad : pad + rows_out]

    return run


@pytest.mark.parametrize(("kernel", "stride", "dilation"), list(product((1, 2, 3, 4), (1, 2, 3), (1, 2))))
def test_transposed_convolution_rows_are_those_that_change_the_output(kernel: int, stride: int, dilation: int) -> None:
    for rows, pad, extra in product((1, 2, 5, 8), (0, 1, 2), (0, 1)):
        out = (rows - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad + extra
        if out < 1:
            continue
        table = rowmap.transposed(rows, out, kernel, stride, dilation, pad)
        taps = influences(scatter(kernel, stride, dilation, pad, out), rows)
        (assert_exact if dilation == 1 else assert_covers)(table, taps)


# Rows moved, not computed ------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "factor"), list(product((1, 3, 6), (1, 2, 3))))
def test_spread_rows_repeat(rows: int, factor: int) -> None:
    assert_exact(rowmap.spread(rows, rows * factor, factor), influences(lambda x: np.repeat(x, factor), rows))


@pytest.mark.parametrize(("rows", "factor"), list(product((1, 3, 6), (1, 2, 3))))
def test_gathered_rows_merge(rows: int, factor: int) -> None:
    taps = influences(lambda x: x.reshape(-1, factor).sum(axis=1), rows * factor)
    assert_exact(rowmap.gather(rows * factor, rows, factor), taps)


@pytest.mark.parametrize(("start", "step"), list(product((0, 1, 4), (1, 2, 3))))
def test_a_slice_is_a_window_of_one_row(start: int, step: int) -> None:
    taps = influences(lambda x: x[start::step], 9)
    assert_exact(rowmap.window(9, len(taps), stride=step, pad=-start), taps)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_concatenation_over_rows_needs_each_part_for_its_own_rows(part: int) -> None:
    sizes = (3, 1, 4)

    def joined(x: Rows) -> Rows:
        return np.concatenate([x if i == part else np.zeros(n) for i, n in enumerate(sizes)])

    table = rowmap.window(sizes[part], sum(sizes), pad=sum(sizes[:part]))
    assert_exact(table, influences(joined, sizes[part]))


@pytest.mark.parametrize("make", [rowmap.barrier, rowmap.reduction])
def test_a_whole_map_is_needed_by_every_output_row(make: Callable[[int, int], RowMap]) -> None:
    for rows, out in ((5, 1), (4, 3), (1, 2)):
        assert_exact(make(rows, out), influences(lambda x, out=out: np.full(out, x.sum()), rows))  # type: ignore[misc]


def test_a_barrier_and_a_reduction_are_told_apart() -> None:
    assert (rowmap.barrier(5, 5).whole, rowmap.barrier(5, 5).reduces) == (True, False)
    assert (rowmap.reduction(5, 1).whole, rowmap.reduction(5, 1).reduces) == (False, True)


def test_a_barrier_over_one_row_is_no_barrier() -> None:
    assert not rowmap.barrier(1, 4).whole


def test_a_broadcast_row_is_needed_by_every_output_row() -> None:
    assert_exact(rowmap.broadcast(4), influences(lambda x: np.repeat(x, 4), 1))


# Pads --------------------------------------------------------------------------------------------

PADS = [(rows, top, bottom) for rows in (1, 2, 5, 7) for top in range(-2, 6) for bottom in range(-2, 6)]


def crop(x: Rows, top: int, bottom: int) -> Rows:
    return x[max(0, -top) : len(x) - max(0, -bottom)]


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
def test_copied_rows_are_held_by_the_tightest_monotone_hull(mode: str) -> None:
    for rows, top, bottom in PADS:
        if min(top, bottom) < 0:
            continue
        kind = "edge" if mode == "reflect" and rows == 1 else mode
        taps = influences(lambda x, t=top, b=bottom, k=kind: np.pad(x, (t, b), mode=k), rows)  # type: ignore[misc]
        assert_tightest_monotone_hull(rowmap.padded(rows, rows + top + bottom, top, mode), taps)


def test_a_constant_pad_needs_nothing_and_a_negative_one_crops() -> None:
    for rows, top, bottom in PADS:
        if rows + min(0, top) + min(0, bottom) < 1:
            continue

        def padded(x: Rows, top: int = top, bottom: int = bottom) -> Rows:
            return np.pad(crop(x, top, bottom), (max(0, top), max(0, bottom)))

        assert_exact(rowmap.padded(rows, rows + top + bottom, top, "constant"), influences(padded, rows))


def test_a_negative_pad_crops_in_every_mode() -> None:
    for mode in ("constant", "edge", "reflect", "wrap"):
        assert_exact(rowmap.padded(7, 4, -2, mode), influences(lambda x: x[2:6], 7))


# Resize ------------------------------------------------------------------------------------------

COORDINATES = [
    "asymmetric",
    "align_corners",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SIZES = [(4, 8), (5, 15), (3, 7), (8, 4), (9, 6), (6, 4), (7, 1), (1, 5), (6, 6), (5, 12)]
SCALES = [(rows, out, Fraction(out, rows)) for rows, out in SIZES] + [
    (5, 7, Fraction(3, 2)),
    (7, 16, Fraction(7, 3)),
    (9, 5, Fraction(3, 5)),
]


def place(q: int, rows: int, out: int, scale: Fraction, coordinates: str) -> float:
    """Where row q lies in the input, as the ONNX operator page defines it; float noise is rounded away."""
    return round(_place(q, rows, out, scale, coordinates), 9)


def _place(q: int, rows: int, out: int, scale: Fraction, coordinates: str) -> float:
    back = (q + 0.5) * scale.denominator / scale.numerator
    if coordinates == "asymmetric":
        return q * scale.denominator / scale.numerator
    if coordinates == "align_corners":
        return 0.0 if out == 1 else q * (rows - 1) / (out - 1)
    if coordinates == "tf_half_pixel_for_nn":
        return back
    if coordinates == "pytorch_half_pixel":
        return back - 0.5 if out > 1 else 0.0
    if coordinates == "half_pixel_symmetric":
        adjustment = out / float(scale * rows)
        return rows / 2 * (1 - adjustment) + back - 0.5
    return back - 0.5


def nearest_row(x: float, rule: str) -> int:
    """Rounding by its name; ties only where the fraction is exactly one half."""
    if rule in ("floor", "ceil"):
        return math.floor(x) if rule == "floor" else math.ceil(x)
    below, fraction = math.floor(x), x - math.floor(x)
    if fraction == 0.5:
        return below if rule == "round_prefer_floor" else below + 1
    return below + (fraction > 0.5)


def inside(rows: set[int], count: int) -> set[int]:
    return {min(max(row, 0), count - 1) for row in rows}


@pytest.mark.parametrize(("coordinates", "rule"), list(product(COORDINATES, NEAREST)))
def test_nearest_resize_needs_the_row_it_copies(coordinates: str, rule: str) -> None:
    for rows, out, scale in SCALES:
        where = [place(q, rows, out, scale, coordinates) for q in range(out)]
        taps = [inside({nearest_row(x, rule)}, rows) for x in where]
        assert_exact(rowmap.resized(rows, out, scale, "nearest", coordinates, rule), taps)


@pytest.mark.parametrize(("mode", "before", "after"), [("linear", 0, 1), ("cubic", 1, 2)])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_interpolation_needs_the_rows_it_mixes(mode: str, before: int, after: int, coordinates: str) -> None:
    for rows, out, scale in SCALES:
        base = [math.floor(place(q, rows, out, scale, coordinates)) for q in range(out)]
        taps = [inside(set(range(b - before, b + after + 1)), rows) for b in base]
        assert_exact(rowmap.resized(rows, out, scale, mode, coordinates), taps)


def test_bilinear_upsampling_by_two_changes_with_exactly_two_rows() -> None:
    def linear(x: Rows) -> Rows:
        return np.interp(np.clip((np.arange(12) + 0.5) / 2 - 0.5, 0, 5), np.arange(6), x)

    taps = influences(linear, 6)
    table = rowmap.resized(6, 12, Fraction(2), "linear", "half_pixel")
    assert_covers(table, taps)
    assert [len(rows) for rows in taps[1:-1]] == [2] * 10


# What every map promises -------------------------------------------------------------------------


def all_maps() -> list[tuple[str, int, RowMap]]:
    maps = [
        (f"window {w}", w[0], rowmap.window(w[0], (w[0] + w[4] + w[5] - w[3] * (w[1] - 1) - 1) // w[2] + 1, *w[1:5]))
        for w in WINDOWS
    ]
    maps += [
        (f"pad {mode} {rows} {top} {bottom}", rows, rowmap.padded(rows, rows + top + bottom, top, mode))
        for mode in ("constant", "edge", "reflect", "wrap")
        for rows, top, bottom in PADS
        if rows + min(0, top) + min(0, bottom) >= 1
    ]
    maps += [
        (f"resize {mode} {c} {rule} {size}", size[0], rowmap.resized(*size, mode, c, rule))
        for mode, c, rule, size in product(("nearest", "linear", "cubic"), COORDINATES, NEAREST, SCALES)
    ]
    maps += [
        (f"transposed {k} {s} {d} {p}", rows, rowmap.transposed(rows, (rows - 1) * s + d * (k - 1) + 1 - p, k, s, d, p))
        for rows, k, s, d, p in product((2, 6, 9), (1, 2, 3, 4), (1, 2, 3), (1, 2), (0, 1))
        if (rows - 1) * s + d * (k - 1) + 1 - p > 0
    ]
    maps += [("spread", 5, rowmap.spread(5, 15, 3)), ("gather", 12, rowmap.gather(12, 4, 3))]
    return maps


MAPS = all_maps()
FAMILIES = sorted({label.split()[0] if "pad" not in label else " ".join(label.split()[:2]) for label, _, _ in MAPS})


def test_maps_never_go_back_up() -> None:
    for label, _, table in MAPS:
        for rows in (table.lo, table.hi):
            assert all(a <= b for a, b in pairwise(rows)), label


def test_maps_name_real_rows_only() -> None:
    for label, count, table in MAPS:
        assert all(0 <= lo <= count and -1 <= hi < count for lo, hi in zip(table.lo, table.hi, strict=True)), label


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_repeat_shifted_every_period_from_their_start(family: str) -> None:
    """Until the bottom clips them; a map that claims no start within its rows claims nothing."""
    wrong = [label for label, count, table in MAPS if label.startswith(family) and not _repeats(table, count)]
    assert not wrong, f"{len(wrong)} maps, among them {wrong[:5]}"


def _repeats(table: RowMap, rows_in: int) -> bool:
    shifts = {
        (table.lo[q + table.period] - table.lo[q], table.hi[q + table.period] - table.hi[q])
        for q in range(table.start, len(table.lo) - table.period)
        if table.hi[q + table.period] < rows_in - 1
    }
    return len(shifts) <= 1 and all(a == b for a, b in shifts)


def test_identical_layers_share_one_table() -> None:
    assert rowmap.window(14, 14, 3, 1, 1, 1) is rowmap.window(14, 14, 3, 1, 1, 1)
