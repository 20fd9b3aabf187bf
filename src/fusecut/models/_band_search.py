"""The cheapest way to run one group in bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from fusecut.cost import Cost, Infeasible, Planned
from fusecut.ir import Graph, Group, bits
from fusecut.models._band_floor import BandFloor
from fusecut.models._band_needs import BandNeeds
from fusecut.models._bands import BandRows, Tables, band_rows, distinct_heights
from fusecut.models._bounds import RingFloor, RowBounds
from fusecut.models._layout import layout
from fusecut.models._occupancy import Occupancy
from fusecut.models._slices import Slicing, Slicings, habits
from fusecut.objective import Tariff
from fusecut.ops import accumulator_elements
from fusecut.schedule import Bands, Place, Schedule
from fusecut.units import format_bytes

WIDEST: Final = 32
"""Channels at a time where the buffer has room for more than it must: the width of a common array."""


@dataclass(frozen=True)
class _Banding:
    """Bands of so many images and rows, and what is made or read again where they overlap."""

    images: int
    height: int
    count: int
    again: frozenset[int]


class _Overlap(NamedTuple):
    """What bands do about the rows they share: whether anything moves again, and how much; what waits between them."""

    useful: bool
    read_bytes: int
    recomputed_macs: int
    halo_bytes: int


@dataclass
class _Measured:
    """What the bandings of one group move and hold, whatever the buffer: part tensors and peak, bytes of the layout."""

    overlaps: dict[_Banding, _Overlap] = field(default_factory=dict)
    peaks: dict[_Banding, tuple[frozenset[int], int]] = field(default_factory=dict)
    heights: dict[_Banding, int] = field(default_factory=dict)


class BandFacts:
    """What the model derives from a graph once.

    What is known about a group in bands is remembered from the second capacity on: then its price is asked
    for again and again (:func:`fusecut.curve.curve`), while a search at one capacity asks once.
    """

    def __init__(self, graph: Graph, lines: RingFloor) -> None:
        self.graph, self.lines = graph, lines
        self.tables = Tables(graph)
        self.habits = [habits(graph, op) for op in graph.ops]
        self.accumulators = [-(-accumulator_elements(graph, op) * op.bias_bits // 8) for op in graph.ops]
        self.needs = BandNeeds(self.tables, self.habits, RowBounds(graph))
        self._floors: dict[int, BandFloor] = {}
        self._measured: dict[Group, _Measured] = {}

    def floor(self, capacity: int) -> BandFloor:
        """The floor at one capacity."""
        if capacity not in self._floors:
            self._floors[capacity] = BandFloor(self.needs, self.lines, capacity)
        return self._floors[capacity]

    def measured(self, group: Group) -> _Measured:
        """What is known about a group."""
        return self._measured.setdefault(group, _Measured()) if len(self._floors) > 1 else _Measured()


@dataclass(frozen=True)
class _Choice:
    """One way to run the group; ``key`` orders ways from best to worst: rank, MACs again, bytes on chip."""

    key: tuple[int, int, int]
    banding: _Banding
    part: frozenset[int]
    resident: tuple[int, ...]
    extra_read: int
    extra_weights: int

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes moved again, MACs repeated."""
        return self.extra_read + self.extra_weights, self.key[1]


