"""Executes one op alone as the loop nest its schedule names, and counts what every iteration moves.

The nest of docs/layerwise.md is walked, not priced: a part of a tile is loaded when the indices it
depends on change, sums that are not finished are written and fetched again, and of a row tile that
follows its neighbour only the rows that are new are loaded. Groups of channels share nothing and
run alike, so one of them is walked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias

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
        return size(self.images) * size(self.rows) * size(self.cols)

    @cached_property
    def held(self) -> int:
        """Inputs of one channel."""
        return size(self.images) * len(self.rows_in) * len(self.cols_in)


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

    @property
    def weights(self) -> int:
        """Weights of all groups."""
        return self.groups * self.outs * self.ins * self.taps


@dataclass
class Count:
    """Elements that crossed, besides the first touch of each."""

    inputs_again: int = 0
    weights_again: int = 0
    constants_again: int = 0
    sums: int = 0


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
    rows = [(span, needed(nest.windows_rows[slice(*span)])) for span in parts(height, min(tile.rows, height))]
    cols = [(span, needed(nest.windows_cols[slice(*span)])) for span in parts(width, tile.cols)]
    return [
        Region((images[0], strip, row), images, rows[row][0], cols[strip][0], rows[row][1], cols[strip][1])
        for images in parts(nest.images, at_once)
        for strip in range(len(cols))
        for row in range(len(rows))
    ]


def parts(count: int, size: int) -> list[Span]:
    """An extent cut into tiles of ``size``, the last one smaller."""
    return [(k, min(k + size, count)) for k in range(0, count, size)]


def walk(nest: Nest, tile: Tile) -> Iterator[tuple[Span, Span, Region]]:
    """(output channels, input channels, space) of each iteration, loops from the outside in."""
    loops: dict[str, list[Any]] = {
        "k": parts(nest.outs, tile.out_channels),
        "c": parts(nest.ins, tile.in_channels),
        "s": spatial(nest, tile),
    }
    order = tile.order.lstrip("g")
    k, c, s = (order.index(loop) for loop in "kcs")
    for at in product(*(loops[loop] for loop in order)):
        yield at[k], at[c], at[s]


def run_nest(nest: Nest, tile: Tile) -> Count:
    """Walk the loops of one group of channels. O(iterations)."""
    count, inputs = Count(), _Inputs()
    weights: set[tuple[Span, Span]] = set()
    constants: set[Span] = set()
    weights_now = constants_now = sums_now = None
    finished = True
    for k, c, region in walk(nest, tile):
        count.inputs_again += inputs.load(c, region)
        if weights_now != (k, c):
            weights_now = k, c
            count.weights_again += size(k) * size(c) * nest.taps if weights_now in weights else 0
            weights.add(weights_now)
        if c[0] == 0 and constants_now != k:
            constants_now = k
            count.constants_again += size(k) if k in constants else 0
            constants.add(k)
        if sums_now is None or sums_now[0] != k or sums_now[1] is not region:
            if sums_now is not None and not finished:
                count.sums += size(sums_now[0]) * sums_now[1].made
            sums_now = k, region
        finished = c[1] == nest.ins
    return count


def regions_of(nest: Nest, tile: Tile) -> dict[str, int]:
    """Bytes of each part of a tile on chip: each has a region of its own, as large as its largest tile."""
    space = spatial(nest, tile)
    k = size(parts(nest.outs, tile.out_channels)[0])
    c = size(parts(nest.ins, tile.in_channels)[0])
    sums = nest.sum_bits if c < nest.ins else nest.out_bits
    return {
        "inputs": up(c * max(r.held for r in space) * nest.in_bits),
        "weights": up(k * c * nest.taps * nest.weight_bits),
        "constants": up(k * nest.channel_bits),
        "outputs": up(k * max(r.made for r in space) * sums),
    }


def size(span: Span) -> int:
    """How many indices."""
    return span[1] - span[0]


class _Inputs:
    """Which input elements were loaded before, and the tile of them that is on chip.

    Tiles of channels and images are the same in every sweep, so one flag for a position stands for a tile of them.
    """

    def __init__(self) -> None:
        self.now: tuple[Span, Region] | None = None
        self.before: dict[tuple[Span, Span], set[tuple[int, int]]] = {}
        self.tiles: set[tuple[Span, tuple[int, int, int]]] = set()

    def load(self, c: Span, region: Region) -> int:
        """Load what is not on chip; returns how many of the elements loaded had been loaded before."""
        previous, self.now = self.now, (c, region)
        if previous is not None and previous[0] == c and previous[1] is region:
            return 0
        rows = region.rows_in
        if previous is not None and previous[0] == c and next_below(previous[1], region):
            rows = rows - previous[1].rows_in
        loaded = len(rows) * len(region.cols_in)
        if (c, region.place) not in self.tiles:
            self.tiles.add((c, region.place))
            known = self.before.setdefault((c, region.images), set())
            fresh = {(row, col) for row in rows for col in region.cols_in} - known
            known |= fresh
            loaded -= len(fresh)
        return loaded * size(c) * size(region.images)


def next_below(upper: Region, lower: Region) -> bool:
    """Whether a tile is the next row tile of the same images and strip."""
    return upper.place[:2] == lower.place[:2] and upper.place[2] + 1 == lower.place[2]
