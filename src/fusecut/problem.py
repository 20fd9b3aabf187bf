"""A network on a machine under a cost model: the only judge of feasibility and cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from numpy.random import Generator

from fusecut.bonds import random_parts
from fusecut.cost import (
    NO_COST,
    Cost,
    CostModel,
    Dearer,
    Holdings,
    Infeasible,
    Planned,
    chosen_by,
    holdings_of,
    planned_within,
)
from fusecut.errors import CostModelError, FusecutError, GraphError, MachineError, PartitionError, instead_of
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.objective import Objective, Prices
from fusecut.partition import Partition


@runtime_checkable
class Splitter(Protocol):
    """Cuts a group that does not fit into groups that do.

    ``split`` gets a connected, convex group that is infeasible. It returns at least two feasible
    groups that together are the group, in an order in which they may run, each cut off at a
    directed bond (:mod:`fusecut.bonds`), so that a plan with the group replaced by its parts is
    valid again; or None where it knows no such parts. All randomness comes from ``rng``.

    An optional attribute, false where absent: ``redraws``, it may split a group in another way the
    next time, so it is asked each time; the parts of others are remembered.
    """

    @property
    def name(self) -> str: ...

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None: ...


class Problem:
    """What searchers and splitters see: a graph, and the price of its groups.

    Prices are remembered, and so are splits, as in arXiv 2501.00636, except random ones, which are
    drawn again. ``evaluations`` counts the groups the cost model was really asked for, ``splits``
    how often an infeasible group was split, ``fallbacks`` the groups that the splitter gave up on
    and that are split at random.
    The graph is re-read at the machine's widths, so ``problem.graph`` has the right bytes.
    Without a ``splitter`` infeasible groups are split at random.

    Plans are compared by ``rank``: DRAM bytes, unless another ``objective`` is given. A model that
    chooses between schemes chooses by the same objective.

    Raises:
        UnknownNameError, MachineError: no such objective, or the machine does not say enough for it.
    """

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        model: CostModel,
        splitter: Splitter | None = None,
        objective: Objective = "dram",
    ) -> None:
        _check_kinds(graph, machine, model, splitter)
        self.machine = machine
        self.splitter = splitter
        self.graph = graph.with_bits(machine.activation_bits, machine.weight_bits, machine.accumulator_bits)
        self.prices = Prices(self.graph, machine, objective)
        self.model = chosen_by(model, objective)
        self.evaluations = 0
        self.splits = 0
        self.fallbacks = 0
        self.buffer_floor = self.model.buffer_floor(self.graph, machine)
        self._planned: dict[Group, Planned | Infeasible] = {}
        self._dearer: dict[Group, int] = {}
        self._parts: dict[Group, tuple[Group, ...]] = {}
        self._given_up: set[Group] = set()

    @property
    def capacity_bytes(self) -> int:
        return self.machine.buffer_bytes

    def in_buffer(self, nbytes: int) -> Problem:
        """The same problem in a buffer of another size. Nothing is asked yet."""
        machine = replace(self.machine, buffer_bytes=nbytes)
        return Problem(self.graph, machine, self.model, self.splitter, self.prices.objective)

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

    def holdings(self, group: Group) -> Holdings | None:
        """What fills the buffer, as far as the model tells; no evaluation. None from a black box."""
        return holdings_of(self.model, self.graph, group)

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
        return partition if len(groups) == len(partition) else Partition(self.graph, groups, partition)

    def _parts_of(self, group: Group, rng: Generator) -> tuple[Group, ...]:
        if self.fits(group) or not group & (group - 1):
            return (group,)
        known = self._parts.get(group)
        if known is None:
            self.splits += 1
            known = self._split(group, rng)
        return known

    def _split(self, group: Group, rng: Generator) -> tuple[Group, ...]:
        """The splitter's parts, remembered unless it draws anew each time; else random ones, which never are."""
        if self.splitter is not None and group not in self._given_up:
            parts = self.splitter.split(self, group, rng)
            if parts is not None:
                if not getattr(self.splitter, "redraws", False):
                    self._parts[group] = tuple(parts)
                return tuple(parts)
            self.fallbacks += 1
            self._given_up.add(group)
        drawn = random_parts(self.graph, group, self.fits, rng)
        if drawn is None:
            self._parts[group] = (group,)
        return drawn or (group,)

    def finished(self, partition: Partition) -> tuple[Planned, ...]:
        """The groups of a feasible plan with every figure filled in."""
        planned = [self.plan(group) for group in partition.groups]
        return tuple(self.model.finish(self.graph, p, self.machine) for p in planned if isinstance(p, Planned))

    def cost(self, groups: Partition | Iterable[Group]) -> Cost | Infeasible:
        """Cost of a whole plan, or of the first group of it that cannot run.

        Raises:
            PartitionError: the plan is of a network with other ops.
        """
        if isinstance(groups, Partition):
            self._check_own(groups.graph)
        total = NO_COST
        for group in groups.groups if isinstance(groups, Partition) else groups:
            planned = self.plan(group)
            if isinstance(planned, Infeasible):
                return planned
            total += planned.cost
        return total

    def _check_own(self, graph: Graph) -> None:
        if graph is not self.graph and graph.op_index != self.graph.op_index:
            raise PartitionError(f"the plan is of {graph.name!r}, the problem of {self.graph.name!r}: their ops differ")

    def rank(self, group: Group) -> int | None:
        """The group's share of the rank of a plan; None if it cannot run."""
        planned = self.plan(group)
        return None if isinstance(planned, Infeasible) else self.rank_of(group, planned.cost)

    def rank_within(self, group: Group, limit: int) -> int | None:
        """The rank of a group where it is at most ``limit``, and else something above the limit; None if it cannot run.

        A model may save itself the work of pricing what is above; then it is asked again if the limit rises.
        """
        per_byte = self.prices.tariff.per_byte
        if group in self._planned or not per_byte:
            return self.rank(group)
        most = limit // per_byte
        if self._dearer.get(group, 0) <= most:
            self.evaluations += 1
            answer = planned_within(self.model, self.graph, group, self.machine, most)
            if not isinstance(answer, Dearer):
                self._planned[group] = answer
                return self.rank(group)
            self._dearer[group] = answer.dram_bytes
        return self.prices.rank(group, self._dearer[group])

    def rank_of(self, group: Group, cost: Cost) -> int:
        """The rank of a group that runs at this cost."""
        return self.prices.rank(group, cost.dram_bytes, cost.recomputed_macs)

    def least_rank(self, group: Group) -> int:
        """What the group's rank is at least, from shapes, without asking the model."""
        return self.prices.rank(group, self.graph.touch_once_bytes(group) if self.touches_once else 0)

    def rank_of_plan(self, partition: Partition) -> int | None:
        """What a search minimises: the sum of the groups' ranks; None if one of them cannot run."""
        total = 0
        for group in partition.groups:
            rank = self.rank(group)
            if rank is None:
                return None
            total += rank
        return total

    def score(self, partition: Partition) -> int | None:
        """Bytes, femtojoules or cycles of a whole plan; None if a group of it cannot run."""
        rank = self.rank_of_plan(partition)
        return None if rank is None else self.prices.score(rank)

    def floor_bytes(self) -> int:
        """Network inputs, outputs and weights once: what no plan can do without. 0 if the model says so."""
        return self.graph.touch_once_bytes(self.graph.everything) if self.touches_once else 0


def _check_kinds(graph: object, machine: object, model: object, splitter: object) -> None:
    """Raises FusecutError where something of another kind was given, by a slip."""
    if not isinstance(graph, Graph):
        raise GraphError(instead_of("a network, from fusecut.load or fusecut.zoo", graph))
    if not isinstance(machine, Machine):
        raise MachineError(instead_of("a machine, such as fusecut.Machine.of('256KiB')", machine))
    if isinstance(model, type) or not hasattr(model, "plan"):
        raise CostModelError(instead_of("a cost model, such as fusecut.models.scheme_model('lbdf')", model))
    if splitter is not None and (
        isinstance(splitter, type) or not hasattr(splitter, "split") or isinstance(splitter, str)
    ):
        raise FusecutError(instead_of("a splitter, such as fusecut.split.Random()", splitter))
