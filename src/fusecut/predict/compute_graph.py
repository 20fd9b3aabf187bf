"""Compute graphs: a network as predictors see it, primitive ops with their shapes and who feeds whom.

The representation follows AIO-P (arXiv 2211.17228): one node for each op, with its type, the height,
width and channels it reads and makes, its kernel, and whether it has a bias. The file format is our
own and open (docs/predict.md), since the published caches are pickles of another program::

    {"format": "fusecut-compute-graph", "version": 1, "name": "...",
     "nodes": [{"op": "conv", "in": [C, H, W], "out": [C, H, W], "kernel": [kh, kw], "stride": [sh, sw],
                "weights": elements, "bias": false, "macs": n}, ...],
     "edges": [[from, to], ...]}

A node that reads several tensors has the shape of the one with the most elements as ``in``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fusecut.errors import ModelError
from fusecut.ir import Graph, Op, Tensor, bits
from fusecut.ops import COLS, ROWS, RULES, pair

FORMAT: Final = "fusecut-compute-graph"
VERSION: Final = 1
LARGEST_NODES: Final = 100_000
LARGEST_EDGES: Final = 1_000_000

OP_LABELS: Final = (*sorted(RULES), "conv_pointwise", "conv_depthwise", "conv_grouped")
"""What ``op`` of a node may be; anything else is read as out of vocabulary."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Node:
    """One primitive op: shapes are (C, H, W), ``kernel`` and ``stride`` (rows, cols), 1 where there is none."""

    op: str
    made_from: Shape
    makes: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    weights: int = 0
    bias: bool = False
    macs: int = 0


@dataclass(frozen=True)
class ComputeGraph:
    """Nodes in topological order, and edges (from, to) sorted."""

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, graph: Graph) -> ComputeGraph:
        """The compute graph of a network. O(ops + edges).

        >>> from fusecut.builder import Net
        >>> net = Net()
        >>> _ = net.conv(net.conv(net.input(3, 8, 8), 16), 4, kernel=1)
        >>> found = ComputeGraph.of(net.graph())
        >>> [(n.op, n.made_from, n.makes, n.kernel) for n in found.nodes], found.edges
        ([('conv', (3, 8, 8), (16, 8, 8), (3, 3)), ('conv_pointwise', (16, 8, 8), (4, 8, 8), (1, 1))], ((0, 1),))
        """
        nodes = tuple(_node(graph, op) for op in graph.ops)
        edges = tuple((i, j) for i in range(len(graph)) for j in bits(graph.succs[i]))
        return cls(graph.name, nodes, edges)

    def to_json(self) -> str:
        """The graph as one JSON object of the open format."""
        nodes = [
            {
                "op": n.op,
                "in": n.made_from,
                "out": n.makes,
                "kernel": n.kernel,
                "stride": n.stride,
                "weights": n.weights,
                "bias": n.bias,
                "macs": n.macs,
            }
            for n in self.nodes
        ]
        return json.dumps(
            {"format": FORMAT, "version": VERSION, "name": self.name, "nodes": nodes, "edges": self.edges}
        )

    @classmethod
    def from_json(cls, text: str) -> ComputeGraph:
        """Read the open format back.

        Raises:
            ModelError: not JSON, not this format, too large, or values a network cannot have.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise ModelError("not a compute graph: it is not JSON") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise ModelError(f'not a compute graph: expected "format": "{FORMAT}", "version": {VERSION}')
        nodes, edges = data.get("nodes"), data.get("edges")
        if not isinstance(nodes, list) or not isinstance(edges, list) or not nodes:
            raise ModelError("not a compute graph: expected lists of nodes and of edges, and at least one node")
        if len(nodes) > LARGEST_NODES or len(edges) > LARGEST_EDGES:
            raise ModelError(f"a compute graph of {len(nodes):,} nodes and {len(edges):,} edges is too large")
        read = tuple(_read_node(i, n) for i, n in enumerate(nodes))
        return cls(str(data.get("name", "")), read, tuple(sorted({_read_edge(e, len(read)) for e in edges})))


def label(graph: Graph, op: Op) -> str:
    """The op type of a node: the kind, with convolutions told apart."""
    if op.kind != "conv":
        return op.kind
    groups, channels = op.attrs.get("groups", 1), graph.tensors[op.inputs[0]].channels
    if isinstance(groups, int) and groups > 1:
        return "conv_depthwise" if groups == channels else "conv_grouped"
    return "conv_pointwise" if _pair(op, "kernel") == (1, 1) else "conv"


def _node(graph: Graph, op: Op) -> Node:
    widest = max((graph.tensors[t] for t in op.inputs), key=lambda t: t.elements)
    return Node(
        label(graph, op),
        _shape(widest),
        _shape(graph.tensors[op.outputs[0]]),
        _pair(op, "kernel"),
        _pair(op, "strides"),
        op.weight_elements,
        op.bias_elements > 0,
        op.macs,
    )


def _shape(tensor: Tensor) -> Shape:
    return tensor.channels, tensor.rows, tensor.cols


def _pair(op: Op, key: str) -> tuple[int, int]:
    return pair(op, key, ROWS, 1), pair(op, key, COLS, 1)


def _read_node(index: int, data: Any) -> Node:
    if not isinstance(data, dict) or not isinstance(data.get("op"), str):
        raise ModelError(f'node {index} of the compute graph has no "op"')
    found = [_numbers(index, data, *want) for want in (("in", 3), ("out", 3), ("kernel", 2), ("stride", 2))]
    (c, h, w), (d, g, v), (kr, kc), (sr, sc) = found
    weights, macs = (_count(index, data, key) for key in ("weights", "macs"))
    return Node(data["op"], (c, h, w), (d, g, v), (kr, kc), (sr, sc), weights, bool(data.get("bias")), macs)


def _numbers(index: int, data: Mapping[str, Any], key: str, count: int) -> list[int]:
    values = data.get(key, [1] * count)
    if not isinstance(values, list) or len(values) != count or not all(_is_count(v) and v > 0 for v in values):
        raise ModelError(f'node {index} of the compute graph: "{key}" must be {count} whole numbers of at least 1')
    return values


def _count(index: int, data: Mapping[str, Any], key: str) -> int:
    value = data.get(key, 0)
    if not _is_count(value):
        raise ModelError(f'node {index} of the compute graph: "{key}" must be a whole number of 0 or more')
    return int(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _read_edge(edge: Any, nodes: int) -> tuple[int, int]:
    if isinstance(edge, list) and len(edge) == 2 and all(_is_count(v) for v in edge) and edge[0] < edge[1] < nodes:
        return edge[0], edge[1]
    raise ModelError(f"edge {edge!r} of the compute graph is not [from, to] with from < to < {nodes}")
