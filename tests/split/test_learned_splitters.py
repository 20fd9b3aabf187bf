"""The splitters that learned, under the contract of all splitters, with the networks that ship."""

from __future__ import annotations

from statistics import mean

import numpy as np
import pytest

import fusecut as fc
from fusecut.errors import FusecutError
from fusecut.machine import Machine
from fusecut.models import Layerwise, scheme_model
from fusecut.problem import Problem, Splitter
from fusecut.search.encoding import random_plan
from fusecut.split import splitter
from fusecut.testing import SplitterContract

for package in ("torch", "torch_geometric", "safetensors"):
    pytest.importorskip(package)


class TestOcclusion(SplitterContract):
    seeds = range(3)

    def make(self) -> Splitter:
        return splitter("occlusion")


class TestSurrogate(SplitterContract):
    seeds = range(3)

    def make(self) -> Splitter:
        return splitter("surrogate")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gnne", "pg", "rg"])
def test_parts_of_the_papers_explainers_are_feasible_and_together_the_group(name: str) -> None:
    for problem, group in infeasible(12):
        parts = splitter(name).split(problem, group, np.random.default_rng(0))
        assert parts is not None and sum(parts) == group and all(problem.fits(part) for part in parts)


def infeasible(most: int) -> list[tuple[Problem, int]]:
    """Groups of random plans of MobileNetV2 that do not fit 256 KiB."""
    problem = Problem(fc.zoo("mobilenet_v2"), Machine.of("256KiB"), scheme_model("lbdf"))
    rng = np.random.default_rng(0)
    met = {group: None for _ in range(60) for group in random_plan(problem.graph, rng).groups}
    return [(problem, group) for group in met if not problem.fits(group)][:most]


def test_occlusion_and_the_surrogate_move_fewer_bytes_than_random_edges() -> None:
    """40 groups of MobileNetV2; the placebo is the same algorithm with edges drawn at random."""
    cases = infeasible(40)

    def moved(name: str) -> float:
        totals = []
        for seed, (problem, group) in enumerate(cases):
            parts = splitter(name).split(problem, group, np.random.default_rng(seed))
            ranks = [problem.rank(part) for part in parts or ()]
            totals.append(sum(r for r in ranks if r is not None) / problem.graph.touch_once_bytes(group))
        return mean(totals)

    placebo = moved("random_edges")
    assert moved("occlusion") < placebo and moved("surrogate") < placebo


def test_the_surrogate_asks_fewer_questions_than_algorithm_1() -> None:
    def asked(name: str) -> float:
        counts = []
        for seed, (problem, group) in enumerate(infeasible(25)):
            fresh = Problem(problem.graph, problem.machine, problem.model)
            splitter(name).split(fresh, group, np.random.default_rng(seed))
            counts.append(fresh.evaluations)
        return mean(counts)

    assert asked("surrogate") < asked("random_edges") / 1.5


@pytest.mark.parametrize("name", ["occlusion", "surrogate"])
def test_a_cost_model_without_a_network_is_refused_in_one_line(name: str) -> None:
    problem = Problem(fc.zoo("mobilenet_v2"), Machine.of("256KiB"), Layerwise())
    with pytest.raises(FusecutError, match="no validity network speaks for cost model 'layerwise'") as caught:
        splitter(name).split(problem, 0b11, np.random.default_rng(0))
    assert "\n" not in str(caught.value)
