"""Splitting at random, and what Problem does when a splitter gives up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.random import Generator

from fusecut.bonds import components
from fusecut.cost import Infeasible
from fusecut.errors import UnknownNameError
from fusecut.ir import Group
from fusecut.machine import Machine
from fusecut.models import LineBuffer
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.split import LEARNED, SPLITTERS, Random, splitter
from fusecut.testing import random_problem


@dataclass(frozen=True)
class GivesUp:
    name: str = "gives_up"

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        return None


def whole(problem: Problem) -> Partition:
    return Partition(problem.graph, components(problem.graph, problem.graph.everything))


def test_a_splitter_that_gives_up_is_replaced_by_the_random_one_and_counted() -> None:
    problem = random_problem(1, 12)
    problem.splitter = GivesUp()
    plan = problem.repaired(whole(problem), np.random.default_rng(0))
    plain = random_problem(1, 12)
    assert plan.groups == plain.repaired(whole(plain), np.random.default_rng(0)).groups
    assert problem.fallbacks == problem.splits > 0 == plain.fallbacks


def test_a_group_is_split_at_random_anew_each_time() -> None:
    problem = random_problem(1, 12)
    rng = np.random.default_rng(0)
    drawn = {problem.repaired(whole(problem), rng).groups for _ in range(20)}
    assert len(drawn) > 5 and problem.splits >= 20


def test_a_group_whose_splitter_gave_up_is_split_at_random_anew_without_asking_again() -> None:
    problem = random_problem(1, 12)
    problem.splitter = GivesUp()
    rng = np.random.default_rng(0)
    drawn = {problem.repaired(whole(problem), rng).groups for _ in range(20)}
    infeasible = sum(not problem.fits(group) for group in whole(problem).groups)
    assert len(drawn) > 5 and problem.splits > problem.fallbacks == infeasible


def test_without_redraws_a_group_is_split_in_one_way() -> None:
    problem = random_problem(1, 12)
    problem.splitter = Random(redraws=False)
    rng = np.random.default_rng(0)
    drawn = {problem.repaired(whole(problem), rng).groups for _ in range(20)}
    assert len(drawn) == 1 and problem.splits == sum(not problem.fits(group) for group in whole(problem).groups)


def test_the_random_splitter_is_the_default() -> None:
    plain, named = random_problem(2, 12), random_problem(2, 12)
    named.splitter = Random()
    plans = [p.repaired(whole(p), np.random.default_rng(0)).groups for p in (plain, named)]
    assert plans[0] == plans[1]


def test_a_group_with_an_op_that_never_fits_stays_and_the_plan_stays_infeasible() -> None:
    known = random_problem(3)
    problem = Problem(known.graph, Machine(8), LineBuffer())
    plan = whole(problem)
    assert Random().split(problem, plan.groups[0], np.random.default_rng(0)) is None
    assert problem.repaired(plan, np.random.default_rng(0)) is plan
    assert isinstance(problem.cost(plan), Infeasible)


def test_a_plan_that_fits_is_returned_as_it_is() -> None:
    problem = random_problem(4)
    plan = Partition.singletons(problem.graph)
    assert problem.repaired(plan, np.random.default_rng(0)) is plan and problem.splits == 0


def test_different_generators_split_differently() -> None:
    problem = random_problem(0, 30)
    group = max(whole(problem).groups, key=int.bit_count)
    assert len({Random().split(problem, group, np.random.default_rng(s)) for s in range(5)}) > 1


def test_names_of_the_command_line_make_splitters_of_that_name() -> None:
    assert all(splitter(name).name == name for name in SPLITTERS if name not in LEARNED)


def test_names_of_learned_splitters_make_splitters_of_that_name() -> None:
    for package in ("torch", "torch_geometric", "safetensors"):
        pytest.importorskip(package)
    assert all(splitter(name).name == name for name in LEARNED)


def test_an_unknown_splitter_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown splitter 'rnadom': did you mean 'random'"):
        splitter("rnadom")
