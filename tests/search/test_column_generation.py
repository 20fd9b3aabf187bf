"""Column generation against brute force: reduced costs, bounds of every branch, bounds of every plan."""

from __future__ import annotations

import collections.abc
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

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
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import NO_PLAN
from fusecut.search import _net as net
from fusecut.search._astar import AStar
from fusecut.search._columns import Columns, worth_trying
from fusecut.search._covers import Covers, Listing, Look, list_groups
from fusecut.search._cuts import Reach
from fusecut.search._pricing import Effort, Pricing
from fusecut.search._root import I64, localise
from fusecut.search._sets import NEVER, Sets
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


def random_prices(graph: Graph, rng: Generator) -> I64:
    """Prices around what an op costs alone."""
    alone = [graph.touch_once_bytes(1 << op) for op in range(len(graph))]
    return np.array([int(cost * rng.uniform(-0.2, 1.2)) for cost in alone], np.int64)


def reduced(problem: Problem, prices: I64, group: Group) -> int:
    """By definition: touch-once bytes, less the prices."""
    return problem.graph.touch_once_bytes(group) - sum(int(prices[op]) for op in bits(group))


def searched(problem: Problem, prices: I64, limit: int, effort: Effort) -> dict[Group, int]:
    pricing = pricing_of(problem)
    found: dict[Group, int] = {}
    for first in pricing.roots:
        for cost, group in pricing.groups(first, prices, limit, effort).groups:
            assert group not in found
            found[group] = cost
    return found


@every_model
def test_all_groups_below_a_limit_are_found_with_their_reduced_costs(model: str) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 2])
        prices, limit = random_prices(problem.graph, rng), int(rng.integers(-100, 300))
        costs = {g: reduced(problem, prices, g) for g in fitting_groups(problem) if g & (g - 1)}
        wanted = {g: cost for g, cost in costs.items() if cost < limit}
        for effort in THOROUGH:
            assert searched(problem, prices, limit, effort) == wanted, f"seed {seed}"


@every_model
def test_known_groups_are_left_out_and_priced_by_themselves(model: str) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 3])
        prices, pricing = random_prices(problem.graph, rng), pricing_of(problem)
        groups = [g for g in fitting_groups(problem) if g & (g - 1)]
        known = {g: problem.graph.touch_once_bytes(g) for g in groups if rng.random() < 0.5}
        refused = [g for g in groups if g not in known and rng.random() < 0.3]
        pricing.know(known, refused)
        costs = {g: reduced(problem, prices, g) for g in groups}
        assert {g: cost for cost, g in pricing.reduced(known, prices)} == {g: costs[g] for g in known}
        for first in range(len(problem.graph)):
            mine = [costs[g] for g in known if g & -g == 1 << first]
            assert pricing.least_known(first, prices) == min(0, min(mine, default=0))
        found = [g for first in pricing.roots for _, g in pricing.groups(first, prices, 10**9, THOROUGH[0]).groups]
        assert sorted(found) == sorted(set(groups) - set(known) - set(refused)), f"seed {seed}"


@every_model
def test_of_many_groups_the_cheapest_are_kept(model: str) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 6])
        prices, pricing = random_prices(problem.graph, rng), pricing_of(problem)
        costs = {g: reduced(problem, prices, g) for g in fitting_groups(problem) if g & (g - 1)}
        for first in pricing.roots:
            mine = sorted(cost for g, cost in costs.items() if g & -g == 1 << first and cost < 100)
            priced = pricing.groups(first, prices, 100, Effort(10_000, 7, 3))
            assert priced.complete
            assert [cost for cost, _ in priced.groups] == mine[:3], f"seed {seed}"


@every_model
@pytest.mark.parametrize("effort", [Effort(1, 1, 1), Effort(1, 3, 2), Effort(3, 2, 1), Effort(2, 4, 8)])
def test_the_bound_of_a_root_holds_whatever_the_effort(model: str, effort: Effort) -> None:
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 4])
        prices, pricing = random_prices(problem.graph, rng), pricing_of(problem)
        for first in pricing.roots:
            mine = [g for g in fitting_groups(problem) if g & -g == 1 << first and g & (g - 1)]
            least = min((reduced(problem, prices, g) for g in mine), default=0)
            assert pricing.groups(first, prices, 0, effort).least_bytes <= least, f"seed {seed}"


