"""Executes one op alone as the loop nest its schedule names, and counts what every iteration moves.

The nest of docs/layerwise.md is walked, not priced: a part of a tile is loaded when the indices it
depends on change, sums that are not finished are written and fetched again, and of a row tile that
follows its neighbour only the rows that are new are loaded. Groups of channels share nothing and
run alike, so one of them is walked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from fusecut.rowmap import RowMap
from fusecut.schedule import Tile

Span: TypeAlias = tuple[int, int]
"""First index and the one after the last."""

@dataclass(frozen=True, eq=False)
class Region:
    """A tile in space: images, output rows and columns, and the input rows and columns they need."""

    place: tuple[int, int, int]
    images: Span
    rows: Span
    cols: Span
    rows_in: frozenset[int]
    cols_in: frozenset[int]

    @cached_property
    def made(self) -> int:
        """Outputs of one channel."""
        return _size(self.images) * _size(self.rows) * _size(self.cols)

    @cached_property
    def held(self) -> int:
        """Inputs of one channel."""
        return _size(self.images) * len(self.rows_in) * len(self.cols_in)


@dataclass(frozen=True)
class Nest:
    """What the loops run over: channels of one of ``groups``, images, output rows and columns.

    ``windows_*`` are the input rows (columns) each output row needs. ``taps`` are weights for each pair of
    channels, ``channel_bits`` what is kept for each output channel besides them.
    """

    groups: int
    outs: int
    ins: int
    images: int
    windows_rows: tuple[Span, ...]
    windows_cols: tuple[Span, ...]
    taps: int
    channel_bits: int
    in_bits: int
    weight_bits: int
    out_bits: int
    sum_bits: int


@dataclass
class Count:
    """Elements that crossed, besides the first touch of each."""

    inputs_again: int = 0
    weights_again: int = 0
    constants_again: int = 0
    sums: int = 0
    regions: list[int] = field(default_factory=lambda: [0, 0, 0, 0])


def up(bits: int) -> int:
    """Bits in whole bytes."""
    return -(-bits // 8)


def windows(rowmap: RowMap) -> tuple[Span, ...]:
    """Input rows of each output row; (0, 0) where it needs none."""
    return tuple((lo, hi + 1) if lo <= hi else (0, 0) for lo, hi in zip(rowmap.lo, rowmap.hi, strict=True))


def needed(spans: Sequence[Span]) -> frozenset[int]:
    """Union of windows: rows between two windows are not loaded."""
    return frozenset(i for low, high in spans for i in range(low, high))


def spatial(nest: Nest, tile: Tile) -> list[Region]:
    """Tiles of space in the order they are walked: image, then strip, then top to bottom."""
    height, width = len(nest.windows_rows), len(nest.windows_cols)
    at_once = max(1, tile.rows // height)
    step = min(tile.rows, height)
    regions = []
    for first in range(0, nest.images, at_once):
        images = first, min(first + at_once, nest.images)
        for strip, left in enumerate(range(0, width, tile.cols)):
            cols = left, min(left + tile.cols, width)
            for row, top in enumerate(range(0, height, step)):
                rows = top, min(top + step, height)
                reach = needed(nest.windows_rows[slice(*rows)]), needed(nest.windows_cols[slice(*cols)])
                regions.append(Region((first, strip, row), images, rows, cols, *reach))
    return regions


def walk(nest: Nest, tile: Tile) -> Iterator[tuple[Span, Span, Region]]:
    """(output channels, input channels, space) of each iteration, loops from the outside in."""
    space = spatial(nest, tile)
    outs = [(k, min(k + tile.out_channels, nest.outs)) for k in range(0, nest.outs, tile.out_channels)]
    ins = [(c, min(c + tile.in_channels, nest.ins)) for c in range(0, nest.ins, tile.in_channels)]
    loops = {"k": range(len(outs)), "c": range(len(ins)), "s": range(len(space))}
    a, b, c = tile.order.lstrip("g")
    for x in loops[a]:
        for y in loops[b]:
            for z in loops[c]:
                at = {a: x, b: y, c: z}
                yield outs[at["k"]], ins[at["c"]], space[at["s"]]


def run_nest(nest: Nest, tile: Tile) -> Count:
    """Walk the loops of one group of channels. O(iterations)."""
    count = Count()
    seen = _Seen()
    weights: set[tuple[Span, Span]] = set()
    biases: set[Span] = set()
    k_now: Span | None = None
    weights_now: tuple[Span, Span] | None = None
    inputs_now: tuple[Span, Region] | None = None
    sums_now: tuple[Span, Region] | None = None
    finished = False
    for k, c, region in walk(nest, tile):
        if inputs_now != (c, region):
            count.inputs_again += seen.load(c, region, inputs_now)
            inputs_now = c, region
        if weights_now != (k, c):
            count.weights_again += _size(k) * _size(c) * nest.taps if (k, c) in weights else 0
            weights.add((k, c))
            weights_now = k, c
        if c[0] == 0 and k_now != k:
            count.constants_again += _size(k) if k in biases else 0
            biases.add(k)
            k_now = k
        if sums_now != (k, region):
            if sums_now is not None and not finished:
                count.sums += _size(sums_now[0]) * sums_now[1].made
            sums_now = k, region
        finished = c[1] == nest.ins
        _measure(count.regions, nest, k, c, region, split=tile.in_channels < nest.ins)
    return count


def _size(span: Span) -> int:
    return span[1] - span[0]


def _measure(regions: list[int], nest: Nest, k: Span, c: Span, region: Region, split: bool) -> None:
    """Each part of the tile has a region of its own, as large as its largest tile."""
    parts = (
        up(_size(c) * region.held * nest.in_bits),
        up(_size(k) * _size(c) * nest.taps * nest.weight_bits),
        up(_size(k) * nest.channel_bits),
        up(_size(k) * region.made * (nest.sum_bits if split else nest.out_bits)),
    )
    for i, size in enumerate(parts):
        regions[i] = max(regions[i], size)


class _Seen:
    """Which input elements of a channel tile were loaded before: by channels and images, rows and columns.

    Channel and image tiles are the same in every sweep, so one flag for a position stands for a tile of them.
    """

    def __init__(self) -> None:
        self.before: dict[tuple[Span, Span], set[tuple[int, int]]] = {}

    def load(self, c: Span, region: Region, previous: tuple[Span, Region] | None) -> int:
        """Load what is not on chip; returns how many elements had been loaded before."""
        rows = region.rows_in
        if previous is not None and previous[0] == c and _next_below(previous[1], region):
            rows = rows - previous[1].rows_in
        known = self.before.setdefault((c, region.images), set())
        fresh = {(row, col) for row in rows for col in region.cols_in} - known
        known |= fresh
        return (len(rows) * len(region.cols_in) - len(fresh)) * _size(c) * _size(region.images)


def _next_below(upper: Region, lower: Region) -> bool:
    return upper.place[:2] == lower.place[:2] and upper.place[2] + 1 == lower.place[2]
