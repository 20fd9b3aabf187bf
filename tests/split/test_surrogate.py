"""Splitting by a learned judge: few questions when it is right, valid plans when it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean

import numpy as np
import pytest

from fusecut.bonds import bonds, components
from fusecut.errors import FusecutError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.problem import Problem, Splitter
from fusecut.split import Random
from fusecut.split.surrogate import Surrogate
from fusecut.testing import SplitterContract, random_problem


@cache
def known(graph: Graph, buffer_bytes: int) -> Problem:
    return Problem(graph, Machine(buffer_bytes), WithFallback(LineBuffer(), Layerwise()))


@dataclass(frozen=True)
class Oracle:
    """Knows; or, with ``sign`` turned, knows and lies."""

    sign: float = 1.0

    def infeasible_logits(self, graph: Graph, buffer_bytes: int, groups: Sequence[Group]) -> list[float]:
        problem = known(graph, buffer_bytes)
        return [-self.sign if problem.fits(group) else self.sign for group in groups]


@dataclass(frozen=True)
class Noise:
    """Says what comes to mind."""

    def infeasible_logits(self, graph: Graph, buffer_bytes: int, groups: Sequence[Group]) -> list[float]:
        return [float((group * 2654435761 >> 7) % 7 - 3) for group in groups]


class TestOracle(SplitterContract):
    seeds = range(6)

    def make(self) -> Splitter:
        return Surrogate(Oracle())


class TestLiar(SplitterContract):
    seeds = range(6)

    def make(self) -> Splitter:
        return Surrogate(Oracle(-1.0))


class TestNoise(SplitterContract):
    seeds = range(6)

    def make(self) -> Splitter:
        return Surrogate(Noise(), most_bonds=5, most_questions=2)


def cases(ops: int = 9) -> list[tuple[Problem, Group]]:
    """Fresh problems with a group that does not fit."""
    problems = [random_problem(seed, ops) for seed in range(40)]
    wide = [(p, max(components(p.graph, p.graph.everything), key=int.bit_count)) for p in problems]
    return [(Problem(p.graph, p.machine, p.model), group) for p, group in wide if not p.fits(group)]


def test_with_a_judge_that_knows_the_best_two_parts_take_three_questions() -> None:
    tried = 0
    for problem, group in cases():
        truth = fresh(problem)
        fitting = [b for b in bonds(problem.graph, group) if all(truth.fits(half) for half in b)]
        if fitting:
            parts = Surrogate(Oracle(), most_bonds=999).split(problem, group, np.random.default_rng(0))
            least = min(sum(map(problem.graph.touch_once_bytes, bond)) for bond in fitting)
            assert parts is not None and sum(map(problem.graph.touch_once_bytes, parts)) == least
            assert problem.evaluations == 3
            tried += 1
    assert tried >= 10


def fresh(problem: Problem) -> Problem:
    """The same problem with nothing asked yet."""
    return Problem(problem.graph, problem.machine, problem.model)


def test_a_judge_that_knows_moves_fewer_bytes_than_random_cuts() -> None:
    judged: list[float] = []
    random: list[float] = []
    for seed, (problem, group) in enumerate(cases(14)):
        for found, splitter in ((judged, Surrogate(Oracle())), (random, Random())):
            parts = splitter.split(problem, group, np.random.default_rng(seed))
            assert parts is not None
            found.append(sum(map(problem.graph.touch_once_bytes, parts)) / problem.graph.touch_once_bytes(group))
    assert mean(judged) < mean(random) - 0.05


def test_it_needs_no_randomness() -> None:
    for problem, group in cases():
        first, again = (Surrogate(Noise()).split(problem, group, np.random.default_rng(s)) for s in (1, 2))
        assert first == again


@pytest.mark.parametrize("limit", ["most_bonds", "most_questions"])
def test_limits_below_one_are_refused(limit: str) -> None:
    with pytest.raises(FusecutError, match=f"{limit} is 0: it must be at least 1"):
        Surrogate(**{limit: 0})  # type: ignore[arg-type]
