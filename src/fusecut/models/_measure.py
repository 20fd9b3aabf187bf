"""How much buffer a group needs under a line-buffer model: in closed form where that is exact, else by schedule."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from fusecut.ir import Graph, Group, bits
from fusecut.models._bounds import RingFloor, RowBounds, removable
from fusecut.models._due import Timetable
from fusecut.models._events import Observer, RowMachine
from fusecut.models._passes import certain_readers, rejoining
from fusecut.models._program import PLAIN, Lowering, Pass, Program, Ring, accumulator_bytes, lower
from fusecut.schedule import Hold

POLICIES: Final = "ddc", "dd", "due"
"""Row schedules in the order in which they are tried; of several as good the first is taken."""


@dataclass(frozen=True)
class Demand:
    """What a group needs on chip, whether or not it fits: the parts add up to ``nbytes``.

    With several passes ``lines_bytes`` is what the largest pass holds. ``policy`` is "any" where
    every demand-bounded order that serves downstream first reaches the same peaks.
    """

    policy: str
    holds: tuple[Hold, ...]
    weight_bytes: int
    accumulator_bytes: int
    lines_bytes: int

    @property
    def nbytes(self) -> int:
        return self.weight_bytes + self.accumulator_bytes + self.lines_bytes


@dataclass(frozen=True)
class Assumptions:
    """The switches of :class:`fusecut.models.LineBuffer` that say how rows are held."""

    pixel: bool
    prefetch_rows: int
    two_pass: bool
    lowering: Lowering


class Facts:
    """What a line-buffer model derives from a graph once, and the measurements built on it."""

    def __init__(self, graph: Graph, assumptions: Assumptions) -> None:
        self.graph, self.assumptions = graph, assumptions
        pixels = assumptions.pixel
        self.bounds = RowBounds(graph, pixels)
        ignored = rejoining(graph, graph.everything) if assumptions.two_pass else 0
        self.pass_bounds = RowBounds(graph, pixels, ignored) if ignored else self.bounds
        self.accumulators = [accumulator_bytes(graph, op) for op in graph.ops]
        self.mixed_batch = _mixed_batch(graph)
        self.uneven = _uneven(graph) if pixels else 0
        gone = removable(graph, assumptions.lowering.inline_elementwise, assumptions.lowering.virtual_concat)
        slot_bits = [t.channels * t.bits if pixels else 8 * t.row_bytes for t in graph.tensors]
        slot_bits = [0 if i in gone else size for i, size in enumerate(slot_bits)]
        fixed = [op.weight_bytes + acc for op, acc in zip(graph.ops, self.accumulators, strict=True)]
        self.once_floor = self.floor = RingFloor(self.bounds, fixed, slot_bits)
        if ignored:
            slot_bits = [0 if graph.tensors[i].rows == 1 else size for i, size in enumerate(slot_bits)]
            self.floor = RingFloor(self.pass_bounds, fixed, slot_bits, certain_readers(graph))

    def of_ops(self) -> list[Hashable]:
        """For each op what the rest of the network has to do with how a group with it runs."""
        ignored, certain = self.pass_bounds.ignored, self.floor.certain
        last, again = self.bounds.demand, self.pass_bounds.demand
        return [(last[i], again[i], ignored >> i & 1, certain >> i & 1) for i in range(len(self.graph))]

    def of_tensors(self) -> list[Hashable]:
        """The same for each tensor: whether a switch may take its ring out of the buffer somewhere."""
        return list(zip(self.once_floor.slot_bits, self.floor.slot_bits, strict=True))

    def measure(self, group: Group, passes: tuple[Pass, ...], limit: int | None) -> Demand | None:
        """Rings of the best policy within ``limit`` bytes; None where they do not fit.

        One pass over everything when ``passes`` is empty; all passes follow the same policy. O(ops) in closed
        form, else O(events).
        """
        weights = sum(self.graph.ops[i].weight_bytes for i in bits(group))
        accumulators = sum(self.accumulators[i] for i in bits(group))
        left = None if limit is None else limit - weights - accumulators
        if left is not None and left < 0:
            return None
        stages = [self._stage(part, group, bool(passes)) for part in passes or (Pass(group),)]
        best: Demand | None = None
        for policy in POLICIES if any(stage.program for stage in stages) else ("any",):
            found = self._lines(stages, group, policy, left)
            if found is None:
                continue
            holds, lines, least = found
            if best is None or lines < best.lines_bytes:
                best = Demand(policy, tuple(holds), weights, accumulators, lines)
            if least:
                break
        return best

    def pooled_lines(self, group: Group, passes: tuple[Pass, ...], policy: str) -> int:
        """Peak of the sum of live rows over all events: what one shared pool would need for the lines."""
        most = 0
        for part in passes or (Pass(group),):
            most = max(most, part.resident_bytes + run_to_the_end(self._program(part), policy).pooled)
        return most

    def _program(self, part: Pass) -> Program:
        return lower(self.graph, self.bounds.maps, part, self.assumptions.lowering, self.assumptions.pixel)

    def _stage(self, part: Pass, group: Group, split: bool) -> _Stage:
        bounds = self.pass_bounds if split else self.bounds
        rows = self._closed_form(part, group, bounds)
        if rows is None:
            return _Stage(part, bounds, program=self._program(part))
        return _Stage(part, bounds, [self._hold(*each) for each in rows])

    def _lines(
        self, stages: list[_Stage], group: Group, policy: str, room: int | None
    ) -> tuple[list[Hold], int, bool] | None:
        """(what all passes hold, bytes of the largest, whether no order holds less); None where that does not fit."""
        every: list[Hold] = []
        lines, least = 0, True
        for number, stage in enumerate(stages):
            resident = stage.part.resident_bytes
            left = None if room is None else room - resident
            found = None if left is not None and left < 0 else self._holds(stage, group, policy, left)
            if found is None:
                return None
            holds, is_least = found
            nbytes = sum(h.nbytes for h in holds)
            if left is not None and nbytes > left:
                return None
            every += [replace(h, stage=number) for h in holds]
            lines, least = max(lines, resident + nbytes), least and is_least
        return every, lines, least

    def _closed_form(self, part: Pass, group: Group, bounds: RowBounds) -> list[_Rows] | None:
        """Rows of every ring where the lower bound is reached by all of them at once; else None.

        That is so when one op's rows leave, the readers of every tensor (of all results of an op) are
        totally ordered by ancestry, and an earlier reader never needs less of it than a later one: chains, and forks
        like identity skips and squeeze-excite. The bounds count rows that the whole network
        demands, so a group that demands more of an op is not decided here. Nor is one of several inputs in
        which an op waits for a whole map: an input that is loaded meanwhile may lie on chip above its bound.
        """
        graph, run = self.graph, part.run
        if self.assumptions.lowering != PLAIN:
            return None
        leaving = _leaving(graph, run) if part.leaving is None else part.leaving
        if leaving & (leaving - 1) or not _demand_is_global(bounds, run, leaving) or self._runs_ahead(part, bounds):
            return None
        rows = []
        for t in _tensors(graph, run):
            together = bounds.together(t, run)
            readers = sorted({r for made in together for r in graph.consumers[made] if run >> r & 1})
            if any(not graph.ancestors[b] >> a & 1 for a, b in pairwise(readers)):
                return None
            if any(not pair & ~run for pair in bounds.crossed(t, together)):
                return None
            maker = graph.producer[t]
            outside = maker < 0 or not run >> maker & 1
            least = bounds.length[t] if t in part.carried or t in part.kept else 1
            ends = t not in part.carried if outside else self._is_written(t, part, bool(leaving >> maker & 1), group)
            rows.append(_Rows(t, max(least, bounds.rows(t, run, together)), ends))
        return rows

    def _runs_ahead(self, part: Pass, bounds: RowBounds) -> bool:
        """Whether an input may be loaded ahead by ``ddc`` while an op waits for all rows of what depends on another."""
        if not part.run & (part.run - 1) or not part.run & bounds.waiting:
            return False
        streamed = [t for t in self.graph.reads(part.run) if bounds.length[t] > 1 and t not in part.carried]
        return len(streamed) > 1

    def _holds(self, stage: _Stage, group: Group, policy: str, room: int | None) -> tuple[Sequence[Hold], bool] | None:
        """(rings of a pass under a policy, whether they are at their lower bounds); None if too high to go on."""
        part, program = stage.part, stage.program
        if program is None and policy != "due":
            return stage.holds, True
        program = program or self._program(part)
        peaks = _peaks(program, policy, room)
        if peaks is None:
            return None
        made_by = {s: t for s, tensors in enumerate(program.tensors) for t in tensors}
        holds = [
            replace(
                self._hold(ring.tensor, rows, self._ends(part, program, ring, group)),
                over=tuple(made_by[s] for s in ring.streams[:-1]),
            )
            for ring, rows in zip(program.rings, peaks, strict=True)
        ]
        bounds = stage.bounds
        least = (bounds.rows(ring.tensor, group, bounds.together(ring.tensor, group)) for ring in program.rings)
        return holds, all(rows <= bound for rows, bound in zip(peaks, least, strict=True))

    def _ends(self, part: Pass, program: Program, ring: Ring, group: Group) -> int:
        """How many of the streams that pass through a ring come from DRAM, plus how many leave for it."""
        loaded = sum(not program.operands[s] and s not in program.resident for s in ring.streams)
        return loaded + sum(self._is_written(ring.tensor, part, s in program.sinks, group) for s in ring.streams)

    def _is_written(self, tensor: int, part: Pass, wanted: bool, group: Group) -> bool:
        """Whether rows that are wanted outside go to DRAM; vectors for a later pass only stay on chip."""
        return wanted and (tensor not in part.kept or self.graph.leaves(tensor, group))

    def _hold(self, tensor: int, rows: int, ends: int) -> Hold:
        """The ring of so many rows (pixels), and what is prefetched for each of its ends in DRAM."""
        held, ahead = self.graph.tensors[tensor], ends * self.assumptions.prefetch_rows
        if not self.assumptions.pixel:
            rows = max(1, rows) + ahead
            return Hold(tensor, rows, held.row_bytes, rows * held.row_bytes)
        pixels = max(1, rows) + ahead * held.cols
        whole, last = divmod(pixels - 1, held.cols)
        return Hold(tensor, whole + 1, held.row_bytes, -(-pixels * held.channels * held.bits // 8), last + 1)


def run_to_the_end(program: Program, policy: str, observer: Observer | None = None) -> RowMachine:
    """All rows of a program under a policy; ``any`` order is as good as arrival."""
    machine = RowMachine(program, policy != "dd", observer=observer)
    return machine.follow(Timetable(program).events()) if policy == "due" else machine.run(to_the_end=True)


def _peaks(program: Program, policy: str, room: int | None) -> list[int] | None:
    """How high each ring rises; None if some run was stopped because they do not fit."""
    if policy == "due":
        return Timetable(program).peaks()
    run = RowMachine(program, policy == "ddc", room).run()
    return None if run.overflown else run.peaks


class _Rows(NamedTuple):
    tensor: int
    rows: int
    ends: int


@dataclass(frozen=True)
class _Stage:
    """A pass: its rings in closed form, as ``dd`` and ``ddc`` have them, or the program that must run to find them."""

    part: Pass
    bounds: RowBounds
    holds: Sequence[Hold] = ()
    program: Program | None = None


def _tensors(graph: Graph, run: Group) -> Iterable[int]:
    """Tensors that the ops read or make, inputs of the run first, each once."""
    made = [t for i in bits(run) for t in graph.ops[i].outputs]
    return (*graph.reads(run), *made)


def _leaving(graph: Graph, run: Group) -> Group:
    return sum(1 << i for i in bits(run) if any(graph.leaves(t, run) for t in graph.ops[i].outputs))


def _demand_is_global(bounds: RowBounds, run: Group, leaving: Group) -> bool:
    """Whether the ops demand of one another exactly what the network demands of them."""
    graph, last = bounds.graph, dict[int, int]()
    for i in _descending(run):
        rows = bounds.size[i] - 1 if leaving >> i & 1 else last.get(i, -1)
        if rows != bounds.demand[i]:
            return False
        for t, rowmap in zip(graph.ops[i].inputs, bounds.maps[i], strict=True):
            maker = graph.producer[t]
            if maker >= 0 and rows >= 0:
                last[maker] = max(last.get(maker, -1), rowmap.hi[rows])
    return True


def _descending(mask: Group) -> Iterator[int]:
    while mask:
        index = mask.bit_length() - 1
        yield index
        mask ^= 1 << index


def _mixed_batch(graph: Graph) -> Group:
    """Ops whose tensors do not all carry the same number of images."""
    return sum(
        1 << i for i, op in enumerate(graph.ops) if len({graph.tensors[t].batch for t in (*op.inputs, *op.outputs)}) > 1
    )


def _uneven(graph: Graph) -> Group:
    """Ops with several results that do not have the columns of their operands: pixel x of one is not pixel x of all."""
    return sum(
        1 << i
        for i, op in enumerate(graph.ops)
        if len(op.outputs) > 1 and len({graph.tensors[t].cols for t in (*op.inputs, *op.outputs)}) > 1
    )
