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
        best: Planned | Infeasible | None = None
        for model in (*self.schemes, *(() if group & (group - 1) else (self.single,))):
            planned = model.plan(graph, group, machine)
            if best is None or isinstance(best, Infeasible):
                best = planned if best is None or isinstance(planned, Planned) else best
            elif isinstance(planned, Planned) and planned.cost.dram_bytes < best.cost.dram_bytes:
                best = planned
            if self.touches_once and isinstance(best, Planned):
                if best.cost.dram_bytes == graph.touch_once_bytes(group):
                    break
        assert best is not None, "there is at least one scheme"
        return best

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        """The floor of the only scheme; with several, nothing is promised unless they share one."""
        return self.schemes[0].buffer_floor(graph, machine) if len(self.schemes) == 1 else NoFloor()
