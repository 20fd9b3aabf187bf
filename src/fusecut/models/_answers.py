"""What a line-buffer model says about groups, each shape of which it looks into once, for every buffer."""

from __future__ import annotations

from functools import cached_property

from fusecut.cost import Cost, Planned
from fusecut.ir import Graph, Group, bits
from fusecut.models._measure import Demand, Facts
from fusecut.models._passes import passes_of
from fusecut.models._program import Pass
from fusecut.models._shapes import Shape, Shapes, moved
from fusecut.schedule import Schedule


class Answers:
    """Plans of the groups of a graph; of groups that look the same only the first is scheduled."""

    def __init__(self, facts: Facts, two_pass: bool) -> None:
        self.facts, self.two_pass = facts, two_pass
        self.shapes = Shapes(facts.graph, facts.of_ops(), facts.of_tensors())
        self._known: dict[tuple[int, ...], _Answer] = {}

    def plan(self, group: Group, capacity: int) -> Planned | int:
        """The plan in a buffer, or how many bytes the group needs at least."""
        shape = self.shapes.of(group)
        answer = self._answer(shape)
        planned = answer.within(capacity)
        if isinstance(planned, int) or answer.shape.ops == shape.ops:
            return planned
        return Planned(moved(planned.schedule, answer.shape, shape), planned.cost)

    def pooled_bytes(self, group: Group, split: bool, policy: str) -> int:
        """What one shared pool would need for a plan: weights, accumulators, rows that are live at the same time."""
        return self._answer(self.shapes.of(group)).pooled_bytes(split, policy)

    def _answer(self, shape: Shape) -> _Answer:
        answer = self._known.get(shape.key)
        if answer is None:
            answer = self._known[shape.key] = _Answer(self.facts, shape, self.two_pass)
        return answer


class _Answer:
    """Plans of the group that had this shape first: streamed once, and in several passes where that may help.

    Rings of the best policy do not depend on the buffer, only whether they fit: a plan is found once, with
    the buffer as a limit that stops the schedule early.
    """

    def __init__(self, facts: Facts, shape: Shape, two_pass: bool) -> None:
        self.facts, self.shape, self.two_pass = facts, shape, two_pass
        self.group: Group = sum(1 << i for i in shape.ops)
        self._floor = facts.floor.of(self.group)
        self._once_floor = self._floor if facts.floor is facts.once_floor else facts.once_floor.of(self.group)
        self._pooled: dict[tuple[bool, str], int] = {}
        self._found: dict[bool, Planned] = {}
        self._too_small: dict[bool, int] = {}

    def within(self, capacity: int) -> Planned | int:
        """The plan in a buffer, or how many bytes the group needs at least."""
        if self._floor > capacity:
            return self._floor
        planned = self._plan(False, capacity) if self._once_floor <= capacity else None
        if planned is None and self.two_pass:
            planned = self._plan(True, capacity) if self._passes else None
        return capacity + 1 if planned is None else planned

    @cached_property
    def _passes(self) -> tuple[Pass, ...]:
        return passes_of(self.facts.graph, self.group)

    def pooled_bytes(self, split: bool, policy: str) -> int:
        """The lines of the largest pass, and what stays all the time."""
        if (split, policy) not in self._pooled:
            facts = self.facts
            lines = facts.pooled_lines(self.group, self._passes if split else (), policy)
            fixed = sum(facts.graph.ops[i].weight_bytes + facts.accumulators[i] for i in self.shape.ops)
            self._pooled[split, policy] = fixed + lines
        return self._pooled[split, policy]

    def _plan(self, split: bool, capacity: int) -> Planned | None:
        """In one pass, or split into several."""
        if split not in self._found and capacity > self._too_small.get(split, -1):
            passes = self._passes if split else ()
            demand = self.facts.measure(self.group, passes, capacity)
            if demand is None:
                self._too_small[split] = capacity
            else:
                self._found[split] = self._planned(passes, demand)
        planned = self._found.get(split)
        return planned if planned is not None and planned.cost.buffer_bytes <= capacity else None

    def _planned(self, passes: tuple[Pass, ...], demand: Demand) -> Planned:
        runs = tuple(p.run for p in passes)
        schedule = Schedule(
            "lbdf",
            self.group,
            self.shape.ops,
            demand.policy,
            holds=demand.holds,
            passes=max(1, len(passes)),
            runs=runs,
        )
        return Planned(schedule, _cost(self.facts.graph, self.group, passes, demand))


def _cost(graph: Graph, group: Group, passes: tuple[Pass, ...], demand: Demand) -> Cost:
    tensors, ops = graph.tensors, graph.ops
    runs = [p.run for p in passes] or [group]
    read = sum(tensors[t].nbytes for run in runs for t in _from_dram(graph, run, group))
    macs = sum(ops[i].macs for run in runs for i in bits(run))
    return Cost(
        read_bytes=read + demand.weight_bytes,
        write_bytes=sum(tensors[t].nbytes for t in graph.writes(group)),
        weight_bytes=demand.weight_bytes,
        buffer_bytes=demand.nbytes,
        macs=macs,
        recomputed_macs=macs - sum(ops[i].macs for i in bits(group)),
    )


def _from_dram(graph: Graph, run: Group, group: Group) -> list[int]:
    """Tensors that a pass reads from DRAM: made outside the group, not merely outside the pass."""
    return [t for t in graph.reads(run) if graph.producer[t] < 0 or not group >> graph.producer[t] & 1]
