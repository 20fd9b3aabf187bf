"""Line-buffer depth-first execution: a group runs row by row, every inner tensor in a ring of rows.

    buffer(G) = weights and biases + accumulators + sum over tensors of (rows held * row bytes)
    dram(G)   = inputs of G + tensors of G that leave it + weights and biases

Rows held are the peaks of a simulated schedule, never a formula; the closed-form lower bound only
rejects early (:mod:`fusecut.models._bounds`). Model and symbols: docs/lbdf.md. Sources: Mills et
al., arXiv 2501.00636 (scheme); Goetschalckx & Verhelst, JETCAS 2019, and Shi et al., JETCAS 2021
(line buffers); DeFiNES, arXiv 2212.05344 (lags).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

from fusecut.cost import Cost, Infeasible, Planned
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models._bounds import AxisBounds, RingFloor, removable
from fusecut.models._events import RowMachine
from fusecut.models._passes import Pass, certain_readers, passes_of
from fusecut.models._program import Lowering, Program, accumulator_bytes, lower
from fusecut.ops import COLS, ROWS
from fusecut.schedule import Hold, Schedule
from fusecut.units import format_bytes


@dataclass(frozen=True)
class Demand:
    """What a group needs on chip, whether or not it fits: the parts add up to ``nbytes``."""

    policy: str
    holds: tuple[Hold, ...]
    weight_bytes: int
    accumulator_bytes: int
    nbytes: int
    pooled_bytes: int
    passes: tuple[Pass, ...] = ()


@dataclass(frozen=True)
class LineBuffer:
    """The LBDF cost model. All switches are off by default; each is one assumption about hardware.

    granularity: hold whole rows, or (``pixel``) all but the last row and a few columns of it.
    prefetch_rows: rows kept ahead for every group input and every tensor that leaves (double buffering).
    inline_elementwise: a pointwise result takes the place of an operand row that dies with it.
    virtual_concat: a concatenation over channels is not copied; its readers read the parts.
    skip_separate_buffer: hardware copies a tensor for each of its readers instead of sharing a ring.
    squeeze_excite: ``full`` holds the whole map behind a global reduction that rejoins the stream;
        ``two_pass`` may stream the group's inputs once more for each such reduction instead,
        where holding does not fit.
    """

    granularity: Literal["row", "pixel"] = "row"
    prefetch_rows: int = 0
    inline_elementwise: bool = False
    virtual_concat: bool = False
    skip_separate_buffer: bool = False
    squeeze_excite: Literal["full", "two_pass"] = "full"
    _facts: WeakKeyDictionary[Graph, _Facts] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False, hash=False
    )

    @property
    def name(self) -> str:
        return "lbdf"

    @property
    def touches_once(self) -> bool:
        return True

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        """Schedule and cost of a group, or why it does not fit.

        The schedule is DDC, or DD where that needs less (see docs/lbdf.md). Time: O(events) of the
        warm-up rows for one sink, of all rows where the group has several or depends on a whole map.
        """
        facts = self._facts_of(graph)
        if facts.mixed_batch & group:
            return Infeasible("batch", 0, 0, f"{_ops(graph, facts.mixed_batch & group)} mixes images of a batch")
        floor = facts.floor.of(group)
        if floor > machine.buffer_bytes:
            return self._refusal(graph, group, machine, floor)
        demand = self._measure(facts, group, (), machine.buffer_bytes)
        if demand is None and self.squeeze_excite == "two_pass":
            passes = passes_of(graph, group)
            demand = self._measure(facts, group, passes, machine.buffer_bytes) if passes else None
        if demand is None:
            return self._refusal(graph, group, machine, max(floor, machine.buffer_bytes + 1))
        return Planned(_schedule(group, demand), _cost(graph, group, demand))

    def buffer_floor(self, graph: Graph, machine: Machine) -> RingFloor:
        return self._facts_of(graph).floor

    def demand(self, graph: Graph, group: Group) -> Demand:
        """The exact buffer of a group under this model, fitting or not, streamed once."""
        found = self._measure(self._facts_of(graph), group, (), None)
        assert found is not None, "without a limit every group has a demand"
        return found

    def _facts_of(self, graph: Graph) -> _Facts:
        if graph not in self._facts:
            self._facts[graph] = _Facts(graph, self)
        return self._facts[graph]

    def _measure(self, facts: _Facts, group: Group, passes: tuple[Pass, ...], limit: int | None) -> Demand | None:
        """Rings of the best policy within ``limit`` bytes, or None."""
        graph = facts.graph
        weights = sum(graph.ops[i].weight_bytes for i in bits(group))
        accumulators = sum(facts.accumulators[i] for i in bits(group))
        left = None if limit is None else limit - weights - accumulators
        if left is not None and left < 0:
            return None
        holds: list[Hold] = []
        lines = pooled = 0
        policy = "ddc"
        for number, part in enumerate(passes or (Pass(group, None, 0),)):
            program = lower(graph, facts.bounds.maps, part.run, part.leaving, facts.switches)
            rings = self._rings(facts, program, group, left if left is None else left - part.resident_bytes)
            if rings is None:
                return None
            mine, peak, how = rings
            policy = how if how != "ddc" else policy
            holds += [Hold(h.tensor, h.rows, h.row_bytes, h.nbytes, h.cols, number) for h in mine]
            lines = max(lines, part.resident_bytes + sum(h.nbytes for h in mine))
            pooled = max(pooled, part.resident_bytes + peak)
        fixed = weights + accumulators
        return Demand(policy, tuple(holds), weights, accumulators, fixed + lines, fixed + pooled, passes)

    def _rings(
        self, facts: _Facts, program: Program, group: Group, limit: int | None
    ) -> tuple[list[Hold], int, str] | None:
        """Holds under DDC, or under DD where DDC is above the lower bound and DD needs less."""
        best: tuple[list[Hold], int, str] | None = None
        for policy in ("ddc", "dd"):
            run = RowMachine(program, policy == "ddc", limit if self.granularity == "row" else None).run()
            if run.overflown:
                continue
            holds = [self._hold(facts, program, r, rows, group) for r, rows in enumerate(run.peaks)]
            nbytes = sum(h.nbytes for h in holds)
            if (limit is None or nbytes <= limit) and (best is None or nbytes < sum(h.nbytes for h in best[0])):
                best = (holds, run.pooled, policy)
            if all(rows <= facts.bounds.rows(ring.tensor, group) for ring, rows in zip(program.rings, run.peaks, strict=True)):
                break
        return best

    def _hold(self, facts: _Facts, program: Program, ring: int, rows: int, group: Group) -> Hold:
        slot = program.rings[ring]
        tensor = facts.graph.tensors[slot.tensor]
        ends = slot.maker in program.sinks or not program.operands[slot.maker]
        ahead = self.prefetch_rows if ends else 0
        if self.granularity == "row":
            return Hold(slot.tensor, rows + ahead, slot.row_bytes, (rows + ahead) * slot.row_bytes)
        cols = min(facts.columns.rows(slot.tensor, group), tensor.cols)
        elements = ((rows + ahead - 1) * tensor.cols + cols) * tensor.channels
        return Hold(slot.tensor, rows + ahead, slot.row_bytes, -(-elements * tensor.bits // 8), cols)

    def _refusal(self, graph: Graph, group: Group, machine: Machine, at_least: int) -> Infeasible:
        weights = sum(graph.ops[i].weight_bytes for i in bits(group))
        heaviest = max(bits(group), key=lambda i: (graph.ops[i].weight_bytes, -i))
        where = f"weights take {weights:,} B, most of them {graph.ops[heaviest].name!r}"
        levers = (f"a buffer of {format_bytes(at_least)} or more", "a cut inside the group")
        return Infeasible("buffer", at_least, machine.buffer_bytes, where, levers, at_least=True)


class _Facts:
    """What the model derives from a graph once."""

    def __init__(self, graph: Graph, model: LineBuffer) -> None:
        self.graph = graph
        twice = model.squeeze_excite == "two_pass"
        self.bounds = AxisBounds(graph, ROWS, through_reductions=not twice)
        self.columns = AxisBounds(graph, COLS)
        self.switches = Lowering(model.inline_elementwise, model.virtual_concat, model.skip_separate_buffer)
        self.accumulators = [accumulator_bytes(graph, op) for op in graph.ops]
        self.mixed_batch = _mixed_batch(graph)
        gone = removable(graph, model.inline_elementwise, model.virtual_concat)
        gone |= {i for i, t in enumerate(graph.tensors) if twice and t.rows == 1}
        slot = [0 if i in gone else t.row_bytes for i, t in enumerate(graph.tensors)]
        least = [t.row_bytes if model.granularity == "row" else -(-t.channels * t.bits // 8) for t in graph.tensors]
        fixed = [op.weight_bytes + acc for op, acc in zip(graph.ops, self.accumulators, strict=True)]
        self.floor = RingFloor(self.bounds, fixed, slot, least, certain_readers(graph) if twice else None)


def _mixed_batch(graph: Graph) -> Group:
    """Ops whose tensors do not all carry the same number of images."""
    return sum(
        1 << i
        for i, op in enumerate(graph.ops)
        if len({graph.tensors[t].batch for t in (*op.inputs, *op.outputs)}) > 1
    )


def _ops(graph: Graph, group: Group) -> str:
    return ", ".join(repr(graph.ops[i].name) for i in bits(group))


def _schedule(group: Group, demand: Demand) -> Schedule:
    return Schedule(
        "lbdf", group, tuple(bits(group)), demand.policy, holds=demand.holds, passes=max(1, len(demand.passes))
    )


def _cost(graph: Graph, group: Group, demand: Demand) -> Cost:
    tensors, ops = graph.tensors, graph.ops
    runs = [p.run for p in demand.passes] or [group]
    read = sum(tensors[t].nbytes for run in runs for t in _from_dram(graph, run, group))
    macs = sum(ops[i].macs for run in runs for i in bits(run))
    return Cost(
        read_bytes=read + demand.weight_bytes,
        write_bytes=sum(tensors[t].nbytes for t in graph.writes(group)),
        weight_bytes=demand.weight_bytes,
        buffer_bytes=demand.nbytes,
        pooled_buffer_bytes=demand.pooled_bytes,
        macs=macs,
        recomputed_macs=macs - sum(ops[i].macs for i in bits(group)),
    )


def _from_dram(graph: Graph, run: Group, group: Group) -> list[int]:
    """Tensors that a pass reads from DRAM: made outside the group, not merely outside the pass."""
    return [t for t in graph.reads(run) if graph.producer[t] < 0 or not group >> graph.producer[t] & 1]
