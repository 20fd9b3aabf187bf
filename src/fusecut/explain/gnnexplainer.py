"""GNNExplainer (Ying et al., NeurIPS 2019): a soft mask over edges, learned anew for each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fusecut.explain.features import Floats, batch_of
from fusecut.explain.protocol import Scores, edges
from fusecut.explain.trained import model_for
from fusecut.explain.weights_file import require_gnn
from fusecut.ir import Group
from fusecut.problem import Problem

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel, ValidityNet

_FURTHEST: Final = 30.0
"""Logit of an edge that the mask rules out, or in, for sure."""


_MARGIN: Final = 2.0


@dataclass(frozen=True)
class GNNExplainer:
    """Scores are the logits of an edge mask m that minimises

        cross-entropy(network(group under m), "infeasible") + edge_size sum(m) + edge_ent mean entropy(m)

    by ``epochs`` steps of Adam, through ``torch_geometric.explain``. The class explained is always
    "infeasible", even where the network is wrong about the group. Logits are divided so that their margin
    is at most 2: where the network is surer than a float can tell, no gradient would reach the mask, and
    the library would leave it at zero for good. The weights of the two penalties are
    not the library's defaults, which explain badly; how they and ``epochs`` were chosen is in docs/explainers.md.
    A single edge is not explained: it has nothing to be compared with. O(epochs V^2) for a group.
    """

    model: ValidityModel | None = None
    epochs: int = 15
    learning_rate: float = 0.2
    edge_size: float = 0.05
    edge_ent: float = 0.1

    name = "gnne"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        require_gnn()
        import torch

        from fusecut.threads import one_thread

        model = self.model or model_for(problem)
        listed = edges(problem.graph, group)
        if len(listed) < 2:
            return dict.fromkeys(listed, 0.0)
        x, edge_index = model.inputs(problem.graph, problem.capacity_bytes, batch_of(problem.graph, [group]))
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            explained = self._explainer(model.network, x, edge_index)(x, edge_index, target=torch.tensor([1]))
        return dict(zip(listed, _logits(explained.edge_mask.numpy()).tolist(), strict=True))

    def _explainer(self, network: ValidityNet, x: Any, edge_index: Any) -> Any:
        """On a network of its own: PyTorch Geometric leaves traces in the modules that it explains."""
        import torch
        from torch_geometric.explain import Explainer
        from torch_geometric.explain import GNNExplainer as Algorithm

        from fusecut.explain.masked_net import MaskedNet

        masked = MaskedNet(network)
        with torch.no_grad():
            fits, does_not = masked(x, edge_index)[0].tolist()
        masked.temperature = max(1.0, (does_not - fits) / _MARGIN)
        return Explainer(
            masked,
            algorithm=Algorithm(self.epochs, self.learning_rate, edge_size=self.edge_size, edge_ent=self.edge_ent),
            explanation_type="phenomenon",
            edge_mask_type="object",
            model_config={"mode": "multiclass_classification", "task_level": "graph", "return_type": "raw"},
        )


def _logits(mask: Floats) -> NDArray[np.float64]:
    """Logits of mask values; edges that no gradient reaches have mask 0, and come last."""
    p = mask.astype(np.float64)
    with np.errstate(divide="ignore"):
        logits: NDArray[np.float64] = np.clip(np.log(p) - np.log1p(-p), -_FURTHEST, _FURTHEST)
    return logits
