"""Simulated annealing: it cools, and never forgets its best plan."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from fusecut.cost import Cost
from fusecut.problem import Problem
from fusecut.search import Annealing
from fusecut.search.annealing import _accepted
from fusecut.testing import brute_force, random_problem


def costs(problem: Problem, search: Annealing, plans: int, seed: int = 0) -> Iterator[int]:
    found = (p.partition for p in search.propose(problem, np.random.default_rng(seed)))
    for plan in islice((plan for plan in found if plan is not None), plans):
        cost = problem.cost(plan)
        if isinstance(cost, Cost):
            yield cost.dram_bytes


def test_it_finds_the_optimum_of_small_problems() -> None:
    for seed in range(10):
        problem = random_problem(seed)
        assert min(costs(problem, Annealing(cooling_plans=300), 600, seed)) == brute_force(problem)


def test_late_plans_are_better_than_early_ones() -> None:
    for seed in range(4):
        drawn = list(costs(random_problem(seed, 40), Annealing(cooling_plans=600), 600, seed))
        assert np.mean(drawn[-100:]) < np.mean(drawn[:100])


def test_it_goes_on_after_it_has_cooled_down() -> None:
    assert len(list(costs(random_problem(0), Annealing(cooling_plans=50, warm_up=5), 400))) == 400


@pytest.mark.parametrize("there", [(0, 10, 5), (0, 12, 5), (1, 1, 1)])
def test_better_and_equal_plans_are_always_taken(there: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    assert all(_accepted((1, 12, 5), there, 1e-9, rng) for _ in range(50))


def test_more_groups_that_cannot_run_are_never_taken() -> None:
    rng = np.random.default_rng(0)
    assert not any(_accepted((0, 12, 5), (1, 1, 1), 1e9, rng) for _ in range(50))


def test_worse_plans_are_taken_as_often_as_the_formula_says() -> None:
    rng = np.random.default_rng(0)
    taken = sum(_accepted((0, 100, 5), (0, 110, 5), 10.0, rng) for _ in range(4000))
    assert abs(taken / 4000 - np.exp(-1)) < 0.03
