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
from fusecut.models._shapes import Shapes
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
    """Least bytes on chip by number of bands, for stretches of the graph.

    Arrays have three parts: whatever is done about rows that bands share; beside the halos if they are kept; if they
    are made again.
    """

    def __init__(self, tables: Tables, habits: list[Habits], bounds: RowBounds) -> None:
        self.tables, self.graph, self.bounds = tables, tables.graph, bounds
        graph = self.graph
        self.traits = Traits(graph, habits)
        batches = [graph.tensors[op.outputs[0]].batch for op in graph.ops]
        batch, most = min(batches), max(tables.size) * max(batches)
        self.starts = band_ranges(most)
        ends = np.array([*(n - 1 for n in self.starts[1:]), most], dtype=np.int64)
        self.bands = np.maximum(1, ends // batch)
        self.images = np.tile(np.maximum(1, -(-batch // ends)), 3)
        self.zero = np.zeros_like(ends)
        self._even = [-(-(last + 1) // self.bands) for last in bounds.demand]
        self._first = self._first_bands()
        self.halos = self._halos() if max(batches) == 1 else [{} for _ in graph.ops]
        self._most_halo = [0] * len(graph.tensors)
        for halos in self.halos:
            for t, rows in halos.items():
                self._most_halo[t] = max(self._most_halo[t], rows)
        self._sharing = np.minimum(ends - 1, 1)
        self._shapes = Shapes(graph, bounds.demand, self._most_halo)
        self._keys: dict[tuple[bytes, tuple[int, ...]], int] = {}
        self._known: dict[int, tuple[int, ...]] = {}
        self._spans: dict[tuple[int, int], Sizes] = {}
        self._reached: dict[int, tuple[dict[int, Sizes], int]] = {}
        self._looked: dict[tuple[int, int, int], Sizes] = {}
        self._middles: dict[int, tuple[dict[int, tuple[int, int]], int]] = {}

    def key(self, first: int, last: int) -> int:
        """Equal for stretches of which the same is needed. O(ops between)."""
        begins = self._first[last].tobytes()
        return self._keys.setdefault((begins, self._shapes.of(self.between(first, last)).key), len(self._keys))

    def between(self, first: int, last: int) -> Group:
        """Two ops and all that lies between."""
        graph = self.graph
        return (graph.descendants[first] | 1 << first) & (graph.ancestors[last] | 1 << last)

    def of(self, first: int, last: int, key: int) -> tuple[int, ...]:
        """Bytes on chip in a group that holds both ops (or the one), at least; ``key`` is theirs."""
        if key not in self._known:
            between = self.between(first, last)
            reach, middle = self._reach(first, last), self._middle(first, last)
            made: dict[int, Sizes] = {}
            for i in bits(between):
                rows = np.maximum(self._even[i], reach[i])
                lo, end = middle.get(i, (0, 0))
                made[i] = np.concatenate((rows, rows, np.maximum(rows, end - lo)))
            stages = Stages(self.traits, between, partial(self._rows, between, made, last), made, self.images)
            self._known[key] = tuple(stages.most_with(first).tolist())
        return self._known[key]

    def _rows(self, ops: Group, made: dict[int, Sizes], last: int, tensor: int) -> Sizes:
        """Rows of a tensor that lie on chip if all of its channels do; where the halo is kept, beside it."""
        graph, middle = self.graph, self._middles[last][0]
        rows = np.full_like(self.images, self.bounds.rows(tensor, ops))
        maker = graph.producer[tensor]
        if maker in made:
            rows = np.maximum(rows, made[maker])
        lows, ends = list[int](), list[int]()
        for c in bits(graph.consumer_mask[tensor] & ops):
            for k, t in enumerate(graph.ops[c].inputs):
                if t == tensor:
                    rows = np.maximum(rows, self.looked_at(c, k, last))
                    if c in middle:
                        lo, end = self.tables.maps(c)[k]
                        lows.append(int(lo[middle[c][0]]))
                        ends.append(int(end[middle[c][1]]))
        count = len(self.zero)
        kept = np.maximum(rows[:count] - self._most_halo[tensor] * self._sharing, 0)
        again = np.maximum(rows[-count:], max(ends) - min(lows) if ends else 0)
        return np.concatenate((rows[:count], kept, again))

    def _halos(self) -> list[dict[int, int]]:
        """For each op the rows of its operands that two bands share at least, wherever the op is between the two."""
        halos: list[dict[int, int]] = [{} for _ in self.graph.ops]
        for i, op in enumerate(self.graph.ops):
            if int(self._first[i].min()) < 1:
                continue
            for t, (lo, end) in zip(op.inputs, self.tables.maps(i), strict=True):
                shared = int((end[1:-1] - lo[1:-1]).min(initial=self.graph.tensors[t].rows)) if len(lo) > 2 else 0
                if shared > 0:
                    halos[i][t] = max(shared, halos[i].get(t, 0))
        return halos

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

    def _middle(self, first: int, last: int) -> dict[int, tuple[int, int]]:
        """Rows (from, one past) that the row in the middle of ``last`` depends on, of each op between.

        Where all is made again, the band that makes this row makes them. An op of which it needs nothing is left out.
        """
        half = (self.bounds.demand[last] + 1) // 2
        begin = {last: (half, half + 1)} if self.bounds.demand[last] >= 0 else {}
        found, done = self._middles.get(last, (begin, last))
        graph = self.graph
        for i in range(done - 1, first - 1, -1):
            if graph.ancestors[last] >> i & 1:
                rows = [
                    (int(lo[found[c][0]]), int(end[found[c][1]]))
                    for t in graph.ops[i].outputs
                    for c in graph.consumers[t]
                    if c in found
                    for operand, (lo, end) in zip(graph.ops[c].inputs, self.tables.maps(c), strict=True)
                    if operand == t
                ]
                if rows and max(end for _, end in rows) > min(lo for lo, _ in rows):
                    found[i] = min(lo for lo, _ in rows), max(end for _, end in rows)
        self._middles[last] = found, min(first, done)
        return found

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
        """Rows of an operand that an op looks at in a band, three times: in the middle, or in the first of ``last``."""
        key = index, operand, last
        if key not in self._looked:
            _, end = self.tables.maps(index)[operand]
            rows = np.maximum(self.span(index, operand), end[self._reached[last][0][index]])
            self._looked[key] = np.concatenate((rows, rows, rows))
        return self._looked[key]
