"""NSGA-II: two objectives, valid children, and a clear word where pymoo is missing."""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np
import pytest

from fusecut.cost import Cost
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.search import NSGA2
from fusecut.testing import brute_force, random_problem

pytest.importorskip("pymoo")


def test_it_finds_the_optimum_of_small_problems() -> None:
    for seed in range(6):
        problem = random_problem(seed)
        found = islice(NSGA2().propose(problem, np.random.default_rng(seed)), 400)
        costs = [problem.cost(p.partition) for p in found if p.partition is not None]
        assert min(cost.dram_bytes for cost in costs if isinstance(cost, Cost)) == brute_force(problem)


def test_it_finds_plans_of_less_dram_and_plans_of_less_buffer() -> None:
    problem = random_problem(2, 12)
    found = islice(NSGA2().propose(problem, np.random.default_rng(0)), 300)
    costs = [problem.cost(p.partition) for p in found if p.partition is not None]
    pairs = sorted({(c.dram_bytes, c.buffer_bytes) for c in costs if isinstance(c, Cost)})
    front = [p for p in pairs if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in pairs)]
    assert len(front) >= 2


@pytest.mark.parametrize("objectives", [("dram",), ("dram", "groups"), ("dram", "buffer", "groups")])
def test_other_objectives_work(objectives: tuple[str, ...]) -> None:
    problem = random_problem(1)
    search = NSGA2(objectives=objectives)  # type: ignore[arg-type]
    assert len(list(islice(search.propose(problem, np.random.default_rng(0)), 60))) == 60


def test_an_unknown_objective_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown objective 'drum': did you mean 'dram'"):
        NSGA2(objectives=("drum",))  # type: ignore[arg-type]


def test_without_pymoo_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(FusecutError, match=r"needs pymoo: pip install 'fusecut\[search\]'"):
        next(iter(NSGA2().propose(random_problem(0), np.random.default_rng(0))))
