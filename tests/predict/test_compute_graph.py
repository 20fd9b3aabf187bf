"""The compute graph of a network, and its file format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusecut.errors import ModelError
from fusecut.predict.compute_graph import FORMAT, OP_LABELS, ComputeGraph
from fusecut.zoo import load


def test_a_zoo_network_survives_the_round_trip() -> None:
    found = ComputeGraph.of(load("mobilenet_v3_small"))
    assert ComputeGraph.from_json(found.to_json()) == found


def test_every_op_of_a_zoo_network_has_a_known_label() -> None:
    assert {n.op for n in ComputeGraph.of(load("nasnetalarge")).nodes} <= set(OP_LABELS)


def test_convolutions_are_told_apart() -> None:
    labels = {n.op for n in ComputeGraph.of(load("mobilenet_v2")).nodes}
    assert {"conv", "conv_pointwise", "conv_depthwise"} <= labels


def test_weights_of_the_nodes_are_those_of_the_network() -> None:
    graph = load("resnet18")
    assert sum(n.weights for n in ComputeGraph.of(graph).nodes) == sum(op.weight_elements for op in graph.ops)


NODE = {"op": "conv", "in": [3, 8, 8], "out": [4, 8, 8]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "format"),
        ({"version": 2}, "version"),
        ({"nodes": []}, "at least one node"),
        ({"nodes": [{"op": 3}]}, 'no "op"'),
        ({"nodes": [{**NODE, "in": [3, 0, 8]}]}, '"in" must be 3'),
        ({"nodes": [{**NODE, "weights": -1}]}, '"weights" must be'),
        ({"edges": [[1, 0]]}, "from < to"),
        ({"edges": [[0, 5]]}, "from < to"),
    ],
)
def test_a_file_that_is_no_compute_graph_is_refused(change: dict[str, Any], words: str) -> None:
    good = {"format": FORMAT, "version": 1, "name": "x", "nodes": [NODE, NODE], "edges": [[0, 1]]}
    with pytest.raises(ModelError, match=words):
        ComputeGraph.from_json(json.dumps({**good, **change}))


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "[" * 100_000])
def test_a_file_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="not a compute graph"):
        ComputeGraph.from_json(text)
