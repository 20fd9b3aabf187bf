"""Edge occlusion: how much less infeasible the group looks without each edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numpy.random import Generator

from fusecut.explain.features import Floats
from fusecut.explain.protocol import Scores, edges
from fusecut.explain.trained import model_for
from fusecut.ir import Graph, Group
from fusecut.problem import Problem

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel


@dataclass(frozen=True)
class Occlusion:
    """score(e) = logit of "infeasible" of the group - the same without edge e.

    No training beyond the validity network, no randomness; all edges are left out side by side in
    one batch (as in EiG-Search, ICML 2024). O(E (V + E)) for a group. ``model``: a validity network
    of your own in place of the bundled one for the problem's scheme.
    """

    model: ValidityModel | None = None

    name = "occlusion"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        model = self.model or model_for(problem)
        drops = occluded(model, problem.graph, problem.capacity_bytes, group)
        return dict(zip(edges(problem.graph, group), drops.tolist(), strict=True))


def occluded(model: ValidityModel, graph: Graph, buffer_bytes: int, group: Group) -> Floats:
    """The scores, in the order of :func:`fusecut.explain.edges`."""
    from fusecut.explain.variants import Whole

    return Whole(model, graph, buffer_bytes, group).occluded()
