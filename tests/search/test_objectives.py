"""Energy and latency: the exact search against brute force, with scores worked out here from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import ceil

import numpy as np
import pytest
from small_problems import BlackBox, partitions, small_graph, small_problem

from fusecut.cost import BufferFloor, Cost, CostModel, Infeasible, NoFloor, Planned
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import Cheapest, Layerwise, LineBuffer, WithFallback
from fusecut.objective import Objective
from fusecut.problem import Problem
from fusecut.schedule import Schedule
from fusecut.search import SEARCHERS, Believing, Exact, LazyExact, Searcher, searcher
from fusecut.search._cuts import ForcedCuts, Reach
from fusecut.search._lattice import Lattice, Step
from fusecut.search._ranking import Ranking, Regions
from fusecut.solution import Solution, Status
from fusecut.solve import solve

SEEDS = range(120)
OBJECTIVES: tuple[Objective, ...] = ("dram", "energy", "latency")


@dataclass(frozen=True)
class Repeats:
    """A scheme that fits anything and touches everything once, but repeats MACs in wide groups."""

    name: str = "repeats"
    touches_once: bool = True

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        moved = graph.touch_once_bytes(group)
        again = sum(graph.ops[i].macs for i in bits(group)) * (group.bit_count() - 1) // 2
        return Planned(Schedule(self.name, group, ()), Cost(moved, 0, 0, 0, macs=again, recomputed_macs=again))

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


TWICE = LineBuffer(squeeze_excite="two_pass")
WAYS: dict[str, tuple[CostModel, ...]] = {
    "fallback": (LineBuffer(), Layerwise()),
    "mixed": (TWICE, Layerwise()),
    "repeats": (TWICE, Repeats(), Layerwise()),
    "black_box": (BlackBox(7),),
}
"""Every way in which a model may run a group; the tests choose for themselves."""
MODELS: dict[str, Callable[[], CostModel]] = {
    "fallback": lambda: WithFallback(LineBuffer(), Layerwise()),
    "mixed": lambda: Cheapest((TWICE,), Layerwise()),
    "repeats": lambda: Cheapest((TWICE, Repeats()), Layerwise()),
    "black_box": lambda: BlackBox(7),
}
every_model = pytest.mark.parametrize("model", MODELS)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def machine(seed: int) -> Machine:
    """Rates at which compute and transfer of small networks are about as dear as each other."""
    rng = np.random.default_rng([seed, 2])

    def rate(low: int, high: int) -> Fraction:
        return Fraction(int(rng.integers(low, high)), 10)

    return replace(
        small_problem(seed, "cheapest").machine,
        macs_per_cycle=rate(5, 80),
        dram_bytes_per_cycle=rate(5, 50),
        macs_per_activation=rate(10, 80) if seed % 2 else None,
        macs_per_weight=rate(10, 80) if seed % 3 else None,
        pj_per_dram_byte=rate(0, 500),
        pj_per_sram_byte=rate(0, 60),
        pj_per_mac=rate(0, 200),
    )


def score_of(graph: Graph, group: Group, cost: Cost, m: Machine, objective: Objective) -> Fraction:
    """What a group scores, from its definition in docs/machines.md, in fractions."""
    ops = [graph.ops[i] for i in bits(group)]
    macs = sum(op.macs for op in ops) + cost.recomputed_macs
    if objective == "dram":
        return Fraction(cost.dram_bytes)
    if objective == "latency":
        assert m.macs_per_cycle is not None and m.dram_bytes_per_cycle is not None
        compute, transfer = macs / Fraction(m.macs_per_cycle), cost.dram_bytes / Fraction(m.dram_bytes_per_cycle)
        return Fraction(max(ceil(compute), ceil(transfer)))
    assert m.pj_per_dram_byte is not None and m.pj_per_sram_byte is not None and m.pj_per_mac is not None
    through = Fraction(cost.dram_bytes)
    for op in ops:
        operands = sum(graph.tensors[t].nbytes for t in set(op.inputs))
        if m.macs_per_activation is not None:
            operands = max(operands, ceil(op.macs * Fraction(m.activation_bits, 8) / m.macs_per_activation))
        weights = op.weight_bytes
        if m.macs_per_weight is not None and op.weight_elements:
            weights = max(weights, ceil(op.macs * Fraction(m.weight_bits, 8) / m.macs_per_weight))
        through += operands + weights + sum(graph.tensors[t].nbytes for t in op.outputs)
    fetched = Fraction(0)
    for width, served in ((m.activation_bits, m.macs_per_activation), (m.weight_bits, m.macs_per_weight)):
        fetched += 0 if served is None else cost.recomputed_macs * Fraction(width, 8) / served
    again = ceil(1000 * m.pj_per_sram_byte * fetched)
    return 1000 * (m.pj_per_dram_byte * cost.dram_bytes + m.pj_per_sram_byte * through + m.pj_per_mac * macs) + again


def cheapest_way(graph: Graph, group: Group, m: Machine, model: str, objective: Objective) -> Fraction | None:
    scores: list[Fraction] = []
    for way in WAYS[model]:
        if model == "fallback" and isinstance(way, Layerwise) and scores:
            continue
        planned = way.plan(graph, group, m)
        if isinstance(planned, Planned):
            scores.append(score_of(graph, group, planned.cost, m, objective))
    return min(scores, default=None)


@cache
def truth(seed: int, model: str, objective: Objective) -> Fraction | None:
    """The best score of any partition."""
    m, known, best = machine(seed), {}, None
    graph = problem(seed, model, objective).graph
    for plan in partitions(seed):
        total: Fraction | None = Fraction(0)
        for group in plan.groups:
            if group not in known:
                known[group] = cheapest_way(graph, group, m, model, objective)
            way = known[group]
            total = None if total is None or way is None else total + way
        if total is not None and (best is None or total < best):
            best = total
    return best


def problem(seed: int, model: str, objective: Objective) -> Problem:
    return Problem(small_graph(seed), machine(seed), MODELS[model](), objective=objective)


@dataclass(frozen=True)
class Outcome:
    score: int | None
    bounds: tuple[int, ...]


def outcome(seed: int, model: str, objective: Objective, search: Searcher) -> Outcome:
    asked = problem(seed, model, objective)
    scores, bounds = [], []
    for proposal in search.propose(asked, np.random.default_rng(0)):
        if proposal.bound is not None:
            bounds.append(proposal.bound)
        score = None if proposal.partition is None else asked.score(proposal.partition)
        if score is not None:
            scores.append(score)
    return Outcome(min(scores, default=None), tuple(bounds))


@cache
def campaign(model: str, objective: Objective) -> tuple[tuple[int, Outcome], ...]:
    return tuple((seed, outcome(seed, model, objective, Exact())) for seed in SEEDS)


@every_objective
@every_model
def test_the_exact_search_scores_as_the_best_of_all_partitions(model: str, objective: Objective) -> None:
    wrong = [seed for seed, found in campaign(model, objective) if found.score != truth(seed, model, objective)]
    assert not wrong


@every_objective
@every_model
def test_no_bound_exceeds_the_best_score(model: str, objective: Objective) -> None:
    for seed, found in campaign(model, objective):
        best = truth(seed, model, objective)
        assert best is None or all(bound <= best for bound in found.bounds), f"seed {seed}"


@every_objective
@every_model
def test_the_last_bound_proves_the_score(model: str, objective: Objective) -> None:
    for seed, found in campaign(model, objective):
        best = truth(seed, model, objective)
        assert best is None or max(found.bounds) == best, f"seed {seed}"


@every_objective
@pytest.mark.parametrize("effort", [1, 3, 8, 21, 50])
def test_a_bound_of_any_objective_proved_with_little_effort_is_valid(effort: int, objective: Objective) -> None:
    for seed in range(40):
        best = truth(seed, "repeats", objective)
        found = outcome(seed, "repeats", objective, Exact(effort=effort, first_effort=effort))
        assert best is not None and all(bound <= best for bound in found.bounds), f"seed {seed}"
        assert found.score is not None and found.score >= best, f"seed {seed}"


@every_objective
def test_the_lazy_exact_search_proves_the_same_scores(objective: Objective) -> None:
    for seed in range(60):
        found = outcome(seed, "mixed", objective, LazyExact())
        assert found.score == max(found.bounds) == truth(seed, "mixed", objective), f"seed {seed}"


@every_objective
@pytest.mark.parametrize("name", sorted(set(SEARCHERS) - {"exact", "lazy_exact"}))
def test_no_searcher_claims_a_bound_above_or_a_score_below_the_best(name: str, objective: Objective) -> None:
    for seed in range(12):
        asked = problem(seed, "repeats", objective)
        best = truth(seed, "repeats", objective)
        found = solve(
            asked.graph,
            machine=asked.machine,
            model=MODELS["repeats"](),
            objective=objective,
            search=Believing(steps=8, stale=1) if name == "believing" else searcher(name),
            max_plans=60,
        )
        assert best is not None and found.bound <= best <= found.score, f"seed {seed}"


@every_objective
def test_the_score_of_a_solution_is_that_of_its_groups(objective: Objective) -> None:
    for seed in range(60):
        asked = problem(seed, "repeats", objective)
        found = solved(seed, "repeats", objective)
        graph, m = asked.graph, asked.machine
        by_hand = [score_of(graph, p.schedule.group, p.cost, m, objective) for p in found.planned]
        assert found.score == found.bound == sum(by_hand), f"seed {seed}"
        assert found.status is Status.optimal and found.gap == 0


@pytest.mark.parametrize("objective", ["energy", "latency"])
def test_the_plan_of_fewest_bytes_is_often_not_the_best(objective: Objective) -> None:
    """Else the tests above would prove nothing about the objective."""
    worse = 0
    for seed in SEEDS:
        mine, fewest = (solved(seed, "repeats", one) for one in (objective, "dram"))
        scores = [mine.score, replace(fewest, objective=objective).score]
        assert scores[0] <= scores[1]
        worse += scores[0] < scores[1]
    assert worse > 20


def test_of_equally_fast_plans_one_with_the_fewest_bytes_wins() -> None:
    for seed in SEEDS:
        m, asked = machine(seed), problem(seed, "fallback", "latency")
        ranks = []
        for plan in partitions(seed):
            cost = asked.cost(plan)
            cycles = asked.score(plan)
            if isinstance(cost, Cost) and cycles is not None:
                ranks.append((cycles, cost.dram_bytes))
        found = solve(small_graph(seed), machine=m, model=MODELS["fallback"](), objective="latency")
        assert (found.score, found.cost.dram_bytes) == min(ranks), f"seed {seed}"


def solved(seed: int, model: str, objective: Objective) -> Solution:
    return solve(small_graph(seed), machine=machine(seed), model=MODELS[model](), objective=objective)


# The bound of what is left, under latency --------------------------------------------------------


def steps_of(asked: Problem) -> Iterator[tuple[Ranking, Group, int, Step]]:
    """(ranking, ideal, rank of what is left there, step) for every step of the lattice."""
    reach = Reach(asked)
    cuts = ForcedCuts(asked, reach)
    lattice, ranking = Lattice(asked, reach, cuts), Ranking(asked, reach, cuts)
    rests = {0: (lattice.whole, ranking.whole(lattice.whole))}
    todo = [0]
    while todo:
        ideal = todo.pop()
        nbytes, rank = rests[ideal]
        for step in lattice.groups_from(ideal, nbytes):
            yield ranking, ideal, rank, step
            after = ideal | step.group
            if after not in rests:
                rests[after] = step.rest_bytes, ranking.step(ideal, step)[1]
                todo.append(after)


@pytest.mark.parametrize("objective", ["energy", "latency"])
@every_model
def test_no_step_lowers_the_bound_by_more_than_its_true_rank(model: str, objective: Objective) -> None:
    for seed in range(40):
        asked = problem(seed, model, objective)
        for ranking, ideal, before, step in steps_of(asked):
            spent, left = ranking.step(ideal, step)
            true = asked.rank(step.group)
            assert true is None or (spent <= true and before <= true + left), f"seed {seed}"


@every_model
def test_what_is_left_after_an_ideal_does_not_depend_on_the_way_there(model: str) -> None:
    for seed in range(40):
        known: dict[Group, int] = {}
        for ranking, ideal, _, step in steps_of(problem(seed, model, "latency")):
            left = ranking.step(ideal, step)[1]
            assert known.setdefault(ideal | step.group, left) == left, f"seed {seed}"


def test_regions_raise_the_bound_of_some_networks() -> None:
    raised = 0
    for seed in SEEDS:
        asked = problem(seed, "fallback", "latency")
        reach = Reach(asked)
        cuts = ForcedCuts(asked, reach)
        whole, best = Regions(asked, reach, cuts).whole, truth(seed, "fallback", "latency")
        at_once = asked.prices.tariff.cycles(asked.prices.macs_of(asked.graph.everything), cuts.total_bytes)
        assert best is None or whole <= best
        raised += whole > at_once
    assert raised > 10, raised
