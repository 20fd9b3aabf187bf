"""The closed-form lower bound of every ring, and the monotone buffer floor built from it.

For a tensor t, readers l and c of t with c = l or c an ancestor of l, and a demanded row q of l::

    LB = hi_c(R_{c<-l}(q)) - lo_l(q) + 1        R: last row of c that row q of l depends on

Event (c, R) comes no later than (l, q); when it happens row hi_c(R) of t exists while (l, q) still
waits for rows from lo_l(q) on. So every schedule holds that many rows (specs: DeFiNES' lag,
arXiv 2212.05344, made exact). The maximum over q depends on the pair (c, l) alone when q runs over
the rows that the *whole network* demands of l: a group demands at least those. Hence the sum of
row_bytes * LB over the tensors of a group, plus weights and accumulators, only grows with the
group, which is what makes pruning by it safe.

An op with several results makes a row of each in one event. So where it is in the group, c may read any of its
results: rows of t are made because c needs the rows beside them. These bounds (``together``) decide the closed
form; the floor goes without, and is the lower for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Final

from fusecut.cost import FitFloor, FloorTable
from fusecut.ir import Graph, Group, bits
from fusecut.ops import POINTWISE_KINDS, pixel_maps, row_maps
from fusecut.rowmap import RowMap

Pair = tuple[Group, int]
"""(mask of the one or two readers, rows that their presence forces)."""

ONE_ROW: Final = 1


class RowBounds:
    """Pair bounds of every tensor of a graph, computed when first asked for; with ``pixels`` of pixels, not rows.

    Dependences through the operands of ``ignored`` ops do not count: for the reductions a group may
    be streamed once more for, what remains holds in every pass.
    """

    def __init__(self, graph: Graph, pixels: bool = False, ignored: Group = 0) -> None:
        self.graph, self.ignored = graph, ignored
        self.maps = pixel_maps(graph) if pixels else row_maps(graph)
        self.length = [t.rows * (t.cols if pixels else 1) for t in graph.tensors]
        self.size = [self.length[op.outputs[0]] for op in graph.ops]
        self.demand = self._demand()
        self.waiting = self._waiting()
        self._pairs: dict[tuple[int, tuple[int, ...]], list[Pair]] = {}
        self._crossed: dict[tuple[int, tuple[int, ...]], list[Group]] = {}

    def together(self, tensor: int, run: Group) -> tuple[int, ...]:
        """The tensors whose rows are made with those of this one: the results of its op, where that is in the run."""
        maker = self.graph.producer[tensor]
        return self.graph.ops[maker].outputs if maker >= 0 and run >> maker & 1 else (tensor,)

    def pairs(self, tensor: int, together: tuple[int, ...] = ()) -> list[Pair]:
        """All pair bounds of a tensor, the largest first; for a single reader a single pair."""
        key = tensor, together or (tensor,)
        if key not in self._pairs:
            found = [pair for reader in self.graph.consumers[tensor] for pair in self._pairs_of(*key, reader)]
            self._pairs[key] = sorted(found, key=lambda pair: (-pair[1], pair[0]))
        return self._pairs[key]

    def rows(self, tensor: int, group: Group, together: tuple[int, ...] = ()) -> int:
        """LB of one tensor in a group; 1 where nothing inside reads it."""
        return next((rows for mask, rows in self.pairs(tensor, together) if not mask & ~group), ONE_ROW)

    def crossed(self, tensor: int, together: tuple[int, ...] = ()) -> list[Group]:
        """Pairs of readers, one after the other, whose bounds need not be reached at once.

        For a row q of the later reader l, the earlier one c may have to run less far into the tensor
        than l itself: hi_c(R_{c<-l}(q)) < hi_l(q). Then rows made for l pass by while c is not served.
        """
        self.pairs(tensor, together)
        return self._crossed.get((tensor, together or (tensor,)), [])

    def _demand(self) -> list[int]:
        """Last row of each op that the network demands."""
        graph = self.graph
        last = [-1] * len(graph.ops)
        for i in range(len(graph.ops) - 1, -1, -1):
            op = graph.ops[i]
            if any(t in graph.output_set or not graph.consumers[t] for t in op.outputs):
                last[i] = self.size[i] - 1
            for t, rowmap in zip(op.inputs, self.maps[i], strict=True):
                maker = graph.producer[t]
                if maker >= 0 and last[i] >= 0 and not self.ignored >> i & 1:
                    last[maker] = max(last[maker], rowmap.hi[last[i]])
        return last

    def _waiting(self) -> Group:
        """Ops of which one row needs all rows, more than one, of an operand."""
        return sum(
            1 << i for i, maps in enumerate(self.maps) if any((m.reduces or m.whole) and m.hi[-1] > 0 for m in maps)
        )

    def _pairs_of(self, tensor: int, together: tuple[int, ...], reader: int) -> list[Pair]:
        """Pairs (c, reader) for c = reader and for every c that reads one of the tensors and is an ancestor of it."""
        lo, hi = self._ends(tensor, reader)
        demanded = len(lo) if self._steps(tensor, reader) else self.demand[reader] + 1
        if not demanded:
            return []
        for other in (t for t in together if t in self.graph.ops[reader].inputs):
            hi = list(map(max, hi, self._ends(other, reader)[1]))
        own = max(h - b + 1 for b, h in zip(lo[:demanded], hi, strict=False))
        found = [(1 << reader, max(own, ONE_ROW))]
        earlier = reduce(or_, (self.graph.consumer_mask[t] for t in together)) & self.graph.ancestors[reader]
        if earlier:
            reach = self._reach(reader, earlier, demanded)
            for c in bits(earlier):
                pair = 1 << reader | 1 << c
                tables = [self._raw(t, c, high=True) for t in together if t in self.graph.ops[c].inputs]
                rows = reach.get(c, [-1] * demanded)
                high = [max(table[r] for table in tables) if r >= 0 else -1 for r in rows]
                if any(far < own for far, own in zip(high, hi, strict=False)):
                    self._crossed.setdefault((tensor, together), []).append(pair)
                if c in reach:
                    found.append((pair, max(far - b + 1 for far, b in zip(high, lo, strict=False))))
        return found

    def _steps(self, tensor: int, reader: int) -> bool:
        return any(m.reduces for m in self._maps(tensor, reader))

    def _maps(self, tensor: int, reader: int) -> list[RowMap]:
        inputs = self.graph.ops[reader].inputs
        return [m for t, m in zip(inputs, self.maps[reader], strict=True) if t == tensor]

    def _raw(self, tensor: int, reader: int, high: bool) -> Sequence[int]:
        tables = [m.hi if high else m.lo for m in self._maps(tensor, reader)]
        return tables[0] if len(tables) == 1 else [(max if high else min)(rows) for rows in zip(*tables, strict=True)]

    def _ends(self, tensor: int, reader: int) -> tuple[Sequence[int], Sequence[int]]:
        """lo and hi of the reader's own events on the tensor: a reduction steps row by row."""
        if self._steps(tensor, reader):
            each = range(self.length[tensor])
            return each, each
        return self._raw(tensor, reader, high=False), self._raw(tensor, reader, high=True)

    def _reach(self, reader: int, earlier: Group, demanded: int) -> dict[int, list[int]]:
        """R_{u<-reader}(q) for q = 0..demanded-1 and every u on a path from ``earlier`` to the reader."""
        graph = self.graph
        between = earlier
        for c in bits(earlier):
            between |= graph.descendants[c]
        between &= graph.ancestors[reader]
        reach: dict[int, list[int]] = {reader: list(range(demanded))}
        for u in [reader, *sorted(bits(between), reverse=True)]:
            mine = reach.get(u)
            if mine is None:
                continue
            for t, rowmap in zip(graph.ops[u].inputs, self.maps[u], strict=True):
                maker = graph.producer[t]
                if maker < 0 or not between >> maker & 1 or self.ignored >> u & 1:
                    continue
                new = [rowmap.hi[q] if q >= 0 else -1 for q in mine]
                old = reach.get(maker)
                reach[maker] = new if old is None else list(map(max, old, new))
        return reach


