"""Greedy: what first fit and best merge do on networks small enough to follow."""

from __future__ import annotations

import numpy as np

from fusecut.cost import Cost, Infeasible
from fusecut.ir import bits
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Greedy
from fusecut.search.encoding import merged
from fusecut.testing import Net, random_problem


def plans(problem: Problem) -> list[Partition]:
    found = [p.partition for p in Greedy().propose(problem, np.random.default_rng(0))]
    return [plan for plan in found if plan is not None]


def chain(ops: int, buffer_bytes: int) -> Problem:
    net = Net()
    x = net.input(4, 8, 8)
    for _ in range(ops):
        x = net.conv(x, 4)
    return Problem(net.graph(x), Machine(buffer_bytes), WithFallback(LineBuffer(), Layerwise()))


def test_the_first_plan_is_no_fusion_so_that_any_budget_ends_with_a_plan() -> None:
    problem = chain(3, 10**6)
    assert plans(problem)[0] == Partition.singletons(problem.graph)


def test_with_room_for_everything_first_fit_fuses_everything() -> None:
    _, first, *_, last = plans(chain(5, 10**6))
    assert first.groups == last.groups == (0b11111,)


def test_first_fit_fills_groups_from_the_front() -> None:
    problem = chain(5, 10**6)
    need = problem.cost([0b11])
    assert isinstance(need, Cost)
    assert plans(chain(5, need.buffer_bytes))[1].groups == (0b00011, 0b01100, 0b10000)


def test_every_merge_moves_fewer_bytes() -> None:
    for seed in range(20):
        problem = random_problem(seed, 20)
        costs = [problem.cost(plan) for plan in plans(problem)[2:]]
        dram = [cost.dram_bytes for cost in costs if isinstance(cost, Cost)]
        assert len(dram) == len(costs) and dram == sorted(dram, reverse=True) and len(set(dram)) == len(dram)


def test_no_merge_of_two_neighbours_improves_the_last_plan() -> None:
    for seed in range(10):
        problem = random_problem(seed, 12)
        last = plans(problem)[-1]
        best = problem.cost(last)
        assert isinstance(best, Cost)
        for group in last.groups:
            for u in bits(group):
                for v in bits(problem.graph.succs[u] & ~group):
                    cost = problem.cost(merged(problem.graph, last.groups, u, v))
                    assert isinstance(cost, Infeasible) or cost.dram_bytes >= best.dram_bytes


def test_the_best_merge_comes_first() -> None:
    net = Net()
    x = net.input(4, 8, 8)
    graph = net.graph(net.conv(net.conv(net.conv(x, 1), 8), 4))
    problem = Problem(graph, Machine(10**6), WithFallback(LineBuffer(), Layerwise()))
    assert plans(problem)[2].groups == (0b001, 0b110)
