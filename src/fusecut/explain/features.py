"""Groups as arrays: what the graph networks see of an op, and batches of many groups at once.

A node is an op, an edge goes from an op to one that reads it, both in the group. Features of a node,
in this order (:func:`feature_names`):

* its kind, one-hot over a vocabulary, with one more place for every other kind;
* log2(1 + n) for the channels, rows and columns of its first operand and first result, for its weight
  bytes, window and stride along both axes, and number of operands; 1 where it is a barrier;
* shares of the buffer, n / beta cut off at 2: its weights, the rows of its operands that one row of
  its result needs, one row of its results, its whole results;
* log2 beta, beta the bytes of the buffer, the same on every node.

All but the shares are those of arXiv 2501.00636; what the shares are good for is measured in
docs/validity.md. Logarithms are divided by 8, so that features are about 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Graph, Group, Op, bits
from fusecut.ops import ROWS, axis_map, pair

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]

FEATURES_VERSION: Final = 1
"""Changes whenever a feature does; weights of another version are refused."""

LOGS: Final = (
    "log2 channels in", "log2 rows in", "log2 columns in", "log2 channels out", "log2 rows out", "log2 columns out",
    "log2 weights", "log2 window rows", "log2 window columns", "log2 stride rows", "log2 stride columns",
    "log2 operands", "barrier",
)  # fmt: skip
SHARES: Final = ("weights / beta", "operand rows / beta", "result row / beta", "results / beta")
BETA: Final = "log2 beta"

_SCALE: Final = 8.0
_LARGEST_SHARE: Final = 2.0


def feature_names(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """The columns of the features of a node."""
    return (*(f"kind {kind}" for kind in vocabulary), "kind of another sort", *LOGS, *SHARES, BETA)


@dataclass(frozen=True)
class OpTable:
    """What is known of every op of a graph: features without beta (V, K + 1 + 13), and the bytes behind
    the shares (V, 4). ``strangers`` are the kinds outside the vocabulary."""

    fixed: Floats
    nbytes: Floats
    strangers: tuple[str, ...]


def op_table(graph: Graph, vocabulary: Sequence[str]) -> OpTable:
    """Features of every op. O(V)."""
    place = {kind: k for k, kind in enumerate(vocabulary)}
    fixed = np.zeros((len(graph), len(place) + 1 + len(LOGS)), np.float32)
    nbytes = np.zeros((len(graph), len(SHARES)), np.float32)
    for i, op in enumerate(graph.ops):
        fixed[i, place.get(op.kind, len(place))] = 1.0
        fixed[i, len(place) + 1 :] = _sizes(graph, op)
        nbytes[i] = _held_bytes(graph, op)
    return OpTable(fixed, nbytes, tuple(sorted({op.kind for op in graph.ops} - set(place))))


def _sizes(graph: Graph, op: Op) -> Floats:
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    windows = [pair(op, "dilations", a, 1) * (pair(op, "kernel", a, 1) - 1) + 1 for a in (0, 1)]
    strides = [pair(op, "strides", a, 1) for a in (0, 1)]
    counts = [*source.shape[1:], *made.shape[1:], op.weight_bytes, *windows, *strides, len(op.inputs)]
    logs = np.log2(1.0 + np.array(counts, np.float64)) / _SCALE
    return np.append(logs, float(bool(op.attrs.get("barrier")))).astype(np.float32)


def _held_bytes(graph: Graph, op: Op) -> tuple[int, int, int, int]:
    made = [graph.tensors[t] for t in op.outputs]
    operand_rows = sum(
        _window_rows(graph, op, k) * graph.tensors[t].row_bytes
        for k, t in enumerate(op.inputs)
        if t not in op.inputs[:k]
    )
    return op.weight_bytes, operand_rows, sum(t.row_bytes for t in made), sum(t.nbytes for t in made)


def _window_rows(graph: Graph, op: Op, operand: int) -> int:
    """Most rows of an operand that one row of the result needs at a time."""
    rows = axis_map(graph, op, operand, ROWS)
    if rows.reduces:
        return 1
    return max((hi - lo + 1 for lo, hi in zip(rows.lo, rows.hi, strict=True)), default=0)


@dataclass(frozen=True)
class Batch:
    """Graphs side by side as one: ``ops`` (N) says which op a node is, ``graph_of`` (N), ascending, to
    which of the ``count`` graphs it belongs, ``edges`` (2, E) are pairs of nodes, sorted by graph."""

    ops: Ints
    edges: Ints
    graph_of: Ints
    count: int


def batch_of(graph: Graph, groups: Sequence[Group]) -> Batch:
    """Groups of one graph side by side; nodes of a group by op index, edges sorted.

    Works on a (groups, V) table of bits: O(groups (V + E)) simple steps, a microsecond or so a group.
    """
    width = (len(graph) + 7) // 8
    packed = np.frombuffer(b"".join(group.to_bytes(width, "little") for group in groups), np.uint8)
    inside = np.unpackbits(packed.reshape(-1, width), axis=1, bitorder="little", count=len(graph)).view(bool)
    graph_of, ops = np.nonzero(inside)
    node = np.cumsum(inside.reshape(-1)).reshape(inside.shape) - 1
    sources, readers = edge_list(graph)
    owner, edge = np.nonzero(inside[:, sources] & inside[:, readers])
    edges = np.stack([node[owner, sources[edge]], node[owner, readers[edge]]])
    return Batch(ops, edges, graph_of, len(groups))


def edge_list(graph: Graph) -> tuple[Ints, Ints]:
    """All edges of the graph as (op, reader), sorted; found once for each graph."""
    known = _EDGES.get(graph)
    if known is None:
        found = [(i, j) for i in range(len(graph)) for j in bits(graph.succs[i])]
        table = np.array(found, np.int64).reshape(-1, 2)
        known = _EDGES[graph] = table[:, 0], table[:, 1]
    return known


_EDGES: Final[WeakKeyDictionary[Graph, tuple[Ints, Ints]]] = WeakKeyDictionary()


def node_features(table: OpTable, ops: Ints, buffer_bytes: int | Floats) -> Floats:
    """Features of nodes, (N, features), for one buffer or one for each node."""
    return joined_features(table.fixed[ops], table.nbytes[ops], buffer_bytes)


def joined_features(fixed: Floats, nbytes: Floats, buffer_bytes: int | Floats) -> Floats:
    """Columns of an op table with the shares and beta filled in."""
    beta = np.broadcast_to(np.asarray(buffer_bytes, np.float32), (len(fixed),))[:, None]
    shares = np.minimum(nbytes / beta, _LARGEST_SHARE)
    return np.concatenate([fixed, shares, np.log2(beta) / _SCALE], axis=1, dtype=np.float32)