class RingFloor(FitFloor):
    """A monotone lower bound of the bytes of a group: weights, accumulators and LB rows of every tensor.

    ``fixed[op]`` are bytes an op holds whatever else is in the group; ``slot_bits[tensor]`` the size of
    a row (a pixel) in its ring, 0 for tensors that a switch may take out of the buffer.
    ``certain`` are the readers whose rings count; a tensor without one of them in the group counts
    nothing if ``certain`` is given (streaming twice runs some readers in the first pass only).
    """

    start = 0

    def __init__(
        self, bounds: RowBounds, fixed: Sequence[int], slot_bits: Sequence[int], certain: Group | None = None
    ) -> None:
        self.bounds, self.fixed, self.slot_bits = bounds, fixed, slot_bits
        self.certain = bounds.graph.everything if certain is None else certain
        self.unread = 0 if certain is not None else ONE_ROW
        graph = bounds.graph
        self._readers = tuple(mask & self.certain for mask in graph.consumer_mask)
        self._known: tuple[dict[Group, int], ...] = tuple({} for _ in graph.tensors)
        self._touched = tuple(tuple(dict.fromkeys(op.inputs + op.outputs)) for op in graph.ops)
        self._around = tuple(
            graph.consumer_mask[t] | (1 << graph.producer[t] if graph.producer[t] >= 0 else 0)
            for t in range(len(graph.tensors))
        )

    def extend(self, group: Group, mark: int, op: int) -> int:
        """The floor of ``group`` with ``op`` added. O(tensors of the op * pairs of readers)."""
        floor_bytes = mark + self.fixed[op]
        after = group | 1 << op
        for t in self._touched[op]:
            if self.slot_bits[t]:
                floor_bytes += self._bytes(t, after)
                if self._around[t] & group:
                    floor_bytes -= self._bytes(t, group)
        return floor_bytes

    def table(self, graph: Graph) -> FloorTable:
        tensors = range(len(graph.tensors))
        pairs = [self.bounds.pairs(t) if self.slot_bits[t] else [] for t in tensors]
        counted = [[pair for pair in pairs[t] if not pair[0] & ~self._readers[t]] for t in tensors]
        sized = [[(mask, -(-rows * self.slot_bits[t] // 8)) for mask, rows in counted[t]] for t in tensors]
        return FloorTable(self.fixed, [self._bytes(t, 0) for t in tensors], sized)

    def of(self, group: Group) -> int:
        """The floor of a whole group."""
        floor = done = 0
        for op in bits(group):
            floor, done = self.extend(done, floor, op), done | 1 << op
        return floor

    def _bytes(self, tensor: int, group: Group) -> int:
        readers = group & self._readers[tensor]
        known = self._known[tensor].get(readers)
        if known is None:
            rows = next((rows for mask, rows in self.bounds.pairs(tensor) if not mask & ~readers), self.unread)
            known = self._known[tensor][readers] = -(-rows * self.slot_bits[tensor] // 8)
        return known


def removable(graph: Graph, inline: bool, virtual_concat: bool) -> set[int]:
    """Tensors whose ring a switch may remove in some group: they count nothing in the floor."""
    gone: set[int] = set()
    for op in graph.ops:
        if virtual_concat and op.kind == "concat":
            gone.update(op.inputs + op.outputs)
        if inline and op.kind in POINTWISE_KINDS:
            size = graph.tensors[op.outputs[0]].row_bytes
            gone.update(t for t in op.inputs if graph.tensors[t].row_bytes == size)
    return gone
