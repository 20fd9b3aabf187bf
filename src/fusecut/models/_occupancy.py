"""What is on chip, step by step, when a group runs in bands with a given choice of part tensors."""

from __future__ import annotations

from typing import NamedTuple

from fusecut.ir import Graph, bits
from fusecut.models._bands import BandRows
from fusecut.models._layout import Need
from fusecut.models._slices import Slicing


class Item(NamedTuple):
    """One thing on chip: :class:`fusecut.schedule.Place` without its place."""

    what: str
    of: int
    rows: int
    need: Need


class _Tile(NamedTuple):
    """Rows of a tensor from step ``first`` to ``last``; ``single``: nobody in the group reads them, one is held."""

    tensor: int
    first: int
    last: int
    row_bytes: int
    single: bool


class _Sums(NamedTuple):
    op: int
    tensor: int
    step: int
    row_bits: int


class Occupancy:
    """Lifetimes of everything on chip under one slicing; sizes follow from the rows of the bands.

    Resident weights are not part of it. O(ops + tensors) to build and for each question.
    """

    def __init__(self, graph: Graph, slicing: Slicing, accumulators: list[int], channels: int) -> None:
        self.graph, self.slicing, self.channels = graph, slicing, channels
        self.steps = 2 * len(slicing.stages)
        group = slicing.group
        self._tensors = tuple(slicing.facts.readers)
        self._tiles = [tile for t in self._tensors if (tile := self._tile(t)) is not None]
        self._sums = [self._summed(i) for i in sorted(slicing.sums)]
        self._fixed = [
            ("accumulators", i, accumulators[i], 2 * slicing.stage_of[i]) for i in bits(group) if accumulators[i]
        ]
        for stage in range(len(slicing.stages)):
            nbytes = slicing.slice_bytes(stage, channels)
            if nbytes:
                self._fixed.append(("slice", stage, nbytes, 2 * stage))

    def _tile(self, tensor: int) -> _Tile | None:
        slicing, facts = self.slicing, self.graph.tensors[tensor]
        maker, leaves = slicing.facts.made.get(tensor), tensor == slicing.facts.leaves
        readers = [slicing.stage_of[i] for i in slicing.facts.readers[tensor]]
        if not readers and not leaves and maker in slicing.sums:
            return None
        if tensor in slicing.part:
            step = 2 * (readers[0] if maker is None else slicing.stage_of[maker])
            row_bytes = -(-slicing.width(tensor, self.channels) * facts.cols * facts.bits // 8)
            return _Tile(tensor, step, step, row_bytes, not readers)
        first = 2 * min(readers) if maker is None else 2 * slicing.stage_of[maker] + (maker in slicing.sums)
        last = 2 * max(readers) if readers else first
        if tensor == slicing.facts.enters:
            first = 0
        if leaves:
            last = self.steps - 1
        return _Tile(tensor, first, last, facts.row_bytes, not readers and not leaves)

    def _summed(self, index: int) -> _Sums:
        op = self.graph.ops[index]
        made = self.graph.tensors[op.outputs[0]]
        row_bits = made.channels * made.cols * op.bias_bits
        return _Sums(index, op.outputs[0], 2 * self.slicing.stage_of[index], row_bits)

    def loads(self, rows: BandRows, images: int) -> list[int]:
        """Bytes in each step: no layout is lower than the most of them."""
        change = [0] * (self.steps + 2)
        change[0] = rows.halo_bytes
        held = rows.tensors
        for tensor, first, last, row_bytes, single in self._tiles:
            nbytes = row_bytes if single else row_bytes * held[tensor].tile * images
            change[first] += nbytes
            change[last + 1] -= nbytes
        for _, tensor, step, row_bits in self._sums:
            nbytes = -(-held[tensor].most * images * row_bits // 8)
            change[step] += nbytes
            change[step + 2] -= nbytes
        for _, _, nbytes, step in self._fixed:
            change[step] += nbytes
            change[step + 1] -= nbytes
        loads, load = [], 0
        for delta in change[: self.steps]:
            load += delta
            loads.append(load)
        return loads

    def at(self, step: int) -> set[int]:
        """Tensors that are on chip in a step, or have to do with the ops that run then."""
        found = {tile.tensor for tile in self._tiles if tile.first <= step <= tile.last}
        for i in bits(self.slicing.stages[step // 2]):
            found.update(self.graph.ops[i].inputs, self.graph.ops[i].outputs)
        return found

    def items(self, rows: BandRows, images: int) -> list[Item]:
        """Everything, with its size."""
        items: list[Item] = []
        for tile in self._tiles:
            count = 1 if tile.single else rows.tensors[tile.tensor].tile * images
            if count:
                items.append(Item("tile", tile.tensor, count, Need(count * tile.row_bytes, tile.first, tile.last)))
        for t in self._tensors:
            halo = rows.tensors[t].halo
            if halo:
                items.append(Item("halo", t, halo, Need(halo * self.graph.tensors[t].row_bytes, 0, self.steps - 1)))
        for op, tensor, step, row_bits in self._sums:
            most = rows.tensors[tensor].most * images
            items.append(Item("sums", op, most, Need(-(-most * row_bits // 8), step, step + 1)))
        for what, of, nbytes, step in self._fixed:
            items.append(Item(what, of, 0, Need(nbytes, step, step)))
        return items
