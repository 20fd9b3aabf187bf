"""The tools for tests: networks by hand, random networks, and every partition there is."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.errors import PartitionError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import LineBuffer
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.testing import Net, all_partitions, brute_force, random_graph


def chain(ops: int) -> Graph:
    net = Net()
    y = net.input(2, 8, 8)
    for _ in range(ops):
        y = net.conv(y, 2)
    return net.graph()


# Networks by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation", "rows"),
    [(3, 1, None, 1, 14), (3, 2, None, 1, 7), (5, 1, 0, 1, 10), (3, 1, None, 2, 14), (2, 2, 0, 1, 7), (1, 1, 1, 1, 16)],
)
def test_a_convolution_has_the_size_that_frameworks_give_it(
    kernel: int, stride: int, pad: int | None, dilation: int, rows: int
) -> None:
    net = Net()
    y = net.conv(net.input(1, 14, 14), 1, kernel, stride, pad, dilation)
    assert net.tensors[y].shape == (1, 1, rows, rows)


def test_weights_biases_and_macs_of_a_convolution() -> None:
    net = Net(batch=2)
    net.conv(net.input(4, 8, 6), 6, groups=2, biases=True)
    op = net.graph().ops[0]
    assert (op.weight_elements, op.bias_elements, op.macs) == (6 * 2 * 9, 6, 6 * 2 * 9 * 8 * 6 * 2)


def test_a_depthwise_convolution_has_a_filter_for_each_channel() -> None:
    net = Net()
    net.depthwise(net.input(5, 8, 8))
    assert net.graph().ops[0].weight_elements == 5 * 9


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda net, x: net.pool(x), (1, 4, 4, 3)),
        (lambda net, x: net.upsample(x, 3), (1, 4, 24, 18)),
        (lambda net, x: net.global_pool(x), (1, 4, 1, 1)),
        (lambda net, x: net.squeeze_excite(x, 2), (1, 4, 8, 6)),
        (lambda net, x: net.concat(x, x), (1, 8, 8, 6)),
        (lambda net, x: net.add(x, net.global_pool(x)), (1, 4, 8, 6)),
        (lambda net, x: net.barrier(x), (1, 4, 8, 6)),
    ],
)
def test_shapes_of_what_the_methods_make(make: object, shape: tuple[int, ...]) -> None:
    net = Net()
    assert callable(make)
    assert net.tensors[make(net, net.input(4, 8, 6))].shape == shape


def test_outputs_are_what_nobody_reads_unless_named() -> None:
    net = Net()
    y = net.conv(net.input(1, 4, 4), 1)
    z = net.conv(y, 1)
    assert (net.graph().outputs, net.graph(y, z).outputs) == ((z,), (y, z))


def test_ops_are_named_by_kind_and_number_unless_named() -> None:
    net = Net()
    net.conv(net.conv(net.input(1, 4, 4), 1), 1, name="last")
    assert [op.name for op in net.graph().ops] == ["conv0", "last"]


# Random networks ---------------------------------------------------------------------------------


def test_the_same_generator_state_gives_the_same_network() -> None:
    first, again = (random_graph(np.random.default_rng(5), 12, inputs=2) for _ in range(2))
    assert (first.ops, first.tensors, first.outputs) == (again.ops, again.tensors, again.outputs)


def test_random_networks_have_the_kinds_asked_for() -> None:
    graph = random_graph(np.random.default_rng(0), 20, kinds=("conv", "pool"))
    assert {op.kind for op in graph.ops} <= {"conv", "pool"}


def test_random_networks_have_every_kind_sooner_or_later() -> None:
    kinds = {op.kind for seed in range(60) for op in random_graph(np.random.default_rng(seed), 8).ops}
    assert kinds == {"conv", "pool", "elementwise", "concat", "resize", "reduce", "opaque"}


def test_some_random_networks_also_show_an_inner_tensor() -> None:
    graphs = [random_graph(np.random.default_rng(seed), 8) for seed in range(60)]
    assert any(graph.consumers[t] for graph in graphs for t in graph.outputs)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_have_at_least_the_ops_asked_for(seed: int) -> None:
    assert len(random_graph(np.random.default_rng(seed), 7)) >= 7


# Every partition ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ops", range(1, 8))
def test_a_chain_is_cut_at_any_of_its_tensors(ops: int) -> None:
    assert len(list(all_partitions(chain(ops)))) == 2 ** (ops - 1)


def test_a_diamond_has_ten_partitions() -> None:
    """By hand: of the 15 set partitions of a, b, c, d five are disconnected, not convex, or wait for each other."""
    net = Net()
    a = net.conv(net.input(1, 4, 4), 1)
    net.add(net.conv(a, 1), net.conv(a, 1))
    assert len(list(all_partitions(net.graph()))) == 10


@pytest.mark.parametrize("seed", range(10))
def test_partitions_are_all_different(seed: int) -> None:
    plans = [plan.groups for plan in all_partitions(random_graph(np.random.default_rng(seed), 6))]
    assert len(set(plans)) == len(plans)


def test_no_valid_partition_is_left_out() -> None:
    """Labels 0..n-1 for every op, canonical or not, name every set partition there is."""
    graph = random_graph(np.random.default_rng(2), 5)
    found = set()
    for code in range(len(graph) ** len(graph)):
        labels = [code // len(graph) ** i % len(graph) for i in range(len(graph))]
        groups = [sum(1 << i for i, mine in enumerate(labels) if mine == label) for label in set(labels)]
        try:
            found.add(Partition(graph, groups).groups)
        except PartitionError:
            continue
    assert found == {plan.groups for plan in all_partitions(graph)}


def test_brute_force_finds_the_cheapest_of_all() -> None:
    problem = Problem(chain(4), Machine(500), LineBuffer())
    costs = [problem.cost(plan) for plan in all_partitions(problem.graph)]
    assert brute_force(problem) == min(getattr(cost, "dram_bytes", 10**9) for cost in costs)


def test_brute_force_finds_nothing_where_nothing_fits() -> None:
    assert brute_force(Problem(chain(2), Machine(1), LineBuffer())) is None
