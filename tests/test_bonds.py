"""Directed bonds: all of them, only them, and cuts that keep plans runnable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fusecut.bonds import bonds, components, random_bond, random_order, random_parts
from fusecut.ir import Graph, Group, bits, mask_of
from fusecut.partition import Partition
from fusecut.search.encoding import random_plan
from fusecut.testing import Net, random_graph

GRAPHS = [random_graph(np.random.default_rng(seed), 4 + seed % 5, inputs=1 + seed % 2) for seed in range(30)]


def diamond() -> Graph:
    net = Net()
    x = net.conv(net.input(2, 8, 8), 2)
    return net.graph(net.add(net.conv(x, 2), net.conv(x, 2)))


def chain(ops: int) -> Graph:
    net = Net()
    x = net.input(2, 8, 8)
    for _ in range(ops):
        x = net.conv(x, 2)
    return net.graph(x)


def by_definition(graph: Graph, group: Group) -> set[tuple[Group, Group]]:
    ops = list(bits(group))
    found = set()
    for choice in range(1, 2 ** len(ops) - 1):
        first = mask_of(op for k, op in enumerate(ops) if choice >> k & 1)
        closed = all(not graph.preds[i] & group & ~first for i in bits(first))
        if closed and graph.is_connected(first) and graph.is_connected(group ^ first):
            found.add((first, group ^ first))
    return found


def groups(graph: Graph) -> list[Group]:
    rng = np.random.default_rng(1)
    plans = [random_plan(graph, rng) for _ in range(6)]
    wide = {g for plan in plans for g in plan.groups if g & (g - 1)}
    return sorted(wide | {g for g in components(graph, graph.everything) if g & (g - 1)})


@pytest.mark.parametrize("graph", GRAPHS)
def test_bonds_are_exactly_the_connected_down_set_cuts(graph: Graph) -> None:
    for group in groups(graph):
        found = list(bonds(graph, group))
        assert len(found) == len(set(found))
        assert set(found) == by_definition(graph, group)


@pytest.mark.parametrize("graph", GRAPHS)
def test_bonds_through_an_edge_are_exactly_those_that_cut_it(graph: Graph) -> None:
    for group in groups(graph):
        for i in bits(group):
            for j in bits(graph.succs[i] & group):
                found = list(bonds(graph, group, (i, j)))
                assert len(found) == len(set(found))
                assert set(found) == {b for b in by_definition(graph, group) if b[0] >> i & 1 and b[1] >> j & 1}


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_random_bond_is_a_bond(graph: Graph) -> None:
    rng = np.random.default_rng(2)
    for group in groups(graph):
        known = by_definition(graph, group)
        assert all(random_bond(graph, group, rng) in known for _ in range(5))


def test_every_bond_is_drawn_sooner_or_later() -> None:
    rng = np.random.default_rng(3)
    for graph in GRAPHS[:8]:
        for group in groups(graph):
            drawn = {random_bond(graph, group, rng) for _ in range(400)}
            assert drawn == by_definition(graph, group)


@pytest.mark.parametrize("graph", GRAPHS)
def test_replacing_a_group_by_the_two_sides_of_a_bond_keeps_the_plan_valid(graph: Graph) -> None:
    rng = np.random.default_rng(4)
    for _ in range(10):
        plan = random_plan(graph, rng)
        for group in (g for g in plan.groups if g & (g - 1)):
            for bond in bonds(graph, group):
                Partition(graph, [*(g for g in plan.groups if g != group), *bond])


def test_the_trap_of_the_fire_module_is_no_bond() -> None:
    net = Net()
    squeeze = net.conv(net.input(2, 8, 8), 2, name="squeeze")
    left, right = net.conv(squeeze, 2, name="expand1x1"), net.conv(squeeze, 2, name="expand3x3")
    graph = net.graph(net.concat(left, right))
    alone = 1 << graph.op_index["expand1x1"]
    assert all(alone not in bond for bond in bonds(graph, graph.everything))


def test_a_chain_has_one_bond_for_each_edge_in_order() -> None:
    graph = chain(5)
    assert [bond[0] for bond in bonds(graph, graph.everything)] == [0b1, 0b11, 0b111, 0b1111]


def test_random_orders_are_topological_and_all_occur() -> None:
    graph = diamond()
    drawn = Counter(tuple(random_order(graph, graph.everything, np.random.default_rng(s))) for s in range(200))
    assert set(drawn) == {(0, 1, 2, 3), (0, 2, 1, 3)}
    assert min(drawn.values()) > 60


def test_random_parts_of_a_fitting_group_is_the_group() -> None:
    graph = chain(3)
    assert random_parts(graph, 0b111, lambda group: True, np.random.default_rng(0)) == (0b111,)


def test_random_parts_are_none_where_an_op_never_fits() -> None:
    graph = chain(3)
    assert random_parts(graph, 0b111, lambda group: not group & 0b100, np.random.default_rng(0)) is None


def test_components_are_listed_by_their_first_op() -> None:
    graph = diamond()
    assert components(graph, 0b0110) == [0b0010, 0b0100]
    assert components(graph, 0) == []