@every_model
def test_a_cut_bounds_every_group_that_agrees_with_the_decisions(model: str) -> None:
    compared = 0
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, 5])
        graph, pricing = problem.graph, pricing_of(problem)
        prices = random_prices(graph, rng)
        groups = list(fitting_groups(problem))
        if not groups:
            continue
        held = groups[int(rng.integers(len(groups)))]
        held &= -held
        decisions = Decisions(pricing, prices, problem.capacity_bytes, held, int(rng.integers(0, 40 << 12)))
        taken, dropped = held, 0
        for op in rng.permutation(len(graph)).tolist():
            agreeing = [g for g in groups if taken & ~g == 0 and not dropped & g]
            least = min((reduced(problem, prices, g) for g in agreeing), default=None)
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

    def __init__(self, pricing: Pricing, prices: I64, capacity_bytes: int, held: Group, price: int) -> None:
        ops = len(pricing.graph)
        everything = np.arange(ops, dtype=np.int32)
        root = localise(pricing.tables, everything, prices)
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
        "from fusecut.search._covers import Covers, Look, list_known\n"
        "from fusecut.search._cuts import Reach\n"
        "from fusecut.search._kernel import search\n"
        "from fusecut.search._pricing import Effort, Pricing\n"
        "from fusecut.testing import random_graph\n"
        "for seed in range(3):\n"
        "    graph = random_graph(np.random.default_rng(seed), 12, inputs=2)\n"
        "    whole = LineBuffer().demand(graph, graph.everything).nbytes\n"
        "    problem = Problem(graph, Machine(whole // 2), LineBuffer())\n"
        "    pricing = Pricing(problem, Reach(problem))\n"
        "    prices = np.array([graph.touch_once_bytes(1 << op) for op in range(len(graph))])\n"
        "    pricing.know({3: 1}, [6])\n"
        "    for first in pricing.roots:\n"
        "        print(first, *pricing.groups(first, prices, 0, Effort(3, 5, 4)), pricing.steps)\n"
        "    groups = [g for first in pricing.roots\n"
        "              for _, g in pricing.groups(first, prices, 10**9, Effort(9, 99, 999)).groups]\n"
        "    alone = [1 << op for op in range(len(graph))]\n"
        "    known = {g: problem.rank(g) for g in [*alone, *groups] if problem.fits(g)}\n"
        "    listing = list_known(known, 0 * prices, pricing, 10**9)\n"
        "    covers = Covers(pricing, listing, 10**9, alone, problem.rank)\n"
        "    bounds = [covers.bound for _ in covers.run([Look(4, 99, 99)], Look(0, 9999, 9999))]\n"
        "    print(covers.chosen, *bounds)\n"
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


def paid_for(problem: Problem, rng: Generator) -> I64:
    """Prices for which no group costs less than its ops are worth."""
    prices = random_prices(problem.graph, rng)
    groups = [*fitting_groups(problem), *(1 << op for op in range(len(problem.graph)))]
    for first in reversed(range(len(problem.graph))):
        least = min(reduced(problem, prices, g) for g in groups if g & -g == 1 << first)
        prices[first] += min(least, 0)
    return prices


def listed(problem: Problem, prices: I64, limit: int, room: int) -> tuple[Pricing, Listing, dict[Group, int]]:
    """All groups below a limit, of which those of one op are known."""
    known = {1 << op: problem.rank(1 << op) for op in range(len(problem.graph))}
    bytes_of = {group: nbytes for group, nbytes in known.items() if nbytes is not None}
    pricing = pricing_of(problem)
    work = list_groups(pricing, prices, bytes_of, (), limit, room)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return pricing, end.value, bytes_of


def paid_problems(model: str, draw: int) -> Iterator[tuple[int, Problem, Generator, I64, int]]:
    """Seeds, problems with a plan, prices for which every group pays, and what the best plan costs beyond them."""
    for seed in SEEDS:
        problem, rng = small_problem(seed, model), np.random.default_rng([seed, draw])
        truth = best_by_trying_all(problem, partitions(seed))
        if truth is not None:
            prices = paid_for(problem, rng)
            yield seed, problem, rng, prices, truth[0] - int(prices.sum())


@every_model
@pytest.mark.parametrize("ahead", [(), (1,), (3,), (2, 9)])
def test_covers_find_the_optimum_or_prove_that_none_is_within_the_room(model: str, ahead: tuple[int, ...]) -> None:
    met = 0
    looks = [Look(each, 10_000, 10_000) for each in ahead]
    for seed, problem, _, prices, least in paid_problems(model, 7):
        for room in (least, least + 1, least + 10**6):
            pricing, listing, known = listed(problem, prices, room, room)
            covers = Covers(pricing, listing, room, known, problem.rank)
            bounds = [covers.bound for _ in covers.run(looks, Look(0, 10_000, 10_000))]
            assert covers.done
            assert covers.bound == least >= max(bounds, default=0), f"seed {seed}"
            assert (covers.chosen is None) == (room == least)
            if covers.chosen is not None:
                met += 1
                assert sum(problem.rank(group) or 0 for group in covers.chosen) == least + int(prices.sum())
                Partition(problem.graph, covers.chosen)
    assert met > 20


