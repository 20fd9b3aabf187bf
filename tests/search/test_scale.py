"""What the searches do with large networks: A* on long ones, column generation on wide ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np
import pytest
from small_problems import best_by_trying_all, partitions, small_problem

import fusecut as fc
from fusecut.builder import Net
from fusecut.cost import NEVER_BYTES
from fusecut.errors import PartitionError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import LineBuffer, scheme_model
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Exact, Greedy, Searcher
from fusecut.search import _astar as module
from fusecut.search._astar import AStar
from fusecut.search._cuts import Reach
from fusecut.solution import Status
from fusecut.testing import random_graph


def residual_chain(blocks: int) -> Graph:
    net = Net()
    x = net.input(16, 56, 56)
    for _ in range(blocks):
        x = net.add(net.conv(net.conv(x, 16), 16), x)
    return net.graph()


@pytest.mark.parametrize("model", ["lbdf", "cheapest"])
def test_an_expansion_too_large_for_the_effort_waits_and_nothing_is_lost(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ONE_EXPANSION", 0)
    for seed in range(60):
        problem = small_problem(seed, model)
        truth = best_by_trying_all(small_problem(seed, model), partitions(seed))
        search = AStar(problem)
        for effort in (*range(1, 60, 3), 100_000):
            list(search.run(effort))
            assert truth is None or search.bound() <= truth[0]
        assert search.done
        assert truth is None or search.bound() == truth[0]


@pytest.mark.parametrize("scheme", ["lbdf", "mixed"])
def test_a_search_can_be_stopped_while_it_finds_out_which_ops_can_share_a_group(scheme: str) -> None:
    problem = Problem(residual_chain(20), Machine.of("64KiB"), scheme_model(scheme))
    first, *others = islice(Exact().propose(problem, np.random.default_rng(0)), 3)
    assert first.partition is not None and first.bound == problem.floor_bytes()
    assert all(proposal == (None, None) for proposal in others)


def test_a_narrower_limit_leaves_the_mates_that_a_search_from_the_start_would_find() -> None:
    problem = Problem(residual_chain(6), Machine.of("64KiB"), scheme_model("mixed"))
    wide = Reach(problem)
    for limit in (100_000, 20_000, 5_000, 1, 0):
        wide = wide.narrowed(problem, limit)
        anew = Reach(problem, limit_bytes=limit)
        assert [wide.mates(op) for op in range(18)] == [anew.mates(op) for op in range(18)]
    with pytest.raises(ValueError, match="not known"):
        wide.narrowed(problem, 1)


def test_a_search_that_advances_goes_on_beyond_its_first_effort() -> None:
    problem = Problem(residual_chain(60), Machine.of("64KiB"), LineBuffer())
    short = Exact(first_effort=200, beam_effort=0, effort=0, column_effort=0)
    found = fc.solve(problem.graph, "64KiB", model=LineBuffer(), search=short)
    assert found.status is Status.optimal
    assert found.cost.dram_bytes == fc.solve(problem.graph, "64KiB", model=LineBuffer()).cost.dram_bytes
    search = AStar(problem)
    list(search.run(200))
    assert not search.done
    assert search.advances(100)
    assert not search.advances(1)


def test_blocks_that_repeat_cost_the_same_as_ever() -> None:
    """A block more costs as much as the one before, once the chain is longer than a group."""
    most = [fc.solve(residual_chain(n), "64KiB", scheme="lbdf").cost.dram_bytes for n in (15, 20, 25)]
    assert most[1] - most[0] == most[2] - most[1]


def test_plans_of_column_generation_are_the_same_in_a_fresh_process_whatever_the_hash_seed() -> None:
    pytest.importorskip("highspy")
    pytest.importorskip("numba")
    code = (
        "import numpy as np\n"
        "from fusecut.machine import Machine\n"
        "from fusecut.models import LineBuffer\n"
        "from fusecut.problem import Problem\n"
        "from fusecut.search._columns import Columns\n"
        "from fusecut.testing import random_graph\n"
        "graph = random_graph(np.random.default_rng(5), 18, inputs=2)\n"
        "whole = LineBuffer().demand(graph, graph.everything).nbytes\n"
        "problem = Problem(graph, Machine(whole // 3), LineBuffer())\n"
        "for proposal in Columns(problem).run(1_000_000):\n"
        "    print(proposal.bound, proposal.partition and proposal.partition.groups)\n"
    )
    outs = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        outs.append(run.stdout)
    assert outs[0] == outs[1]
    assert b"(" in outs[0]


@pytest.mark.slow
@pytest.mark.parametrize("buffer", ["32KiB", "64KiB", "128KiB"])
def test_a_chain_of_ten_thousand_ops_is_proved_optimal(buffer: str) -> None:
    found = fc.solve(residual_chain(3_333), buffer, scheme="lbdf")
    assert found.status is Status.optimal


@pytest.mark.slow
@pytest.mark.parametrize("network", ["nasnetalarge", "hrnet_w18"])
def test_the_widest_networks_are_proved_optimal(network: str) -> None:
    pytest.importorskip("highspy")
    pytest.importorskip("numba")
    found = fc.solve(fc.zoo(network), "256KiB", scheme="lbdf")
    assert found.status is Status.optimal


def test_long_chains_are_proved_where_groups_may_run_in_bands() -> None:
    """Groups of any length could, for all that a floor without halos knows."""
    graph = residual_chain(33)
    found = fc.solve(graph, "64KiB", scheme="mixed")
    assert found.status is Status.optimal
    assert found.evaluations < 3 * len(graph)
    floor = scheme_model("mixed").buffer_floor(graph, Machine.of("64KiB"))
    mark, seen = floor.start, 0
    for i in range(60):
        mark, seen = floor.extend(seen, mark, i), seen | 1 << i
    assert floor.again_bytes(mark, 1 << 16) == NEVER_BYTES


def test_networks_of_many_rows_begin_with_a_greedy_plan() -> None:
    net = Net("tall")
    x = net.input(1, 120_000, 1)
    for _ in range(2):
        x = net.conv(x, 1)
    problem = Problem(net.graph(), Machine(4_096), scheme_model("lbdf"))
    alone, greedy = (p for p in islice(plans(Exact(), problem), 2))
    assert len(alone) == 2 and len(greedy) == 1
    asked = problem.evaluations
    assert [*plans(Greedy(), problem)][1].groups == greedy.groups and problem.evaluations == asked


def test_long_networks_of_low_maps_begin_without_a_greedy_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy looks at all groups for each op: minutes for 10,000 ops, which are solved in a third of one."""

    def refused(problem: Problem) -> Iterator[object]:
        raise AssertionError("a greedy plan is looked for")

    monkeypatch.setattr("fusecut.search.exact.first_fit", refused)
    problem = Problem(residual_chain(1_400), Machine(32_768), scheme_model("lbdf"))
    assert sum(problem.graph.tensors[op.outputs[0]].rows for op in problem.graph.ops) > 200_000
    assert len([*islice(plans(Exact(), problem), 2)]) == 2


def plans(search: Searcher, problem: Problem) -> Iterator[Partition]:
    """The plans a search proposes."""
    for proposal in search.propose(problem, np.random.default_rng(0)):
        if proposal.partition is not None:
            yield proposal.partition


@pytest.mark.parametrize("scheme", ["lbdf", "brr"])
@pytest.mark.parametrize("seed", [5, 13, 26])
def test_no_two_groups_of_a_plan_without_proof_are_better_as_one(scheme: str, seed: int) -> None:
    problem = Problem(random_graph(np.random.default_rng(seed), 40), Machine(600), scheme_model(scheme))
    searcher = Exact(300, first_effort=100, beam_effort=300, column_effort=1, first_questions=20, questions=20)
    plans = [p.partition for p in searcher.propose(problem, np.random.default_rng(0)) if p.partition is not None]
    least, best = min((problem.rank_of_plan(plan) or NEVER_BYTES, plan.groups) for plan in plans)
    for a, b in combinations(best, 2):
        try:
            merged = Partition(problem.graph, [a | b, *(group for group in best if group not in (a, b))])
        except PartitionError:
            continue
        assert (problem.rank_of_plan(merged) or NEVER_BYTES) >= least
