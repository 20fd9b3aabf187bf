"""Random search: independent plans, each repaired."""

from __future__ import annotations

from itertools import islice

import numpy as np

from fusecut.bonds import components
from fusecut.cost import Cost
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import RandomSearch
from fusecut.split import CostGuided, Random
from fusecut.testing import brute_force, random_problem


def plans(problem: Problem, count: int) -> list[Partition]:
    found = (p.partition for p in RandomSearch().propose(problem, np.random.default_rng(0)))
    return list(islice((plan for plan in found if plan is not None), count))


def test_every_plan_runs_where_every_op_runs_alone() -> None:
    for seed in range(20):
        problem = random_problem(seed)
        assert all(isinstance(problem.cost(plan), Cost) for plan in plans(problem, 30))


def test_it_finds_the_optimum_of_small_problems() -> None:
    for seed in range(8):
        problem = random_problem(seed, 6)
        best = brute_force(problem)
        costs = [problem.cost(plan) for plan in plans(problem, 400)]
        assert min(cost.dram_bytes for cost in costs if isinstance(cost, Cost)) == best


def test_an_infeasible_group_is_split_once_and_remembered_where_the_splitter_does_not_redraw() -> None:
    problem, rng = random_problem(3, 6), np.random.default_rng(0)
    problem.splitter = Random(redraws=False)
    whole = Partition(problem.graph, components(problem.graph, problem.graph.everything))
    first = problem.repaired(whole, rng)
    splits, evaluations = problem.splits, problem.evaluations
    assert 0 < splits < evaluations
    assert problem.repaired(whole, rng).groups == first.groups != whole.groups
    assert (problem.splits, problem.evaluations) == (splits, evaluations)


def test_it_uses_the_splitter_of_the_problem() -> None:
    differ = 0
    for seed in range(4):
        plain = random_problem(seed, 30)
        guided = Problem(plain.graph, plain.machine, plain.model, CostGuided())
        differ += [p.groups for p in plans(plain, 20)] != [p.groups for p in plans(guided, 20)]
        assert guided.splits > 0 and guided.fallbacks == 0
    assert differ
