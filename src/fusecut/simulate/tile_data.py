"""Computes an op alone tile by tile: only what a tile has loaded is there to be multiplied.

Rows that stay on chip are taken from the tile before, sums that leave are put away and fetched,
and a product that reaches for an input its tile does not hold is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fusecut.errors import SimulationError
from fusecut.schedule import Tile
from fusecut.simulate.memory import Array
from fusecut.simulate.tiles import Nest, Region, Span, next_below, size, walk


@dataclass(frozen=True)
class Windows:
    """Where a tap of the kernel looks, along rows and columns."""

    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)

    def inputs(self, axis: int, outputs: Span, tap: int, limit: int) -> tuple[list[int], list[int]]:
        """(outputs within the span, inputs) that one tap joins; padding joins nothing."""
        stride, start = self.strides[axis], tap * self.dilations[axis] - self.pads[axis]
        joined = [(q - outputs[0], q * stride + start) for q in range(*outputs)]
        real = [(q, i) for q, i in joined if 0 <= i < limit]
        return [q for q, _ in real], [i for _, i in real]


@dataclass
class _OnChip:
    """The input tile that is on chip: which rows and columns, and their values."""

    c: Span
    region: Region
    values: Array
    rows: dict[int, int] = field(init=False)
    cols: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = {row: i for i, row in enumerate(sorted(self.region.rows_in))}
        self.cols = {col: i for i, col in enumerate(sorted(self.region.cols_in))}


@dataclass
class TiledRun:
    """One op: ``x`` is (channels, images, rows, columns), ``w`` (outputs, inputs of a group, kernel rows, columns)."""

    nest: Nest
    tile: Tile
    x: Array
    w: Array
    bias: Array | None
    windows: Windows = Windows()

    def run(self) -> Array:
        """(output channels, images, rows, columns).

        Raises:
            SimulationError: a product needs an input that its tile does not hold.
        """
        nest = self.nest
        shape = (nest.groups * nest.outs, nest.images, len(nest.windows_rows), len(nest.windows_cols))
        made = np.full(shape, np.nan, self.x.dtype)
        for g in range(nest.groups):
            self._group(g, made)
        return made

    def _group(self, g: int, made: Array) -> None:
        nest, tile = self.nest, self.tile
        waiting: dict[tuple[Span, tuple[int, int, int]], Array] = {}
        chip: _OnChip | None = None
        for k, c, region in walk(nest, tile):
            if chip is None or chip.c != c or chip.region is not region:
                chip = self._load(g, c, region, chip)
            place = k, region.place
            sums = waiting.pop(place) if c[0] else self._begin(g, k, region)
            self._multiply(g, k, chip, sums)
            if c[1] < nest.ins:
                waiting[place] = sums
                continue
            outs = slice(g * nest.outs + k[0], g * nest.outs + k[1])
            made[outs, slice(*region.images), slice(*region.rows), slice(*region.cols)] = sums

    def _begin(self, g: int, k: Span, region: Region) -> Array:
        shape = (size(k), size(region.images), size(region.rows), size(region.cols))
        if self.bias is None:
            return np.zeros(shape, self.x.dtype)
        first = g * self.nest.outs
        bias = self.bias[first + k[0] : first + k[1]].reshape(-1, 1, 1, 1)
        return np.broadcast_to(bias, shape).astype(self.x.dtype)

    def _load(self, g: int, c: Span, region: Region, before: _OnChip | None) -> _OnChip:
        """The input tile: rows shared with the tile above from there, all others from DRAM."""
        nest = self.nest
        rows, cols = sorted(region.rows_in), sorted(region.cols_in)
        shape = (size(c), size(region.images), len(rows), len(cols))
        chip = _OnChip(c, region, np.full(shape, np.nan, self.x.dtype))
        stays = before is not None and before.c == c and next_below(before.region, region)
        channels = slice(g * nest.ins + c[0], g * nest.ins + c[1])
        for row, at in chip.rows.items():
            if stays and before is not None and row in before.rows:
                chip.values[:, :, at] = before.values[:, :, before.rows[row]]
            else:
                chip.values[:, :, at] = self.x[channels, slice(*region.images), row][:, :, cols]
        return chip

    def _multiply(self, g: int, k: Span, chip: _OnChip, sums: Array) -> None:
        first = g * self.nest.outs
        w = self.w[first + k[0] : first + k[1], slice(*chip.c)]
        for r in range(w.shape[2]):
            qs, rows = self.windows.inputs(0, chip.region.rows, r, self.x.shape[2])
            for s in range(w.shape[3]):
                xs, cols = self.windows.inputs(1, chip.region.cols, s, self.x.shape[3])
                if qs and xs:
                    held = chip.values[:, :, self._places(chip.rows, rows)][..., self._places(chip.cols, cols)]
                    sums[np.ix_(range(size(k)), range(sums.shape[1]), qs, xs)] += np.tensordot(w[:, :, r, s], held, 1)

    def _places(self, held: dict[int, int], wanted: list[int]) -> list[int]:
        lost = [i for i in wanted if i not in held]
        if lost:
            raise SimulationError(f"a tile needs row or column {lost[0]} of its input and does not hold it")
        return [held[i] for i in wanted]
