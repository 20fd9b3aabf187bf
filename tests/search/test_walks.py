"""The bound by walks against brute force, and how walks are packed into tensors."""

from __future__ import annotations

import numpy as np
import pytest
from small_problems import best_by_trying_all, partitions, small_problem

pytest.importorskip("highspy")

import fusecut as fc
from fusecut.builder import Net
from fusecut.problem import Problem
from fusecut.search._cuts import ForcedCuts, Reach
from fusecut.search._walks import Walks, packed
from fusecut.testing import all_partitions, random_graph


def walks_of(problem: Problem) -> Walks:
    reach = Reach(problem)
    return Walks(problem, reach, ForcedCuts(problem, reach))


@pytest.mark.parametrize("model", ["lbdf", "lbdf_two_pass", "lbdf_switches", "fallback", "cheapest", "black_box"])
def test_no_plan_moves_less_than_the_walks_say(model: str) -> None:
    above = 0
    for seed in range(60):
        problem = small_problem(seed, model)
        truth = best_by_trying_all(problem, partitions(seed))
        walks = walks_of(problem)
        if truth is not None:
            assert walks.bound <= truth[0], f"seed {seed}"
            above += walks.bound > problem.floor_bytes()
    assert model == "black_box" or above > 6


def test_no_plan_moves_less_than_the_walks_say_on_larger_graphs_with_two_inputs() -> None:
    for seed in range(4):
        rng = np.random.default_rng([seed, 7])
        graph = random_graph(rng, 8, inputs=2)
        if len(graph) > 11:
            continue
        plans = tuple(all_partitions(graph))
        whole = fc.models.LineBuffer().demand(graph, graph.everything).nbytes
        for part in (2, 3, 4):
            problem = Problem(graph, fc.Machine(whole // part), fc.models.LineBuffer())
            truth = best_by_trying_all(problem, plans)
            assert truth is None or walks_of(problem).bound <= truth[0], f"seed {seed}, {part}"


def test_parallel_branches_that_no_group_holds_are_all_cut() -> None:
    """Windows along one path see one branch; walks see both."""
    net = Net()
    x = net.conv(net.input(8, 32, 32), 48, kernel=1)
    ends = [net.conv(net.conv(x, 8, kernel=1), 8) for _ in range(2)]
    net.conv(net.add(*ends), 48, kernel=1)
    graph = net.graph()
    problem = Problem(graph, fc.Machine(5_000), fc.models.LineBuffer())
    reach = Reach(problem)
    cuts = ForcedCuts(problem, reach)
    assert Walks(problem, reach, cuts).bound > cuts.total_bytes


def test_packing_never_puts_more_into_a_tensor_than_it_holds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        extra = rng.integers(0, 50, 6).tolist()
        walks = [tuple(sorted(rng.choice(6, int(rng.integers(1, 4)), replace=False).tolist())) for _ in range(5)]
        weights = (rng.random(5) * 60 - 5).tolist()
        assert 0 <= packed(extra, walks, weights) <= sum(max(extra[t] for t in walk) for walk in walks)
    assert packed([10, 4], [(0,), (0, 1)], [7.0, 9.0]) == 10
    assert packed([10, 4], [(0,), (1,), (0, 1)], [0.0, 0.0, 0.0]) == 14
