"""The cheapest way to run one group in bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, TypeAlias

from fusecut.cost import NEVER_BYTES, Cost, Dearer, Infeasible, Planned
from fusecut.ir import Group
from fusecut.models._band_group import BandFacts, Banding
from fusecut.models._layout import layout
from fusecut.objective import Tariff
from fusecut.schedule import Bands, Place, Schedule
from fusecut.units import format_bytes

WIDEST: Final = 32
"""Channels at a time where the buffer has room for more than it must: the width of a common array."""


@dataclass(frozen=True)
class _Choice:
    """One way to run the group; bytes moved again are those of inputs and of weights."""

    banding: Banding
    part: frozenset[int]
    resident: tuple[int, ...]
    extra_read: int
    extra_weights: int
    recomputed_macs: int
    nbytes: int

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes moved again, MACs repeated."""
        return self.extra_read + self.extra_weights, self.recomputed_macs


_Key: TypeAlias = tuple[int, int, int, int]
"""Rank; which bands, where nothing moves again; MACs again; bytes on chip. Less is better."""


class _Option(NamedTuple):
    """A banding with the least key it may have; ``known`` steps towards the true one are done. See :meth:`_further`."""

    key: _Key
    order: int
    again_bytes: int
    known: int
    banding: Banding
    choice: _Choice | None


