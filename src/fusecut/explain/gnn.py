"""The validity network: does a group fit the buffer?

Four GraphConv layers (Morris et al., AAAI 2019) of width 128 along the edges, ReLU, sums as in
arXiv 2501.00636:

    h'(v) = ReLU(W1 h(v) + W2 sum over edges u -> v of h(u) + b)

The embedding of a group is the sum of those of its ops; one hidden layer makes two logits of it,
(fits, does not fit). Only the difference counts. The exact cost model always has the last word: the
network explains and ranks, it never decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphConv

from fusecut.bonds import Bond
from fusecut.errors import WeightsError
from fusecut.explain.features import (
    FEATURES_VERSION,
    Batch,
    Floats,
    OpTable,
    batch_of,
    feature_names,
    node_features,
    op_table,
)
from fusecut.explain.weights_file import Weights, fill, read_weights, weights_bytes
from fusecut.ir import Graph, Group
from fusecut.threads import one_thread
from fusecut.units import format_bytes

HIDDEN: Final = 128
LAYERS: Final = 4
KIND: Final = "validity"
NODES_AT_ONCE: Final = 16_384
"""Groups are judged in batches of about so many nodes: more would leave the cache."""


class ValidityNet(nn.Module):
    """The network itself, pooling inside, so that explainers can wrap it."""

    def __init__(self, features: int, hidden: int = HIDDEN, layers: int = LAYERS) -> None:
        super().__init__()
        widths = [features, *[hidden] * layers]
        self.convs = nn.ModuleList(GraphConv(a, b, aggr="add") for a, b in pairwise(widths))
        self.hidden = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 2)

    def embed(self, x: Tensor, edges: Tensor) -> Tensor:
        """Embeddings of the nodes, (N, hidden)."""
        for conv in self.convs:
            x = conv(x, edges).relu()
        return x

    def judge(self, embeddings: Tensor, graph_of: Tensor, count: int) -> Tensor:
        """Logits of graphs from the embeddings of their nodes, (count, 2)."""
        pooled = embeddings.new_zeros(count, embeddings.shape[1]).index_add_(0, graph_of, embeddings)
        logits: Tensor = self.out(self.hidden(pooled).relu())
        return logits

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Logits (graphs, 2); without ``batch`` all nodes are one graph."""
        graph_of = x.new_zeros(len(x), dtype=torch.long) if batch is None else batch
        count = int(graph_of[-1]) + 1 if len(graph_of) else 1
        return self.judge(self.embed(x, edge_index), graph_of, count)


@dataclass(frozen=True)
class Trained:
    """What a validity network was trained on: scheme, kinds of ops, and bytes of the buffers."""

    scheme: str
    vocabulary: tuple[str, ...]
    buffers: tuple[int, ...]
    networks: tuple[str, ...]
    seed: int


