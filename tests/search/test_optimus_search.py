"""The published off-line search and the baselines' linear one, against brute force."""

from __future__ import annotations

from functools import cache
from itertools import combinations, pairwise

import numpy as np
import pytest

from fusecut.ir import Graph, Group, bits, mask_of
from fusecut.search.optimus import Found, Ordered, Price, linear, linear_order, offline
from fusecut.testing import Net, random_graph


def small(seed: int, ops: int = 7) -> Graph:
    return random_graph(np.random.default_rng(seed), ops)


def random_price(seed: int, most: int = 99) -> Price:
    """Any price for any set; None for sets of more than ``most`` ops, so that infeasibility is monotone."""

    @cache
    def of(group: Group) -> int:
        return int(np.random.default_rng([seed, group]).integers(1, 40))

    return lambda ops: None if len(ops) > most else of(mask_of(ops))


def runnable(graph: Graph, done: Group, group: Group) -> bool:
    return all(not graph.preds[i] & ~(done | group) for i in bits(group))


def cheapest(graph: Graph, price: Price) -> int | None:
    """The cheapest way to run everything, trying every set of ops as the next group."""

    @cache
    def rest(done: Group) -> int | None:
        left = list(bits(graph.everything & ~done))
        if not left:
            return 0
        costs = []
        for size in range(1, len(left) + 1):
            for ops in combinations(left, size):
                group, cost = mask_of(ops), price(ops)
                after = rest(done | group) if cost is not None and runnable(graph, done, group) else None
                if cost is not None and after is not None:
                    costs.append(cost + after)
        return min(costs, default=None)

    return rest(0)


@pytest.mark.parametrize("seed", range(25))
def test_offline_equals_brute_force_where_infeasibility_is_monotone(seed: int) -> None:
    graph, price = small(seed), random_price(seed, most=2 + seed % 6)
    found = offline(graph, price)
    assert found is not None and found.cost == cheapest(graph, price)


@pytest.mark.parametrize("seed", range(25))
def test_the_groups_run_in_order_and_cost_what_is_claimed(seed: int) -> None:
    graph, price = small(seed, 9), random_price(seed)
    for found in (offline(graph, price), linear(graph, price)):
        assert found is not None
        done = total = 0
        for ops in found.groups:
            group, cost = mask_of(ops), price(ops)
            assert cost is not None and not group & done and runnable(graph, done, group)
            done, total = done | group, total + cost
        assert (done, total) == (graph.everything, found.cost)


@pytest.mark.parametrize("seed", range(15))
def test_linear_equals_brute_force_over_all_cuts_of_its_order(seed: int) -> None:
    graph, price = small(seed), random_price(seed, most=4)
    order, totals = linear_order(graph), []
    for cuts in range(1 << (len(graph) - 1)):
        edges = [0, *(i + 1 for i in bits(cuts)), len(graph)]
        prices = [price(order[a:b]) for a, b in pairwise(edges)]
        known = [p for p in prices if p is not None]
        totals += [sum(known)] if len(known) == len(prices) else []
    found = linear(graph, price)
    assert found is not None and found.cost == min(totals)


def test_the_linear_order_is_topological_and_takes_readers_declared_last_first() -> None:
    net = Net()
    x = net.conv(net.input(4, 8, 8), 4, name="stem")
    a, b, c = (net.conv(x, 4, name=name) for name in "abc")
    net.concat(a, b, c, name="join")
    graph = net.graph()
    assert [graph.ops[i].name for i in linear_order(graph)] == ["stem", "c", "b", "a", "join"]


def fork() -> Graph:
    """Two branches whose names run against the order of declaration."""
    net = Net()
    x = net.conv(net.input(4, 8, 8), 4, name="stem")
    net.add(net.conv(x, 4, name="z"), net.conv(x, 4, name="a"), name="join")
    return net.graph()


def names(graph: Graph, found: Found | None) -> list[list[str]]:
    assert found is not None
    return [[graph.ops[i].name for i in ops] for ops in found.groups]


def test_of_equal_plans_the_one_that_grows_wins_and_grows_by_the_alphabet() -> None:
    graph = fork()
    assert names(graph, offline(graph, lambda ops: 0)) == [["stem", "a", "z", "join"]]


def test_linear_prefers_the_longest_last_group_among_equals() -> None:
    graph = fork()
    assert names(graph, linear(graph, lambda ops: 0)) == [["stem", "a", "z", "join"]]


def test_a_group_that_cannot_run_is_never_grown() -> None:
    graph = fork()
    asked: list[Ordered] = []

    def price(ops: Ordered) -> int | None:
        asked.append(ops)
        return 1 if len(ops) == 1 else None

    offline(graph, price)
    assert max(map(len, asked)) == 2


def test_no_plan_is_none() -> None:
    graph = fork()
    assert offline(graph, lambda ops: None) is None
    assert linear(graph, lambda ops: None) is None


def test_a_chain_has_as_many_states_as_published() -> None:
    net = Net()
    x = net.input(4, 8, 8)
    for _ in range(12):
        x = net.conv(x, 4)
    found = offline(net.graph(), lambda ops: 1 if len(ops) <= 3 else None)
    assert found is not None
    feasible, refused = 12 * 3 - 3, 12 - 3
    assert found.states == feasible + refused


def test_a_network_deeper_than_the_interpreters_stack_is_searched() -> None:
    net = Net()
    x = net.input(1, 1, 1)
    for _ in range(1200):
        x = net.conv(x, 1, 1)
    found = offline(net.graph(), lambda ops: 1 if len(ops) <= 2 else None)
    assert found is not None and found.cost == 600
