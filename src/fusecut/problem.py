"""A network on a machine under a cost model: the only judge of feasibility and cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from numpy.random import Generator

from fusecut.bonds import random_parts
from fusecut.cost import NO_COST, Cost, CostModel, Infeasible, Planned
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.partition import Partition


@runtime_checkable
class Splitter(Protocol):
    """Cuts a group that does not fit into groups that do.

    ``split`` gets a connected, convex group that is infeasible. It returns at least two feasible
    groups that together are the group, in an order in which they may run, each cut off at a
    directed bond (:mod:`fusecut.bonds`), so that a plan with the group replaced by its parts is
    valid again; or None where it knows no such parts. All randomness comes from ``rng``.
    """

    @property
    def name(self) -> str: ...

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None: ...


class Problem:
    """What searchers and splitters see: a graph, and the price of its groups.

    Prices are remembered, and so are splits, as in arXiv 2501.00636. ``evaluations`` counts the
    groups the cost model was really asked for, ``splits`` the infeasible groups that were split,
    ``fallbacks`` those of them that the splitter gave up on and that were split at random.
    The graph is re-read at the machine's widths, so ``problem.graph`` has the right bytes.
    Without a ``splitter`` infeasible groups are split at random.
    """

    def __init__(self, graph: Graph, machine: Machine, model: CostModel, splitter: Splitter | None = None) -> None:
        self.machine = machine
        self.model = model
        self.splitter = splitter
        self.graph = graph.with_bits(machine.activation_bits, machine.weight_bits, machine.accumulator_bits)
        self.evaluations = 0
        self.splits = 0
        self.fallbacks = 0
        self.buffer_floor = model.buffer_floor(self.graph, machine)
        self._planned: dict[Group, Planned | Infeasible] = {}
        self._parts: dict[Group, tuple[Group, ...]] = {}

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

    def known(self, group: Group) -> Planned | Infeasible | None:
        """What :meth:`plan` said about a group; None if it was not asked yet."""
        return self._planned.get(group)

    @property
    def fused_evaluations(self) -> int:
        """Groups of two ops or more that the cost model was asked for."""
        return sum(1 for group in self._planned if group & (group - 1))

    def fits(self, group: Group) -> bool:
        """Whether the group can run."""
        return isinstance(self.plan(group), Planned)

    def repaired(self, partition: Partition, rng: Generator) -> Partition:
        """The plan with every infeasible group replaced by its parts; the plan itself if all fit.

        A group with an op that does not fit alone stays as it is, and so does the plan's verdict.
        """
        groups = [part for group in partition.groups for part in self._parts_of(group, rng)]
        return partition if len(groups) == len(partition) else Partition(self.graph, groups)

    def _parts_of(self, group: Group, rng: Generator) -> tuple[Group, ...]:
        if self.fits(group) or not group & (group - 1):
            return (group,)
        known = self._parts.get(group)
        if known is None:
            self.splits += 1
            known = self._parts[group] = self._split(group, rng)
        return known

    def _split(self, group: Group, rng: Generator) -> tuple[Group, ...]:
        parts = None if self.splitter is None else self.splitter.split(self, group, rng)
        if parts is None:
            self.fallbacks += self.splitter is not None
            parts = random_parts(self.graph, group, self.fits, rng)
        return (group,) if parts is None else tuple(parts)

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