class ValidityModel:
    """A trained validity network, and what it was trained on. Features of ops are kept per graph."""

    def __init__(self, network: ValidityNet, trained: Trained) -> None:
        self.network, self.trained = network, trained
        self._tables: WeakKeyDictionary[Graph, OpTable] = WeakKeyDictionary()
        self._features: WeakKeyDictionary[Graph, tuple[int, Tensor]] = WeakKeyDictionary()

    @classmethod
    def load(cls, path: str | Path, scheme: str | None = None) -> ValidityModel:
        """Read a network trained by ``fusecut train validity``.

        Raises:
            WeightsError: missing, damaged, too large, of another version, or not for this ``scheme``.
            FusecutError: the extra gnn is not installed.
        """
        weights = read_weights(path, KIND, FEATURES_VERSION)
        trained = _trained(weights, path)
        if scheme is not None and trained.scheme != scheme:
            raise WeightsError(f"{path} was trained for scheme {trained.scheme!r}: expected one for {scheme!r}")
        network = ValidityNet(len(feature_names(trained.vocabulary)))
        fill(network, weights, path)
        return cls(network, trained)

    def to_bytes(self) -> bytes:
        """The file that :meth:`load` reads."""
        t = self.trained
        header = {
            "scheme": t.scheme,
            "vocabulary": t.vocabulary,
            "buffer_bytes": t.buffers,
            "networks": t.networks,
            "seed": t.seed,
        }
        return weights_bytes(self.network.state_dict(), KIND, FEATURES_VERSION, header)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file, by which explainers know the network they were taught with."""
        return sha256(self.to_bytes()).hexdigest()

    def infeasible_logits(self, graph: Graph, buffer_bytes: int, groups: Sequence[Group]) -> Floats:
        """How sure the network is that each group does not fit: above 0 it thinks so. (groups,)

        The logit of the probability. ``graph`` must have the widths of the machine, as
        ``problem.graph`` has. Deterministic. Judged in batches: O(nodes + edges).
        """
        logits = np.empty(len(groups), np.float32)
        start = nodes = 0
        for end, group in enumerate(groups, 1):
            nodes += group.bit_count()
            if nodes >= NODES_AT_ONCE or end == len(groups):
                logits[start:end] = self._judged(graph, buffer_bytes, groups[start:end])
                start, nodes = end, 0
        return logits

    def _judged(self, graph: Graph, buffer_bytes: int, groups: Sequence[Group]) -> Floats:
        return self.batch_logits(graph, buffer_bytes, batch_of(graph, groups))

    def bond_logits(self, graph: Graph, buffer_bytes: int, group: Group, bonds: Sequence[Bond]) -> Floats:
        """What :meth:`infeasible_logits` says of both halves (A, B) of directed bonds of one group, (bonds, 2).

        From the layers of the group itself (:mod:`fusecut.explain.variants`); other than that by rounding only.
        """
        from fusecut.explain.variants import Whole

        return Whole(self, graph, buffer_bytes, group).halves(bonds)

    def batch_logits(self, graph: Graph, buffer_bytes: int, batch: Batch) -> Floats:
        """The same for graphs that need not be whole groups: ``batch.ops`` may repeat, edges may be missing."""
        x, edges = self.inputs(graph, buffer_bytes, batch)
        with one_thread(), torch.inference_mode():
            embeddings = self.network.embed(x, edges)
            logits = self.network.judge(embeddings, torch.from_numpy(batch.graph_of), batch.count)
            margins: Floats = (logits[:, 1] - logits[:, 0]).numpy()
        return margins

    def inputs(self, graph: Graph, buffer_bytes: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the network reads: features (N, F) and edges (2, E)."""
        known = self._features.get(graph)
        if known is None or known[0] != buffer_bytes:
            every = node_features(self.table(graph), np.arange(len(graph)), buffer_bytes)
            known = self._features[graph] = buffer_bytes, torch.from_numpy(every)
        return known[1][torch.from_numpy(batch.ops)], torch.from_numpy(batch.edges)

    def table(self, graph: Graph) -> OpTable:
        """Features of the ops of a graph, computed once."""
        known = self._tables.get(graph)
        if known is None:
            known = self._tables[graph] = op_table(graph, self.trained.vocabulary)
        return known

    def notes(self, graph: Graph, buffer_bytes: int) -> tuple[str, ...]:
        """Where an answer is an extrapolation: a buffer outside the training range, kinds of ops or widths
        never met. Each one line for a person; empty where nothing is to be said."""
        least, most = min(self.trained.buffers), max(self.trained.buffers)
        found = []
        if not least <= buffer_bytes <= most:
            found.append(
                f"the validity network was trained on buffers of {format_bytes(least)} to {format_bytes(most)}: at "
                f"{format_bytes(buffer_bytes)} its explanations are extrapolations"
            )
        if strangers := self.table(graph).strangers:
            found.append(
                f"the validity network never met ops of kind {', '.join(strangers)}: "
                "explanations of groups with them are extrapolations"
            )
        widths = {t.bits for t in graph.tensors} | {op.weight_bits for op in graph.ops}
        if widths != {8}:
            found.append("the validity network was trained on 8-bit tensors and weights: other widths extrapolate")
        return tuple(found)


def _trained(weights: Weights, path: str | Path) -> Trained:
    try:
        trained = Trained(
            str(weights.value("scheme")),
            tuple(map(str, weights.value("vocabulary"))),
            tuple(map(int, weights.value("buffer_bytes"))),
            tuple(map(str, weights.value("networks"))),
            int(weights.value("seed")),
        )
    except (TypeError, ValueError):
        raise WeightsError(f"{path}: its header is not that of a validity network: train it again") from None
    if not trained.buffers or min(trained.buffers) < 1:
        raise WeightsError(f"{path}: its header names no buffers: train it again")
    return trained
