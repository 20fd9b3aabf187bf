"""What each pass of a line-buffer schedule runs: streams of rows and the rings between them.

A *stream* makes rows one after the other: a group input (rows loaded from DRAM), an op, or the
folding steps of a streaming reduction. Everything follows from the graph, the row maps and the
rings the schedule grants; how many rows a ring would need is never asked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

from fusecut.errors import SimulationError
from fusecut.ir import Graph, Group, bits, mask_of
from fusecut.ops import ROWS, axis_map, event_rows
from fusecut.rowmap import RowMap
from fusecut.schedule import Hold, Schedule
from fusecut.simulate.memory import Ring

LOADER: Final = -1

Shapes: TypeAlias = Mapping[int, tuple[int, ...]]
"""Shape of one row of each tensor."""


@dataclass(eq=False)
class Source:
    """One operand of a stream: rows lo[q]..hi[q] of a ring, or (``steps``) steps 0..hi[q] of a reduction."""

    lo: Sequence[int]
    hi: Sequence[int]
    ring: Ring | None = None
    steps: Stream | None = None


@dataclass(eq=False)
class Stream:
    """Rows of an op, of a group input (``op`` is LOADER), or the steps of a reduction over ``operand``.

    ``rows`` are those that something wants, ``rings`` where each of its tensors' rows go.
    """

    label: str
    op: int
    rows: int
    sources: list[Source] = field(default_factory=list)
    tensors: tuple[int, ...] = ()
    rings: list[list[Ring]] = field(default_factory=list)
    operand: int = -1
    made: int = 0
    index: int = 0

    @property
    def key(self) -> tuple[int, int, int]:
        """(op, tensor, operand): the same in every image and for every builder."""
        return self.op, self.tensors[0] if self.op == LOADER else -1, self.operand


@dataclass(eq=False)
class Stage:
    """One pass: its streams upstream first, its rings by tensor, and the vectors it has from earlier passes."""

    run: Group
    streams: list[Stream]
    rings: dict[int, list[Ring]]
    carried: tuple[int, ...]

    @cached_property
    def readers(self) -> dict[Ring, list[tuple[Stream, Sequence[int]]]]:
        """Who reads each ring, and the lowest row it needs for each of its rows."""
        table: dict[Ring, list[tuple[Stream, Sequence[int]]]] = {r: [] for rings in self.rings.values() for r in rings}
        for stream in self.streams:
            for source in stream.sources:
                if source.ring is not None:
                    table[source.ring].append((stream, source.lo))
        return table

    @cached_property
    def near(self) -> list[list[Stream]]:
        """For each stream those that may have become ready when it made a row: itself, its readers, its makers."""
        maker = {ring: s for s in self.streams for rings in s.rings for ring in rings}
        near = [{s.index: s} for s in self.streams]
        for stream in self.streams:
            for source in stream.sources:
                other = source.steps if source.ring is None else maker.get(source.ring)
                if other is not None:
                    near[other.index][stream.index] = stream
                    near[stream.index][other.index] = other
        return [list(table.values()) for table in near]


def runs_of(graph: Graph, schedule: Schedule) -> tuple[Group, ...]:
    """Ops of each pass: those whose operands and results all have rings in it.

    A one-row result (a squeeze-excite vector) that an earlier pass made is kept, not made again,
    unless an operand of it would then be held for nobody.
    """
    if schedule.passes == 1:
        return (schedule.group,)
    runs: list[Group] = []
    kept: Group = 0
    for stage in range(schedule.passes):
        granted = {h.tensor for h in schedule.holds if h.stage == stage}
        able = mask_of(i for i in schedule.order if granted.issuperset((*graph.ops[i].inputs, *graph.ops[i].outputs)))
        runs.append(_without_kept(graph, able, kept))
        kept |= mask_of(i for i in bits(able) if event_rows(graph, graph.ops[i]) == 1)
    return tuple(runs)


def _without_kept(graph: Graph, able: Group, kept: Group) -> Group:
    run = able & ~kept
    while True:
        lonely = mask_of(
            i for i in bits(able & ~run) if not all(graph.consumer_mask[t] & run for t in graph.ops[i].inputs)
        )
        if not lonely:
            return run
        run |= lonely


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
    """Builds the streams and rings of pass ``number``; ``shapes`` None tracks the presence of rows only."""

    def __init__(self, graph: Graph, schedule: Schedule, runs: Sequence[Group], number: int, where: str) -> None:
        self.graph, self.where, self.run = graph, where, runs[number]
        self.group = schedule.group
        self.holds = [h for h in schedule.holds if h.stage == number]
        self.ends = {*kept_after(graph, runs, number), *written_in(graph, schedule.group, runs, number)}
        self.maps = {
            i: [axis_map(graph, graph.ops[i], k, ROWS) for k in range(len(graph.ops[i].inputs))] for i in bits(self.run)
        }
        self.wanted = self._wanted()

    def build(self, shapes: Shapes | None, dtype: str) -> Stage:
        """Streams and empty rings.

        Raises:
            SimulationError: the schedule grants no ring, or no ring of whole rows, for a tensor of the pass.
        """
        graph, reads = self.graph, self.graph.reads(self.run)
        tensors = sorted({*reads, *(t for i in bits(self.run) for t in graph.ops[i].outputs)})
        rings = {t: [self._ring(h, shapes, dtype) for h in self._holds(t)] for t in tensors}
        streams = [
            Stream(graph.tensors[t].name, LOADER, self.wanted[t], tensors=(t,), rings=[rings[t]])
            for t in reads
            if not self._inside(t)
        ]
        taken = dict.fromkeys(tensors, 0)
        for i in bits(self.run):
            streams += self._op(i, rings, taken)
        for index, stream in enumerate(streams):
            stream.index = index
        return Stage(self.run, streams, rings, tuple(t for t in reads if self._inside(t)))

    def _inside(self, tensor: int) -> bool:
        maker = self.graph.producer[tensor]
        return maker >= 0 and bool(self.group >> maker & 1)

    def _wanted(self) -> dict[int, int]:
        """Rows of each tensor that are wanted: all where it leaves the pass, else up to the last one read.

        All tensors of an op have their rows made together.
        """
        graph, wanted = self.graph, dict[int, int]()
        for i in sorted(bits(self.run), reverse=True):
            op = graph.ops[i]
            rows = max(event_rows(graph, op) if t in self.ends else wanted.get(t, 0) for t in op.outputs)
            wanted.update(dict.fromkeys(op.outputs, rows))
            for t, rowmap in zip(op.inputs, self.maps[i], strict=True):
                wanted[t] = max(wanted.get(t, 0), rowmap.hi[rows - 1] + 1 if rows else 0)
        return wanted

    def _holds(self, tensor: int) -> list[Hold]:
        holds = [h for h in self.holds if h.tensor == tensor]
        if not holds:
            raise SimulationError(f"{self.where}: the schedule grants no ring for {self.graph.tensors[tensor].name!r}")
        return holds

    def _ring(self, hold: Hold, shapes: Shapes | None, dtype: str) -> Ring:
        facts = self.graph.tensors[hold.tensor]
        if hold.nbytes != hold.rows * facts.row_bytes or hold.rows < 1:
            raise SimulationError(
                f"{self.where}: {facts.name!r} is granted {hold.nbytes:,} B, which is not {hold.rows} rows of "
                f"{facts.row_bytes:,} B: only rings of whole rows can be executed"
            )
        return Ring(facts.name, hold.rows, facts.row_bytes, None if shapes is None else shapes[hold.tensor], dtype)

    def _op(self, index: int, rings: dict[int, list[Ring]], taken: dict[int, int]) -> list[Stream]:
        """The stream of an op, after the step streams of operands that it folds."""
        op = self.graph.ops[index]
        outputs = [rings[t] for t in op.outputs]
        main = Stream(op.name, index, self.wanted[op.outputs[0]], tensors=op.outputs, rings=outputs)
        steps = []
        for k, (t, rowmap) in enumerate(zip(op.inputs, self.maps[index], strict=True)):
            ring = rings[t][taken[t] % len(rings[t])]
            taken[t] += 1
            if rowmap.reduces:
                each = range(self.graph.tensors[t].rows)
                rows = rowmap.hi[main.rows - 1] + 1 if main.rows else 0
                steps.append(Stream(op.name, index, rows, [Source(each, each, ring)], operand=k))
                main.sources.append(_after(rowmap, steps[-1]))
            else:
                main.sources.append(Source(rowmap.lo, rowmap.hi, ring))
        return [*steps, main]


def _after(rowmap: RowMap, steps: Stream) -> Source:
    return Source(rowmap.lo, rowmap.hi, steps=steps)
