"""PGExplainer (Luo et al., NeurIPS 2020): a small network that was taught to mask edges, once for all groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from numpy.random import Generator

from fusecut.explain.features import FEATURES_VERSION, batch_of
from fusecut.explain.protocol import Scores, edges
from fusecut.explain.trained import model_for
from fusecut.explain.weights_file import require_gnn, taught
from fusecut.ir import Group
from fusecut.problem import Problem

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel

KIND: Final = "pg"
WIDTH: Final = 64


@dataclass(frozen=True)
class PGExplainer:
    """Scores are the logits that the taught network gives to the embeddings of an edge's two ends.

    Trained by ``fusecut train explainer --name pg`` through ``torch_geometric.explain``; explaining is
    done here, since the library returns probabilities, which saturate at 1. Deterministic. O(V + E).
    ``weights``: a file of your own, taught with ``model``.

    Raises (``scores``):
        WeightsError: the weights are damaged, or were taught with another validity network.
    """

    model: ValidityModel | None = None
    weights: Path | None = None

    name = "pg"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        require_gnn()
        import torch

        from fusecut.threads import one_thread

        model = self.model or model_for(problem)
        x, edge_index = model.inputs(problem.graph, problem.capacity_bytes, batch_of(problem.graph, [group]))
        with one_thread(), torch.inference_mode():
            ends = edge_inputs(model.network, x, edge_index)
            logits = _taught(model, self.weights)(ends).view(-1)
        return dict(zip(edges(problem.graph, group), logits.tolist(), strict=True))


def edge_network(hidden: int) -> Any:
    """The network over edges; its layout is that of the library's, so that trained weights fit."""
    from torch import nn

    return nn.Sequential(nn.Linear(2 * hidden, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))


def edge_inputs(network: Any, x: Any, edge_index: Any) -> Any:
    """Embeddings of both ends of every edge, from the last layer before its ReLU, (E, 2 hidden)."""
    import torch

    for conv in network.convs[:-1]:
        x = conv(x, edge_index).relu()
    x = network.convs[-1](x, edge_index)
    return torch.cat([x[edge_index[0]], x[edge_index[1]]], dim=1)


@cache
def _taught(model: ValidityModel, path: Path | None) -> Any:
    return taught(edge_network(model.network.out.in_features), KIND, FEATURES_VERSION, model, path)