class BandSearch:
    """All ways to run one group in bands."""

    def __init__(self, facts: BandFacts, group: Group, capacity: int, channels: int, prices: Tariff) -> None:
        self.prices, self.capacity = prices, capacity
        self.bands = facts.group(group, channels)
        self.graph, self.group, self.ops, self.channels = facts.graph, group, self.bands.ops, channels
        self.weights = sum(self.graph.ops[i].weight_bytes for i in self.ops)
        self.macs = sum(self.graph.ops[i].macs for i in self.ops)
        self.touched = self.graph.touch_once_bytes(group)
        self.least = facts.floor(capacity).need_bytes(group)

    def within(self, limit_bytes: int) -> Planned | Dearer:
        """The best plan, if it moves no more than so many bytes."""
        best = self._best(limit_bytes - self.touched)
        return Dearer(self.touched + best) if isinstance(best, int) else self.planned(best, self.channels)

    def _best(self, limit_bytes: int) -> _Choice | int:
        """The best of all ways, if it moves no more than so many bytes again; else what it moves at least.

        Every banding is queued with the least it may cost; the most promising one is looked at more closely
        until the first of the queue is known to the byte: the others cost no less. Whether bands fit need not
        depend on their number alone: where ends are rounded, more of them may hold more rows.
        """
        options, late, most = list[_Option](), list[_Option](), limit_bytes
        for order, banding in enumerate(self.bands.bandings):
            least = self.least(banding.number)
            again = self._streamed(banding, least)
            if least <= self.capacity:
                options.append(_Option(self._key(again, 0, 0, order), order, again, 0, banding, None))
        heapify(options)
        while options:
            option = heappop(options)
            if option.again_bytes > most:
                late.append(option)
            elif option.choice is None:
                if (further := self._further(option)) is not None:
                    heappush(options, further)
            elif any(other.key < option.key for other in late):
                options, late, most = [option, *options, *late], [], NEVER_BYTES
                heapify(options)
            else:
                return option.choice if option.again_bytes <= limit_bytes else option.again_bytes
        return min((option.again_bytes for option in late), default=NEVER_BYTES)

    def _streamed(self, banding: Banding, nbytes: int) -> int:
        """Bytes of weights that pass again where so many bytes are not free for them."""
        return (banding.number - 1) * max(0, self.weights - self.capacity + nbytes)

    def _further(self, option: _Option) -> _Option | None:
        """A closer look: the rows of the bands and what they hold at least; the peak; the layout, which decides.

        None where the bands do not fit, or gain nothing.
        """
        _, order, _, known, banding, _ = option
        overlap = self.bands.overlap(banding)
        if not overlap.useful:
            return None
        looks: tuple[Callable[[], int], ...] = (
            lambda: overlap.least_bytes,
            lambda: self.bands.peak(banding)[1],
            lambda: self.bands.height(banding),
        )
        nbytes = looks[known]()
        again = overlap.read_bytes + self._streamed(banding, nbytes)
        choice = None
        if nbytes <= self.capacity and known == 2:
            choice = self._choice(banding)
            again, nbytes = choice.moved[0], choice.nbytes
        if nbytes > self.capacity:
            return None
        key = self._key(again, overlap.recomputed_macs, nbytes, order)
        return _Option(key, order, again, known + 1, banding, choice)

    def _key(self, again_bytes: int, recomputed_macs: int, nbytes: int, order: int) -> _Key:
        rank = self._rank(again_bytes, recomputed_macs)
        return rank, order if rank <= self._rank(0, 0) else 0, recomputed_macs, nbytes

    def _choice(self, banding: Banding) -> _Choice:
        """The best way in bands that fit: with as many weights on chip as there is room for."""
        overlap, nbytes = self.bands.overlap(banding), self.bands.height(banding)
        ops = [(self.graph.ops[i].weight_bytes, i) for i in self.ops if self.graph.ops[i].weight_bytes]
        resident = _resident(ops, self.capacity - nbytes) if banding.number > 1 else ()
        kept = sum(self.graph.ops[i].weight_bytes for i in resident)
        weights = (banding.number - 1) * (self.weights - kept)
        part = self.bands.peak(banding)[0]
        return _Choice(banding, part, resident, overlap.read_bytes, weights, overlap.recomputed_macs, nbytes + kept)

    def _rank(self, extra_bytes: int, recomputed_macs: int) -> int:
        return self.prices.rank(self.macs, self.touched + extra_bytes, recomputed_macs)

    def ways(self) -> tuple[Planned, ...]:
        """All that no other one beats in both DRAM bytes and repeated MACs, fewest bytes first; () where none fits."""
        kept: list[_Choice] = []
        for banding in self.bands.bandings:
            if kept and kept[0].moved == (0, 0):
                break
            if self._worth_it(banding, kept) and self._fits(banding):
                kept = _unbeaten([*kept, self._choice(banding)])
        return tuple(self.planned(choice, self.channels) for choice in kept)

    def _worth_it(self, banding: Banding, kept: list[_Choice]) -> bool:
        """Whether bands that may fit may beat each of some ways, in bytes or in MACs."""
        if self.least(banding.number) > self.capacity:
            return False
        overlap = self.bands.overlap(banding)
        if not overlap.useful or overlap.least_bytes > self.capacity:
            return False
        again, macs = overlap.read_bytes + self._streamed(banding, overlap.least_bytes), overlap.recomputed_macs
        return not any(c.moved[0] <= again and c.moved[1] <= macs for c in kept)

    def _fits(self, banding: Banding) -> bool:
        return self.bands.peak(banding)[1] <= self.capacity and self.bands.height(banding) <= self.capacity

    def one_band_bytes(self) -> int:
        """The buffer in which one band holds everything, all images at once: then nothing moves twice."""
        return self.bands.height(self.bands.bandings[0])

    # Plans ------------------------------------------------------------------------------------

    def planned(self, choice: _Choice, channels: int) -> Planned:
        """The schedule with every address, and its cost."""
        slicing, banding = self.bands.slicings.of(choice.part), choice.banding
        rows = self.bands.rows_of(banding)
        occupancy = self.bands.occupancy(slicing, channels)
        places, base = self._resident_places(choice.resident, occupancy.steps - 1)
        items = occupancy.items(rows, banding.images)
        offsets, height = layout([item.need for item in items])
        places += [
            Place(item.what, item.of, base + at, *item.need, item.rows) for item, at in zip(items, offsets, strict=True)
        ]
        bands = Bands(
            self.bands.facts.tables.clock(self.group),
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
            "brr", self.group, self.ops, rows_per_step=banding.height, weight_passes=banding.number, bands=bands
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
        recomputed = choice.recomputed_macs
        return Cost(
            read_bytes=sum(graph.tensors[t].nbytes for t in self.bands.reads) + choice.extra_read + weights,
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
        banding = Banding(bands.images, bands.rows, planned.schedule.weight_passes, frozenset(bands.again))
        touched = sum(self.graph.tensors[t].nbytes for t in self.bands.reads)
        choice = _Choice(
            banding,
            frozenset(bands.part),
            bands.resident,
            cost.read_bytes - cost.weight_bytes - touched,
            cost.weight_bytes - self.weights,
            cost.recomputed_macs,
            cost.buffer_bytes,
        )
        channels = WIDEST
        while channels > self.channels:
            wide = self.planned(choice, channels)
            if wide.cost.buffer_bytes <= self.capacity:
                return wide
            channels //= 2
        return planned

    def refusal(self) -> Infeasible:
        """How many bytes the smallest plan needs, where none fits; of several ops, what it needs at least."""
        names = f"{len(self.ops)} ops" if len(self.ops) > 1 else repr(self.graph.ops[self.ops[0]].name)
        where = f"no band is low enough for {names}"
        levers: tuple[str, ...] = ("a cut inside the group",) if len(self.ops) > 1 else ()
        lowest = self._lowest()
        if lowest <= self.capacity:
            return Infeasible("buffer", self.capacity + 1, self.capacity, where, levers, at_least=True)
        levers = (f"a buffer of {format_bytes(lowest)} or more", *levers)
        return Infeasible("buffer", lowest, self.capacity, where, levers, at_least=len(self.ops) > 1)

    def _lowest(self) -> int:
        """What the smallest of the lowest bands need; nothing where the floor forbids them already."""
        bandings = self.bands.bandings
        if self.least(bandings[-1].number) > self.capacity:
            return 0
        lowest = [b for b in bandings if b[:2] == bandings[-1][:2]]
        if len(self.ops) > 1:
            return min(self.bands.overlap(b).least_bytes for b in lowest)
        return min(self.bands.height(b) for b in lowest)


def _unbeaten(choices: list[_Choice]) -> list[_Choice]:
    """Ways that no other one beats in bytes and in MACs; of equal ones the smallest buffer."""
    kept: list[_Choice] = []
    for choice in sorted(choices, key=lambda c: (*c.moved, c.nbytes)):
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
