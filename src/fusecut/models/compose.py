"""Cost models made of cost models: a fallback for single ops, and the cheapest of several."""

from __future__ import annotations

from dataclasses import dataclass

from fusecut.cost import BufferFloor, CostModel, Infeasible, NoFloor, Planned
from fusecut.ir import Graph, Group
from fusecut.machine import Machine


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

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        model = self.scheme if planned.schedule.scheme == self.scheme.name else self.fallback
        return model.finish(graph, planned, machine)

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        """The scheme's own: it decides about every group of two ops or more."""
        return self.scheme.buffer_floor(graph, machine)


@dataclass(frozen=True)
class Cheapest:
    """For each group the scheme that moves the fewest bytes; the earlier one on a tie.

    ``single`` runs single ops only, so it takes no part in the floor.
    """

    schemes: tuple[CostModel, ...]
    single: CostModel
    name: str = "mixed"

    @property
    def touches_once(self) -> bool:
        return all(model.touches_once for model in (*self.schemes, self.single))

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        models = (*self.schemes, *(() if group & (group - 1) else (self.single,)))
        best: Planned | Infeasible = models[0].plan(graph, group, machine)
        least = graph.touch_once_bytes(group) if self.touches_once else 0
        for model in models[1:]:
            if _price(best) <= (False, least):
                break
            planned = model.plan(graph, group, machine)
            if _price(planned) < _price(best):
                best = planned
        return best

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        models = (*self.schemes, self.single)
        model = next(m for m in models if m.name == planned.schedule.scheme)
        return model.finish(graph, planned, machine)

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        """The floor of the only scheme; with several, nothing is promised unless they share one."""
        return self.schemes[0].buffer_floor(graph, machine) if len(self.schemes) == 1 else NoFloor()


def _price(planned: Planned | Infeasible) -> tuple[bool, int]:
    """What runs comes before what does not; then fewer bytes moved, or fewer bytes missing."""
    if isinstance(planned, Planned):
        return False, planned.cost.dram_bytes
    return True, planned.demand
