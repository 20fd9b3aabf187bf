"""How many bands a group needs at least, and what streaming its weights that often costs.

In a band with r rows of an op that sums over channels, either the rows it reads are there with all
their channels, or its r rows are there as partial sums. Where neither fits, there are more bands. Of
weights that do not fit the buffer all at once the rest passes in every band::

    again(G) >= (bands - 1) * (weights - capacity)          bands >= max over ops, over pairs of ops

Both factors only grow with the group, and a group made of two pays at least what both pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from fusecut.cost import NEVER_BYTES
from fusecut.ir import Group, bits, mask_of
from fusecut.models._bands import Tables
from fusecut.models._bounds import RingFloor, RowBounds
from fusecut.models._slices import Habits

NEVER: Final = 1 << 40
"""More bands than any group has rows: it cannot run in bands at all."""

_BITS: Final = 64
_FIELD: Final = (1 << _BITS) - 1


class BandFloor:
    """The floor of groups that run with all weights resident (``fits`` is their floor), or in bands.

    A mark is three numbers of 64 bits: the bands a group needs at least, the mark of ``fits``, and the
    bytes of its weights.
    """

    def __init__(self, tables: Tables, habits: list[Habits], lines: RingFloor, capacity: int) -> None:
        self.fits = lines
        self.start = (1 << 2 * _BITS) + (lines.start << _BITS)
        self._weights = [op.weight_bytes for op in tables.graph.ops]
        demands = _Demands(tables, habits)
        self._alone = [demands.bands(i, capacity) for i in range(len(habits))]
        self._pairs: list[list[tuple[Group, int]]] = [[] for _ in habits]
        for mask, count in (*demands.pairs(capacity), *demands.held(capacity)):
            for i in bits(mask):
                self._pairs[i].append((mask, count))

    def extend(self, group: Group, mark: int, op: int) -> int:
        """The mark of ``group`` with ``op`` added. O(pairs of the op)."""
        count = max(mark >> 2 * _BITS, self._alone[op])
        ring = self.fits.extend(group, mark >> _BITS & _FIELD, op)
        after = group | 1 << op
        for mask, needed in self._pairs[op]:
            if needed > count and not mask & ~after:
                count = needed
        return (count << 2 * _BITS) + (ring << _BITS) + (mark & _FIELD) + self._weights[op]

    def again_bytes(self, mark: int, capacity_bytes: int) -> int:
        """Nothing where line buffers may fit; else weights that do not fit, in all bands but the first."""
        if mark >> _BITS & _FIELD <= capacity_bytes:
            return 0
        count = mark >> 2 * _BITS
        return NEVER_BYTES if count >= NEVER else (count - 1) * max(0, (mark & _FIELD) - capacity_bytes)

    def bands(self, group: Group) -> int:
        """Bands that a group needs at least; :data:`NEVER` where it cannot run in bands."""
        mark, seen = self.start, 0
        for i in bits(group):
            mark, seen = self.extend(seen, mark, i), seen | 1 << i
        return mark >> 2 * _BITS


class _Demands:
    """What ops hold at least in a band. Rows are those that the whole network demands: a group demands no fewer.

    Where a row count passes one image, a band holds several; then only whole images are counted.
    """

    def __init__(self, tables: Tables, habits: list[Habits]) -> None:
        self.tables, self.graph, self.habits = tables, tables.graph, habits
        self.bounds = RowBounds(tables.graph)
        self.rows = [last + 1 for last in self.bounds.demand]
        self._spans: dict[tuple[int, int, int], int] = {}

    def bands(self, index: int, capacity: int) -> int:
        """Bands that one op needs, whatever else is in its group."""
        if self.habits[index].takes == "local":
            return 1
        return self._fewest(self._total(index), capacity, lambda count: self._least(index, self._most(index, count)))

    def pairs(self, capacity: int) -> Iterator[tuple[Group, int]]:
        """(ops, bands that they need together): a maker, ops that work channel by channel, a reader."""
        for reader in range(len(self.habits)):
            chain = self._chain(reader)
            if chain:
                total = max(self._total(chain[0]), self._total(reader))
                count = self._fewest(total, capacity, partial(self._joint, chain, reader))
                yield mask_of((*chain, reader)), count

    def held(self, capacity: int) -> Iterator[tuple[Group, int]]:
        """Readers of a tensor that lies on chip with all channels, in more rows than fit, whatever the bands.

        One reader waits for what another one leads to; in between something is summed up over channels,
        so the tensor cannot pass in slices. Line buffers' bound on its rows holds in bands as well: rows
        that one reader has used are still there, or there again, for the other.
        It is there as well in the stage of every such op, which has something of its own to hold.
        """
        for t in range(len(self.graph.tensors)):
            for mask, rows in self.bounds.pairs(t) if len(self.graph.consumers[t]) > 1 else ():
                between = self._summed_between(mask)
                if between and rows * self.graph.tensors[t].row_bytes > capacity:
                    yield mask, NEVER
                for i in between:
                    if t not in self.graph.ops[i].inputs:
                        yield mask, -(-(self._waiting(t, mask) + self._least(i, self._total(i))) // capacity)

    def _waiting(self, tensor: int, readers: Group) -> int:
        """All rows that the last of the readers looks at."""
        last = readers.bit_length() - 1
        rows = self._span(last, tensor, self.rows[last])
        return rows * self.graph.tensors[tensor].nbytes // self.graph.tensors[tensor].rows

    def _summed_between(self, readers: Group) -> list[int]:
        ends = list(bits(readers))
        if len(ends) < 2:
            return []
        between = (self.graph.descendants[ends[0]] | 1 << ends[0]) & self.graph.ancestors[ends[1]]
        return [i for i in bits(between) if self.habits[i].takes != "local"]

    def _total(self, index: int) -> int:
        return self.rows[index] * self.graph.tensors[self.graph.ops[index].outputs[0]].batch

    def _most(self, index: int, count: int) -> int:
        """Rows of the op in its largest of ``count`` bands, at least."""
        return -(-self._total(index) // count)

    def _fewest(self, total: int, capacity: int, least: Callable[[int], int]) -> int:
        """The smallest count whose bytes fit; bytes only fall with the count."""
        low, high = 1, max(1, total)
        if least(high) > capacity:
            return NEVER
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if least(middle) <= capacity else (middle + 1, high)
        return low

    def _chain(self, reader: int) -> list[int]:
        """From an op with channels of its own down to the maker of what ``reader`` reads; empty if there is none."""
        if self.habits[reader].takes == "local":
            return []
        chain: list[int] = []
        at = reader
        while len(set(self.graph.ops[at].inputs)) == 1:
            at = self.graph.producer[self.graph.ops[at].inputs[0]]
            if at < 0:
                return []
            chain.insert(0, at)
            if self.habits[at].takes != "local":
                return chain
        return []

    def _joint(self, chain: list[int], reader: int, count: int) -> int:
        """Some tensor from maker to reader is full, or the reader sums up slices of what the maker makes.

        What has to be there at the same time in every band adds up, over all bands, to all of its rows: one
        band has at least the average.
        """
        maker = chain[0]
        rows = self._most(maker, count)
        ways = [self._made(maker, rows) + self._least(maker, rows)]
        if self.habits[maker].makes:
            every = self._operand(maker, self._total(maker))
            others = [self._made(i, self._total(i)) for i in chain[1:]]
            if self.habits[reader].takes == "sum":
                others.append(self._sums(reader, self._total(reader)))
            ways += [-(-(every + other) // count) for other in others]
        return min(ways)

    def _least(self, index: int, rows: int) -> int:
        """Bytes in the stage of an op that makes so many rows: its operands, or what it sums up."""
        operand = self._operand(index, rows)
        return min(operand, self._sums(index, rows)) if self.habits[index].takes == "sum" else operand

    def _operand(self, index: int, rows: int) -> int:
        inputs = dict.fromkeys(self.graph.ops[index].inputs)
        each = self.rows[index]
        images, rows = (1, rows) if rows <= each else (rows // each, each)
        return images * sum(self._span(index, t, rows) * self.graph.tensors[t].row_bytes for t in inputs)

    def _span(self, index: int, tensor: int, rows: int) -> int:
        """Rows of an operand that so many rows of the op look at, wherever they are."""
        key = index, tensor, rows
        if key not in self._spans:
            k = self.graph.ops[index].inputs.index(tensor)
            lo, end = self.tables.maps(index)[k]
            spans = end[rows : self.rows[index] + 1] - lo[: self.rows[index] - rows + 1]
            self._spans[key] = max(0, int(spans.min()))
        return self._spans[key]

    def _made(self, index: int, rows: int) -> int:
        return rows * min(self.graph.tensors[t].row_bytes for t in self.graph.ops[index].outputs)

    def _sums(self, index: int, rows: int) -> int:
        op = self.graph.ops[index]
        made = self.graph.tensors[op.outputs[0]]
        return -(-rows * made.channels * made.cols * op.bias_bits // 8)
