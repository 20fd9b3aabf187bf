"""Rows of every op in every band, pulled row by row from what leaves the group; and the chip they lie on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fusecut.errors import SimulationError
from fusecut.ir import Graph
from fusecut.ops import ROWS, axis_map, event_rows
from fusecut.schedule import Bands, Place, Schedule
from fusecut.simulate.memory import Array, Buffer, poison

Span = tuple[int, int]
"""Rows from the first to one past the last."""


@dataclass
class BandPlan:
    """What each band makes: rows of each op (``made``), rows of each group input (``loaded``), and
    the lowest row of each tensor that this band or a later one still looks at (``waits``)."""

    made: list[dict[int, Span]] = field(default_factory=list)
    loaded: list[dict[int, Span]] = field(default_factory=list)
    waits: list[dict[int, int]] = field(default_factory=list)


class Puller:
    """Derives the bands of a schedule from its clock, operand by operand."""

    def __init__(self, graph: Graph, schedule: Schedule, bands: Bands) -> None:
        self.graph, self.group, self.bands = graph, schedule.group, bands
        self.order = schedule.order
        self.reads = graph.reads(self.group)
        self.maps = {
            i: [axis_map(graph, graph.ops[i], k, ROWS) for k in range(len(graph.ops[i].inputs))] for i in self.order
        }
        self.rows = {i: event_rows(graph, graph.ops[i]) for i in self.order}

    def plan(self) -> BandPlan:
        """Rows of all bands, first to last."""
        plan = BandPlan()
        done = dict.fromkeys(self.order, 0)
        had = dict.fromkeys(self.reads, 0)
        clock = self.rows[self.bands.clock]
        for tick in range(self.bands.rows, clock + self.bands.rows, self.bands.rows):
            made, loaded = self._band(min(tick, clock), clock, done, had)
            plan.made.append(made)
            plan.loaded.append(loaded)
            done = {i: end for i, (_, end) in made.items()}
            had = {t: end for t, (_, end) in loaded.items()}
        ahead: dict[int, int] = {}
        for made in reversed(plan.made):
            looks = {t: self._look(t, made)[0] for t in self._tensors()}
            ahead = {t: min(low, ahead.get(t, self.graph.tensors[t].rows)) for t, low in looks.items()}
            plan.waits.insert(0, ahead)
        return plan

    def _tensors(self) -> list[int]:
        return [*self.reads, *(t for i in self.order for t in self.graph.ops[i].outputs)]

    def _band(
        self, tick: int, clock: int, done: dict[int, int], had: dict[int, int]
    ) -> tuple[dict[int, Span], dict[int, Span]]:
        graph, again = self.graph, set(self.bands.again)
        made: dict[int, Span] = {}
        for i in reversed(self.order):
            op = graph.ops[i]
            looks = [self._look(t, made) for t in op.outputs]
            end = max(done[i], *(past for _, past in looks))
            if any(graph.leaves(t, self.group) for t in op.outputs):
                end = max(end, -(-tick * self.rows[i] // clock))
            first = done[i]
            if not again.isdisjoint(op.outputs):
                first = min(first, *(low for low, _ in looks))
            made[i] = first, end
        loaded: dict[int, Span] = {}
        for t in self.reads:
            low, past = self._look(t, made)
            end = max(had[t], past)
            loaded[t] = min(had[t], low) if t in again else had[t], end
        return made, loaded

    def _look(self, tensor: int, made: dict[int, Span]) -> Span:
        """(lowest row, one past the highest) that the ops which make rows look at; nobody: (all rows, 0)."""
        low, past = self.graph.tensors[tensor].rows, 0
        for i in self.graph.consumers[tensor]:
            first, end = made.get(i, (0, 0))
            if first >= end:
                continue
            for t, rowmap in zip(self.graph.ops[i].inputs, self.maps[i], strict=True):
                if t == tensor:
                    low = min(low, *rowmap.lo[first:end])
                    past = max(past, *(h + 1 for h in rowmap.hi[first:end]))
        return low, past


@dataclass
class Chip:
    """The buffer with addresses: what is there at the same time must not overlap. ``top`` is the highest byte used."""

    buffer: Buffer
    where: str
    observer: Callable[[str, int], None] | None = None
    top: int = 0
    _taken: dict[Place, str] = field(default_factory=dict)

    def take(self, place: Place, label: str) -> None:
        """Raises SimulationError where the place overlaps another or ends past the capacity."""
        end = place.offset + place.nbytes
        if end > self.buffer.capacity_bytes:
            over = end - self.buffer.capacity_bytes
            raise SimulationError(f"{self.where}: {label} ends {over:,} B past the buffer")
        for other, name in self._taken.items():
            if place.offset < other.offset + other.nbytes and other.offset < end:
                raise SimulationError(
                    f"{self.where}: {label} overlaps {name} at byte {max(place.offset, other.offset)}"
                )
        self.buffer.allocate(label, place.nbytes)
        self._taken[place] = label
        self.top = max(self.top, end)
        if self.observer is not None:
            self.observer(label, place.nbytes)

    def release(self, place: Place) -> None:
        label = self._taken.pop(place)
        self.buffer.release(label)
        if self.observer is not None:
            self.observer(label, 0)


class Store:
    """Rows of one tensor on chip, channel by channel: which are there, and their values.

    A channel may hold ``halo`` rows at any time and ``tile`` more while it is open. A row that is
    evicted becomes NaN.
    """

    def __init__(self, name: str, rows: int, channels: int, halo: int, tile: int) -> None:
        self.name, self.halo, self.tile = name, halo, tile
        self.present = np.zeros((rows, channels), bool)
        self.room = np.full(channels, halo)
        self.values: Array | None = None

    def open(self, first: int, end: int) -> None:
        """Channels first..end-1 have their tile from now on."""
        self.room[first:end] = self.halo + self.tile

    def close(self, first: int, end: int) -> None:
        """Channels first..end-1 have only their halo left."""
        self.room[first:end] = self.halo

    def push(self, row: int, first: int, end: int, where: Callable[[], str]) -> None:
        """A row of channels first..end-1. Raises SimulationError where it has no room."""
        self.present[row, first:end] = True
        self._check_room(first, end, where)

    def _check_room(self, first: int, end: int, where: Callable[[], str]) -> None:
        held, room = self.present[:, first].sum(), self.room[first]
        if held > room:
            raise SimulationError(f"{where()}: {held} rows of {self.name!r} have room for {room}")

    def check(self, low: int, past: int, first: int, end: int, where: Callable[[], str]) -> None:
        """Raises SimulationError unless rows low..past-1 of channels first..end-1 are there."""
        window = self.present[low:past, first:end]
        if not window.all():
            row = low + int(np.argmin(window.all(axis=1)))
            raise SimulationError(f"{where()} reads row {row} of {self.name!r}, which is not on chip")

    def keep(self, spans: Sequence[Span], first: int, end: int, where: Callable[[], str]) -> None:
        """Evict all rows of channels first..end-1 outside the spans; those that stay must fit the halo."""
        stays = np.zeros(len(self.present), bool)
        for low, past in spans:
            stays[low:past] = True
        self.present[~stays, first:end] = False
        if self.values is not None:
            self.values[~stays, first:end] = poison(self.values.dtype.name)
        held = int(self.present[:, first:end].sum(axis=0).max(initial=0))
        if held > self.halo:
            raise SimulationError(
                f"{where()}: {held} rows of {self.name!r} wait for the next band, room for {self.halo}"
            )
