"""Random plans and edits: valid by construction, drawn as stated, reaching everything."""

from __future__ import annotations

from collections import Counter
from itertools import permutations, product
from math import factorial

import numpy as np
import pytest

from fusecut.bonds import components
from fusecut.ir import Graph, bits
from fusecut.partition import Partition
from fusecut.search.encoding import _neighbours, crossed, merged, mutated, random_plan, root_bound, score
from fusecut.testing import Net, all_partitions, brute_force, random_graph, random_problem

GRAPHS = [random_graph(np.random.default_rng(100 + seed), 3 + seed % 6, inputs=1 + seed % 2) for seed in range(20)]


def chain(ops: int) -> Graph:
    net = Net()
    x = net.input(2, 8, 8)
    for _ in range(ops):
        x = net.conv(x, 2)
    return net.graph(x)


def diamond() -> Graph:
    net = Net()
    x = net.conv(net.input(2, 8, 8), 2)
    return net.graph(net.add(net.conv(x, 2), net.conv(x, 2)))


def residual() -> Graph:
    net = Net()
    x = net.conv(net.input(2, 8, 8), 2)
    return net.graph(net.add(net.conv(net.conv(x, 2), 2), x), net.conv(x, 2))


# Random plans ------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", GRAPHS)
def test_random_plans_are_in_runnable_order_and_valid(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        plan = random_plan(graph, rng)
        assert Partition(graph, plan.groups).groups == plan.groups


def test_every_valid_plan_of_a_small_graph_is_drawn() -> None:
    rng = np.random.default_rng(1)
    for graph in (g for g in GRAPHS if len(g) <= 5):
        drawn = {random_plan(graph, rng).groups for _ in range(4000)}
        assert drawn == {plan.groups for plan in all_partitions(graph)}


def exact_probabilities(graph: Graph) -> dict[tuple[int, ...], float]:
    """Sum over all rankings of the priorities and all cut sets; the cut rate is integrated out:
    P(k cuts at given places of n) = k! (n - k)! / (n + 1)!."""
    found: dict[tuple[int, ...], float] = {}
    count = len(graph)
    for ranking in permutations(range(count)):
        order = order_of(graph, ranking)
        for cuts in product((False, True), repeat=count - 1):
            share = factorial(sum(cuts)) * factorial(count - 1 - sum(cuts)) / factorial(count)
            groups = plan_of(graph, order, cuts).groups
            found[groups] = found.get(groups, 0.0) + share / factorial(count)
    return found


def order_of(graph: Graph, priority: tuple[int, ...]) -> list[int]:
    order: list[int] = []
    while len(order) < len(graph):
        ready = [i for i in range(len(graph)) if i not in order and all(p in order for p in bits(graph.preds[i]))]
        order.append(min(ready, key=lambda i: priority[i]))
    return order


def plan_of(graph: Graph, order: list[int], cuts: tuple[bool, ...]) -> Partition:
    groups, stretch = [], 0
    for op, cut in zip(order, (*cuts, True), strict=True):
        stretch |= 1 << op
        if cut:
            groups += components(graph, stretch)
            stretch = 0
    return Partition(graph, groups)


@pytest.mark.parametrize("graph", [chain(4), diamond(), residual()], ids=["chain", "diamond", "residual"])
def test_random_plans_have_the_distribution_that_is_stated(graph: Graph) -> None:
    exact = exact_probabilities(graph)
    assert abs(sum(exact.values()) - 1) < 1e-9
    rng, draws = np.random.default_rng(2), 6000
    drawn = Counter(random_plan(graph, rng).groups for _ in range(draws))
    assert set(drawn) <= set(exact)
    for groups, share in exact.items():
        assert abs(drawn[groups] / draws - share) < 4.5 * (share * (1 - share) / draws) ** 0.5 + 1e-3


def test_a_chain_gets_every_number_of_groups_equally_often() -> None:
    exact = exact_probabilities(chain(5))
    shares = dict.fromkeys(range(1, 6), 0.0)
    for groups, share in exact.items():
        shares[len(groups)] += share
        assert abs(share - factorial(len(groups) - 1) * factorial(5 - len(groups)) / factorial(5)) < 1e-12
    assert all(abs(share - 0.2) < 1e-12 for share in shares.values())


# One edit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", GRAPHS)
def test_edits_and_crossings_keep_plans_valid(graph: Graph) -> None:
    rng = np.random.default_rng(3)
    plan = random_plan(graph, rng)
    for _ in range(150):
        plan = mutated(graph, plan, rng)
        assert Partition(graph, plan.groups).groups == plan.groups
        crossed(graph, plan, random_plan(graph, rng), rng)


def test_edits_reach_every_valid_plan() -> None:
    rng = np.random.default_rng(4)
    for graph in (g for g in GRAPHS if len(g) <= 5):
        plan, met = Partition.singletons(graph), set()
        for _ in range(4000):
            plan = mutated(graph, plan, rng)
            met.add(plan.groups)
        assert met == {plan.groups for plan in all_partitions(graph)}


def test_an_edit_of_one_op_alone_changes_nothing() -> None:
    graph = chain(1)
    plan = Partition.singletons(graph)
    assert mutated(graph, plan, np.random.default_rng(0)) is plan


def test_a_merge_takes_along_what_lies_between() -> None:
    net = Net()
    x = net.input(2, 8, 8)
    first = net.conv(x, 2, name="first")
    second = net.conv(first, 2, name="second")
    graph = net.graph(net.add(second, first), net.conv(first, 2, name="beside"))
    a, b, c, d = (graph.op_index[name] for name in ("first", "second", "elementwise2", "beside"))
    groups = merged(graph, Partition.singletons(graph).groups, a, c)
    assert sorted(groups) == sorted([1 << a | 1 << b | 1 << c, 1 << d])


def ladder() -> Graph:
    """Six ops, each reads all before it: every pair of groups is a pair of neighbours."""
    net = Net()
    made = [net.input(2, 8, 8)]
    for _ in range(6):
        made.append(net.conv(net.concat(*made) if len(made) > 1 else made[0], 2))
    return net.graph(made[-1])


@pytest.mark.parametrize("graph", [residual(), ladder(), *GRAPHS[5:9]])
def test_neighbours_are_drawn_half_as_often_for_each_group_between_them(graph: Graph) -> None:
    plan, rng, draws = Partition.singletons(graph), np.random.default_rng(8), 3000
    weights = {}
    for u in range(len(graph)):
        for v in bits(graph.succs[u]):
            first, second = (next(g for g in plan.groups if g >> op & 1) for op in (u, v))
            if first != second:
                weights[first, second] = 0.5 ** (len(plan) - len(merged(graph, plan.groups, u, v)) - 1)
    drawn = Counter(_neighbours(graph, plan, rng) for _ in range(draws))
    assert set(drawn) <= set(weights)
    for pair, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(drawn[pair] / draws - share) < 4.5 * (share * (1 - share) / draws) ** 0.5 + 1e-3


def test_a_random_edit_splits_merges_and_moves() -> None:
    graph = chain(4)
    plan = Partition(graph, [0b0011, 0b1100])
    made = {mutated(graph, plan, np.random.default_rng(seed)).groups for seed in range(60)}
    splits = {(0b0001, 0b0010, 0b1100), (0b0011, 0b0100, 0b1000)}
    assert made == splits | {(0b1111,), (0b0001, 0b1110), (0b0111, 0b1000)}


def test_crossing_keeps_a_prefix_of_the_first_and_the_cuts_of_the_second() -> None:
    graph = chain(4)
    first, second = Partition(graph, [0b0001, 0b0010, 0b1100]), Partition(graph, [0b0111, 0b1000])
    made = {crossed(graph, first, second, np.random.default_rng(seed)).groups for seed in range(40)}
    assert made == {second.groups, (0b0001, 0b0110, 0b1000), (0b0001, 0b0010, 0b0100, 0b1000), first.groups}


# Prices ------------------------------------------------------------------------------------------


def test_an_edit_prices_only_groups_that_were_never_met() -> None:
    problem, rng = random_problem(1, 14), np.random.default_rng(5)
    plan = random_plan(problem.graph, rng)
    score(problem, plan)
    met = set(plan.groups)
    for _ in range(100):
        plan = mutated(problem.graph, plan, rng)
        before = problem.evaluations
        score(problem, plan)
        assert problem.evaluations - before == len(set(plan.groups) - met)
        met |= set(plan.groups)


def test_the_score_is_what_the_problem_says() -> None:
    for seed in range(20):
        problem = random_problem(seed)
        plan = problem.repaired(random_plan(problem.graph, np.random.default_rng(seed)), np.random.default_rng(0))
        cost = problem.cost(plan)
        assert score(problem, plan)[1:] == (getattr(cost, "dram_bytes", None), getattr(cost, "buffer_bytes", None))


def test_a_plan_with_a_group_that_cannot_run_scores_worse_than_any_without() -> None:
    problem = random_problem(0)
    whole = Partition(problem.graph, components(problem.graph, problem.graph.everything))
    assert any(not problem.fits(group) for group in whole.groups)
    assert score(problem, whole) > score(problem, Partition.singletons(problem.graph))


def test_the_root_bound_is_at_most_the_optimum() -> None:
    for seed in range(30):
        problem = random_problem(seed, 6)
        best = brute_force(problem)
        assert best is not None and root_bound(problem) <= best
