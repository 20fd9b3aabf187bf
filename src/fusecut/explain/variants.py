"""What the validity network says of a group when edges are missing, from what it said of the whole.

Leaving out an edge u -> v changes v in the first layer, v and its readers in the second, and so on: at most
as many steps downstream as there are layers. So the layers of the whole group are computed once, and of each
variant only the differences d from them:

    d'(w) = ReLU(p(w) + W1 d(w) + W2 (sum over u -> w left of d(u) - sum over u -> w missing of h(u))) - ReLU(p(w))

with h what a layer of the whole group reads and p what it makes before its ReLU. Exact but for rounding.
O(variants edges) simple steps a layer, and a matrix product for the nodes that change, where whole copies of
the group would take one for every node of every copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusecut.bonds import Bond
from fusecut.explain.features import Floats, Ints, batch_of
from fusecut.explain.gnn import ValidityModel
from fusecut.ir import Graph, Group
from fusecut.threads import one_thread

Bools = NDArray[np.bool_]

PAIRS_AT_ONCE = 2**20
"""Variants times edges that are looked at side by side."""


class Whole:
    """One group in a validity network, all of its layers kept. Edges are those of :func:`fusecut.explain.edges`."""

    def __init__(self, model: ValidityModel, graph: Graph, buffer_bytes: int, group: Group) -> None:
        batch = batch_of(graph, [group])
        self.ops: Ints = batch.ops
        self.sources, self.readers = batch.edges
        self._network = model.network
        self._reads, self._makes = list[Tensor](), list[Tensor]()
        x, _ = model.inputs(graph, buffer_bytes, batch)
        sources, readers = _index(self.sources), _index(self.readers)
        with one_thread(), torch.inference_mode():
            for conv in self._network.convs:
                come = torch.zeros_like(x).index_add_(0, readers, x.index_select(0, sources))
                self._reads.append(x)
                self._makes.append(conv.lin_rel(come) + conv.lin_root(x))
                x = self._makes[-1].relu()
        self._embeddings = x

    def occluded(self) -> Floats:
        """How much less infeasible the group looks without each edge."""
        count = len(self.sources)
        with one_thread(), torch.inference_mode():
            whole = self._embeddings.sum(0, keepdim=True)
            step = max(1, PAIRS_AT_ONCE // max(1, count))
            lacking = [np.eye(min(step, count - k), count, k, dtype=bool) for k in range(0, count, step)]
            changes = [whole, *(whole + self._changes(missing) for missing in lacking)]
            logits = self._judged(torch.cat(changes))
        drops: Floats = logits[0] - logits[1:]
        return drops

    def halves(self, found: Sequence[Bond]) -> Floats:
        """How infeasible both halves (A, B) of directed bonds of the group look, (bonds, 2).

        Nothing leads from B to A, so A looks as it does within the group; B is the rest, with the edges from A missing.
        """
        inside = np.array([[first >> int(op) & 1 for op in self.ops] for first, _ in found], dtype=bool)
        with one_thread(), torch.inference_mode():
            first = torch.from_numpy(inside).float() @ self._embeddings
            second = self._embeddings.sum(0) - first
            second += self._changes(inside[:, self.sources] & ~inside[:, self.readers])
            logits = self._judged(torch.stack([first, second], dim=1).flatten(0, 1))
        return logits.reshape(-1, 2)

    def _judged(self, pooled: Tensor) -> Floats:
        logits = self._network.out(self._network.hidden(pooled).relu())
        margins: Floats = (logits[:, 1] - logits[:, 0]).numpy()
        return margins

    def _changes(self, missing: Bools) -> Tensor:
        """What the embeddings of variants sum up to, less those of the whole group, (variants, hidden).

        ``missing`` (variants, edges) says which edges a variant lacks.
        """
        width = len(self.ops)
        slots = np.full((len(missing), width), -1)
        differences = self._reads[0][:0]
        for conv, reads, makes in zip(self._network.convs, self._reads, self._makes, strict=True):
            changed = slots >= 0
            variant, edge = np.nonzero(missing | changed[:, self.sources])
            touched = changed.copy()
            touched[variant, self.readers[edge]] = True
            rows, nodes = np.nonzero(touched)
            place = np.full(slots.shape, -1)
            place[rows, nodes] = np.arange(len(rows))
            lacks = missing[variant, edge]
            come = reads.new_zeros(len(rows), reads.shape[1])
            for chosen, sent in ((lacks, -reads), (~lacks, differences)):
                at, via = variant[chosen], edge[chosen]
                origin = self.sources[via] if sent is not differences else slots[at, self.sources[via]]
                come.index_add_(0, _index(place[at, self.readers[via]]), sent.index_select(0, _index(origin)))
            made = come @ conv.lin_rel.weight.t()
            made.index_add_(0, _index(place[changed]), conv.lin_root(differences))
            before = makes.index_select(0, _index(nodes))
            slots, differences = place, (before + made).relu() - before.relu()
        total = differences.new_zeros(len(missing), differences.shape[1])
        return total.index_add_(0, _index(rows), differences)


def _index(places: Ints) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(places))