class BandSearch:
    """All ways to run one group in bands."""

    def __init__(self, facts: BandFacts, group: Group, capacity: int, channels: int, prices: Tariff) -> None:
        self.prices = prices
        self.facts, self.graph, self.group = facts, facts.graph, group
        self.capacity, self.channels = capacity, channels
        self.ops = tuple(bits(group))
        self.reads = self.graph.reads(group)
        self.batch = self.graph.tensors[self.graph.ops[self.ops[0]].outputs[0]].batch
        self.weights = sum(self.graph.ops[i].weight_bytes for i in self.ops)
        self.slicings = Slicings(self.graph, group, facts.habits)
        self.macs = sum(self.graph.ops[i].macs for i in self.ops)
        self.touched = self.graph.touch_once_bytes(group)
        self.least = facts.floor(capacity).need_bytes(group)
        self.lowest: tuple[int, _Banding] | None = None
        self._occupancies: dict[tuple[frozenset[int], int], Occupancy] = {}
        self._rows: dict[tuple[int, frozenset[int]], BandRows] = {}
        self._known = facts.measured(group)

    @cached_property
    def candidates(self) -> tuple[frozenset[int], list[frozenset[int]]]:
        """Part tensors to begin with, and what may change at once."""
        return self.slicings.candidates()

    # Which bands ------------------------------------------------------------------------------

    def run(self) -> Planned | Infeasible:
        """The best plan, or how many bytes the smallest one needs.

        The fewest bands that fit are found by bisection: fewer bands hold more. From there on more bands
        are tried as long as the room they leave for resident weights could pay for them.
        """
        heights = self._heights()
        start = self._fewest(heights)
        best: _Choice | None = None
        for bandings in heights[start:]:
            for banding in bandings:
                choice = self._choice(banding, best)
                if choice is not None and (best is None or choice.key < best.key):
                    best = choice
            if best is not None and best.key[0] <= self._rank(0, 0):
                break
        return self._refusal() if best is None else self.planned(best, self.channels)

    def ways(self) -> tuple[Planned, ...]:
        """All that no other one beats in both DRAM bytes and repeated MACs, fewest bytes first; () where none fits."""
        heights = self._heights()
        kept: list[_Choice] = []
        for bandings in heights[self._fewest(heights) :]:
            for banding in bandings:
                least = self._least(banding)
                if not any(c.moved[0] <= least[0] and c.moved[1] <= least[1] for c in kept):
                    choice = self._choice(banding, None)
                    kept = kept if choice is None else _unbeaten([*kept, choice])
            if kept and kept[0].moved == (0, 0):
                break
        return tuple(self.planned(choice, self.channels) for choice in kept)

    def one_band_bytes(self) -> int:
        """The buffer in which one band holds everything, all images at once: then nothing moves twice."""
        rows = self.facts.tables.size[self.facts.tables.clock(self.group)]
        banding = _Banding(self.batch, rows, 1, frozenset())
        self._held(banding)
        return self._height(banding)

    def _heights(self) -> list[list[_Banding]]:
        """From few bands to many; those of one height with nothing, all that is made, everything again."""
        rows = self.facts.tables.size[self.facts.tables.clock(self.group)]
        made = frozenset(t for i in self.ops for t in self.graph.ops[i].outputs)
        every = (frozenset[int](), made, made.union(self.reads))
        found = []
        for images, height, count in self._sizes(rows):
            if self.least(count) <= self.capacity:
                agains = every if height < rows else every[:1]
                found.append([_Banding(images, height, count, again) for again in agains])
        return found

    def _sizes(self, rows: int) -> Iterator[tuple[int, int, int]]:
        """(images, rows of the clock in a band, bands of all images)."""
        for images in distinct_heights(self.batch):
            if images > 1:
                yield images, rows, -(-self.batch // images)
        for height in distinct_heights(rows):
            yield 1, height, self.batch * -(-rows // height)

    def _fewest(self, heights: list[list[_Banding]]) -> int:
        """Where the first height is that fits; past the end if not even the lowest bands do."""
        if not heights or not self._fits(heights[-1]):
            return len(heights)
        low, high = 0, len(heights) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(heights[middle]) else (middle + 1, high)
        return low

    def _fits(self, bandings: list[_Banding]) -> bool:
        return any(self._held(banding)[1] <= self.capacity for banding in bandings)

    def _least(self, banding: _Banding) -> tuple[int, int]:
        """(bytes moved again, MACs repeated) of these bands, at least: what waits between bands is on chip."""
        _, inputs, recomputed, halo_bytes = self._overlap(banding)
        streamed = max(0, self.weights - max(0, self.capacity - halo_bytes))
        return inputs + (banding.count - 1) * streamed, recomputed

    def _choice(self, banding: _Banding, best: _Choice | None) -> _Choice | None:
        """The best way in these bands; None if there is none, or none that could be better than ``best``."""
        kept_out = max(0, self.weights - self.capacity + self.least(banding.count))
        if best is not None and self._rank((banding.count - 1) * kept_out, 0) > best.key[0]:
            return None
        useful, inputs, recomputed, _ = self._overlap(banding)
        if not useful or (best is not None and self._rank(*self._least(banding)) > best.key[0]):
            return None
        part, nbytes = self._held(banding)
        if nbytes > self.capacity:
            return None
        ops = [(self.graph.ops[i].weight_bytes, i) for i in self.ops if self.graph.ops[i].weight_bytes]
        resident = _resident(ops, self.capacity - nbytes) if banding.count > 1 else ()
        kept = sum(self.graph.ops[i].weight_bytes for i in resident)
        weights = (banding.count - 1) * (self.weights - kept)
        key = (self._rank(inputs + weights, recomputed), recomputed, nbytes + kept)
        return _Choice(key, banding, part, resident, inputs, weights)

    def _rank(self, extra_bytes: int, recomputed_macs: int) -> int:
        return self.prices.rank(self.macs, self.touched + extra_bytes, recomputed_macs)

    def _rows_of(self, banding: _Banding) -> BandRows:
        key = banding.height, banding.again
        if key not in self._rows:
            self._rows[key] = band_rows(self.facts.tables, self.group, *key)
        return self._rows[key]

    def _overlap(self, banding: _Banding) -> _Overlap:
        known = self._known.overlaps.get(banding)
        if known is None:
            rows = self._rows_of(banding)
            useful = not banding.again or any(rows.tensors[t].again for t in banding.again)
            read = sum(rows.tensors[t].again * self.graph.tensors[t].row_bytes for t in self.reads) * self.batch
            known = self._known.overlaps[banding] = _Overlap(useful, read, self._recomputed(rows), rows.halo_bytes)
        return known

    def _recomputed(self, rows: BandRows) -> int:
        total = 0
        for i in self.ops:
            made = rows.tensors[self.graph.ops[i].outputs[0]]
            total += self.graph.ops[i].macs * made.again // self.facts.tables.size[i]
        return total

    # Which tensors pass in slices ---------------------------------------------------------------

    def _held(self, banding: _Banding) -> tuple[frozenset[int], int]:
        """Part tensors for the lowest peak, and the bytes of their layout; the peak, where that is too much already."""
        if banding not in self._known.peaks:
            rows = self._rows_of(banding)
            slicing = self.sliced(rows, banding.images)
            self._known.peaks[banding] = slicing.part, self.peaks(slicing, rows, banding.images)[0]
        part, peak = self._known.peaks[banding]
        nbytes = peak if peak > self.capacity else self._height(banding)
        if self.lowest is None or nbytes < self.lowest[0]:
            self.lowest = nbytes, banding
        return part, nbytes

    def _height(self, banding: _Banding) -> int:
        """Bytes of the layout of a banding whose peak is known."""
        if banding not in self._known.heights:
            occupancy = self.occupancy(self.slicings.of(self._known.peaks[banding][0]))
            items = occupancy.items(self._rows_of(banding), banding.images)
            self._known.heights[banding] = layout([item.need for item in items])[1]
        return self._known.heights[banding]

    def sliced(self, rows: BandRows, images: int) -> Slicing:
        """The best change of what has to do with the highest steps, again and again, until none helps.

        It starts from the same choice for all bands, so that what a band needs does not depend on the bands
        tried before it. Groups of real networks come out as low as the best of all choices, random ones all
        but always (tests/models/test_slices.py tries them all).
        """
        ends, others = self.candidates
        best = self.slicings.of(ends)
        loads = self.peaks(best, rows, images)
        while True:
            found: Slicing | None = None
            near = self._near(best, rows, images)
            for change in others:
                if change.isdisjoint(near):
                    continue
                slicing = self.slicings.of(best.part ^ change)
                if slicing.valid:
                    changed = self.peaks(slicing, rows, images)
                    if changed < loads:
                        found, loads = slicing, changed
            if found is None:
                return best
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

    def _near(self, slicing: Slicing, rows: BandRows, images: int) -> set[int]:
        """Tensors of the highest steps, and what the ops of the group that touch them read and make."""
        occupancy = self.occupancy(slicing)
        loads = occupancy.loads(rows, images)
        most = max(loads)
        ops = 0
        for step, load in enumerate(loads):
            if load == most:
                for t in occupancy.at(step):
                    ops |= self.slicings.touching[t]
        return {t for i in bits(ops) for t in (*self.graph.ops[i].inputs, *self.graph.ops[i].outputs)}

    # Plans ------------------------------------------------------------------------------------

    def planned(self, choice: _Choice, channels: int) -> Planned:
        """The schedule with every address, and its cost."""
        slicing, banding = self.slicings.of(choice.part), choice.banding
        rows = self._rows_of(banding)
        occupancy = self.occupancy(slicing, channels)
        places, base = self._resident_places(choice.resident, occupancy.steps - 1)
        items = occupancy.items(rows, banding.images)
        offsets, height = layout([item.need for item in items])
        places += [
            Place(item.what, item.of, base + at, *item.need, item.rows) for item, at in zip(items, offsets, strict=True)
        ]
        bands = Bands(
            self.facts.tables.clock(self.group),
            banding.height,
            banding.images,
            channels,
            tuple(slicing.stages),
            tuple(sorted(slicing.part)),
            tuple(sorted(banding.again)),
            choice.resident,
            tuple(places),
        )
        schedule = Schedule(
            "brr", self.group, self.ops, rows_per_step=banding.height, weight_passes=banding.count, bands=bands
        )
        pooled = base + max(occupancy.loads(rows, banding.images))
        return Planned(schedule, self._cost(choice, base + height, pooled))

    def _resident_places(self, resident: tuple[int, ...], end: int) -> tuple[list[Place], int]:
        places, base = [], 0
        for i in resident:
            nbytes = self.graph.ops[i].weight_bytes
            places.append(Place("weights", i, base, nbytes, 0, end))
            base += nbytes
        return places, base

    def _cost(self, choice: _Choice, nbytes: int, pooled: int) -> Cost:
        graph = self.graph
        weights = self.weights + choice.extra_weights
        recomputed = choice.key[1]
        return Cost(
            read_bytes=sum(graph.tensors[t].nbytes for t in self.reads) + choice.extra_read + weights,
            write_bytes=sum(graph.tensors[t].nbytes for t in graph.writes(self.group)),
            weight_bytes=weights,
            buffer_bytes=nbytes,
            pooled_buffer_bytes=pooled,
            macs=self.macs + recomputed,
            recomputed_macs=recomputed,
        )

    def widened(self, planned: Planned, bands: Bands) -> Planned:
        """The same plan with the widest slices that fit."""
        cost = planned.cost
        banding = _Banding(bands.images, bands.rows, planned.schedule.weight_passes, frozenset(bands.again))
        touched = sum(self.graph.tensors[t].nbytes for t in self.reads)
        extra_weights = cost.weight_bytes - self.weights
        extra_read = cost.read_bytes - cost.weight_bytes - touched
        choice = _Choice(
            (0, cost.recomputed_macs, cost.buffer_bytes),
            banding,
            frozenset(bands.part),
            bands.resident,
            extra_read,
            extra_weights,
        )
        channels = WIDEST
        while channels > self.channels:
            wide = self.planned(choice, channels)
            if wide.cost.buffer_bytes <= self.capacity:
                return wide
            channels //= 2
        return planned

    def _refusal(self) -> Infeasible:
        names = f"{len(self.ops)} ops" if len(self.ops) > 1 else repr(self.graph.ops[self.ops[0]].name)
        where = f"no band is low enough for {names}"
        levers: tuple[str, ...] = ("a cut inside the group",) if len(self.ops) > 1 else ()
        if self.lowest is None or self.lowest[0] <= self.capacity:
            return Infeasible("buffer", self.capacity + 1, self.capacity, where, levers, at_least=True)
        smallest = self._height(self.lowest[1])
        levers = (f"a buffer of {format_bytes(smallest)} or more", *levers)
        return Infeasible("buffer", smallest, self.capacity, where, levers)


def _unbeaten(choices: list[_Choice]) -> list[_Choice]:
    """Ways that no other one beats in bytes and in MACs; of equal ones the smallest buffer."""
    kept: list[_Choice] = []
    for choice in sorted(choices, key=lambda c: (*c.moved, c.key[2])):
        if not kept or choice.moved[1] < kept[-1].moved[1]:
            kept.append(choice)
    return kept


_NODES: Final = 4_000


def _resident(ops: list[tuple[int, int]], room: int) -> tuple[int, ...]:
    """Which ops keep their weights: the most bytes within the room, by branch and bound.

    ``ops`` are (weight bytes, index). Exact unless 4,000 nodes do not settle it, which takes dozens of
    ops of different weights; then the best found.
    """
    ops = sorted(ops, key=lambda op: (-op[0], op[1]))
    left_over = [0] * (len(ops) + 1)
    for at in range(len(ops) - 1, -1, -1):
        left_over[at] = left_over[at + 1] + ops[at][0]
    best: tuple[int, tuple[int, ...]] = (0, ())
    nodes = 0

    def visit(at: int, left: int, taken: tuple[int, ...]) -> None:
        nonlocal best, nodes
        nodes += 1
        kept = room - left
        if kept > best[0]:
            best = (kept, taken)
        if at == len(ops) or nodes > _NODES or kept + min(left, left_over[at]) <= best[0]:
            return
        nbytes, index = ops[at]
        if nbytes <= left:
            visit(at + 1, left - nbytes, (*taken, index))
        visit(at + 1, left, taken)

    visit(0, room, ())
    return tuple(sorted(best[1]))
