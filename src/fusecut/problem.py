"""A network on a machine under a cost model: the only judge of feasibility and cost."""

from __future__ import annotations

from collections.abc import Iterable

from fusecut.cost import NO_COST, Cost, CostModel, Infeasible, Planned
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.partition import Partition


class Problem:
    """What searchers and splitters see: a graph, and the price of its groups.

    Prices are remembered. ``evaluations`` counts the groups the cost model was really asked for.
    The graph is re-read at the machine's widths, so ``problem.graph`` has the right bytes.
    """

    def __init__(self, graph: Graph, machine: Machine, model: CostModel) -> None:
        self.machine = machine
        self.model = model
        self.graph = graph.with_bits(machine.activation_bits, machine.weight_bits, machine.accumulator_bits)
        self.evaluations = 0
        self.buffer_floor = model.buffer_floor(self.graph, machine)
        self._planned: dict[Group, Planned | Infeasible] = {}

    @property
    def capacity_bytes(self) -> int:
        return self.machine.buffer_bytes

    @property
    def touches_once(self) -> bool:
        """Whether touching every tensor and weight once bounds the traffic of every group from below."""
        return self.model.touches_once

    def plan(self, group: Group) -> Planned | Infeasible:
        """Schedule and cost of one group, or why it cannot run."""
        known = self._planned.get(group)
        if known is None:
            self.evaluations += 1
            known = self._planned[group] = self.model.plan(self.graph, group, self.machine)
        return known

    def finished(self, partition: Partition) -> tuple[Planned, ...]:
        """The groups of a feasible plan with every figure filled in."""
        planned = [self.plan(group) for group in partition.groups]
        return tuple(self.model.finish(self.graph, p, self.machine) for p in planned if isinstance(p, Planned))

    def cost(self, groups: Partition | Iterable[Group]) -> Cost | Infeasible:
        """Cost of a whole plan, or of the first group of it that cannot run."""
        total = NO_COST
        for group in groups.groups if isinstance(groups, Partition) else groups:
            planned = self.plan(group)
            if isinstance(planned, Infeasible):
                return planned
            total += planned.cost
        return total

    def floor_bytes(self) -> int:
        """Network inputs, outputs and weights once: what no plan can do without. 0 if the model says so."""
        return self.graph.touch_once_bytes(self.graph.everything) if self.touches_once else 0
