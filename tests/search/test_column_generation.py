"""Column generation against brute force: reduced costs, bounds of every branch, bounds of every plan."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.random import Generator
from small_problems import best_by_trying_all, partitions, small_graph, small_problem

pytest.importorskip("highspy")
pytest.importorskip("numba")

from fusecut.cost import Cost, FitFloor
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import LineBuffer, scheme_model
from fusecut.problem import Problem
from fusecut.search import NO_PLAN
from fusecut.search import _net as net
from fusecut.search._astar import AStar
from fusecut.search._columns import Columns, worth_trying
from fusecut.search._covers import Covers
from fusecut.search._cuts import Reach
from fusecut.search._pricing import Duals, Effort, Pricing
from fusecut.search._root import localise
from fusecut.search.protocol import Proposal
from fusecut.testing import random_graph

FITTING = ("lbdf", "lbdf_two_pass", "lbdf_switches", "fallback")
SEEDS = range(40)
THOROUGH = (Effort(10_000, 5, 100_000), Effort(10_000, 10_000, 100_000))
every_model = pytest.mark.parametrize("model", FITTING)


def pricing_of(problem: Problem) -> Pricing:
    return Pricing(problem, Reach(problem))


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
    return problem.graph.touch_once_bytes(group) + fines - sum(int(duals.prices[op]) for op in bits(group))


def searched(problem: Problem, duals: Duals, limit: int, effort: Effort) -> dict[Group, int]:
    pricing = pricing_of(problem)
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
        for effort in THOROUGH:
            assert searched(problem, duals, limit, effort) == wanted, f"seed {seed}"


@every_model
def test_known_groups_are_left_out_and_priced_by_themselves(model: str) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 3])
        duals, pricing = random_duals(problem.graph, rng), pricing_of(problem)
        groups = [g for g in fitting_groups(problem) if g & (g - 1)]
        known = {g: problem.graph.touch_once_bytes(g) for g in groups if rng.random() < 0.5}
        refused = [g for g in groups if g not in known and rng.random() < 0.3]
        pricing.know(known, refused)
        costs = {g: reduced(problem, duals, g) for g in groups}
        assert {g: cost for cost, g in pricing.reduced(known, duals)} == {g: costs[g] for g in known}
        for first in range(len(problem.graph)):
            mine = [costs[g] for g in known if g & -g == 1 << first]
            assert pricing.least_known(first, duals) == min(0, min(mine, default=0))
        found = [g for first in pricing.roots for _, g in pricing.groups(first, duals, 10**9, THOROUGH[0]).groups]
        assert sorted(found) == sorted(set(groups) - set(known) - set(refused)), f"seed {seed}"


@every_model
def test_of_many_groups_the_cheapest_are_kept(model: str) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 6])
        duals, pricing = random_duals(problem.graph, rng), pricing_of(problem)
        costs = {g: reduced(problem, duals, g) for g in fitting_groups(problem) if g & (g - 1)}
        for first in pricing.roots:
            mine = sorted(cost for g, cost in costs.items() if g & -g == 1 << first and cost < 100)
            priced = pricing.groups(first, duals, 100, Effort(10_000, 7, 3))
            assert priced.complete
            assert [cost for cost, _ in priced.groups] == mine[:3], f"seed {seed}"


@every_model
@pytest.mark.parametrize("effort", [Effort(1, 1, 1), Effort(1, 3, 2), Effort(3, 2, 1), Effort(2, 4, 8)])
def test_the_bound_of_a_root_holds_whatever_the_effort(model: str, effort: Effort) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 4])
        duals, pricing = random_duals(problem.graph, rng), pricing_of(problem)
        for first in pricing.roots:
            mine = [g for g in fitting_groups(problem) if g & -g == 1 << first and g & (g - 1)]
            least = min((reduced(problem, duals, g) for g in mine), default=0)
            assert pricing.groups(first, duals, 0, effort).least_bytes <= least, f"seed {seed}"


@every_model
def test_a_cut_bounds_every_group_that_agrees_with_the_decisions(model: str) -> None:
    compared = 0
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 5])
        graph, pricing = problem.graph, pricing_of(problem)
        duals = Duals(random_duals(graph, rng).prices.tolist(), {})
        groups = list(fitting_groups(problem))
        if not groups:
            continue
        held = groups[int(rng.integers(len(groups)))]
        held &= -held
        decisions = Decisions(pricing, duals, problem.capacity_bytes, held, int(rng.integers(0, 40 << 12)))
        taken, dropped = held, 0
        for op in rng.permutation(len(graph)).tolist():
            agreeing = [g for g in groups if taken & ~g == 0 and not dropped & g]
            least = min((reduced(problem, duals, g) for g in agreeing), default=None)
            compared += least is not None
            assert least is None or decisions.bound <= least * net.PRICE, f"seed {seed}"
            if taken >> op & 1:
                continue
            if rng.random() < 0.5:
                decisions.decide(op, net.IN)
                taken |= 1 << op
            else:
                decisions.decide(op, net.OUT)
                dropped |= 1 << op
    assert compared > 60


class Decisions:
    """A minimum cut of a whole network, and the bound that decisions about ops leave."""

    def __init__(self, pricing: Pricing, duals: Duals, capacity_bytes: int, held: Group, price: int) -> None:
        ops = len(pricing.graph)
        everything = np.arange(ops, dtype=np.int32)
        root = localise(pricing.tables, everything, duals.prices, duals.fines_at, duals.fine_records)
        state = np.zeros(ops, np.int8)
        state[list(bits(held))] = net.IN
        self.nodes = np.empty(net.FIRST + ops + 2 * len(root.tensors), net.NODE)
        self.arcs = np.empty(4 * (ops + len(root.readers) + len(root.tensors)), net.ARC)
        count, arcs = net.lay_out(root.ops, root.tensors, root.readers, state, self.nodes, self.arcs)
        found = net.best_cut(root.ops, state, self.nodes, self.arcs, count, arcs, capacity_bytes, price, 4, 1 << 50)
        self.bound = int(found[0])
        self.rows = np.zeros((1, len(self.nodes)), np.int8)
        self.rows[0, net.SOURCE], self.rows[0, net.SINK] = net.IN, net.OUT
        for op in bits(held):
            self.decide(op, net.IN)

    def decide(self, op: int, side: int) -> None:
        self.bound += int(net.decide(self.nodes, self.arcs, self.rows, 0, 0, net.FIRST + op, side))


@every_model
def test_shares_add_up_to_no_more_than_the_floor(model: str) -> None:
    for seed in SEEDS:
        problem = small_problem(seed, model)
        shares, floor = pricing_of(problem).tables.shares.tolist(), problem.buffer_floor
        for group in range(1, 1 << len(problem.graph)):
            mark, done = floor.start, 0
            for op in bits(group):
                mark, done = floor.extend(done, mark, op), done | 1 << op
            assert sum(shares[op] for op in bits(group)) <= mark, f"seed {seed}"


@every_model
def test_a_table_says_what_the_floor_says(model: str) -> None:
    for seed in SEEDS:
        problem = small_problem(seed, model)
        graph, floor = problem.graph, problem.buffer_floor
        assert isinstance(floor, FitFloor)
        table = floor.table(graph)
        assert table is not None
        for group in range(1, 1 << len(graph)):
            mark = done = 0
            for op in bits(group):
                mark, done = floor.extend(done, mark, op), done | 1 << op
            touched = {t for op in bits(group) for t in (*graph.ops[op].inputs, *graph.ops[op].outputs)}
            held = [next((n for mask, n in table.pairs[t] if not mask & ~group), table.base[t]) for t in touched]
            assert mark == sum(held) + sum(table.fixed[op] for op in bits(group)), f"seed {seed}"


@every_model
def test_bounds_never_exceed_the_optimum_and_plans_never_beat_it(model: str) -> None:
    met = 0
    for seed in SEEDS:
        problem = small_problem(seed, model)
        assert worth_trying(problem) and isinstance(problem.buffer_floor, FitFloor)
        truth = best_by_trying_all(problem, partitions(seed))
        columns = Columns(problem)
        plans = []
        for proposal in columns.run(1_000_000):
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


def test_interpreted_loops_find_what_compiled_ones_find() -> None:
    code = (
        "import numpy as np\n"
        "from fusecut.machine import Machine\n"
        "from fusecut.models import LineBuffer\n"
        "from fusecut.problem import Problem\n"
        "from fusecut.search._cuts import Reach\n"
        "from fusecut.search._kernel import search\n"
        "from fusecut.search._pricing import Duals, Effort, Pricing\n"
        "from fusecut.testing import random_graph\n"
        "for seed in range(3):\n"
        "    graph = random_graph(np.random.default_rng(seed), 12, inputs=2)\n"
        "    whole = LineBuffer().demand(graph, graph.everything).nbytes\n"
        "    problem = Problem(graph, Machine(whole // 2), LineBuffer())\n"
        "    pricing = Pricing(problem, Reach(problem))\n"
        "    duals = Duals([graph.touch_once_bytes(1 << op) for op in range(len(graph))], {7: 50, 56: 9})\n"
        "    pricing.know({3: 1}, [6])\n"
        "    for first in pricing.roots:\n"
        "        print(first, *pricing.groups(first, duals, 0, Effort(3, 5, 4)), pricing.steps)\n"
        "print(hasattr(search, 'signatures'))\n"
    )
    outs = []
    for off in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": off}
        run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        outs.append(run.stdout.split())
    assert outs[0].pop() == b"True"
    assert outs[1].pop() == b"False"
    assert outs[0] == outs[1]
    assert len(outs[0]) > 20


def paid_for(problem: Problem, rng: Generator) -> Duals:
    """Prices and fines for which no group costs less than its ops are worth."""
    duals = random_duals(problem.graph, rng)
    groups = [*fitting_groups(problem), *(1 << op for op in range(len(problem.graph)))]
    for first in reversed(range(len(problem.graph))):
        least = min(reduced(problem, duals, g) for g in groups if g & -g == 1 << first)
        duals.lower(first, -min(least, 0))
    return duals


@every_model
def test_covers_find_the_best_choice_or_prove_that_none_is_within_the_room(model: str) -> None:
    met = 0
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 7])
        truth = best_by_trying_all(problem, partitions(seed))
        if truth is None:
            continue
        duals = paid_for(problem, rng)
        known = {1 << op: problem.rank(1 << op) for op in range(len(problem.graph))}
        bytes_of = {group: nbytes for group, nbytes in known.items() if nbytes is not None}
        for room in (truth[0] - duals.total, truth[0] - duals.total + 1, 10**6):
            covers = Covers(pricing_of(problem), duals, room, bytes_of, (), problem.rank)
            bounds = [covers.bound_bytes for _ in covers.run(10_000)]
            assert covers.done
            assert all(bound <= truth[0] for bound in [*bounds, covers.bound_bytes]) or room == 10**6
            if covers.chosen is None:
                assert covers.bound_bytes == duals.total + room <= truth[0], f"seed {seed}"
                continue
            cost = sum(problem.rank(group) or 0 for group in covers.chosen)
            assert covers.bound_bytes == cost <= truth[0], f"seed {seed}"
            met += cost == truth[0]
            assert sum(covers.chosen) == problem.graph.everything
    assert met > 20


def test_prices_end_at_the_optimum_that_ideals_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs too large for trying all partitions, against A* over ideals; few columns a plan, so that covers end it."""
    begun: list[int] = []
    finish = Columns._covers

    def counted(columns: Columns, duals: Duals) -> Iterator[Proposal]:
        begun.append(columns.best is not None and not columns.done)
        yield from finish(columns, duals)

    monkeypatch.setattr(Columns, "_covers", counted)
    monkeypatch.setattr("fusecut.search._columns._PER_OP", 2)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, int(rng.integers(12, 20)), inputs=2)
        whole = LineBuffer().demand(graph, graph.everything).nbytes
        problem = Problem(graph, Machine(whole // 3), scheme_model("lbdf"))
        search, columns = AStar(problem), Columns(problem)
        list(search.run(200_000))
        bounds = [proposal.bound or 0 for proposal in columns.run(10_000_000)]
        assert search.done
        assert search.best is not None
        assert columns.best == search.best // search.scale == columns.bound >= max(bounds), f"seed {seed}"
    assert sum(begun) > 1
