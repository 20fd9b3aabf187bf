"""Groups as arrays: the same nodes and edges as one would list by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.bonds import components
from fusecut.explain import edges
from fusecut.explain.features import BETA, LOGS, SHARES, batch_of, feature_names, node_features, op_table
from fusecut.ir import Graph, Group, bits
from fusecut.testing import Net, random_graph

GRAPHS = [random_graph(np.random.default_rng(seed), 12, inputs=2) for seed in range(8)]
KINDS = ("conv", "elementwise")


def some_groups(graph: Graph, seed: int) -> list[Group]:
    drawn = np.random.default_rng(seed).integers(1, 2 ** len(graph), 20).tolist()
    return [part for mask in drawn for part in components(graph, mask)]


def pair_of_convs() -> Graph:
    net = Net()
    x = net.input(4, 16, 8)
    return net.graph(net.conv(net.conv(x, 8, kernel=3), 8, kernel=1))


@pytest.mark.parametrize("k", range(len(GRAPHS)))
def test_nodes_and_edges_are_those_of_the_groups_one_after_another(k: int) -> None:
    graph = GRAPHS[k]
    groups = some_groups(graph, k)
    batch = batch_of(graph, groups)
    nodes = [(g, i) for g, group in enumerate(groups) for i in bits(group)]
    place = {node: n for n, node in enumerate(nodes)}
    expected = [(place[g, i], place[g, j]) for g, group in enumerate(groups) for i, j in edges(graph, group)]
    assert list(zip(batch.graph_of.tolist(), batch.ops.tolist(), strict=True)) == nodes
    assert [(a, b) for a, b in batch.edges.T.tolist()] == expected


def test_there_is_a_name_for_every_column() -> None:
    table = op_table(GRAPHS[0], KINDS)
    assert node_features(table, np.arange(len(GRAPHS[0])), 1024).shape[1] == len(feature_names(KINDS))


def test_a_kind_outside_the_vocabulary_has_the_place_of_the_others_and_is_named() -> None:
    graph = pair_of_convs()
    table = op_table(graph, ("elementwise",))
    assert table.fixed[:, :2].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert table.strangers == ("conv",)


def test_logarithms_are_those_of_shapes_weights_and_windows() -> None:
    table = op_table(pair_of_convs(), ("conv",))
    in_and_out, weights, window, stride = [4, 16, 8, 8, 16, 8], 4 * 8 * 9, [3, 3], [1, 1]
    expected = np.log2(1 + np.array([*in_and_out, weights, *window, *stride, 1])) / 8
    assert table.fixed[0, 2:-1] == pytest.approx(expected, rel=1e-6)


def test_shares_are_bytes_over_the_buffer() -> None:
    x = node_features(op_table(pair_of_convs(), ("conv",)), np.array([0]), 1024)[0]
    first = len(feature_names(("conv",))) - len(SHARES) - 1
    assert x[first : first + 4].tolist() == [288 / 1024, 3 * 4 * 8 / 1024, 8 * 8 / 1024, 8 * 16 * 8 / 1024]


def test_shares_are_cut_off_at_twice_the_buffer() -> None:
    x = node_features(op_table(pair_of_convs(), ("conv",)), np.array([0]), 16)[0]
    assert x[-2] == 2.0


def test_the_buffer_is_on_every_node_in_log2() -> None:
    x = node_features(op_table(GRAPHS[0], KINDS), np.arange(len(GRAPHS[0])), 2**18)
    assert (x[:, feature_names(KINDS).index(BETA)] == 18 / 8).all()


def test_a_barrier_is_told() -> None:
    net = Net()
    graph = net.graph(net.op("softmax", [net.input(2, 8, 8)], (2, 8, 8), barrier=True))
    assert op_table(graph, ()).fixed[0, 1 + LOGS.index("barrier")] == 1.0
