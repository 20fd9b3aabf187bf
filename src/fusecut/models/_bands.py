"""Which rows a group makes, holds and loads when it runs band by band.

A *band* is a slice of the group's output. The clock, the op with the fewest rows among those nothing
in the group reads, makes ``height`` rows in each band (the last may be shorter); another op whose
rows leave makes its rows in proportion, all others make what that demands. Between two bands rows
stay on chip as long as somebody waits for them, or, for tensors made *again*, are made (or read) once
more from the lowest row that the next band looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Graph, Group, bits
from fusecut.ops import row_maps

Rows: TypeAlias = NDArray[np.int64]
"""Row numbers, one for each band or for each height of bands."""


class Tables:
    """Row maps of a graph as arrays, and how many rows each op makes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.size = [graph.tensors[op.outputs[0]].rows for op in graph.ops]
        self._arrays: dict[int, list[tuple[Rows, Rows]]] = {}
        self._maps = row_maps(graph)

    def maps(self, op: int) -> list[tuple[Rows, Rows]]:
        """(lo, end) by output row, for each operand; ``end`` is one past the last row needed.

        Both have one more entry than rows: past the last row nothing is needed.
        """
        known = self._arrays.get(op)
        if known is None:
            known = []
            for t, rowmap in zip(self.graph.ops[op].inputs, self._maps[op], strict=True):
                rows = self.graph.tensors[t].rows
                lo = np.array((*rowmap.lo, rows), dtype=np.int64)
                end = np.array((0, *(h + 1 for h in rowmap.hi)), dtype=np.int64)
                known.append((lo, end))
            self._arrays[op] = known
        return known

    def clock(self, group: Group) -> int:
        """The op whose rows count the bands: the fewest rows, the first of several."""
        graph = self.graph
        ends = [i for i in bits(group) if not any(graph.consumer_mask[t] & group for t in graph.ops[i].outputs)]
        return min(ends, key=lambda i: (self.size[i], i))


class TensorRows(NamedTuple):
    """Rows of one tensor over the bands, at most: ``halo`` wait between bands, ``tile`` more are there during one.

    ``moved`` rows are made or loaded in all, ``distinct`` of them for the first time, ``most`` in one band.
    """

    halo: int
    tile: int
    moved: int
    distinct: int
    most: int

    @property
    def again(self) -> int:
        """Rows made or loaded beyond the first time each."""
        return self.moved - self.distinct


@dataclass(frozen=True)
class BandRows:
    """Everything the bands of one height say about a group."""

    height: int
    count: int
    tensors: dict[int, TensorRows]
    halo_bytes: int


