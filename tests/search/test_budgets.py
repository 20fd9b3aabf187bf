"""Budgets of searches that never end by themselves, splitters, and what the command line records."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

import fusecut as fc
from fusecut.cli import main
from fusecut.search import Greedy, LazyExact, LocalSearch, RandomSearch, Searcher
from fusecut.solve import DEFAULT_PLANS, Budget, solve
from fusecut.split import CostGuided
from fusecut.testing import random_problem

NET = fc.zoo("mobilenet_v2")


def test_a_budget_of_evaluations_ends_the_search() -> None:
    found = solve(NET, "256KiB", scheme="lbdf", search=RandomSearch(), max_evaluations=300)
    assert 300 <= found.evaluations < 600 and found.status is fc.Status.budget


@pytest.mark.parametrize("limit", [70, 100, 150])
def test_greedy_asks_for_no_group_more_than_the_budget_allows(limit: int) -> None:
    """A question at a time, so that a budget counts where one answer takes minutes; 64 ops are asked for first."""
    found = solve(NET, "256KiB", scheme="lbdf", search=Greedy(), max_evaluations=limit)
    assert found.evaluations == limit and found.status is fc.Status.budget


def test_a_budget_of_seconds_ends_the_search() -> None:
    found = solve(NET, "256KiB", scheme="lbdf", search=RandomSearch(), max_seconds=0.1)
    assert 0.1 <= found.seconds < 5


def test_without_a_budget_an_endless_search_ends_after_the_default_plans() -> None:
    assert Budget().for_endless() == Budget(max_plans=DEFAULT_PLANS)
    assert Budget(max_seconds=1.0).for_endless() == Budget(max_seconds=1.0)


def test_evaluations_that_never_come_are_not_waited_for() -> None:
    problem = random_problem(1, 5)
    found = solve(
        problem.graph,
        machine=problem.machine,
        model=fc.models.BlackBox(lambda group: {"feasible": True, "buffer_bytes": 1, "dram_bytes": 10**6}),
        search=LocalSearch(),
        max_evaluations=10**6,
    )
    assert found.evaluations < 100 and found.status is fc.Status.budget


def test_a_plan_that_meets_the_bound_ends_an_endless_search() -> None:
    found = solve(fc.zoo("vgg16"), "256KiB", scheme="lbdf", search=LocalSearch())
    assert found.status is fc.Status.optimal and found.plans_proposed < DEFAULT_PLANS


@pytest.mark.parametrize("search", [LocalSearch(), Greedy(), LazyExact()])
def test_an_interrupt_inside_the_cost_model_returns_the_best_plan_so_far(search: Searcher) -> None:
    calls = 0

    def price(group: object) -> dict[str, object]:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        return {"feasible": True, "buffer_bytes": 1, "dram_bytes": 10**6}

    problem = random_problem(2, 20)
    found = solve(problem.graph, machine=problem.machine, model=fc.models.BlackBox(price), search=search)
    assert found.partition is not None and found.status is fc.Status.budget


def test_the_trace_falls_against_plans_evaluations_and_seconds() -> None:
    found = solve(NET, "256KiB", scheme="lbdf", search=LocalSearch(), max_plans=300)
    assert len(found.trace) > 3
    for before, after in pairwise(found.trace):
        assert after.dram_bytes <= before.dram_bytes
        assert after.plans_proposed > before.plans_proposed
        assert after.evaluations >= before.evaluations and after.seconds >= before.seconds


def test_the_splitter_changes_the_plans_and_is_recorded() -> None:
    plain, guided = (
        [solve(NET, "256KiB", scheme="lbdf", search=RandomSearch(), splitter=s, max_plans=50, seed=k) for k in range(5)]
        for s in (None, CostGuided())
    )
    assert median(found.cost.dram_bytes for found in guided) < median(found.cost.dram_bytes for found in plain)
    assert (plain[0].provenance.splitter, guided[0].provenance.splitter) == (None, "cost_guided")


@pytest.mark.parametrize(
    "search", ["random", "local", "nsga2", "annealing", "greedy", "lazy_exact", "online", "believing"]
)
def test_the_command_line_runs_every_searcher_and_records_both(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, search: str
) -> None:
    path = tmp_path / "plan.json"
    command = ["solve", "zoo:squeezenet1_1", "--buffer", "256KiB", "--scheme", "lbdf", "--search", search]
    split = [] if search in ("greedy", "lazy_exact", "online") else ["--splitter", "cost_guided"]
    assert main([*command, *split, "--max-plans", "40", "-o", str(path)]) == 0
    capsys.readouterr()
    plan = json.loads(path.read_text())
    assert (plan["search"], plan["splitter"]) == (search, "cost_guided" if split else None)
    assert plan["plans_proposed"] <= 40 and fc.load_plan(path).cost.dram_bytes == plan["dram_bytes"]


def test_an_unknown_splitter_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "zoo:squeezenet1_1", "--buffer", "256KiB", "--splitter", "gr"]) == 2
    assert "unknown splitter 'gr'" in capsys.readouterr().err
