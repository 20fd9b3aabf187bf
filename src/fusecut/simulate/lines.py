"""Executes a line-buffer schedule: rows, or pixels, through rings of exactly the granted size.

Events come in the order of the policy that the schedule names. Without one the data decides: the
most downstream row whose operands are present and whose ring has a free slot is made next; a group
input loads its next row only when no op can run. A slot is free when every reader in the group is
past its row. Which rows must wait for which is thereby a fixed partial order, so whether such a
schedule can run at all, and every byte it moves, does not depend on the order in which ready rows
are taken; only the depth of a shared pool does.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from fusecut.errors import SimulationError
from fusecut.frontend.weights import Layout
from fusecut.ir import Graph, Group, bits
from fusecut.ops import accumulator_elements
from fusecut.schedule import Schedule
from fusecut.simulate.calls import column
from fusecut.simulate.memory import Array, Buffer, Dram, Lane, Part, bits_to_bytes
from fusecut.simulate.policy import Policy
from fusecut.simulate.stages import LOADER, Section, Source, Stage, StageBuilder, Stream, kept_after
from fusecut.simulate.views import Kernels, PixelView, rows_of

Event: TypeAlias = tuple[tuple[int, int, int], int]
"""(stream key, row): one event of a prescribed order."""

Observer: TypeAlias = Callable[[str, int], None]
"""Called with (label, bytes on chip) when they change."""

Vector: TypeAlias = list[Array | None]
"""Rows (pixels) of a vector that is kept between passes; None where only presence is tracked."""


@dataclass
class Work:
    """What arithmetic a group did: row events of each op, pass by pass, and rows nobody wanted."""

    macs: Fraction = Fraction(0)
    recomputed_macs: Fraction = Fraction(0)
    skipped_macs: Fraction = Fraction(0)
    events: int = 0
    made: Counter[int] = field(default_factory=Counter)


@dataclass
class LineRun:
    """One group in execution. ``kernels`` None counts without computing; else ``layouts`` are there too.

    ``order`` prescribes the events of each pass instead of the schedule's policy; then nothing
    holds a row back, a row pushed into a full ring takes the place of the oldest, and a plan that
    needs the oldest once more fails on reading it.
    """

    graph: Graph
    schedule: Schedule
    number: int
    dram: Dram
    buffer: Buffer
    layouts: Sequence[Layout] | None = None
    kernels: Kernels | None = None
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
        graph, schedule = self.graph, self.schedule
        runs = schedule.runs or (schedule.group,)
        if len(runs) != schedule.passes:
            raise SimulationError(f"{self.where}: the schedule does not say what each of {schedule.passes} passes runs")
        self._load_weights(schedule.group)
        images = graph.tensors[graph.ops[schedule.order[0]].outputs[0]].batch
        for self.image in range(images):
            for kernel in [] if self.kernels is None else [self.kernels[i] for i in schedule.order]:
                kernel.start()
            kept: dict[int, Vector] = {}
            for number in range(len(runs)):
                kept = self._pass(runs, number, kept)
        self._count_macs(runs, images)

    def _load_weights(self, group: Group) -> None:
        for i in bits(group):
            op = self.graph.ops[i]
            accumulators = bits_to_bytes(accumulator_elements(self.graph, op) * op.bias_bits)
            for what, nbytes in (("weights", op.weight_bytes), ("accumulators", accumulators)):
                if nbytes:
                    self._allocate(f"{what} of {op.name}", nbytes)
            self.dram.count(self.number, f"weights of {op.name}", op.weight_bytes, weight_bytes=op.weight_bytes)

    def _allocate(self, label: str, nbytes: int) -> None:
        self.buffer.allocate(label, nbytes)
        if self.observer is not None:
            self.observer(label, nbytes)

    def _pass(self, runs: Sequence[Group], number: int, kept: dict[int, Vector]) -> dict[int, Vector]:
        """One pass over one image; returns the vectors that later passes read."""
        builder = StageBuilder(self.graph, self.schedule, runs, number, self.where)
        stage = builder.build(self.layouts, self.dram.dtype)
        through = [self.graph.tensors[t] for t in kept if t not in stage.carried]
        waiting = [(f"{t.name} waiting", t.nbytes // t.batch) for t in through]
        fixed = self.buffer.used_bytes + sum(nbytes for _, nbytes in waiting)
        rings = [(f"{ring.name} pass {number}.{k}", ring.nbytes) for k, ring in enumerate(stage.rings)]
        for label, nbytes in (*rings, *waiting):
            self.buffer.allocate(label, nbytes)
        execution = _Pass(self, stage, fixed, kept)
        execution.execute(None if self.order is None else self.order(number))
        execution.drain()
        self.pooled_bytes = max(self.pooled_bytes, execution.peak_bytes)
        for label, _ in (*rings, *waiting):
            self.buffer.release(label)
        return {t: kept[t] if t in kept else execution.vector(t) for t in kept_after(self.graph, runs, number)}

    @property
    def where(self) -> str:
        return f"group {self.number}"

    def _count_macs(self, runs: Sequence[Group], images: int) -> None:
        """Rows of an op that ran and were not made are rows nobody wanted."""
        for i in self.schedule.order:
            op, times = self.graph.ops[i], sum(run >> i & 1 for run in runs)
            made = Fraction(op.macs * self.work.made[i], images * self._rows(i))
            self.work.macs += made
            self.work.skipped_macs += op.macs * times - made
            self.work.recomputed_macs += op.macs * (times - 1)

    def _rows(self, index: int) -> int:
        """Events of an op in one pass over one image, if all its rows are made."""
        made = self.graph.tensors[self.graph.ops[index].outputs[0]]
        return made.rows * made.cols if any(h.cols for h in self.schedule.holds) else made.rows


class _Pass:
    """Events of one pass over one image."""

    def __init__(self, run: LineRun, stage: Stage, fixed_bytes: int, carried: dict[int, Vector]) -> None:
        self.run, self.stage, self.carried = run, stage, carried
        self.live_bytes = self.peak_bytes = fixed_bytes
        self.first = {t: run.image * run.graph.tensors[t].rows for t in range(len(run.graph.tensors))}

    def execute(self, order: Iterable[Event] | None) -> None:
        """Every wanted row of every stream."""
        streams, policy = {s.key: s for s in self.stage.streams}, self.run.schedule.policy
        if order is not None:
            for key, row in order:
                if streams[key].made != row:
                    raise SimulationError(
                        f"{self._where(streams[key], row)} comes when row {streams[key].made} is next"
                    )
                self._event(streams[key])
        elif policy:
            self._by_policy(policy)
        else:
            self._by_data()
        stuck = [s for s in self.stage.streams if s.made < s.rows]
        if stuck:
            raise SimulationError(self._deadlock(stuck))

    def _by_policy(self, policy: str) -> None:
        """As the schedule says; ``any`` order is good enough where it says so, and arrival is one."""
        for stream in Policy(self.stage, policy).events(self._resident()):
            if not self._has_room(stream):
                raise SimulationError(self._deadlock([stream]))
            self._event(stream)

    def _resident(self) -> set[int]:
        """Streams of vectors that are on chip already."""
        return {s.index for s in self.stage.streams if s.op == LOADER and s.tensors[0] in self.stage.carried}

    def _by_data(self) -> None:
        """The most downstream ready row first; a stream is looked at again when a neighbour made a row."""
        streams = self.stage.streams
        for index in sorted(self._resident()):
            for _ in range(streams[index].total):
                self._event(streams[index])
        heap = [-s.index for s in streams]
        queued = [True] * len(streams)
        heapq.heapify(heap)
        while heap:
            stream = streams[-heapq.heappop(heap)]
            queued[stream.index] = False
            if stream.made < stream.rows and self._has_operands(stream) and self._has_room(stream):
                self._event(stream)
                for other in self.stage.near[stream.index]:
                    if not queued[other.index]:
                        queued[other.index] = True
                        heapq.heappush(heap, -other.index)

    def _has_operands(self, stream: Stream) -> bool:
        q = stream.made
        return all(other.made > source.hi[q] for source in stream.sources for other in self.stage.makers_of(source))

    def _has_room(self, stream: Stream) -> bool:
        return self._full(stream) is None

    def _full(self, stream: Stream) -> Lane | None:
        """A lane that has no slot for the next row."""
        lanes = (lane for lanes in stream.lanes for lane in lanes)
        return next((lane for lane in lanes if not lane.has_room(stream.made, stream.over)), None)

    def _needed_from(self, lane: Lane) -> int:
        """The lowest row that a reader still waits for; past all rows when none does."""
        if lane in self.stage.kept:
            return 0
        waiting = [lo[s.made] for s, lo in self.stage.readers[lane] if s.made < s.rows]
        return min(waiting, default=lane.made + 1)

    def _event(self, stream: Stream) -> None:
        """Make one row: operands and the new row are on chip at once, then operands are released."""
        row, work = stream.made, self.run.work
        values = self._rows(stream, row)
        for tensor, lanes, mine in zip(stream.tensors, stream.lanes, values, strict=True):
            self._store(stream, tensor, lanes, row, mine)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        stream.made += 1
        work.events += 1
        if stream.op != LOADER and stream.operand < 0:
            work.made[stream.op] += 1
        for lane in (*(r for s in stream.sources for r in s.lanes), *(r for lanes in stream.lanes for r in lanes)):
            before = lane.ring.live_bytes
            lane.forget_below(self._needed_from(lane))
            self._live(lane, before)

    def _rows(self, stream: Stream, row: int) -> Sequence[Array | None]:
        """The values of the row, one for each tensor; None where only presence is tracked."""
        if stream.op == LOADER:
            return [self._loaded(stream, row)]
        windows = [w for source in stream.sources for w in self._windows(stream, source, row)]
        if self.run.kernels is None:
            return [None] * len(stream.tensors)
        kernel, pixels = self.run.kernels[stream.op], self.stage.pixels
        at, x = divmod(row, self._cols(stream)) if pixels else (row, 0)
        if stream.operand >= 0:
            kernel.fold(stream.operand, at, windows[0])
            return []
        rows = kernel.row(at, windows, self._lows(stream, at))
        return [self._pixel(t, r, x) for t, r in zip(stream.tensors, rows, strict=True)] if pixels else rows

    def _cols(self, stream: Stream) -> int:
        """Columns of what a stream makes, or folds."""
        op = self.run.graph.ops[stream.op]
        return self.run.graph.tensors[op.outputs[0] if stream.operand < 0 else op.inputs[stream.operand]].cols

    def _lows(self, stream: Stream, row: int) -> list[int]:
        return [(s.lo if s.rows is None else s.rows.lo)[row] for s in stream.sources if s.view is not None]

    def _pixel(self, tensor: int, row: Array, x: int) -> Array:
        return row if self.run.layouts is None else np.asarray(row[column(self.run.layouts[tensor], x)])

    def _windows(self, stream: Stream, source: Source, row: int) -> Iterator[Array | None]:
        """What an event sees of an operand; nothing of one that was folded before."""

        def where() -> str:
            return self._where(stream, row)

        if source.steps is not None and source.steps.made <= source.hi[row]:
            raise SimulationError(f"{where()} comes before row {source.steps.made} is folded into it")
        if source.view is None:
            return
        if not self.stage.pixels:
            yield rows_of(source.view, (source.lo[row], source.hi[row]), self.run.kernels, where)
            return
        q, x = divmod(row, self._cols(stream))
        fill, rows, cols = None, (q, q), (x, x)
        if source.rows is not None and source.cols is not None:
            rows, cols = (source.rows.lo[q], source.rows.hi[q]), (source.cols.lo[x], source.cols.hi[x])
        elif self.run.kernels is not None:
            fill = self.run.kernels[stream.op].neutral
        pixels = PixelView(source.width, self.run.layouts, self.run.kernels)
        yield pixels.window(source.view, rows, cols, fill, where)

    def _loaded(self, stream: Stream, row: int) -> Array | None:
        """A row of a group input, or of a vector that an earlier pass left."""
        run, t = self.run, stream.tensors[0]
        if t in self.stage.carried:
            if t not in self.carried:
                raise SimulationError(f"{self._where(stream, row)} should be on chip, but no earlier pass made it")
            return self.carried[t][row]
        q, part = self._place(t, row)
        return run.dram.read_row(run.number, t, self.first[t] + q, lambda: self._where(stream, row), part)

    def _place(self, tensor: int, row: int) -> tuple[int, Part | None]:
        """The row in DRAM and, of a pixel, which part of it."""
        facts, layouts = self.run.graph.tensors[tensor], self.run.layouts
        if not self.stage.pixels:
            return row, None
        q, x = divmod(row, facts.cols)

        def cut(array: Array) -> Array:
            return array if layouts is None else np.asarray(array[column(layouts[tensor], x)])

        return q, Part(x * facts.channels, facts.channels, cut)

    def _store(self, stream: Stream, tensor: int, lanes: list[Lane], row: int, values: Array | None) -> None:
        run = self.run
        for lane in lanes:
            before = lane.ring.live_bytes
            lane.push(row, values)
            self._live(lane, before)
        if tensor in self.stage.written:
            q, part = self._place(tensor, row)
            shape = () if run.layouts is None else run.layouts[tensor].row_shape
            at = self.first[tensor] + q
            run.dram.write_row(run.number, tensor, at, values, lambda: self._where(stream, row), part, shape)
        for section in self.stage.sections.get(tensor, ()):
            self._write_section(stream, tensor, section, row, values)

    def _write_section(self, stream: Stream, tensor: int, section: Section, row: int, values: Array | None) -> None:
        """A row (pixel) of a part of a concatenation goes to its place in the whole."""
        run, t, layouts = self.run, section.tensor, self.run.layouts
        facts, whole = run.graph.tensors[tensor], run.graph.tensors[t]
        pixels, kernels = self.stage.pixels, run.kernels
        q, x = divmod(row, facts.cols) if pixels else (row, 0)

        def cut(array: Array) -> Array:
            for op, operand in section.path:
                array = array if kernels is None else kernels[op].part(operand, array)
            return np.asarray(array[column(layouts[t], x)]) if pixels and layouts is not None else array

        part = Part(x * whole.channels + section.first, facts.channels * (1 if pixels else facts.cols), cut)
        shape = () if layouts is None else layouts[t].row_shape
        run.dram.write_row(run.number, t, self.first[t] + q, values, lambda: self._where(stream, row), part, shape)

    def _live(self, lane: Lane, before: int) -> None:
        now = lane.ring.live_bytes
        if now != before:
            self.live_bytes += now - before
            if self.run.observer is not None:
                self.run.observer(lane.ring.name, now)

    def vector(self, tensor: int) -> Vector:
        """All rows of a vector that is kept for a later pass."""
        lane = self.stage.lanes[tensor][0]
        rows = [lane.at(row, lambda: f"{self.run.where}, next pass") for row in range(lane.made)]
        return [None if row is None else row.copy() for row in rows]

    def drain(self) -> None:
        """Rows of group inputs that nobody wanted stream by and are dropped."""
        for stream in self.stage.streams:
            if stream.op == LOADER and stream.tensors[0] not in self.stage.carried:
                for row in range(stream.rows, stream.total):
                    self._loaded(stream, row)

    def _where(self, stream: Stream, row: int) -> str:
        what = "load of" if stream.op == LOADER else "op"
        if not self.stage.pixels:
            return f"{self.run.where}, {what} {stream.label!r}, row {row}"
        facts = self.run.graph.tensors[stream.tensors[0]] if stream.op == LOADER else None
        q, x = divmod(row, self._cols(stream) if facts is None else facts.cols)
        return f"{self.run.where}, {what} {stream.label!r}, row {q}, column {x}"

    def _deadlock(self, stuck: list[Stream]) -> str:
        """Names the most downstream op that cannot go on, and what keeps it or its operands from it."""
        for stream in reversed(stuck):
            full = self._full(stream)
            if full is not None and self._has_operands(stream):
                ring = full.ring
                return (
                    f"{self._where(stream, stream.made)} cannot be made: the {ring.slots} "
                    f"{'pixels' if self.stage.pixels else 'rows'} held of {ring.name!r} are all still needed (from "
                    f"{self._needed_from(full)} on), so the plan cannot be executed with what it grants"
                )
        return f"{self._where(stuck[-1], stuck[-1].made)} cannot be made: its operands never arrive"
