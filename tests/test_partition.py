"""Plans that are refused, and the one order in which the others are kept."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from fusecut.errors import PartitionError
from fusecut.ir import Graph, Op, Tensor, mask_of
from fusecut.partition import Partition
from fusecut.testing import Net, all_partitions, random_graph


def diamond() -> Graph:
    """a, then b and c side by side, then d."""
    net = Net("diamond")
    x = net.input(1, 8, 8)
    a = net.conv(x, 1, name="a")
    b, c = net.conv(a, 1, name="b"), net.conv(a, 1, name="c")
    net.op("elementwise", [b, c], (1, 8, 8), name="d")
    return net.graph()


def two_chains() -> Graph:
    """a then b, c then d; a and d read one input, b and c are read by nobody else."""
    net = Net("ladder")
    x = net.input(1, 8, 8)
    a, c = net.conv(x, 1, name="a"), net.conv(x, 1, name="c")
    net.op("elementwise", [a, c], (1, 8, 8), name="b")
    net.op("elementwise", [c, a], (1, 8, 8), name="d")
    return net.graph()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "no group holds op a..d (4 ops)"),
        ([0b0111], "no group holds op d"),
        ([0b0001, 0b0010], "no group holds op c..d (2 ops)"),
        ([0b0011, 0b1110], "op b is in two groups"),
        ([0b0111, 0b1110], "op b is in two groups"),
        ([0, 0b1111], "a group is empty or names ops that 'diamond' does not have"),
        ([-1], "a group is empty or names ops that 'diamond' does not have"),
        ([0b11111], "a group is empty or names ops that 'diamond' does not have"),
        ([0b0001, 0b0110, 0b1000], "group b..c (2 ops) is not connected: make it one group per part"),
        ([0b1011, 0b0100], "group a..d (3 ops) is not convex: a path leaves it and comes back"),
    ],
)
def test_groups_that_are_no_plan_are_refused(groups: list[int], message: str) -> None:
    with pytest.raises(PartitionError) as caught:
        Partition(diamond(), groups)
    assert str(caught.value) == message


def test_groups_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(PartitionError) as caught:
        Partition(two_chains(), [mask_of([0, 2]), mask_of([1, 3])])
    assert str(caught.value) == "groups wait for each other: a..b (2 ops) can never start"


@pytest.mark.parametrize("order", list(permutations([0b0001, 0b0010, 0b0100, 0b1000])))
def test_groups_are_kept_in_one_order_whatever_order_they_come_in(order: tuple[int, ...]) -> None:
    assert Partition(diamond(), order).groups == (0b0001, 0b0010, 0b0100, 0b1000)


def test_of_the_groups_that_may_run_the_one_with_the_smallest_op_comes_first() -> None:
    net = Net()
    x = net.input(1, 8, 8)
    a, b = net.conv(x, 1), net.conv(x, 1)
    c = net.conv(b, 1)
    net.add(a, c)
    graph = net.graph()
    assert Partition(graph, [0b0110, 0b1001]).groups == (0b0110, 0b1001)
    assert Partition(graph, [0b1000, 0b0100, 0b0010, 0b0001]).groups == (0b0001, 0b0010, 0b0100, 0b1000)


@pytest.mark.parametrize("seed", range(20))
def test_every_plan_runs_in_the_order_it_is_kept_in(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), 6, inputs=2)
    for plan in all_partitions(graph):
        done = 0
        for group in plan.groups:
            assert all(not graph.preds[i] & ~(done | group) for i in range(len(graph)) if group >> i & 1)
            done |= group


def test_equal_plans_are_equal() -> None:
    graph = diamond()
    assert Partition(graph, [0b0011, 0b1100]) == Partition(graph, [0b1100, 0b0011])


def test_without_fusion_every_op_is_a_group() -> None:
    graph = diamond()
    assert Partition.singletons(graph).groups == tuple(1 << i for i in range(len(graph)))


def test_the_length_of_a_plan_is_its_number_of_groups() -> None:
    assert len(Partition(diamond(), [0b0011, 0b1100])) == 2


# Plans like others --------------------------------------------------------------------------------


def test_a_plan_like_another_is_the_plan_it_would_be_alone() -> None:
    for seed in range(8):
        graph = random_graph(np.random.default_rng(seed), 5, inputs=2)
        plans = list(all_partitions(graph))
        for plan, like in product(plans, plans[:: max(1, len(plans) // 7)]):
            made = Partition(graph, reversed(plan.groups), like)
            assert (made.groups, dict(made.needs)) == (plan.groups, dict(plan.needs))


def test_groups_that_the_other_plan_does_not_have_are_looked_into() -> None:
    graph = diamond()
    for groups in ([0b1011, 0b0100], [0b0001, 0b0110, 0b1000], [0b0001], [0b0001, 0b0001, 0b1110]):
        with pytest.raises(PartitionError):
            Partition(graph, groups, Partition.singletons(graph))


def test_a_plan_of_another_graph_vouches_for_nothing() -> None:
    with pytest.raises(PartitionError, match="not connected"):
        Partition(diamond(), [0b0001, 0b0110, 0b1000], Partition(chain(4), [0b0001, 0b0110, 0b1000]))


def test_what_a_group_needs_is_read_from_outside_it() -> None:
    assert dict(Partition(diamond(), [0b0011, 0b1100]).needs) == {0b0011: 0, 0b1100: 0b0011}


def chain(ops: int) -> Graph:
    net = Net()
    x = net.input(1, 8, 8)
    for _ in range(ops):
        x = net.conv(x, 1)
    return net.graph(x)


# Names -------------------------------------------------------------------------------------------


def folded() -> Graph:
    tensors = tuple(Tensor(name, (1, 1, 4, 4)) for name in ("x", "y", "z"))
    ops = (
        Op("conv", "conv", (0,), (1,), members=("conv", "bn", "relu")),
        Op("last", "conv", (1,), (2,)),
    )
    return Graph("folded", tensors, ops, (0,), (2,))


@pytest.mark.parametrize("names", [["conv"], ["bn"], ["conv", "bn", "relu"], ["relu", "conv"]])
def test_any_of_the_folded_names_stands_for_the_op(names: list[str]) -> None:
    assert Partition.of_names(folded(), [names, ["last"]]).groups == (0b01, 0b10)


def test_names_are_given_back_as_in_the_file() -> None:
    assert Partition(folded(), [0b11]).names() == [["conv", "bn", "relu", "last"]]


def test_names_read_back_are_the_same_plan() -> None:
    graph = random_graph(np.random.default_rng(4), 6)
    assert all(Partition.of_names(graph, plan.names()) == plan for plan in all_partitions(graph))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(PartitionError) as caught:
        Partition.of_names(folded(), [["conv", "nosuch"], ["last"]])
    assert str(caught.value) == "'folded' has no op named 'nosuch'"


def test_nodes_of_one_op_in_two_groups_are_refused() -> None:
    with pytest.raises(PartitionError) as caught:
        Partition.of_names(folded(), [["conv"], ["bn", "last"]])
    assert str(caught.value) == "op conv is in two groups"
