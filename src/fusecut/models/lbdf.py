"""Line-buffer depth-first execution: a group runs row by row, every inner tensor in a ring of rows.

    buffer(G) = weights and biases + accumulators + sum over tensors of (rows held * row bytes)
    dram(G)   = inputs of G + tensors of G that leave it + weights and biases

Rows held are the peaks of a schedule (docs/lbdf.md); the closed-form lower bound replaces the
schedule only where it is proved and tested to be reached. Sources: Mills et al., arXiv 2501.00636
(the scheme); Goetschalckx & Verhelst, JETCAS 2019, and Shi et al., JETCAS 2021 (line buffers);
DeFiNES, arXiv 2212.05344 (lags).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal
from weakref import WeakKeyDictionary

from fusecut.cost import Holdings, Infeasible, Planned
from fusecut.errors import MachineError, UnknownNameError
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models._answers import Answers
from fusecut.models._bounds import RingFloor
from fusecut.models._measure import Assumptions, Demand, Facts
from fusecut.models._program import Lowering
from fusecut.models._shapes import Shapes
from fusecut.units import format_bytes


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
    _known: WeakKeyDictionary[Graph, Facts] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False, hash=False
    )
    _answers: WeakKeyDictionary[Graph, Answers] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        """Refuse a switch with a value it cannot have, by name."""
        for switch, known in (("granularity", ("row", "pixel")), ("squeeze_excite", ("full", "two_pass"))):
            if getattr(self, switch) not in known:
                raise UnknownNameError(switch, str(getattr(self, switch)), known)
        if self.prefetch_rows < 0:
            raise MachineError(f"prefetch_rows is {self.prefetch_rows}: it must be 0 or more")

    @property
    def name(self) -> str:
        return "lbdf"

    @property
    def touches_once(self) -> bool:
        return True

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        """Schedule and cost of a group, or why it does not fit.

        O(tensors * readers) where the closed form holds. Otherwise the schedule is DDC, or DD or
        that of due times where that needs less: O(events) of the warm-up for one sink, of all rows where several
        tensors leave or rows depend on a whole map. Of groups that look the same only the first is scheduled,
        whatever the buffer: O(ops + tensors) for all others.
        """
        facts, capacity = self._facts(graph), machine.buffer_bytes
        if facts.mixed_batch & group:
            names = ", ".join(repr(graph.ops[i].name) for i in bits(facts.mixed_batch & group))
            return Infeasible("batch", capacity + 1, capacity, f"{names} mixes images of a batch")
        if facts.uneven & group:
            names = ", ".join(repr(graph.ops[i].name) for i in bits(facts.uneven & group))
            return Infeasible("columns", capacity + 1, capacity, f"{names} splits columns: it cannot run by pixels")
        planned = self._answers_of(graph).plan(group, capacity)
        return self._refusal(graph, group, capacity, planned) if isinstance(planned, int) else planned

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """The same plan with its pooled buffer, which no search needs. O(events)."""
        schedule, cost = planned
        pooled = self._answers_of(graph).pooled_bytes(schedule.group, schedule.passes > 1, schedule.policy)
        return Planned(schedule, replace(cost, pooled_buffer_bytes=pooled))

    def buffer_floor(self, graph: Graph, machine: Machine) -> RingFloor:
        return self._facts(graph).floor

    def demand(self, graph: Graph, group: Group) -> Demand:
        """The exact buffer of a group under this model, fitting or not, streamed once."""
        found = self._facts(graph).measure(group, (), None)
        if found is None:
            raise AssertionError("without a limit every group has a demand")
        return found

    def holdings(self, graph: Graph, group: Group) -> Holdings:
        """The parts of :meth:`demand`: rings by tensor, weights and partial results by op."""
        tensors: dict[int, int] = {}
        for hold in self.demand(graph, group).holds:
            tensors[hold.tensor] = tensors.get(hold.tensor, 0) + hold.nbytes
        accumulators = self._facts(graph).accumulators
        return Holdings(tensors, {i: graph.ops[i].weight_bytes + accumulators[i] for i in bits(group)})

    def shapes(self, graph: Graph) -> Shapes:
        """Which groups look the same to this model, and to models that are built on it."""
        return self._answers_of(graph).shapes

    def accumulator_bytes(self, graph: Graph, op: int) -> int:
        """Bytes of partial results one op keeps while it reduces over all rows; 0 for other ops."""
        return self._facts(graph).accumulators[op]

    def reason(self, graph: Graph, tensor: int, group: Group) -> tuple[int, int, int] | None:
        """Why a ring holds the rows it must: (rows, late reader, early reader) of its lower bound.

        The late reader still waits for the oldest row when the early one needs the newest; both are
        the same op where one window spans the rows. None where nothing in the group reads it.
        """
        cols = graph.tensors[tensor].cols if self.granularity == "pixel" else 1
        bounds = self._facts(graph).bounds
        for mask, rows in bounds.pairs(tensor, bounds.together(tensor, group)):
            if not mask & ~group:
                return -(-rows // cols), mask.bit_length() - 1, (mask & -mask).bit_length() - 1
        return None

    def _facts(self, graph: Graph) -> Facts:
        if graph not in self._known:
            lowering = Lowering(self.inline_elementwise, self.virtual_concat, self.skip_separate_buffer)
            two_pass = self.squeeze_excite == "two_pass"
            assumptions = Assumptions(self.granularity == "pixel", self.prefetch_rows, two_pass, lowering)
            self._known[graph] = Facts(graph, assumptions)
        return self._known[graph]

    def _answers_of(self, graph: Graph) -> Answers:
        if graph not in self._answers:
            self._answers[graph] = Answers(self._facts(graph), self.squeeze_excite == "two_pass")
        return self._answers[graph]

    def _refusal(self, graph: Graph, group: Group, capacity: int, at_least: int) -> Infeasible:
        weights = sum(graph.ops[i].weight_bytes for i in bits(group))
        heaviest = max(bits(group), key=lambda i: (graph.ops[i].weight_bytes, -i))
        where = f"weights take {weights:,} B, most of them {graph.ops[heaviest].name!r}"
        levers: tuple[str, ...] = (f"a buffer of {format_bytes(at_least)} or more",)
        levers += ("a cut inside the group",) if group & (group - 1) else ()
        return Infeasible("buffer", at_least, capacity, where, levers, at_least=True)
