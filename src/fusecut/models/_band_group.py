"""One group in bands: what bands of every height move and hold, whatever the capacity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from fusecut.ir import Graph, Group, bits
from fusecut.models._band_floor import BandFloor
from fusecut.models._band_needs import BandNeeds
from fusecut.models._band_profiles import Profiles
from fusecut.models._band_stages import Stages
from fusecut.models._bands import BandRows, RowTable, Tables, distinct_heights
from fusecut.models._bounds import RingFloor, RowBounds
from fusecut.models._layout import layout
from fusecut.models._occupancy import Occupancy
from fusecut.models._segments import Bands, Known, Pieces
from fusecut.models._slices import Slicing, Slicings, habits
from fusecut.ops import accumulator_elements

_AT_ONCE: Final = 8
"""Heights whose rows are found together."""

_KEPT: Final = 800
"""Ops of the groups kept with their rows and choices: a sweep over capacities asks for the same ones again."""


class Banding(NamedTuple):
    """Bands of so many images and rows, and what is made or read again where they overlap."""

    images: int
    height: int
    number: int
    again: frozenset[int]


class Overlap(NamedTuple):
    """What bands do about the rows they share: whether anything moves again, and how much.

    ``least_bytes`` are on chip at some time, whatever is part.
    """

    useful: bool
    read_bytes: int
    recomputed_macs: int
    least_bytes: int


@dataclass
class Measured:
    """What the bandings of one group move and hold: part tensors and peak, bytes of the layout."""

    overlaps: dict[Banding, Overlap] = field(default_factory=dict)
    peaks: dict[Banding, tuple[frozenset[int], int]] = field(default_factory=dict)
    heights: dict[Banding, int] = field(default_factory=dict)


class BandFacts:
    """What the model derives from a graph once, and remembers of its groups: their price is asked for again."""

    def __init__(self, graph: Graph, lines: RingFloor) -> None:
        self.graph, self.lines = graph, lines
        self.tables = Tables(graph)
        self.habits = [habits(graph, op) for op in graph.ops]
        self.accumulators = [-(-accumulator_elements(graph, op) * op.bias_bits // 8) for op in graph.ops]
        self.choices = Known(graph, self.habits, self.accumulators)
        self.needs = BandNeeds(self.tables, self.habits, RowBounds(graph))
        self._profiles = Profiles(self.needs.starts)
        self._floor: BandFloor | None = None
        self._measured: dict[Group, Measured] = {}
        self._groups: dict[tuple[Group, int], BandGroup] = {}

    def floor(self, capacity: int) -> BandFloor:
        """The floor at one capacity; the last one is kept. From the second on, more is remembered."""
        if self._floor is None or self._floor.capacity != capacity:
            if self._floor is not None and self._profiles.steps is None:
                self._profiles.steps = {}
            self._floor = BandFloor(self.needs, self._profiles, self.lines, capacity)
        return self._floor

    def group(self, group: Group, channels: int) -> BandGroup:
        """A group in bands; the ones asked for last are kept, with what their choices of part tensors look like."""
        known = self._groups.pop((group, channels), None) or BandGroup(self, group, channels)
        self._groups[group, channels] = known
        while len(self._groups) > 1 and sum(len(kept.ops) for kept in self._groups.values()) > _KEPT:
            del self._groups[next(iter(self._groups))]
        return known

    def measured(self, group: Group) -> Measured:
        """What is known about a group."""
        return self._measured.setdefault(group, Measured())


class BandGroup:
    """A group, the ways to cut it into bands, and which of its tensors pass in slices of ``channels`` at a time."""

    def __init__(self, facts: BandFacts, group: Group, channels: int) -> None:
        self.facts, self.graph, self.group, self.channels = facts, facts.graph, group, channels
        self.ops = tuple(bits(group))
        self.reads = self.graph.reads(group)
        self.batch = self.graph.tensors[self.graph.ops[self.ops[0]].outputs[0]].batch
        self.rows = facts.tables.size[facts.tables.clock(group)]
        self.slicings = Slicings(self.graph, group, facts.habits)
        self._occupancies: dict[tuple[frozenset[int], int], Occupancy] = {}
        self._tables: dict[Banding, tuple[RowTable, int]] = {}
        self._rows: dict[Banding, BandRows] = {}
        self._known = facts.measured(group)

    @cached_property
    def candidates(self) -> tuple[frozenset[int], list[frozenset[int]]]:
        """Part tensors to begin with, and what may change at once."""
        return self.slicings.candidates()

    @cached_property
    def pieces(self) -> Pieces:
        """The group divided where only one tensor goes on."""
        return Pieces(self.graph, self.group)

    # Which bands ------------------------------------------------------------------------------

    def sizes(self) -> Iterator[tuple[int, int, int]]:
        """(images, rows of the clock in a band, bands of all images), from few bands to many. O(sqrt(rows))."""
        for images in distinct_heights(self.batch):
            if images > 1:
                yield images, self.rows, -(-self.batch // images)
        for height in distinct_heights(self.rows):
            yield 1, height, self.batch * -(-self.rows // height)

    @cached_property
    def bandings(self) -> list[Banding]:
        """From few bands to many; those of one height with nothing, all that is made, everything again."""
        made = frozenset(t for i in self.ops for t in self.graph.ops[i].outputs)
        every = (frozenset[int](), made, made.union(self.reads))
        return [
            Banding(images, height, number, again)
            for images, height, number in self.sizes()
            for again in (every if height < self.rows else every[:1])
        ]

    def overlap(self, banding: Banding) -> Overlap:
        """What the bands share, and what is on chip at least. Heights near by are looked at at the same time."""
        if banding not in self._known.overlaps:
            alike = [b for b in self.bandings if b.again == banding.again and b.number >= banding.number]
            self._look_at([b for b in alike if b not in self._known.overlaps][:_AT_ONCE])
        return self._known.overlaps[banding]

    def _look_at(self, bandings: list[Banding]) -> None:
        """Overlaps of bandings that make the same tensors again."""
        table = self._table(bandings)
        graph, held, again = self.graph, table.tensors, bandings[0].again
        images = np.array([b.images for b in bandings], dtype=np.int64)
        made = {i: held[graph.ops[i].outputs[0]].most for i in self.ops}
        stages = Stages(self.facts.needs.traits, self.group, lambda t: held[t].tile, made, images)
        least = (table.halo_bytes + stages.most()).tolist()
        twice = {t: (rows.moved - rows.distinct).tolist() for t, rows in held.items()}
        for k, banding in enumerate(bandings):
            useful = not again or any(twice[t][k] for t in again)
            read = sum(twice[t][k] * graph.tensors[t].row_bytes for t in self.reads) * self.batch
            macs = sum(
                graph.ops[i].macs * twice[graph.ops[i].outputs[0]][k] // self.facts.tables.size[i] for i in self.ops
            )
            self._known.overlaps[banding] = Overlap(useful, read, macs, least[k])

    def _table(self, bandings: list[Banding]) -> RowTable:
        heights = [b.height for b in bandings]
        table = RowTable(self.facts.tables, self.group, heights, bandings[0].again)
        self._tables.update((b, (table, k)) for k, b in enumerate(bandings))
        return table

    def rows_of(self, banding: Banding) -> BandRows:
        """Rows of every tensor of the group."""
        if banding not in self._rows:
            if banding not in self._tables:
                self._table([banding])
            table, index = self._tables[banding]
            self._rows[banding] = table.at(index)
        return self._rows[banding]

    # Which tensors pass in slices ---------------------------------------------------------------

    def peak(self, banding: Banding) -> tuple[frozenset[int], int]:
        """Part tensors for the lowest peak, and that peak."""
        if banding not in self._known.peaks:
            self._known.peaks[banding] = self.sliced(self.rows_of(banding), banding.images)
        return self._known.peaks[banding]

    def height(self, banding: Banding) -> int:
        """Bytes of the layout, at least the peak."""
        if banding not in self._known.heights:
            occupancy = self.occupancy(self.slicings.of(self.peak(banding)[0]))
            items = occupancy.items(self.rows_of(banding), banding.images)
            self._known.heights[banding] = layout([item.need for item in items])[1]
        return self._known.heights[banding]

    def sliced(self, rows: BandRows, images: int) -> tuple[frozenset[int], int]:
        """Part tensors, and bytes in the highest step.

        The best change of what has to do with the highest steps, again and again, until none helps.
        It starts from the same choice for all bands, so that what a band needs does not depend on the bands
        tried before it. Groups of real networks come out as low as the best of all choices, random ones all
        but always (tests/models/test_slices.py tries them all).
        """
        ends, others = self.candidates
        bands = Bands(self.facts.choices, self.pieces, rows, images, self.channels)
        best = bands.choice(ends)
        while True:
            found, loads, near = None, best.loads, best.near()
            for change in others:
                changed = None if change.isdisjoint(near) else best.changed(change, loads[0])
                if changed is not None and changed.loads < loads:
                    found, loads = changed, changed.loads
            if found is None:
                return best.part, loads[0]
            best = found

    def occupancy(self, slicing: Slicing, channels: int = 0) -> Occupancy:
        """What is on chip under a slicing, with the fewest channels at a time unless told otherwise."""
        key = slicing.part, channels or self.channels
        if key not in self._occupancies:
            self._occupancies[key] = Occupancy(self.graph, slicing, self.facts.accumulators, key[1])
        return self._occupancies[key]

    def peaks(self, slicing: Slicing, rows: BandRows, images: int) -> list[int]:
        """Bytes in all steps, the most first."""
        return sorted(self.occupancy(slicing).loads(rows, images), reverse=True)
