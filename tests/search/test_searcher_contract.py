"""Every searcher that ships, under the contract that ships; and the contract catches what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from band_nets import wide_net
from numpy.random import Generator

from fusecut.cost import Planned
from fusecut.errors import FusecutError
from fusecut.machine import Machine
from fusecut.models import LineBuffer, scheme_model
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import (
    NSGA2,
    Annealing,
    Believing,
    Exact,
    Greedy,
    LazyExact,
    LocalSearch,
    Online,
    Proposal,
    RandomSearch,
    Searcher,
)
from fusecut.search.encoding import random_plan
from fusecut.split import CostGuided
from fusecut.testing import SearcherContract, all_partitions, random_problem


class TestExact(SearcherContract):
    def make(self) -> Searcher:
        return Exact()


class TestLazyExact(SearcherContract):
    def make(self) -> Searcher:
        return LazyExact()


class TestBelieving(SearcherContract):
    def make(self) -> Searcher:
        return Believing(steps=5, stale=1)


class TestRandomSearch(SearcherContract):
    def make(self) -> Searcher:
        return RandomSearch()


class TestLocalSearch(SearcherContract):
    def make(self) -> Searcher:
        return LocalSearch()


class TestNSGA2(SearcherContract):
    def make(self) -> Searcher:
        return NSGA2()


class TestAnnealing(SearcherContract):
    def make(self) -> Searcher:
        return Annealing()


class TestGreedy(SearcherContract):
    def make(self) -> Searcher:
        return Greedy()


class TestOnline(SearcherContract):
    def make(self) -> Searcher:
        return Online()


# Where groups run in bands --------------------------------------------------------------------------


def banded_problem(seed: int, scheme: str) -> Problem:
    """A network whose weights count, in half the buffer that line buffers would need for all of it."""
    drawn = (wide_net(np.random.default_rng([seed, n]), most_ops=6, most_batch=2) for n in range(20))
    graph = next(graph for graph in drawn if 4 <= len(graph) <= 7)
    needed = LineBuffer().demand(graph, graph.everything).nbytes
    return Problem(graph, Machine(max(600, needed // 2)), scheme_model(scheme))


class BandedContract(SearcherContract):
    """The same suite; plans that depend on a hash seed would show without bands as well."""

    scheme = "brr"
    seeds = range(4)
    max_plans = 15
    test_plans_do_not_depend_on_the_hash_seed_of_the_process = None  # type: ignore[assignment]

    def problem(self, seed: int) -> Problem:
        return banded_problem(seed, self.scheme)


SEARCHERS = (
    TestExact,
    TestLazyExact,
    TestBelieving,
    TestRandomSearch,
    TestLocalSearch,
    TestNSGA2,
    TestAnnealing,
    TestGreedy,
    TestOnline,
)
for searcher, scheme in product(SEARCHERS, ("brr", "mixed")):
    title = f"{searcher.__name__}Under{scheme.title()}"
    globals()[title] = type(title, (BandedContract, searcher), {"scheme": scheme})


@pytest.mark.parametrize("scheme", ["brr", "mixed"])
def test_best_plans_of_these_problems_run_groups_in_bands(scheme: str) -> None:
    banded = 0
    for seed in BandedContract.seeds:
        problem = banded_problem(seed, scheme)
        plans = [plan for plan in all_partitions(problem.graph) if problem.score(plan) is not None]
        best = min(plans, key=lambda plan: problem.score(plan) or 0)
        groups = [problem.plan(group) for group in best.groups]
        banded += any(isinstance(planned, Planned) and planned.schedule.weight_passes > 1 for planned in groups)
    assert banded > 0


@dataclass(frozen=True)
class Cheat:
    """A searcher that breaks one rule."""

    kind: str
    name: str = "cheat"

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        if self.kind == "unseeded":
            rng = np.random.default_rng()
        graph = random_problem(99).graph if self.kind == "alien" else problem.graph
        bound = 10**15 if self.kind == "bound" else None
        yield Proposal(Partition.singletons(graph), bound)
        for _ in range(30):
            yield Proposal(random_plan(graph, rng))


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        ("unseeded", SearcherContract.test_the_same_seed_gives_the_same_plans),
        ("alien", SearcherContract.test_every_plan_is_a_valid_plan_of_the_graph),
        ("bound", SearcherContract.test_neither_plans_nor_bounds_beat_brute_force),
    ],
)
def test_the_contract_catches_a_searcher_that_breaks_a_rule(
    kind: str, test: Callable[[SearcherContract], None]
) -> None:
    class Contract(SearcherContract):
        def make(self) -> Searcher:
            return Cheat(kind)

    with pytest.raises(AssertionError):
        test(Contract())


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalSearch(0),
        lambda: NSGA2(1),
        lambda: NSGA2(objectives=()),
        lambda: NSGA2(crossover=1.5),
        lambda: NSGA2(crossover=float("nan")),
        lambda: Annealing(warm_up=0),
        lambda: Annealing(cold=0),
        lambda: Annealing(hot=0.1, cold=0.2),
        lambda: Annealing(hot=float("inf")),
        lambda: CostGuided(0),
        lambda: Believing(trust=()),
        lambda: Believing(population=0),
        lambda: Believing(steps=0),
        lambda: Believing(stale=0),
        lambda: Online(tolerance=-1),
        lambda: Online(questions=-0.5),
        lambda: Online(questions=float("nan")),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(FusecutError, match="at least"):
        make()
