"""On-line search: what it looks at, when it stops, and how near the best plan it ends."""

from __future__ import annotations

import numpy as np
import pytest
from small_problems import MODELS, small_problem

import fusecut as fc
from fusecut.cost import Cost
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Exact, Online
from fusecut.search._stretches import Stretches, ideals, orders
from fusecut.testing import random_graph


def plans(problem: Problem, search: Online | None = None) -> list[Partition]:
    found = (search or Online()).propose(problem, np.random.default_rng(0))
    return [p.partition for p in found if p.partition is not None]


def zoo_problem(name: str, kib: int, scheme: str) -> Problem:
    return Problem(fc.zoo(name), Machine(kib * 1024), scheme_model(scheme))


def best_score(problem: Problem) -> int:
    scores = [problem.score(p.partition) for p in Exact().propose(problem, np.random.default_rng(0)) if p.partition]
    return min(score for score in scores if score is not None)


# The few ideals ------------------------------------------------------------------------------------


def is_ideal(graph: Graph, ops: Group) -> bool:
    return not any(graph.preds[i] & ~ops for i in bits(ops))


def test_orders_are_orders_in_which_the_network_may_run() -> None:
    for seed in range(30):
        graph = random_graph(np.random.default_rng(seed), 12, inputs=2)
        for order in orders(graph):
            done = 0
            for op in order:
                assert not graph.preds[op] & ~done
                done |= 1 << op
            assert done == graph.everything


def test_beginnings_their_meets_and_joins_are_ideals() -> None:
    for seed in range(30):
        graph = random_graph(np.random.default_rng(seed), 12, inputs=2)
        found = ideals(graph, orders(graph))
        assert all(is_ideal(graph, ideal) for ideal in found)
        assert found[0] == 0 and found[-1] == graph.everything


def test_of_a_chain_there_is_one_order() -> None:
    graph = fc.zoo("mobilenet_v1")
    assert len(orders(graph)) == 1
    assert len(ideals(graph, orders(graph))) == len(graph) + 1


@pytest.mark.parametrize("model", ["fallback", "cheapest"])
def test_a_stretch_leads_from_ideal_to_ideal_by_groups_that_need_nothing_of_each_other(model: str) -> None:
    for seed in range(40):
        problem = small_problem(seed, model)
        graph, stretches = problem.graph, Stretches(problem)
        for start, found in stretches.from_each().items():
            for stretch in found:
                assert sum(stretch.groups) == stretch.end & ~start and stretch.end in stretches.ideals
                assert all(graph.is_connected(group) and graph.is_convex(group) for group in stretch.groups)
                assert all(not graph.succs[i] & (stretch.end & ~start & ~g) for g in stretch.groups for i in bits(g))


# Plans -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"black_box"}))
def test_a_plan_is_found_where_every_op_runs_alone_and_it_is_never_worse_than_no_fusion(model: str) -> None:
    for seed in range(60):
        problem = small_problem(seed, model)
        alone = problem.cost(Partition.singletons(problem.graph))
        if isinstance(alone, Cost):
            last = problem.cost(plans(problem)[-1])
            assert isinstance(last, Cost) and last.dram_bytes <= alone.dram_bytes, f"seed {seed}"


@pytest.mark.parametrize(
    ("name", "kib", "scheme"),
    [
        ("resnet18", 128, "lbdf"),
        ("resnet18", 128, "mixed"),
        ("squeezenet1_1", 128, "mixed"),
        ("mobilenet_v2", 256, "lbdf"),
        ("unet", 256, "mixed"),
        ("shufflenet_v2_x1_0", 128, "lbdf"),
    ],
)
def test_a_plan_of_the_zoo_is_within_one_percent(name: str, kib: int, scheme: str) -> None:
    quick, slow = zoo_problem(name, kib, scheme), zoo_problem(name, kib, scheme)
    found = quick.score(plans(quick)[-1])
    assert found is not None and found <= 1.01 * best_score(slow)


def test_it_asks_no_more_than_it_may_beyond_every_op_and_the_round_in_which_it_stops() -> None:
    problem = zoo_problem("googlenet", 128, "lbdf")
    ops = len(problem.graph)
    plans(problem, Online(questions=0.1))
    assert problem.evaluations <= ops + 0.1 * ops + ops


def test_without_questions_the_first_round_decides() -> None:
    problem = zoo_problem("resnet18", 128, "mixed")
    few, many = plans(problem, Online(questions=0)), plans(problem, Online(questions=5, tolerance=0))
    scores = [problem.score(found[-1]) for found in (few, many)]
    assert scores[0] is not None and scores[1] is not None and scores[1] <= scores[0]


def test_the_generator_has_no_influence() -> None:
    for seed in range(5):
        found = [
            [p.partition and p.partition.groups for p in Online().propose(small_problem(seed, "cheapest"), rng)]
            for rng in (np.random.default_rng(0), np.random.default_rng(9))
        ]
        assert found[0] == found[1]
