"""Local search: a population that never gets worse."""

from __future__ import annotations

from itertools import islice
from statistics import median

import numpy as np
import pytest

import fusecut as fc
from fusecut.cost import Cost
from fusecut.problem import Problem
from fusecut.search import NSGA2, Annealing, Exact, LocalSearch, RandomSearch, Searcher
from fusecut.solve import solve
from fusecut.testing import brute_force, random_problem


def best(problem: Problem, search: Searcher, plans: int, seed: int = 0) -> int:
    found = (p.partition for p in search.propose(problem, np.random.default_rng(seed)))
    costs = (problem.cost(plan) for plan in islice((plan for plan in found if plan is not None), plans))
    return min(cost.dram_bytes for cost in costs if isinstance(cost, Cost))


def test_it_finds_the_optimum_of_small_problems() -> None:
    for seed in range(10):
        problem = random_problem(seed)
        assert best(problem, LocalSearch(), 300, seed) == brute_force(problem)


def test_it_beats_random_search_at_equal_plans() -> None:
    lost = 0
    for seed in range(6):
        random = best(random_problem(seed, 40), RandomSearch(), 300, seed)
        local = best(random_problem(seed, 40), LocalSearch(), 300, seed)
        lost += local > random
    assert lost <= 1


def test_the_first_plans_are_those_of_random_search() -> None:
    first = [p.partition for p in islice(LocalSearch(4).propose(random_problem(1), np.random.default_rng(9)), 5)]
    random = [p.partition for p in islice(RandomSearch().propose(random_problem(1), np.random.default_rng(9)), 5)]
    assert [p and p.groups for p in first] == [p and p.groups for p in random]


@pytest.mark.parametrize("population", [1, 2, 10])
def test_any_population_works(population: int) -> None:
    problem = random_problem(4)
    assert best(problem, LocalSearch(population), 400) == brute_force(problem)


def test_mobilenet_is_solved_to_half_a_percent_in_two_thousand_plans() -> None:
    net = fc.zoo("mobilenet_v2")
    optimum = solve(net, "256KiB", scheme="lbdf", search=Exact())
    found = solve(net, "256KiB", scheme="lbdf", search=LocalSearch(), max_plans=2000)
    assert optimum.status is fc.Status.optimal and found.plans_proposed == 2000
    assert found.cost.dram_bytes <= 1.005 * optimum.cost.dram_bytes
    assert found.evaluations < 1000


@pytest.mark.slow
@pytest.mark.parametrize("search", [LocalSearch(), NSGA2(), Annealing()], ids=lambda search: search.name)
def test_a_densely_connected_network_is_solved_to_five_percent_in_five_thousand_plans(search: Searcher) -> None:
    net = fc.zoo("densenet121")
    optimum = solve(net, "256KiB", scheme="lbdf").cost.dram_bytes
    found = [solve(net, "256KiB", scheme="lbdf", search=search, max_plans=5000, seed=seed) for seed in range(3)]
    assert optimum >= 0.95 * median(solution.cost.dram_bytes for solution in found)
