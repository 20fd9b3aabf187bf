"""RG-Explainer (Shan et al., NeurIPS 2021): grows a connected subgraph that alone looks infeasible."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from numpy.random import Generator

from fusecut.explain.features import FEATURES_VERSION, batch_of
from fusecut.explain.protocol import Scores, edges
from fusecut.explain.trained import model_for
from fusecut.explain.weights_file import require_gnn, taught
from fusecut.ir import Group
from fusecut.problem import Problem

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel
    from fusecut.explain.rg_network import Policy

KIND: Final = "rg"


@dataclass(frozen=True)
class RGExplainer:
    """An edge is the more to blame the earlier its later end was added to the subgraph; edges that the
    subgraph lacks share the last place.

    The subgraph is grown greedily by :class:`fusecut.explain.rg_network.Policy` from the likeliest
    start, trained by ``fusecut train explainer --name rg``. Groups of fewer than 4 ops get equal scores.
    Deterministic. O(20 n) after O(n^3) for PageRank. ``weights``: a file of your own, taught with ``model``.

    Raises (``scores``):
        WeightsError: the weights are damaged, or were taught with another validity network.
    """

    model: ValidityModel | None = None
    weights: Path | None = None

    name = "rg"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        require_gnn()
        import torch

        from fusecut.explain import rg_network as rg
        from fusecut.threads import one_thread

        listed = edges(problem.graph, group)
        if group.bit_count() < rg.FEWEST_NODES:
            return dict.fromkeys(listed, 0.0)
        model = self.model or model_for(problem)
        batch = batch_of(problem.graph, [group])
        with one_thread(), torch.inference_mode():
            policy = _taught(model, self.weights)
            place = rg.place_of(model, model.inputs(problem.graph, problem.capacity_bytes, batch)[0], batch)
            seed = policy.seeds(place).argmax().view(1)
            order = rg.grow(policy, place, rg.from_seeds(place, seed), seed, None).order[0].tolist()
        ends = batch.edges.T.tolist()
        late = [max(order[i], order[j]) if min(order[i], order[j]) >= 0 else rg.SIZE_LIMIT for i, j in ends]
        return {edge: -float(rank) for edge, rank in zip(listed, late, strict=True)}


@cache
def _taught(model: ValidityModel, path: Path | None) -> Policy:
    from fusecut.explain.rg_network import Policy

    return taught(Policy(model.network.out.in_features), KIND, FEATURES_VERSION, model, path)
