"""Labelled groups of several networks as arrays, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusecut.explain.features import Batch, Floats, Ints, batch_of, joined_features, op_table
from fusecut.ir import Graph
from fusecut.train.dataset import Samples
from fusecut.zoo import load


@dataclass(frozen=True)
class Pool:
    """Groups behind one another: nodes (rows of the op tables) and edges (places within the group).

    Group g has the nodes ``first_node[g]`` to ``first_node[g + 1]``, and edges likewise.
    """

    vocabulary: tuple[str, ...]
    fixed: Floats
    nbytes: Floats
    nodes: Ints
    first_node: Ints
    edges: Ints
    first_edge: Ints

    def batch(self, groups: Ints, buffers: Ints) -> tuple[Floats, Batch]:
        """Features and structure of samples (group, bytes of buffer), in this order. O(nodes + edges)."""
        node_place, node_of = _ranges(self.first_node, groups)
        edge_place, edge_of = _ranges(self.first_edge, groups)
        counts = np.diff(self.first_node)[groups]
        base = np.cumsum(counts) - counts
        ops = self.nodes[node_place]
        batch = Batch(ops, self.edges[:, edge_place] + base[edge_of], node_of, len(groups))
        x = joined_features(self.fixed[ops], self.nbytes[ops], buffers[node_of].astype(np.float32))
        return x, batch


def _ranges(first: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """All places of these groups behind one another, and to which of them each belongs."""
    counts = np.diff(first)[groups]
    owner = np.repeat(np.arange(len(groups)), counts)
    offset = first[groups] - (np.cumsum(counts) - counts)
    return offset[owner] + np.arange(len(owner)), owner


def graphs_of(samples: Samples) -> list[Graph]:
    """The networks of the samples at 8 bits, as the samples were labelled."""
    return [load(name).with_bits(8, 8, 32) for name in samples.networks]


def vocabulary_of(graphs: Sequence[Graph]) -> tuple[str, ...]:
    """The kinds of ops that occur, sorted."""
    return tuple(sorted({op.kind for graph in graphs for op in graph.ops}))


def pool_of(samples: Samples, graphs: Sequence[Graph], vocabulary: tuple[str, ...]) -> Pool:
    """The arrays of all groups, in their order. Groups of one network must follow each other."""
    tables = [op_table(graph, vocabulary) for graph in graphs]
    first_op = np.cumsum([0, *(len(graph) for graph in graphs)])
    nodes, edges, node_counts, edge_counts = list[Ints](), list[Ints](), list[Ints](), list[Ints]()
    for k, graph in enumerate(graphs):
        rows = np.flatnonzero(samples.network_of == k)
        if not len(rows):
            continue
        batch = batch_of(graph, [samples.masks[row] for row in rows.tolist()])
        counts = np.bincount(batch.graph_of, minlength=len(rows))
        owner = batch.graph_of[batch.edges[0]]
        nodes.append(batch.ops + first_op[k])
        edges.append(batch.edges - (np.cumsum(counts) - counts)[owner])
        node_counts.append(counts)
        edge_counts.append(np.bincount(owner, minlength=len(rows)))
    if (np.diff(samples.network_of) < 0).any():
        raise AssertionError("groups of one network must follow each other")
    return Pool(
        vocabulary,
        np.concatenate([table.fixed for table in tables]),
        np.concatenate([table.nbytes for table in tables]),
        np.concatenate(nodes),
        np.cumsum([0, *np.concatenate(node_counts)]),
        np.concatenate(edges, axis=1),
        np.cumsum([0, *np.concatenate(edge_counts)]),
    )
