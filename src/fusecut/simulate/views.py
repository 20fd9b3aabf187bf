"""What an event sees of an operand: rows of a lane, windows of pixels, or parts side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from fusecut.frontend.weights import Layout
from fusecut.simulate.calls import column
from fusecut.simulate.memory import Array, Lane, poison

Where: TypeAlias = Callable[[], str]
"""Says which event is looking, for an error."""

Extent: TypeAlias = tuple[int, int]
"""First and last."""


class RowKernel(Protocol):
    """Arithmetic of one op, row by row. Windows have the row axis first; None is an empty window."""

    def start(self) -> None:
        """A new image: forget accumulators."""

    def fold(self, operand: int, row: int, window: Array | None) -> None:
        """One step of a streaming reduction."""

    def row(self, row: int, windows: Sequence[Array | None], lows: Sequence[int]) -> Sequence[Array]:
        """One row of every result; ``lows`` are the rows at which the windows start."""

    def part(self, operand: int, row: Array) -> Array:
        """Where an operand of a concatenation lies in a row of the result; a view of it."""

    @property
    def neutral(self) -> float:
        """A value that changes nothing when it is folded."""


Kernels: TypeAlias = Mapping[int, RowKernel]
"""Kernel of each op."""


@dataclass(frozen=True, eq=False)
class Joined:
    """A concatenation that is not copied: its rows are those of its parts, put side by side by op ``op``."""

    op: int
    parts: tuple[View, ...]


View: TypeAlias = Lane | Joined


def lanes_of(view: View) -> list[Lane]:
    """The lanes that an operand is read from, each once."""
    lanes = [view] if isinstance(view, Lane) else [lane for part in view.parts for lane in lanes_of(part)]
    return list(dict.fromkeys(lanes))


def rows_of(view: View, rows: Extent, kernels: Kernels | None, where: Where) -> Array | None:
    """Rows first..last of an operand; None where only presence is tracked."""
    if isinstance(view, Lane):
        return view.window(*rows, where)
    return _joined(view, rows[0], [rows_of(part, rows, kernels, where) for part in view.parts], kernels)


@dataclass(frozen=True)
class PixelView:
    """Windows of pixels. ``layouts`` of all tensors say where the columns of a row are."""

    cols_in: int
    layouts: Sequence[Layout] | None
    kernels: Kernels | None

    def window(self, view: View, rows: Extent, cols: Extent, fill: float | None, where: Where) -> Array | None:
        """Whole rows of which only the pixels of the window are there; ``fill`` (or poison) is everywhere else."""
        if isinstance(view, Lane):
            return self._cut(view, rows, cols, fill, where)
        parts = [self.window(part, rows, cols, fill, where) for part in view.parts]
        return _joined(view, rows[0], parts, self.kernels)

    def _cut(self, lane: Lane, rows: Extent, cols: Extent, fill: float | None, where: Where) -> Array | None:
        data, height = lane.ring.data, max(0, rows[1] - rows[0] + 1)
        places = [(r, x) for r in range(rows[0], rows[1] + 1) for x in range(cols[0], cols[1] + 1)]
        pixels = [lane.at(r * self.cols_in + x, where) for r, x in places]
        if data is None or self.layouts is None:
            return None
        layout, empty = self.layouts[lane.tensor], poison(data.dtype.name) if fill is None else fill
        slab = np.full((height, *layout.row_shape), empty, data.dtype)
        for (r, x), pixel in zip(places, pixels, strict=True):
            slab[r - rows[0]][column(layout, x)] = pixel
        return slab


def _joined(view: Joined, first: int, parts: Sequence[Array | None], kernels: Kernels | None) -> Array | None:
    arrays = [part for part in parts if part is not None]
    if kernels is None or len(arrays) < len(parts):
        return None
    kernel, height = kernels[view.op], len(arrays[0])
    rows = [kernel.row(first + k, [p[k : k + 1] for p in arrays], [first + k] * len(arrays))[0] for k in range(height)]
    if rows:
        return np.stack(rows)
    return None
