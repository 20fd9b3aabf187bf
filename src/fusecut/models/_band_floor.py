"""How many bands a group needs at least, and what streaming its weights that often costs.

In a band with r rows of an op that sums over channels, either the rows it reads are there with all
their channels, or its r rows are there as partial sums. Where neither fits, there are more bands. What
has to be there at the same time adds up, over all bands, to H bytes for all rows: some band holds at
least the average, and weights that stay on chip have only the rest of the buffer. Those that do not
fit in there pass in every band::

    again(G) >= (bands - 1) * (weights - capacity + H / bands)     where weights > capacity

bands and H are the most over ops, over pairs of ops. All three only grow with the group, the product grows
with the bands, and a group made of two pays at least what both pay: H / bands is at most the capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from fusecut.cost import NEVER_BYTES
from fusecut.ir import Group, bits, mask_of
from fusecut.models._bands import Tables
from fusecut.models._bounds import RingFloor, RowBounds
from fusecut.models._slices import Habits

NEVER: Final = 1 << 40
"""More bands than any group has rows: it cannot run in bands at all."""

_FIELD: Final = (1 << 64) - 1
_RING, _HELD, _BANDS = 64, 128, 192
"""Where the numbers of a mark begin."""


class BandFloor:
    """The floor of groups that run with all weights resident (``fits`` is their floor), or in bands.

    A mark is four numbers of 64 bits: the bands a group needs at least, what its bands hold in all, the
    mark of ``fits``, and the bytes of its weights.
    """

    def __init__(self, tables: Tables, habits: list[Habits], lines: RingFloor, capacity: int) -> None:
        self.fits = lines
        self.start = (1 << _BANDS) + (lines.start << _RING)
        self._weights = [op.weight_bytes for op in tables.graph.ops]
        demands = _Demands(tables, habits)
        self._alone = [demands.alone(i, capacity) for i in range(len(habits))]
        self._pairs: list[list[tuple[Group, _Need]]] = [[] for _ in habits]
        for mask, need in (*demands.pairs(capacity), *demands.held(capacity)):
            for i in bits(mask):
                self._pairs[i].append((mask, need))

    def extend(self, group: Group, mark: int, op: int) -> int:
        """The mark of ``group`` with ``op`` added. O(pairs of the op)."""
        count, held = self._alone[op]
        count, held = max(mark >> _BANDS, count), max(mark >> _HELD & _FIELD, held)
        ring = self.fits.extend(group, mark >> _RING & _FIELD, op)
        outside = ~(group | 1 << op)
        for mask, need in self._pairs[op]:
            if not mask & outside:
                count, held = max(count, need.bands), max(held, need.nbytes)
        return (count << _BANDS) + (held << _HELD) + (ring << _RING) + (mark & _FIELD) + self._weights[op]

    def again_bytes(self, mark: int, capacity_bytes: int) -> int:
        """Nothing where line buffers may fit; else weights that do not fit, in all bands but the first."""
        if mark >> _RING & _FIELD <= capacity_bytes:
            return 0
        count, over = mark >> _BANDS, (mark & _FIELD) - capacity_bytes
        if count >= NEVER:
            return NEVER_BYTES
        return (count - 1) * over + (count - 1) * (mark >> _HELD & _FIELD) // count if over > 0 else 0

    def bands(self, group: Group) -> int:
        """Bands that a group needs at least; :data:`NEVER` where it cannot run in bands."""
        mark, seen = self.start, 0
        for i in bits(group):
            mark, seen = self.extend(seen, mark, i), seen | 1 << i
        return mark >> _BANDS


class _Need(NamedTuple):
    """Bands that ops need at least, and what is there at the same time, added up over all bands."""

    bands: int
    nbytes: int


class _Demands:
    """What ops hold at least in a band. Rows are those that the whole network demands: a group demands no fewer.

    Where a row count passes one image, a band holds several; then only whole images are counted.
    """

    def __init__(self, tables: Tables, habits: list[Habits]) -> None:
        self.tables, self.graph, self.habits = tables, tables.graph, habits
        self.bounds = RowBounds(tables.graph)
        self.rows = [last + 1 for last in self.bounds.demand]
        self._spans: dict[tuple[int, int, int], int] = {}

    def alone(self, index: int, capacity: int) -> _Need:
        """What one op needs, whatever else is in its group."""
        if self.habits[index].takes == "local":
            return _Need(1, 0)
        total = self._total(index)
        count = self._fewest(total, capacity, lambda count: self._least(index, self._most(index, count)))
        return _Need(count, self._least(index, total))

    def pairs(self, capacity: int) -> Iterator[tuple[Group, _Need]]:
        """(ops, what they need together): a maker, ops that work channel by channel, a reader."""
        for reader in range(len(self.habits)):
            chain = self._chain(reader)
            if chain:
                total = max(self._total(chain[0]), self._total(reader))
                count = self._fewest(total, capacity, partial(self._joint, chain, reader))
                yield mask_of((*chain, reader)), _Need(count, self._joint(chain, reader, 1))

    def held(self, capacity: int) -> Iterator[tuple[Group, _Need]]:
        """Readers of tensors that lie on chip with all channels.

        One reader waits for what another one leads to; in between something is summed up over channels,
        so what both read cannot pass in slices. It is there in the stage of every op in between, which
        has something of its own to hold. Line buffers' bound on the rows of a tensor holds in bands as
        well: rows that one reader has used are still there, or there again, for the other.
        """
        common: dict[Group, list[int]] = {}
        for t in range(len(self.graph.tensors)):
            for mask, rows in self.bounds.pairs(t) if len(self.graph.consumers[t]) > 1 else ():
                if mask & (mask - 1):
                    common.setdefault(mask, []).append(t)
                    if rows * self.graph.tensors[t].row_bytes > capacity and self._summed_between(mask):
                        yield mask, _Need(NEVER, 0)
        for mask, tensors in common.items():
            most = max((self._through(i, tensors, mask) for i in self._summed_between(mask)), default=0)
            yield mask, _Need(-(-most // capacity), most)

    def _through(self, index: int, tensors: list[int], readers: Group) -> int:
        """Bytes in the stage of an op while tensors wait that somebody has read and somebody will read."""
        waiting = (self._waiting(t, readers) for t in tensors if t not in self.graph.ops[index].inputs)
        return sum(waiting) + self._least(index, self._total(index))

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