@every_model
def test_bounds_of_covers_hold_whatever_is_listed_and_looked_at(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    below = 0
    for seed, problem, rng, prices, least in paid_problems(model, 8):
        for _ in range(4):
            room = int(least * rng.uniform(0.5, 1.5)) + 1
            monkeypatch.setattr("fusecut.search._covers._MOST_SETS", int(rng.choice([5, 50, 5000])))
            pricing, listing, known = listed(problem, prices, int(rng.integers(0, room + 1)), room)
            covers = Covers(pricing, listing, room, known, problem.rank)
            looks = [Look(*rng.integers(1, [10, 40, 40]).tolist()) for _ in range(int(rng.integers(3)))]
            bounds = [covers.bound for _ in covers.run(looks, Look(0, *rng.integers(1, 200, 2).tolist()))]
            assert max([covers.bound, *bounds]) <= min(room, least), f"seed {seed}"
            below += covers.bound < min(room, least)
            if covers.done:
                assert covers.bound == min(room, least)
                assert (covers.chosen is None) == (room <= least)
    assert below > 5


def wait_for_each_other(graph: Graph, group: Group, other: Group) -> bool:
    """Whether each of two groups reads from the other."""
    needs, others = (set().union(*(bits(graph.preds[op]) for op in bits(g))) for g in (group, other))
    return any(other >> op & 1 for op in needs) and any(group >> op & 1 for op in others)


def test_groups_that_wait_for_each_other_are_forbidden_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    without = Covers._without

    def counted(covers: Covers, sets: Sets, forbidden: Sequence[int], most: int) -> Any:
        searches.append(len(forbidden))
        return without(covers, sets, forbidden, most)

    monkeypatch.setattr(Covers, "_without", counted)
    for seed in SEEDS:
        problem, rng = small_problem(seed, "lbdf"), np.random.default_rng([seed, 10])
        graph = problem.graph
        groups = [g for g in range(1, graph.everything + 1) if graph.is_connected(g) and graph.is_convex(g)]
        costs = {group: int(rng.integers(5, 30)) for group in groups}
        circles = [
            pair for pair in combinations(groups, 2) if not pair[0] & pair[1] and wait_for_each_other(graph, *pair)
        ]
        for _ in range(min(3, len(circles))):
            costs.update(dict.fromkeys(circles[int(rng.integers(len(circles)))], 1))
        listing = Listing([(cost, group) for group, cost in costs.items()], np.full(len(graph), NEVER))
        covers = Covers(pricing_of(problem), listing, NEVER, costs, problem.rank)
        list(covers.run([Look(3, 1000, 1000)], Look(0, 10_000, 10_000)))
        assert covers.done
        assert covers.chosen is not None
        Partition(graph, covers.chosen)
        best = min(sum(costs[group] for group in plan.groups) for plan in partitions(seed))
        assert covers.bound == best == sum(costs[group] for group in covers.chosen), f"seed {seed}"
    assert sum(forbidden > 0 for forbidden in searches) > 3


def test_prices_end_at_the_optimum_that_ideals_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs too large for trying all partitions, against A* over ideals; without plans, so that covers end it."""
    begun: list[int] = []
    finish = Columns._covers

    def counted(columns: Columns, part: int) -> collections.abc.Generator[Proposal, None, bool]:
        begun.append(columns.best is not None and not columns.done)
        return (yield from finish(columns, part))

    monkeypatch.setattr(Columns, "_covers", counted)
    monkeypatch.setattr(Columns, "_plan", lambda columns: iter(()))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, int(rng.integers(12, 20)), inputs=2)
        whole = LineBuffer().demand(graph, graph.everything).nbytes
        problem = Problem(graph, Machine(whole // 3), scheme_model("lbdf"))
        search, columns = AStar(problem), Columns(problem, [1 << op for op in range(len(graph))])
        list(search.run(200_000))
        bounds = [proposal.bound or 0 for proposal in columns.run(10_000_000)]
        assert search.done
        assert search.best is not None
        assert columns.best == search.best // search.scale == columns.bound >= max(bounds), f"seed {seed}"
    assert sum(begun) > 1


@pytest.mark.parametrize("seed", [47, 60, 65])
def test_groups_that_the_model_refuses_on_the_way_are_part_of_no_plan(seed: int) -> None:
    """Networks where groups are refused between one search for a plan and the next."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, int(rng.integers(25, 45)), inputs=2)
    whole = LineBuffer().demand(graph, graph.everything).nbytes
    problem = Problem(graph, Machine(whole // 3), scheme_model("lbdf"))
    columns = Columns(problem, [1 << op for op in range(len(graph))])
    for proposal in columns.run(10_000_000):
        if proposal.partition is not None:
            assert isinstance(problem.cost(proposal.partition), Cost)
    assert columns.best == columns.bound
