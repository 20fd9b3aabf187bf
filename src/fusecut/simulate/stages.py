"""What each pass of a line-buffer schedule runs: streams of rows and the rings between them.

A *stream* makes rows one after the other: a group input (rows loaded from DRAM), an op, or the
folding steps of a streaming reduction. At pixel granularity its rows are pixels, counted in raster
order. Everything follows from the graph, the row maps and the rings the schedule grants; how many
rows a ring would need is never asked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeAlias

from fusecut.errors import SimulationError
from fusecut.frontend.weights import Layout
from fusecut.ir import Graph, Group, bits
from fusecut.ops import COLS, ROWS, axis_map, pixel_map
from fusecut.rowmap import RowMap
from fusecut.schedule import Hold, Schedule
from fusecut.simulate.memory import Lane, Ring, bits_to_bytes
from fusecut.simulate.views import Joined, View, lanes_of

LOADER: Final = -1

Shapes: TypeAlias = Mapping[int, tuple[int, ...]]
"""Shape of one row of each tensor."""


@dataclass(eq=False)
class Source:
    """One operand of a stream: rows lo[q]..hi[q] of a view, or (``steps``) steps 0..hi[q] of a reduction.

    ``rows`` and ``cols`` are the maps that rows and columns of a window of pixels follow, in an operand
    of ``width`` columns.
    """

    lo: Sequence[int]
    hi: Sequence[int]
    view: View | None = None
    steps: Stream | None = None
    rows: RowMap | None = None
    cols: RowMap | None = None
    width: int = 1

    @cached_property
    def lanes(self) -> list[Lane]:
        """What is read, each once."""
        return [] if self.view is None else lanes_of(self.view)


@dataclass(frozen=True)
class Section:
    """Where a tensor lies in a concatenation that is not copied: ``first`` element of each pixel (of each row).

    ``path`` are the concatenations from the outermost in: (op, operand).
    """

    tensor: int
    first: int
    path: tuple[tuple[int, int], ...]


@dataclass(eq=False)
class Stream:
    """Rows of an op, of a group input (``op`` is LOADER), or the steps of a reduction over ``operand``.

    Of ``total`` rows ``rows`` are wanted; ``lanes`` are where each of its tensors' rows go, ``over`` the
    lane whose row they take the place of. ``ends``: all rows are wanted after the pass.
    """

    label: str
    op: int
    rows: int
    total: int
    sources: list[Source] = field(default_factory=list)
    tensors: tuple[int, ...] = ()
    lanes: list[list[Lane]] = field(default_factory=list)
    operand: int = -1
    over: Lane | None = None
    ends: bool = False
    made: int = 0
    index: int = 0

    @property
    def key(self) -> tuple[int, int, int]:
        """(op, tensor, operand): the same in every image and for every builder."""
        return self.op, self.tensors[0] if self.op == LOADER else -1, self.operand


@dataclass(eq=False)
class Stage:
    """One pass: its streams upstream first, its rings, and where everything is.

    ``carried`` are vectors of earlier passes it reads, ``kept`` lanes that stay for a later one, ``written``
    tensors that go to DRAM as they are, ``sections`` those that go there as parts of others.
    """

    streams: list[Stream]
    rings: list[Ring]
    lanes: dict[int, list[Lane]]
    carried: tuple[int, ...]
    kept: frozenset[Lane]
    written: frozenset[int]
    sections: Mapping[int, list[Section]]
    pixels: bool

    @cached_property
    def readers(self) -> dict[Lane, list[tuple[Stream, Sequence[int]]]]:
        """Who reads each lane, and the lowest row it needs for each of its rows."""
        table: dict[Lane, list[tuple[Stream, Sequence[int]]]] = {
            lane: [] for lanes in self.lanes.values() for lane in lanes
        }
        for stream in self.streams:
            for source in stream.sources:
                for lane in source.lanes:
                    table[lane].append((stream, source.lo))
        return table

    @cached_property
    def maker(self) -> dict[Lane, Stream]:
        """The stream that fills each lane."""
        return {lane: s for s in self.streams for lanes in s.lanes for lane in lanes}

    def makers_of(self, source: Source) -> list[Stream]:
        """The streams whose rows a source needs."""
        return [source.steps] if source.steps is not None else [self.maker[lane] for lane in source.lanes]

    @cached_property
    def near(self) -> list[list[Stream]]:
        """For each stream those that may have become ready when it made a row: itself, its readers, its makers."""
        near = [{s.index: s} for s in self.streams]
        for stream in self.streams:
            for source in stream.sources:
                for other in self.makers_of(source):
                    near[other.index][stream.index] = stream
                    near[stream.index][other.index] = other
        return [list(table.values()) for table in near]


def kept_after(graph: Graph, runs: Sequence[Group], number: int) -> list[int]:
    """Tensors made in a pass or before it that a later pass reads without making them."""
    found = []
    for i in bits(_union(runs[: number + 1])):
        for t in graph.ops[i].outputs:
            if any(graph.consumer_mask[t] & run and not run >> i & 1 for run in runs[number + 1 :]):
                found.append(t)
    return found


def written_in(graph: Graph, group: Group, runs: Sequence[Group], number: int) -> list[int]:
    """Tensors that a pass writes to DRAM: those that leave the group, in the last pass that makes them."""
    last = runs[number] & ~_union(runs[number + 1 :])
    return [t for i in bits(last) for t in graph.ops[i].outputs if graph.leaves(t, group)]


def _union(groups: Sequence[Group]) -> Group:
    union = 0
    for group in groups:
        union |= group
    return union


class StageBuilder:
    """Builds the streams and rings of pass ``number``; ``layouts`` None tracks the presence of rows only."""

    def __init__(self, graph: Graph, schedule: Schedule, runs: Sequence[Group], number: int, where: str) -> None:
        self.graph, self.where, self.run = graph, where, runs[number]
        self.group = schedule.group
        self.pixels = any(h.cols for h in schedule.holds)
        self.holds = [h for h in schedule.holds if h.stage == number]
        self.kept = kept_after(graph, runs, number)
        self.written = written_in(graph, schedule.group, runs, number)
        self.maps = {i: [self._map(i, k) for k in range(len(graph.ops[i].inputs))] for i in bits(self.run)}
        self.wanted = self._wanted()
        self.rings: list[Ring] = []
        self.lanes: dict[int, list[Lane]] = {}
        self.over: dict[int, int] = {}
        self.taken: dict[Lane, int] = {}

    def _map(self, op: int, operand: int) -> RowMap:
        if self.pixels:
            return pixel_map(self.graph, self.graph.ops[op], operand)
        return axis_map(self.graph, self.graph.ops[op], operand, ROWS)

    def total(self, tensor: int) -> int:
        """Rows of a tensor, or pixels."""
        facts = self.graph.tensors[tensor]
        return facts.rows * facts.cols if self.pixels else facts.rows

    def build(self, layouts: Sequence[Layout] | None, dtype: str) -> Stage:
        """Streams and empty rings.

        Raises:
            SimulationError: the schedule grants no ring, or no ring of whole rows (pixels), for a tensor of the pass.
        """
        graph, reads = self.graph, self.graph.reads(self.run)
        for hold in self.holds:
            self._ring(hold, layouts, dtype)
        streams = [
            Stream(graph.tensors[t].name, LOADER, self.wanted[t], self.total(t), tensors=(t,), lanes=[self._lanes(t)])
            for t in reads
        ]
        for i in bits(self.run):
            streams += [] if self._is_joined(i) else self._op(i)
        sections = self._sections()
        for index, stream in enumerate(streams):
            stream.index = index
            stream.ends = any(t in self.kept or t in self.written or t in sections for t in stream.tensors)
        return Stage(
            streams,
            self.rings,
            self.lanes,
            tuple(t for t in reads if self._inside(t)),
            frozenset(lane for t in self.kept for lane in self.lanes.get(t, ())[:1]),
            frozenset(self.written) & self.lanes.keys(),
            sections,
            self.pixels,
        )

    def _inside(self, tensor: int) -> bool:
        maker = self.graph.producer[tensor]
        return maker >= 0 and bool(self.group >> maker & 1)

    def _wanted(self) -> dict[int, int]:
        """Rows of each tensor that are wanted: all where it leaves the pass, else up to the last one read.

        All tensors of an op have their rows made together.
        """
        graph, wanted, ends = self.graph, dict[int, int](), {*self.kept, *self.written}
        for i in sorted(bits(self.run), reverse=True):
            op = graph.ops[i]
            rows = max(self.total(op.outputs[0]) if t in ends else wanted.get(t, 0) for t in op.outputs)
            wanted.update(dict.fromkeys(op.outputs, rows))
            for t, rowmap in zip(op.inputs, self.maps[i], strict=True):
                wanted[t] = max(wanted.get(t, 0), rowmap.hi[rows - 1] + 1 if rows else 0)
        return wanted

    # Rings ------------------------------------------------------------------------------------------

    def _ring(self, hold: Hold, layouts: Sequence[Layout] | None, dtype: str) -> None:
        """A ring as granted, with a lane for its tensor and for each that it is written over."""
        facts = self.graph.tensors[hold.tensor]
        slots, slot_bits = hold.rows, 8 * facts.row_bytes
        if self.pixels:
            slots, slot_bits = (hold.rows - 1) * facts.cols + hold.cols, facts.channels * facts.bits
        if hold.nbytes != bits_to_bytes(slots * slot_bits) or slots < 1:
            raise SimulationError(
                f"{self.where}: {facts.name!r} is granted {hold.nbytes:,} B, which is not "
                f"{slots} {'pixels' if self.pixels else 'rows'} of {slot_bits} bits"
            )
        shape = None
        if layouts is not None:
            shape = layouts[hold.tensor].pixel_shape if self.pixels else layouts[hold.tensor].row_shape
        ring = Ring(facts.name, slots, slot_bits, shape, dtype)
        self.rings.append(ring)
        for t in (*hold.over, hold.tensor):
            self.lanes.setdefault(t, []).append(Lane(self.graph.tensors[t].name, ring, t))
        for before, after in pairwise((*hold.over, hold.tensor)):
            self._check_over(before, after)
            self.over[after] = before

    def _check_over(self, before: int, after: int) -> None:
        """Raises SimulationError unless rows of one tensor can take the place of rows of another."""
        a, b = self.graph.tensors[before], self.graph.tensors[after]
        maker = self.graph.ops[self.graph.producer[after]] if self.graph.producer[after] >= 0 else None
        same = (a.rows, a.cols, a.channels * a.bits) == (b.rows, b.cols, b.channels * b.bits)
        if maker is None or before not in maker.inputs or not same:
            raise SimulationError(f"{self.where}: {b.name!r} cannot be written over {a.name!r}: it is not made of it")

    def _lanes(self, tensor: int) -> list[Lane]:
        if tensor not in self.lanes:
            raise SimulationError(f"{self.where}: the schedule grants no ring for {self.graph.tensors[tensor].name!r}")
        return self.lanes[tensor]

    def _is_joined(self, index: int) -> bool:
        """A concatenation without a ring is not copied: its readers read the parts."""
        op = self.graph.ops[index]
        identical = all(m.lo == m.hi == tuple(range(len(m.lo))) for m in self.maps[index])
        return op.kind == "concat" and op.outputs[0] not in self.lanes and identical

    def _view(self, tensor: int) -> View:
        """What a reader sees of a tensor: the next of its lanes, or its parts, of each of which it takes one lane."""
        return self._seen(tensor, {})

    def _seen(self, tensor: int, known: dict[int, Lane]) -> View:
        maker = self.graph.producer[tensor]
        if maker >= 0 and self.run >> maker & 1 and self._is_joined(maker):
            return Joined(maker, tuple(self._seen(t, known) for t in self.graph.ops[maker].inputs))
        if tensor not in known:
            lanes = self._lanes(tensor)
            turn = self.taken.get(lanes[0], 0)
            self.taken[lanes[0]] = turn + 1
            known[tensor] = lanes[turn % len(lanes)]
        return known[tensor]

    def _sections(self) -> dict[int, list[Section]]:
        """Where each tensor is written as a part of a concatenation that leaves without being copied."""
        found: dict[int, list[Section]] = {}
        for t in self.written:
            maker = self.graph.producer[t]
            if self._is_joined(maker):
                self._cut(t, maker, Section(t, 0, ()), found)
        return found

    def _cut(self, whole: int, index: int, outer: Section, found: dict[int, list[Section]]) -> None:
        first = outer.first
        for k, t in enumerate(self.graph.ops[index].inputs):
            section = Section(whole, first, (*outer.path, (index, k)))
            maker, facts = self.graph.producer[t], self.graph.tensors[t]
            if maker >= 0 and self.run >> maker & 1 and self._is_joined(maker):
                self._cut(whole, maker, section, found)
            else:
                found.setdefault(t, []).append(section)
            first += facts.channels * (1 if self.pixels else facts.cols)

    # Streams ----------------------------------------------------------------------------------------

    def _op(self, index: int) -> list[Stream]:
        """The stream of an op, after the step streams of operands that it folds."""
        op = self.graph.ops[index]
        main = Stream(op.name, index, self.wanted[op.outputs[0]], self.total(op.outputs[0]), tensors=op.outputs)
        main.lanes = [self._lanes(t) for t in op.outputs]
        if op.outputs[0] in self.over:
            main.over = self.lanes[self.over[op.outputs[0]]][0]
        steps = {k: self._steps(main, k) for k, m in enumerate(self.maps[index]) if m.reduces}
        for k, (t, rowmap) in enumerate(zip(op.inputs, self.maps[index], strict=True)):
            if k in steps:
                main.sources.append(Source(rowmap.lo, rowmap.hi, steps=steps[k]))
            else:
                rows, cols = self._axes(index, k)
                main.sources.append(
                    Source(rowmap.lo, rowmap.hi, self._view(t), rows=rows, cols=cols, width=self._width(t))
                )
        return [*steps.values(), main]

    def _steps(self, main: Stream, operand: int) -> Stream:
        op, rowmap = self.graph.ops[main.op], self.maps[main.op][operand]
        t = op.inputs[operand]
        each = range(self.total(t))
        rows = rowmap.hi[main.rows - 1] + 1 if main.rows else 0
        return Stream(
            main.label,
            main.op,
            rows,
            len(each),
            [Source(each, each, self._view(t), width=self._width(t))],
            operand=operand,
        )

    def _width(self, tensor: int) -> int:
        return self.graph.tensors[tensor].cols

    def _axes(self, index: int, operand: int) -> tuple[RowMap | None, RowMap | None]:
        if not self.pixels:
            return None, None
        op = self.graph.ops[index]
        return axis_map(self.graph, op, operand, ROWS), axis_map(self.graph, op, operand, COLS)
