"""Cost models made of cost models: a fallback for single ops, and the cheapest of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fusecut.cost import (
    BufferFloor,
    CostModel,
    Dearer,
    Holdings,
    Infeasible,
    NoFloor,
    Planned,
    chosen_by,
    holdings_of,
    planned_within,
    unbeaten,
    ways_of,
)
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.objective import Objective, Tariff, tariff


@dataclass(frozen=True)
class WithFallback:
    """``scheme`` wherever it runs; an op that it cannot run alone goes to ``fallback``, as a group of its own.

    This is what ``--scheme lbdf`` means: the whole network gets a total, and the ops that needed
    the fallback are told apart by the scheme of their group.
    """

    scheme: CostModel
    fallback: CostModel

    @property
    def name(self) -> str:
        return self.scheme.name

    @property
    def touches_once(self) -> bool:
        return self.scheme.touches_once and self.fallback.touches_once

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        planned = self.scheme.plan(graph, group, machine)
        if isinstance(planned, Infeasible) and not group & (group - 1):
            return self.fallback.plan(graph, group, machine)
        return planned

    def plan_within(
        self, graph: Graph, group: Group, machine: Machine, limit_bytes: int
    ) -> Planned | Infeasible | Dearer:
        """The scheme's answer; about a single op, that of :meth:`plan`."""
        if group & (group - 1):
            return planned_within(self.scheme, graph, group, machine, limit_bytes)
        return self.plan(graph, group, machine)

    def ways(self, graph: Graph, group: Group, machine: Machine) -> Sequence[Planned]:
        """Those of the scheme; where it has none for a single op, those of the fallback."""
        ways = ways_of(self.scheme, graph, group, machine)
        return ways if ways or group & (group - 1) else ways_of(self.fallback, graph, group, machine)

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        model = self.fallback if planned.schedule.scheme == self.fallback.name else self.scheme
        return model.finish(graph, planned, machine)

    def holdings(self, graph: Graph, group: Group) -> Holdings | None:
        """What the scheme says."""
        return holdings_of(self.scheme, graph, group)

    def choosing_by(self, objective: Objective) -> WithFallback:
        return replace(self, scheme=chosen_by(self.scheme, objective), fallback=chosen_by(self.fallback, objective))

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        """The scheme's own: it decides about every group of two ops or more."""
        return self.scheme.buffer_floor(graph, machine)


@dataclass(frozen=True)
class Cheapest:
    """For each group the scheme of the best rank: by default the fewest bytes; the earlier one on a tie.

    ``single`` runs single ops only, so it takes no part in the floor. A scheme may move fewer bytes by
    repeating MACs, so another objective may choose another scheme.
    """

    schemes: tuple[CostModel, ...]
    single: CostModel
    name: str = "mixed"
    objective: Objective = "dram"

    @property
    def touches_once(self) -> bool:
        return all(model.touches_once for model in (*self.schemes, self.single))

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        models = (*self.schemes, *(() if group & (group - 1) else (self.single,)))
        best: Planned | Infeasible = models[0].plan(graph, group, machine)
        prices = tariff(self.objective, machine)
        macs = sum(graph.ops[i].macs for i in bits(group)) if prices.per_cycle else 0
        least = prices.rank(macs, graph.touch_once_bytes(group) if self.touches_once else 0)
        planned = best
        for model in models[1:]:
            if _price(best, macs, prices) <= (False, least):
                break
            planned = model.plan(graph, group, machine)
            if _price(planned, macs, prices) < _price(best, macs, prices):
                best = planned
        if isinstance(best, Infeasible) and isinstance(planned, Infeasible) and planned is not best:
            return replace(best, levers=tuple(dict.fromkeys((*best.levers, *planned.levers))))
        return best

    def plan_within(
        self, graph: Graph, group: Group, machine: Machine, limit_bytes: int
    ) -> Planned | Infeasible | Dearer:
        """The answer of the only scheme; with several, and about a single op, that of :meth:`plan`."""
        if len(self.schemes) == 1 and group & (group - 1):
            return planned_within(self.schemes[0], graph, group, machine, limit_bytes)
        return self.plan(graph, group, machine)

    def ways(self, graph: Graph, group: Group, machine: Machine) -> Sequence[Planned]:
        """Those of all schemes together."""
        models = (*self.schemes, *(() if group & (group - 1) else (self.single,)))
        return unbeaten(way for model in models for way in ways_of(model, graph, group, machine))

    def holdings(self, graph: Graph, group: Group) -> Holdings | None:
        """What the first scheme says."""
        return holdings_of(self.schemes[0], graph, group)

    def choosing_by(self, objective: Objective) -> Cheapest:
        schemes = tuple(chosen_by(model, objective) for model in self.schemes)
        return replace(self, schemes=schemes, single=chosen_by(self.single, objective), objective=objective)

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        models = (*self.schemes, self.single)
        model = next((m for m in models if m.name == planned.schedule.scheme), self.schemes[0])
        return model.finish(graph, planned, machine)

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        """The floor of the only scheme; with several, nothing is promised unless they share one."""
        return self.schemes[0].buffer_floor(graph, machine) if len(self.schemes) == 1 else NoFloor()


def never_rising(model: CostModel) -> CostModel:
    """The model, or where it has a fallback one that takes the cheaper of the two for single ops.

    Alone in bands an op may move more than tiled loops do in a buffer too small for bands, so under
    ``brr`` a plan may get dearer as the buffer grows. Under ``lbdf`` this changes nothing: an op that
    fits touches everything once.
    """
    return Cheapest((model.scheme,), model.fallback, model.name) if isinstance(model, WithFallback) else model


def _price(planned: Planned | Infeasible, macs: int, prices: Tariff) -> tuple[bool, int]:
    """What runs comes before what does not; then the lesser rank, or fewer bytes missing."""
    if isinstance(planned, Planned):
        return False, prices.rank(macs, planned.cost.dram_bytes, planned.cost.recomputed_macs)
    return True, planned.demand
