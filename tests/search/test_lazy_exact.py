"""Lazy exact search: the same optimum as brute force, with fewer questions, whatever the surrogate says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from small_problems import MODELS, best_by_trying_all, partitions, small_problem

import fusecut as fc
from fusecut.cost import BufferFloor, Cost, Infeasible, NoFloor, Planned
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.problem import Problem
from fusecut.search import Exact, LazyExact, Searcher

SEEDS = 60
_LBDF = WithFallback(LineBuffer(), Layerwise())


@dataclass(frozen=True)
class Opaque:
    """LBDF without its buffer floor: what a chip looks like."""

    name: str = "opaque"
    touches_once: bool = True

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        return _LBDF.plan(graph, group, machine)

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


def solved(problem: Problem, search: Searcher) -> tuple[int | None, int]:
    """(bytes of the last plan if it runs, the last bound)."""
    best, bound = None, 0
    for proposal in search.propose(problem, np.random.default_rng(0)):
        bound = proposal.bound or bound
        cost = problem.cost(proposal.partition) if proposal.partition is not None else None
        best = cost.dram_bytes if isinstance(cost, Cost) else best
    return best, bound


@pytest.mark.parametrize("model", MODELS)
def test_the_answer_is_that_of_brute_force_and_proved(model: str) -> None:
    for seed in range(SEEDS):
        truth = best_by_trying_all(small_problem(seed, model), partitions(seed))
        best, bound = solved(small_problem(seed, model), LazyExact())
        assert best == (truth[0] if truth else None)
        assert truth is None or bound == truth[0]


@pytest.mark.parametrize("prune", ["rows", "weights", "nothing"])
def test_a_model_without_a_floor_is_solved_under_every_static_bound_it_obeys(prune: str) -> None:
    for seed in range(SEEDS):
        known = small_problem(seed, "fallback")
        problem = Problem(known.graph, known.machine, Opaque())
        truth = best_by_trying_all(known, partitions(seed))
        search = LazyExact(prune=prune)  # type: ignore[arg-type]
        assert solved(problem, search)[0] == (truth[0] if truth else None)


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_a_surrogate_orders_questions_and_decides_nothing(sign: int) -> None:
    search = LazyExact(doubt=lambda problem, group: sign * float(group))
    for seed in range(SEEDS):
        truth = best_by_trying_all(small_problem(seed, "fallback"), partitions(seed))
        assert solved(small_problem(seed, "fallback"), search)[0] == (truth[0] if truth else None)


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_a_surrogate_that_is_trusted_first_changes_no_answer_and_no_proof(sign: int) -> None:
    search = LazyExact(doubt=lambda problem, group: sign * float(group % 7 - 3), trust=(0.0, 2.0))
    for seed in range(20):
        truth = best_by_trying_all(small_problem(seed, "fallback"), partitions(seed))
        best, bound = solved(small_problem(seed, "fallback"), search)
        assert best == (truth[0] if truth else None)
        assert truth is None or bound == truth[0]


def test_a_trusted_oracle_needs_no_question_but_those_about_the_best_plan() -> None:
    net, machine = fc.zoo("mobilenet_v2"), Machine.of("128KiB")
    known = Problem(net, machine, _LBDF)
    best = fc.solve(net, machine=machine, scheme="lbdf").cost.dram_bytes
    problem = Problem(net, machine, Opaque())
    search = LazyExact(doubt=lambda p, g: 1.0 - 2.0 * known.fits(g), prune="rows", trust=(0.0,))
    plans = (p.partition for p in search.propose(problem, np.random.default_rng(0)) if p.partition is not None)
    next(plans)
    found = next(plans)
    cost = problem.cost(found)
    assert isinstance(cost, Cost) and cost.dram_bytes == best
    assert problem.fused_evaluations == sum(group & (group - 1) > 0 for group in found.groups)


def test_plans_of_trust_come_without_a_bound_that_only_belief_supports() -> None:
    liar = LazyExact(doubt=lambda problem, group: 1.0, trust=(0.0,))
    for seed in range(20):
        truth = best_by_trying_all(small_problem(seed, "fallback"), partitions(seed))
        for proposal in liar.propose(small_problem(seed, "fallback"), np.random.default_rng(0)):
            assert proposal.bound is None or truth is None or proposal.bound <= truth[0]


def test_trust_without_a_surrogate_is_refused() -> None:
    with pytest.raises(FusecutError, match="trust is in a surrogate: give doubt="):
        LazyExact(trust=(0.0,))


def test_an_oracle_as_surrogate_asks_no_more_than_the_default() -> None:
    def asked(oracle: bool) -> int:
        known = Problem(fc.zoo("mobilenet_v2"), Machine.of("128KiB"), Opaque())
        problem = Problem(fc.zoo("mobilenet_v2"), Machine.of("128KiB"), Opaque())
        doubt = (lambda p, g: float(not known.fits(g))) if oracle else None
        solved(problem, LazyExact(doubt=doubt, prune="rows"))
        return problem.fused_evaluations

    assert asked(True) <= asked(False)


@pytest.mark.parametrize(
    ("network", "buffer", "most"), [("mobilenet_v2", "128KiB", 11), ("efficientnet_b0", "256KiB", 27)]
)
def test_it_asks_less_than_the_exact_search(network: str, buffer: str, most: int) -> None:
    """Groups of two ops or more that were priced, scheme lbdf, 2026-11-21; the exact search needs 18 and 99."""
    asked = []
    for search in (LazyExact(), Exact()):
        problem = Problem(fc.zoo(network), Machine.of(buffer), WithFallback(LineBuffer(), Layerwise()))
        solved(problem, search)
        asked.append(problem.fused_evaluations)
    assert asked[0] <= most and asked[0] < asked[1]


def test_solve_reports_the_proof() -> None:
    found = fc.solve(fc.zoo("mobilenet_v2"), "128KiB", scheme="lbdf", search=LazyExact())
    assert found.status is fc.Status.optimal and found.gap == 0


def test_out_of_effort_the_bound_is_kept_and_nothing_is_claimed() -> None:
    found = fc.solve(fc.zoo("mobilenet_v2"), "128KiB", scheme="lbdf", search=LazyExact(effort=10))
    best = fc.solve(fc.zoo("mobilenet_v2"), "128KiB", scheme="lbdf")
    assert found.status is fc.Status.budget and 0 < found.bound <= best.cost.dram_bytes


def test_an_unknown_static_bound_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown prune 'weight': did you mean 'weights'"):
        LazyExact(prune="weight")  # type: ignore[arg-type]
