"""Beams against brute force: plans that run, the best one where nothing is left out, and growth one op at a time."""

from __future__ import annotations

import pytest
from small_problems import best_by_trying_all, partitions, small_problem

import fusecut as fc
from fusecut.builder import Net
from fusecut.ir import Graph, Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._astar import AStar
from fusecut.search._beams import Beam, beam_plan

SEEDS = range(40)
every_model = pytest.mark.parametrize("model", ["lbdf", "lbdf_two_pass", "fallback"])


def planned(problem: Problem, beam: Beam) -> list[Group] | None:
    search = AStar(problem)
    steps = beam_plan(problem, search.lattice, search.ranking, beam, 10_000_000)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: list[Group] | None = end.value
            return found


@every_model
def test_a_beam_that_keeps_everything_finds_the_best_plan(model: str) -> None:
    for seed in SEEDS:
        problem = small_problem(seed, model)
        truth = best_by_trying_all(problem, partitions(seed))
        plan = planned(problem, Beam(10_000, 10_000))
        assert (plan is None) is (truth is None), f"seed {seed}"
        if plan is not None and truth is not None:
            assert problem.rank_of_plan(Partition(problem.graph, plan)) == truth[0], f"seed {seed}"


@every_model
def test_the_narrowest_beam_finds_plans_that_run_near_the_best(model: str) -> None:
    best = found = 0
    for seed in SEEDS:
        problem = small_problem(seed, model)
        truth = best_by_trying_all(problem, partitions(seed))
        plan = planned(problem, Beam(1, 1))
        if plan is not None and truth is not None:
            rank = problem.rank_of_plan(Partition(problem.graph, plan))
            assert rank is not None
            assert rank >= truth[0], f"seed {seed}"
            best, found = best + truth[0], found + rank
    assert found <= 1.1 * best


def parallel_cells(cells: int) -> Graph:
    """Ten depthwise branches and five sums in each cell: more ideals than can be listed."""
    net = Net()
    x = before = net.input(16, 42, 42)
    for _ in range(cells):
        inputs = net.conv(x, 16, kernel=1), net.conv(before, 16, kernel=1)
        sums = [net.add(net.depthwise(inputs[0], 3 + 2 * (k % 2)), net.depthwise(inputs[1])) for k in range(5)]
        x, before = net.concat(*sums), x
    return net.graph()


def test_wide_cells_have_a_good_plan_after_the_narrowest_beam_and_a_larger_buffer_a_better_one() -> None:
    graph, ranks = parallel_cells(4), []
    for buffer in ("32KiB", "64KiB"):
        problem = Problem(graph, fc.Machine.of(buffer), fc.models.LineBuffer())
        plan = planned(problem, Beam(1, 1))
        assert plan is not None
        ranks.append(problem.rank_of_plan(Partition(graph, plan)) or 0)
    alone = sum(graph.touch_once_bytes(1 << op) for op in range(len(graph)))
    assert ranks[1] < ranks[0] < alone // 5
