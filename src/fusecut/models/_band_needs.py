"""What ops that run in so many bands have on chip at the same time, at least.

For two ops, one leading to the other, and everything in between: any group with both holds all of these.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from fusecut.ir import Group, bits
from fusecut.models._band_stages import Sizes, Stages, Traits
from fusecut.models._bands import Tables
from fusecut.models._bounds import RowBounds
from fusecut.models._slices import Habits

_EXACT: Final = 16
"""Band counts up to here have a range of their own; from here on ranges grow by a seventh."""


def band_ranges(most: int) -> list[int]:
    """First band counts of ranges that cover 1 to ``most``.

    >>> band_ranges(20)
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20]
    """
    starts = [1]
    while starts[-1] < most:
        starts.append(starts[-1] + (1 if starts[-1] < _EXACT else starts[-1] // 7))
    return starts if starts[-1] <= most else starts[:-1]


class BandNeeds:
    """Least bytes on chip by number of bands, for stretches of the graph."""

    def __init__(self, tables: Tables, habits: list[Habits], bounds: RowBounds) -> None:
        self.tables, self.graph, self.bounds = tables, tables.graph, bounds
        graph = self.graph
        self.traits = Traits(graph, habits)
        batch = min(graph.tensors[op.outputs[0]].batch for op in graph.ops)
        most = max(tables.size) * max(graph.tensors[op.outputs[0]].batch for op in graph.ops)
        self.starts = band_ranges(most)
        ends = np.array([*(n - 1 for n in self.starts[1:]), most], dtype=np.int64)
        self.bands = np.maximum(1, ends // batch)
        self.images = np.maximum(1, -(-batch // ends))
        self.zero = np.zeros_like(ends)
        self._even = [-(-(last + 1) // self.bands) for last in bounds.demand]
        self._first = self._first_bands()
        self._spans: dict[tuple[int, int], Sizes] = {}
        self._reached: dict[int, tuple[dict[int, Sizes], int]] = {}
        self._looked: dict[tuple[int, int, int], Sizes] = {}

    def of(self, first: int, last: int) -> Sizes:
        """Bytes on chip in a group that holds both ops (or the one), at least."""
        graph = self.graph
        between = (graph.descendants[first] | 1 << first) & (graph.ancestors[last] | 1 << last)
        reach = self._reach(first, last)
        made = {i: np.maximum(self._even[i], reach[i]) for i in bits(between)}
        return Stages(self.traits, between, partial(self._rows, between, made, last), made, self.images).most_with(
            first
        )

    def _rows(self, ops: Group, made: dict[int, Sizes], last: int, tensor: int) -> Sizes:
        """Rows of a tensor that lie on chip if all of its channels do."""
        graph = self.graph
        rows = np.maximum(self.zero, self.bounds.rows(tensor, ops))
        maker = graph.producer[tensor]
        if maker in made:
            rows = np.maximum(rows, made[maker])
        for c in bits(graph.consumer_mask[tensor] & ops):
            for k, t in enumerate(graph.ops[c].inputs):
                if t == tensor:
                    rows = np.maximum(rows, self.looked_at(c, k, last))
        return rows

    def _first_bands(self) -> list[Sizes]:
        """Rows of each op that the first band makes, whatever the group, at least."""
        graph = self.graph
        first: list[Sizes] = []
        for i in range(len(graph) - 1, -1, -1):
            rows = -(-self.tables.size[i] // self.bands)
            for t in graph.ops[i].outputs:
                for c in graph.consumers[t]:
                    for operand, (_, end) in zip(graph.ops[c].inputs, self.tables.maps(c), strict=True):
                        if operand == t:
                            rows = np.minimum(rows, end[first[len(graph) - 1 - c]])
            first.append(rows)
        return first[::-1]

    def _reach(self, first: int, last: int) -> dict[int, Sizes]:
        """Rows that the first band of ``last`` makes of it and of each op between."""
        reached, done = self._reached.get(last, ({last: self._first[last]}, last))
        graph = self.graph
        for i in range(done - 1, first - 1, -1):
            if graph.ancestors[last] >> i & 1:
                rows = self.zero
                for t in graph.ops[i].outputs:
                    for c in graph.consumers[t]:
                        if c in reached:
                            for operand, (_, end) in zip(graph.ops[c].inputs, self.tables.maps(c), strict=True):
                                if operand == t:
                                    rows = np.maximum(rows, end[reached[c]])
                reached[i] = rows
        self._reached[last] = reached, min(first, done)
        return reached

    def span(self, index: int, operand: int) -> Sizes:
        """Rows of an operand that the even share of an op's rows looks at, wherever they are."""
        key = index, operand
        if key not in self._spans:
            lo, end = self.tables.maps(index)[operand]
            demanded = self.bounds.demand[index] + 1
            spans = {0: 0}
            for rows in set(self._even[index].tolist()) - {0}:
                spans[rows] = max(0, int((end[rows : demanded + 1] - lo[: demanded - rows + 1]).min()))
            self._spans[key] = np.array([spans[rows] for rows in self._even[index].tolist()], dtype=np.int64)
        return self._spans[key]

    def looked_at(self, index: int, operand: int, last: int) -> Sizes:
        """Rows of an operand that an op looks at in a band: in the middle, or in the first one of ``last``."""
        key = index, operand, last
        if key not in self._looked:
            _, end = self.tables.maps(index)[operand]
            self._looked[key] = np.maximum(self.span(index, operand), end[self._reached[last][0][index]])
        return self._looked[key]