class RowTable:
    """Rows of every tensor of a group in bands of several heights, one array entry for each height.

    ``again`` are tensors that are made (group inputs: read) once more where bands overlap.
    O(operands * heights * bands) on arrays.
    """

    def __init__(self, tables: Tables, group: Group, heights: Sequence[int], again: frozenset[int]) -> None:
        self.heights = tuple(heights)
        graph = tables.graph
        clock = tables.size[tables.clock(group)]
        self.counts = [-(-clock // height) for height in heights]
        steps = np.arange(1, max(self.counts) + 1, dtype=np.int64)
        ends = np.minimum(np.array(heights, dtype=np.int64)[:, None] * steps, clock)
        run = _Run(tables, group, ends, clock, again)
        for i in sorted(bits(group), reverse=True):
            run.op(i)
        for t in graph.reads(group):
            run.loader(t)
        self.tensors = run.tensors
        waiting = (held.halo * graph.tensors[t].row_bytes for t, held in run.tensors.items())
        self.halo_bytes: Rows = sum(waiting, np.zeros(len(self.heights), np.int64))
        self._lists: dict[int, list[list[int]]] = {}

    def at(self, index: int) -> BandRows:
        """The rows in bands of one of the heights."""
        lists = self._lists = self._lists or {
            t: [entries.tolist() for entries in held] for t, held in self.tensors.items()
        }
        tensors = {t: TensorRows(*(entries[index] for entries in held)) for t, held in lists.items()}
        return BandRows(self.heights[index], self.counts[index], tensors, int(self.halo_bytes[index]))


def band_rows(tables: Tables, group: Group, height: int, again: frozenset[int]) -> BandRows:
    """Rows of every op and tensor of a group in bands of ``height`` rows: see :class:`RowTable`."""
    return RowTable(tables, group, (height,), again).at(0)


class RowArrays(NamedTuple):
    """The fields of :class:`TensorRows`, an entry for each height."""

    halo: Rows
    tile: Rows
    moved: Rows
    distinct: Rows
    most: Rows


class _Run:
    """Ops are visited downstream first, so that whoever reads a tensor is known before it.

    Arrays have a line for each height. Lines of few bands go on with bands in which nothing is made.
    """

    def __init__(self, tables: Tables, group: Group, ends: Rows, clock: int, again: frozenset[int]) -> None:
        self.tables, self.graph, self.group = tables, tables.graph, group
        self.ends, self.clock, self.again = ends, clock, again
        self.start: dict[int, Rows] = {}
        self.end: dict[int, Rows] = {}
        self.tensors: dict[int, RowArrays] = {}

    def op(self, index: int) -> None:
        op, size = self.graph.ops[index], self.tables.size[index]
        leaves = any(self.graph.leaves(t, self.group) for t in op.outputs)
        due = -(-self.ends * size // self.clock) if leaves else np.zeros_like(self.ends)
        needs = [self._needs(t) for t in op.outputs]
        end = np.maximum.accumulate(np.maximum.reduce([due, *(past for _, past in needs)]), axis=1)
        start = _before(end)
        if any(t in self.again for t in op.outputs):
            start = np.minimum.reduce([start, *(low for low, _ in needs)])
        self.start[index], self.end[index] = start, end
        for t, (low, _) in zip(op.outputs, needs, strict=True):
            self.tensors[t] = _row_arrays(start, end, low, t in self.again)

    def loader(self, tensor: int) -> None:
        low, past = self._needs(tensor)
        end = np.maximum.accumulate(past, axis=1)
        again = tensor in self.again
        start = np.minimum(_before(end), low) if again else _before(end)
        self.tensors[tensor] = _row_arrays(start, end, low, again)

    def _needs(self, tensor: int) -> tuple[Rows, Rows]:
        """(lowest row that readers look at, one past the last), by band; no reader: past all rows, and 0."""
        low = np.full_like(self.ends, self.graph.tensors[tensor].rows)
        past = np.zeros_like(self.ends)
        for c in self.graph.consumers[tensor]:
            if not self.group >> c & 1:
                continue
            start, end = self.start[c], self.end[c]
            at = np.where(start < end, start, self.tables.size[c])
            for t, (lo, over) in zip(self.graph.ops[c].inputs, self.tables.maps(c), strict=True):
                if t == tensor:
                    low, past = np.minimum(low, lo[at]), np.maximum(past, over[end])
        return low, past


def _before(end: Rows) -> Rows:
    before = np.zeros_like(end)
    before[:, 1:] = end[:, :-1]
    return before


def _row_arrays(start: Rows, end: Rows, low: Rows, again: bool) -> RowArrays:
    """``low`` is what readers look at in each band; what is kept waits for the lowest of all later bands."""
    waits = np.minimum.accumulate(low[:, ::-1], axis=1)[:, ::-1]
    zero = np.zeros(len(end), np.int64)
    halo = zero if again else np.maximum((_before(end) - waits).max(axis=1), 0)
    first = start if again else np.minimum(waits, start)
    made = end - start
    tile = np.maximum((end - first).max(axis=1) - halo, 0)
    return RowArrays(halo, tile, made.sum(axis=1), end[:, -1], np.maximum(made.max(axis=1), 0))


def distinct_heights(rows: int) -> Iterable[int]:
    """Heights from all rows down, the smallest for each number of bands. O(sqrt(rows)) of them.

    >>> list(distinct_heights(7))
    [7, 4, 3, 2, 1]
    """
    height = rows
    while height >= 1:
        count = -(-rows // height)
        height = -(-rows // count)
        yield height
        height -= 1
