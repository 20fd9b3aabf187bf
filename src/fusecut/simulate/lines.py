"""Executes a line-buffer schedule: rows through rings of exactly the granted size.

The order of events is found by the data: the most downstream row whose operands are present and
whose ring has a free slot is made next; a group input loads its next row only when no op can run.
A slot is free when every reader in the group is past its row. Which rows must wait for which is
thereby a fixed partial order, so whether a schedule can run at all, and every byte it moves, does
not depend on the order in which ready rows are taken; only the depth of a shared pool does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, TypeAlias

from fusecut.errors import SimulationError
from fusecut.ir import Graph, Group, bits
from fusecut.ops import accumulator_elements, event_rows
from fusecut.schedule import Schedule
from fusecut.simulate.memory import Array, Buffer, Dram, Ring
from fusecut.simulate.stages import LOADER, Shapes, Source, Stage, StageBuilder, Stream, kept_after, runs_of, written_in

Event: TypeAlias = tuple[tuple[int, int, int], int]
"""(stream key, row): one event of a prescribed order."""

Observer: TypeAlias = Callable[[str, int], None]
"""Called with (label, bytes on chip) when they change."""


class RowKernel(Protocol):
    """Arithmetic of one op, row by row. Windows have the row axis first; None is an empty window."""

    def start(self) -> None:
        """A new image: forget accumulators."""

    def fold(self, operand: int, row: int, window: Array | None) -> None:
        """One step of a streaming reduction."""

    def row(self, row: int, windows: Sequence[Array | None], lows: Sequence[int]) -> Sequence[Array]:
        """One row of every result; ``lows`` are the rows at which the windows start."""


@dataclass
class Work:
    """What arithmetic a group did: row events of each op, pass by pass, and rows nobody wanted."""

    macs: Fraction = Fraction(0)
    recomputed_macs: Fraction = Fraction(0)
    skipped_macs: Fraction = Fraction(0)
    events: int = 0


@dataclass
class LineRun:
    """One group in execution. ``kernels`` None counts without computing.

    ``order`` prescribes the events of each pass instead of letting the data decide; then nothing
    holds a row back, a row pushed into a full ring takes the place of the oldest, and a plan that
    needs the oldest once more fails on reading it.
    """

    graph: Graph
    schedule: Schedule
    number: int
    dram: Dram
    buffer: Buffer
    shapes: Shapes | None = None
    kernels: Mapping[int, RowKernel] | None = None
    order: Callable[[int], Iterable[Event]] | None = None
    observer: Observer | None = None
    work: Work = field(default_factory=Work)
    pooled_bytes: int = 0
    image: int = 0

    def run(self) -> None:
        """All passes over every image, weights resident throughout.

        Raises:
            SimulationError: the schedule cannot be executed within the rings and the buffer it has.
        """
        graph, group = self.graph, self.schedule.group
        self._load_weights(group)
        runs = runs_of(graph, self.schedule)
        images = graph.tensors[graph.ops[self.schedule.order[0]].outputs[0]].batch
        for self.image in range(images):
            for kernel in self._own_kernels():
                kernel.start()
            kept: dict[int, Ring] = {}
            for number in range(len(runs)):
                kept = self._pass(runs, number, kept)
        self._count_macs(runs, images)

    def _own_kernels(self) -> list[RowKernel]:
        return [] if self.kernels is None else [self.kernels[i] for i in self.schedule.order]

    def _load_weights(self, group: Group) -> None:
        for i in bits(group):
            op = self.graph.ops[i]
            accumulators = -(-accumulator_elements(self.graph, op) * op.bias_bits // 8)
            for what, nbytes in (("weights", op.weight_bytes), ("accumulators", accumulators)):
                if nbytes:
                    self._allocate(f"{what} of {op.name}", nbytes)
            self.dram.count(self.number, f"weights of {op.name}", op.weight_bytes, weight_bytes=op.weight_bytes)

    def _allocate(self, label: str, nbytes: int) -> None:
        self.buffer.allocate(label, nbytes)
        if self.observer is not None:
            self.observer(label, nbytes)

    def _pass(self, runs: Sequence[Group], number: int, kept: dict[int, Ring]) -> dict[int, Ring]:
        """One pass over one image; returns the vectors that later passes read."""
        builder = StageBuilder(self.graph, self.schedule, runs, number, self.where)
        stage = builder.build(self.shapes, self.dram.dtype)
        labels = [(f"{r.name} pass {number}.{k}", r) for rings in stage.rings.values() for k, r in enumerate(rings)]
        waiting = [(f"{kept[t].name} waiting", kept[t]) for t in kept if t not in stage.rings]
        fixed = self.buffer.used_bytes + sum(ring.row_bytes for _, ring in waiting)
        for label, ring in labels:
            self.buffer.allocate(label, ring.slots * ring.row_bytes)
        for label, ring in waiting:
            self.buffer.allocate(label, ring.row_bytes)
        for t in stage.carried:
            self._hand_over(kept, t, stage.rings[t])
        written = set(written_in(self.graph, self.schedule.group, runs, number))
        execution = _Pass(self, stage, written, fixed)
        execution.execute(None if self.order is None else self.order(number))
        execution.drain()
        self.pooled_bytes = max(self.pooled_bytes, execution.peak_bytes)
        for label, _ in (*labels, *waiting):
            self.buffer.release(label)
        later = set(kept_after(self.graph, runs, number))
        return {t: ring for t, ring in {**kept, **execution.saved}.items() if t in later}

    def _hand_over(self, kept: dict[int, Ring], tensor: int, rings: list[Ring]) -> None:
        name = self.graph.tensors[tensor].name
        if tensor not in kept:
            raise SimulationError(f"{self.where}: {name!r} should be on chip from an earlier pass, but none made it")
        values = kept[tensor].window(0, 0, lambda: f"{self.where}: next pass")
        for ring in rings:
            ring.push(0, None if values is None else values[0])

    @property
    def where(self) -> str:
        return f"group {self.number}"

    def _count_macs(self, runs: Sequence[Group], images: int) -> None:
        """Whatever was not executed of an op that ran is rows nobody wanted."""
        nominal = Fraction(0)
        for run in runs:
            for i in bits(run):
                nominal += images * _row_macs(self.graph, i) * event_rows(self.graph, self.graph.ops[i])
        self.work.skipped_macs = nominal - self.work.macs
        self.work.recomputed_macs = nominal - sum(self.graph.ops[i].macs for i in self.schedule.order)


def _row_macs(graph: Graph, index: int) -> Fraction:
    op = graph.ops[index]
    return Fraction(op.macs, event_rows(graph, op) * graph.tensors[op.outputs[0]].batch)


class _Pass:
    """Events of one pass over one image."""

    def __init__(self, run: LineRun, stage: Stage, written: set[int], fixed_bytes: int) -> None:
        self.run, self.stage, self.written = run, stage, written
        self.live_bytes = fixed_bytes + sum(r.row_bytes for t in stage.carried for r in stage.rings[t])
        self.peak_bytes = self.live_bytes
        self.saved: dict[int, Ring] = {}
        self.first = {t: run.image * run.graph.tensors[t].rows for t in range(len(run.graph.tensors))}

    def execute(self, order: Iterable[Event] | None) -> None:
        """Every wanted row of every stream."""
        if order is None:
            self._by_data()
        else:
            streams = {s.key: s for s in self.stage.streams}
            for key, row in order:
                self._event(streams[key], row)
        stuck = [s for s in self.stage.streams if s.made < s.rows]
        if stuck:
            raise SimulationError(self._deadlock(stuck))

    def _by_data(self) -> None:
        """The most downstream ready row first; a stream is looked at again when a neighbour made a row."""
        streams = self.stage.streams
        heap = [-s.index for s in streams]
        queued = [True] * len(streams)
        heapq.heapify(heap)
        while heap:
            stream = streams[-heapq.heappop(heap)]
            queued[stream.index] = False
            if stream.made < stream.rows and self._ready(stream):
                self._event(stream, stream.made)
                for other in self.stage.near[stream.index]:
                    if not queued[other.index]:
                        queued[other.index] = True
                        heapq.heappush(heap, -other.index)

    def _ready(self, stream: Stream) -> bool:
        q = stream.made
        return all(_present(s, q) for s in stream.sources) and all(
            self._has_room(ring) for rings in stream.rings for ring in rings
        )

    def _has_room(self, ring: Ring) -> bool:
        return ring.made + 1 - self._needed_from(ring) <= ring.slots

    def _needed_from(self, ring: Ring) -> int:
        """The lowest row that a reader still waits for; past all rows when none does."""
        waiting = [lo[s.made] for s, lo in self.stage.readers[ring] if s.made < s.rows]
        return min(waiting, default=ring.made + 1)

    def _event(self, stream: Stream, row: int) -> None:
        """Make one row: operands and the new row are on chip at once, then operands are released."""
        if row != stream.made:
            raise SimulationError(f"{self._where(stream, row)} comes when row {stream.made} is next")
        rows = self._rows(stream, row)
        for tensor, rings, values in zip(stream.tensors, stream.rings, rows, strict=True):
            self._store(stream, tensor, rings, row, values)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        stream.made += 1
        self.run.work.events += 1
        for source in stream.sources:
            if source.ring is not None:
                self._release(source.ring)
        for rings in stream.rings:
            for ring in rings:
                self._release(ring)

    def _rows(self, stream: Stream, row: int) -> Sequence[Array | None]:
        """The values of the row, one for each tensor; None where only presence is tracked."""
        run = self.run

        def where() -> str:
            return self._where(stream, row)

        if stream.op == LOADER:
            t = stream.tensors[0]
            return [run.dram.read_row(run.number, t, self.first[t] + row, where)]
        windows = []
        for source in stream.sources:
            if source.ring is not None:
                windows.append(source.ring.window(source.lo[row], source.hi[row], where))
            elif source.steps is not None and source.steps.made <= source.hi[row]:
                raise SimulationError(f"{where()} comes before row {source.steps.made} is folded into it")
        if stream.operand < 0:
            run.work.macs += _row_macs(run.graph, stream.op)
        if run.kernels is None:
            return [None] * len(stream.tensors)
        kernel = run.kernels[stream.op]
        if stream.operand >= 0:
            for window in windows:
                kernel.fold(stream.operand, row, window)
            return []
        return kernel.row(row, windows, [s.lo[row] for s in stream.sources if s.ring is not None])

    def _store(self, stream: Stream, tensor: int, rings: list[Ring], row: int, values: Array | None) -> None:
        run = self.run
        for ring in rings:
            before = ring.live_rows
            ring.push(row, values)
            self._live(ring, ring.live_rows - before)
        if tensor in self.written:
            run.dram.write_row(run.number, tensor, self.first[tensor] + row, values, lambda: self._where(stream, row))
        if stream.op != LOADER and run.graph.tensors[tensor].rows == 1:
            self.saved[tensor] = _copy(rings[0])

    def _release(self, ring: Ring) -> None:
        before = ring.live_rows
        ring.forget_below(self._needed_from(ring))
        self._live(ring, ring.live_rows - before)

    def _live(self, ring: Ring, rows: int) -> None:
        if rows:
            self.live_bytes += rows * ring.row_bytes
            if self.run.observer is not None:
                self.run.observer(ring.name, ring.live_rows * ring.row_bytes)

    def drain(self) -> None:
        """Rows of group inputs that nobody wanted stream by and are dropped."""
        for stream in self.stage.streams:
            if stream.op == LOADER:
                t = stream.tensors[0]
                for row in range(stream.rows, self.run.graph.tensors[t].rows):
                    self.run.dram.read_row(
                        self.run.number,
                        t,
                        self.first[t] + row,
                        lambda s=stream, r=row: self._where(s, r),  # type: ignore[misc]
                    )

    def _where(self, stream: Stream, row: int) -> str:
        what = "load of" if stream.op == LOADER else "op"
        return f"{self.run.where}, {what} {stream.label!r}, row {row}"

    def _deadlock(self, stuck: list[Stream]) -> str:
        """Names the most downstream op that cannot go on, and what keeps it or its operands from it."""
        for stream in reversed(stuck):
            for rings in stream.rings:
                full = next((r for r in rings if not self._has_room(r)), None)
                if full is not None and all(_present(s, stream.made) for s in stream.sources):
                    return (
                        f"{self._where(stream, stream.made)} cannot be made: the {full.slots} rows held of "
                        f"{full.name!r} are all still needed (from row {self._needed_from(full)} on), so the plan "
                        "cannot be executed with the rows it grants"
                    )
        return f"{self._where(stuck[-1], stuck[-1].made)} cannot be made: its operands never arrive"


def _present(source: Source, row: int) -> bool:
    if source.ring is not None:
        return source.ring.made > source.hi[row]
    return source.steps is None or source.steps.made > source.hi[row]


def _copy(ring: Ring) -> Ring:
    """A vector on its own, to be kept for a later pass."""
    copy = Ring(ring.name, 1, ring.row_bytes, None if ring.data is None else ring.data.shape[1:], "float64")
    copy.push(0, None if ring.data is None else ring.data[0].copy())
    return copy
