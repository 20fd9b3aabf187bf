"""Column generation against brute force: reduced costs, bounds of every branch, bounds of every plan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.random import Generator
from small_problems import best_by_trying_all, partitions, small_graph, small_problem

pytest.importorskip("scipy")

from fusecut.cost import Cost, FitFloor
from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem
from fusecut.search import NO_PLAN
from fusecut.search._columns import Columns, worth_trying
from fusecut.search._cut_network import CutNetwork, unit_bytes_of
from fusecut.search._cuts import Reach
from fusecut.search._growth import Growth
from fusecut.search._pricing import Duals, Effort, Pricing

FITTING = ("lbdf", "lbdf_two_pass", "lbdf_switches", "fallback")
SEEDS = range(40)
THOROUGH = Effort(10_000, 5, 100_000)
every_model = pytest.mark.parametrize("model", FITTING)


def growth_of(problem: Problem) -> Growth:
    return Growth(problem, Reach(problem))


def fitting_groups(problem: Problem) -> Iterator[Group]:
    """Connected convex groups whose floor is within the capacity, by trying all sets."""
    graph, floor = problem.graph, problem.buffer_floor
    for group in range(1, 1 << len(graph)):
        if graph.is_connected(group) and graph.is_convex(group):
            mark = floor.start
            done = 0
            for op in bits(group):
                mark, done = floor.extend(done, mark, op), done | 1 << op
            if not floor.again_bytes(mark, problem.capacity_bytes):
                yield group


def random_duals(graph: Graph, rng: Generator) -> Duals:
    """Prices around what an op costs alone, and two fines."""
    alone = [graph.touch_once_bytes(1 << op) for op in range(len(graph))]
    prices = [int(cost * rng.uniform(-0.2, 1.2)) for cost in alone]
    fines = {}
    if len(graph) > 2:
        for _ in range(2):
            ops = rng.choice(len(graph), 3, replace=False)
            fines[sum(1 << int(op) for op in ops)] = int(rng.integers(1, 200))
    return Duals(prices, fines)


def reduced(problem: Problem, duals: Duals, group: Group) -> int:
    """By definition: touch-once bytes, less the prices, plus a fine for two of three."""
    fines = sum(fine for ops, fine in duals.fines.items() if (ops & group).bit_count() >= 2)
    return problem.graph.touch_once_bytes(group) + fines - sum(duals.prices[op] for op in bits(group))


def searched(problem: Problem, duals: Duals, limit: int, effort: Effort, few: int) -> dict[Group, int]:
    pricing = Pricing(growth_of(problem), few)
    found: dict[Group, int] = {}
    for first in pricing.roots:
        for cost, group in pricing.groups(first, duals, limit, effort).groups:
            assert group not in found
            found[group] = cost
    return found


@every_model
def test_all_groups_below_a_limit_are_found_with_their_reduced_costs(model: str) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 2])
        duals, limit = random_duals(problem.graph, rng), int(rng.integers(-100, 300))
        costs = {g: reduced(problem, duals, g) for g in fitting_groups(problem) if g & (g - 1)}
        wanted = {g: cost for g, cost in costs.items() if cost < limit}
        roots = Pricing(growth_of(problem), 1).roots
        wanted = {g: cost for g, cost in wanted.items() if (g & -g).bit_length() - 1 in roots}
        assert searched(problem, duals, limit, THOROUGH, 1) == wanted, f"seed {seed}"


@every_model
def test_listed_groups_are_all_that_fit_with_their_reduced_costs(model: str) -> None:
    for seed in SEEDS:
        problem = small_problem(seed, model)
        duals = random_duals(problem.graph, np.random.default_rng([seed, 3]))
        pricing = Pricing(growth_of(problem))
        assert not pricing.roots
        found: dict[Group, int] = {}
        for first in range(len(problem.graph)):
            groups, costs = pricing.listing.reduced(first, duals.vector, duals.fines)
            assert all(group & -group == 1 << first for group in groups)
            found.update(zip(groups, costs.tolist(), strict=True))
        assert found == {g: reduced(problem, duals, g) for g in fitting_groups(problem)}, f"seed {seed}"


@every_model
@pytest.mark.parametrize("effort", [Effort(1, 1, 1), Effort(1, 3, 2), Effort(3, 2, 1), Effort(2, 4, 8)])
def test_the_bound_of_a_root_holds_whatever_the_effort(model: str, effort: Effort) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 4])
        duals, pricing = random_duals(problem.graph, rng), Pricing(growth_of(problem), 1)
        for first in pricing.roots:
            mine = [g for g in fitting_groups(problem) if g & -g == 1 << first and g & (g - 1)]
            least = min((reduced(problem, duals, g) for g in mine), default=0)
            assert pricing.groups(first, duals, 0, effort).least_bytes <= least, f"seed {seed}"


@every_model
def test_a_cut_bounds_every_group_that_agrees_with_the_decisions(model: str) -> None:
    compared = 0
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 5])
        growth, graph = growth_of(problem), problem.graph
        duals = Duals(random_duals(graph, rng).prices, {})
        groups = list(fitting_groups(problem))
        if not groups:
            continue
        held = groups[int(rng.integers(len(groups)))]
        held &= -held
        unit = unit_bytes_of(growth)
        price = int(rng.integers(0, 40 << 12))
        cut = CutNetwork(growth, graph.everything, held, unit).solve(duals.vector, price, 4, 1 << 40)
        bound, inside = cut.begun(held)
        outside, taken, dropped = 1 << 1, held, 0
        for op in rng.permutation(len(graph)).tolist():
            agreeing = [g for g in groups if taken & ~g == 0 and not dropped & g]
            least = min((reduced(problem, duals, g) for g in agreeing), default=None)
            compared += least is not None
            assert least is None or bound * unit <= 8 * least, f"seed {seed}"
            if taken >> op & 1:
                continue
            if rng.random() < 0.5:
                inside, bound = cut.taken(op, inside, outside, bound)
                taken |= 1 << op
            else:
                outside, bound = cut.dropped(op, inside, outside, bound)
                dropped |= 1 << op
    assert compared > 60


@every_model
def test_shares_add_up_to_no_more_than_the_floor(model: str) -> None:
    for seed in SEEDS:
        problem = small_problem(seed, model)
        shares, floor = growth_of(problem).shares, problem.buffer_floor
        for group in range(1, 1 << len(problem.graph)):
            mark, done = floor.start, 0
            for op in bits(group):
                mark, done = floor.extend(done, mark, op), done | 1 << op
            assert sum(shares[op] for op in bits(group)) <= mark, f"seed {seed}"


@every_model
@pytest.mark.parametrize("few", [1, 300])
def test_bounds_never_exceed_the_optimum_and_plans_never_beat_it(model: str, few: int) -> None:
    met = 0
    for seed in SEEDS:
        problem = small_problem(seed, model)
        assert worth_trying(problem) and isinstance(problem.buffer_floor, FitFloor)
        truth = best_by_trying_all(problem, partitions(seed))
        columns = Columns(problem, few=few)
        plans = []
        for proposal in columns.run(10_000):
            assert truth is None or (proposal.bound or 0) <= truth[0], f"seed {seed}"
            if proposal.partition is not None:
                cost = problem.cost(proposal.partition)
                assert isinstance(cost, Cost)
                plans.append(cost.dram_bytes)
        assert truth is not None or not plans
        assert all(truth is not None and plan >= truth[0] for plan in plans), f"seed {seed}"
        met += truth is not None and columns.best == columns.bound == truth[0]
        assert columns.bound < NO_PLAN
    assert met > 0.9 * sum(best_by_trying_all(small_problem(s, model), partitions(s)) is not None for s in SEEDS)


def test_a_small_graph_is_a_hard_enough_test() -> None:
    assert max(len(small_graph(seed)) for seed in SEEDS) == 8
