"""Edge occlusion: how much less infeasible the group looks without each edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

from fusecut.explain.features import Batch, Floats, Ints, batch_of
from fusecut.explain.protocol import Scores, edges
from fusecut.explain.trained import model_for
from fusecut.ir import Graph, Group
from fusecut.problem import Problem

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel

_NODES_AT_ONCE = 16_384


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
    whole = batch_of(graph, [group])
    count = whole.edges.shape[1]
    step = max(1, _NODES_AT_ONCE // len(whole.ops))
    missing = np.arange(count + 1)  # the last one misses nothing
    parts = [
        model.batch_logits(graph, buffer_bytes, _without(whole, missing[start : start + step]))
        for start in range(0, count + 1, step)
    ]
    logits = np.concatenate(parts)
    drops: Floats = logits[-1] - logits[:-1]
    return drops


def _without(whole: Batch, missing: Ints) -> Batch:
    """Copies of one group side by side, each without one of its edges."""
    copies, nodes, count = len(missing), len(whole.ops), whole.edges.shape[1]
    kept = missing[:, None] != np.arange(count)
    all_edges = whole.edges[:, None, :] + (np.arange(copies) * nodes)[:, None]
    return Batch(np.tile(whole.ops, copies), all_edges[:, kept], np.repeat(np.arange(copies), nodes), copies)
