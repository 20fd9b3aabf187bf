"""What explainers learn from: infeasible groups in their buffers; and how PGExplainer is taught."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from fusecut.explain.features import FEATURES_VERSION, Batch, Ints, batch_of
from fusecut.explain.gnn import ValidityModel, ValidityNet
from fusecut.explain.pgexplainer import KIND as PG
from fusecut.explain.pgexplainer import edge_inputs, edge_network
from fusecut.explain.weights_file import weights_bytes
from fusecut.ir import Graph, Group
from fusecut.threads import one_thread
from fusecut.train.dataset import Samples
from fusecut.train.pool import graphs_of

Report = Callable[[str], None]

FEWEST_OPS: Final = 4
MOST_OPS: Final = 40


@dataclass(frozen=True)
class Case:
    """A group that does not fit a buffer, which the validity network knows, and what the network reads."""

    x: torch.Tensor
    batch: Batch


def cases(model: ValidityModel, samples: Samples, most: int, seed: int) -> list[Case]:
    """Up to ``most`` cases, drawn evenly over the networks of the data set, in random order.

    Groups of 4 to 40 ops: smaller ones leave nothing to explain, larger ones take long.

    Raises nothing; the list is empty where there are no such groups.
    """
    rng = np.random.default_rng(seed)
    graphs = graphs_of(samples)
    found: list[Case] = []
    for k, graph in enumerate(graphs):
        rows = np.flatnonzero(samples.network_of == k)
        wide = [r for r in rows.tolist() if FEWEST_OPS <= samples.masks[r].bit_count() <= MOST_OPS]
        pairs = [(samples.masks[r], b) for r in wide for b in np.flatnonzero(samples.infeasible[r]).tolist()]
        picked = rng.permutation(len(pairs))[: -(-most // len(graphs))]
        found += _known(model, graph, [(pairs[i][0], samples.buffers[pairs[i][1]]) for i in picked.tolist()])
    return [found[i] for i in rng.permutation(len(found))[:most].tolist()]


def _known(model: ValidityModel, graph: Graph, pairs: list[tuple[Group, int]]) -> Iterator[Case]:
    """Those that the network finds infeasible, too."""
    for group, buffer_bytes in pairs:
        batch = batch_of(graph, [group])
        if model.batch_logits(graph, buffer_bytes, batch)[0] > 0:
            yield Case(model.inputs(graph, buffer_bytes, batch)[0], batch)


@dataclass(frozen=True)
class PGSettings:
    """How PGExplainer is taught. Penalties are for each edge: the loss of a batch has the mean over its graphs."""

    epochs: int = 15
    batch: int = 16
    learning_rate: float = 3e-4
    edge_size: float = 0.05
    edge_ent: float = 0.1
    seed: int = 0


def train_pg(model: ValidityModel, taught: list[Case], settings: PGSettings, on_progress: Report | None) -> bytes:
    """The weights of a PGExplainer, as a file. Interrupted, it keeps what was learned so far.

    The library's class does the training, on a copy of the network, its options set on the instance
    (they are attributes of the class, and would leak into the next one). Groups go in batches. The copy
    computes the same from embeddings scaled to about 1: on those of the network itself, which are in the
    tens, the mask saturates in the first steps and learns nothing more.
    """
    scale = _embedding_scale(model, taught)
    with one_thread(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Converting a tensor")  # the library's own float(loss)
        torch.manual_seed(settings.seed)
        algorithm, network = _pg_algorithm(model, settings), _scaled_down(model, scale)
        order = np.random.default_rng(settings.seed)
        try:
            for epoch in range(settings.epochs):
                losses = [
                    algorithm.train(epoch, network, x, e, target=torch.ones(b.count, dtype=torch.long), batch=owner)
                    for x, e, owner, b in _batches(taught, settings.batch, order.permutation(len(taught)))
                ]
                if on_progress is not None:
                    on_progress(f"epoch {epoch + 1} of {settings.epochs}: loss {np.mean(losses):.4f}")
        except KeyboardInterrupt:
            if on_progress is not None:
                on_progress("interrupted: keeping what was learned so far")
    plain = edge_network(model.network.out.in_features)
    plain.load_state_dict(algorithm.mlp.state_dict())
    with torch.no_grad():
        plain[0].weight /= scale
    header = {"scheme": model.trained.scheme, "validity_sha256": model.fingerprint, "seed": settings.seed}
    return weights_bytes(plain.state_dict(), PG, FEATURES_VERSION, header)


def _embedding_scale(model: ValidityModel, taught: list[Case]) -> float:
    """Root mean square of what PGExplainer sees of nodes."""
    with torch.no_grad():
        seen = [edge_inputs(model.network, case.x, torch.from_numpy(case.batch.edges)) for case in taught]
    return max(float(torch.cat(seen).square().mean().sqrt()), 1e-6)


def _scaled_down(model: ValidityModel, scale: float) -> ValidityNet:
    """A network that computes the same, with embeddings of its nodes smaller by a factor: ReLU keeps scale."""
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in network.convs[-1].parameters():
            parameter /= scale
        network.hidden.weight *= scale
    return network


def _pg_algorithm(model: ValidityModel, settings: PGSettings) -> Any:
    from torch_geometric.explain import Explainer, PGExplainer

    algorithm = PGExplainer(settings.epochs, settings.learning_rate)
    sizes = {"edge_size": settings.edge_size / settings.batch, "edge_ent": settings.edge_ent}
    algorithm.coeffs = {**PGExplainer.coeffs, **sizes}
    Explainer(
        model.network,
        algorithm=algorithm,
        explanation_type="phenomenon",
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "graph", "return_type": "raw"},
    )
    return algorithm


def _batches(
    taught: list[Case], size: int, order: Ints
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, Batch]]:
    for start in range(0, len(order), size):
        part = [taught[i] for i in order[start : start + size].tolist()]
        joined = _side_by_side([case.batch for case in part])
        x = torch.cat([case.x for case in part])
        yield x, torch.from_numpy(joined.edges), torch.from_numpy(joined.graph_of), joined


def _side_by_side(batches: list[Batch]) -> Batch:
    """Batches of one graph each as one."""
    first = np.cumsum([0, *(len(b.ops) for b in batches)])
    return Batch(
        np.concatenate([b.ops for b in batches]),
        np.concatenate([b.edges + first[k] for k, b in enumerate(batches)], axis=1),
        np.concatenate([np.full(len(b.ops), k, np.int64) for k, b in enumerate(batches)]),
        len(batches),
    )
