"""Small random problems, and models made up for tests of the search. No test lives here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator

from fusecut.cost import BufferFloor, Cost, CostModel, Infeasible, NoFloor, Planned
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Cheapest, Layerwise, LineBuffer, WithFallback
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.schedule import Schedule
from fusecut.search import Proposal, Searcher
from fusecut.testing import all_partitions, random_graph

MODELS: dict[str, Callable[[], CostModel]] = {
    "lbdf": LineBuffer,
    "lbdf_two_pass": lambda: LineBuffer(squeeze_excite="two_pass"),
    "lbdf_switches": lambda: LineBuffer("pixel", 1, True, True, True, "two_pass"),
    "fallback": lambda: WithFallback(LineBuffer(), Layerwise()),
    "cheapest": lambda: Cheapest((LineBuffer(squeeze_excite="two_pass"),), Layerwise()),
    "black_box": lambda: BlackBox(7),
}
MOST_OPS = 8


@dataclass(frozen=True)
class BlackBox:
    """A model that promises nothing: prices and refusals are drawn for each group, by seed."""

    seed: int
    name: str = "black_box"
    touches_once: bool = False

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        draw = np.random.default_rng([self.seed, group, len(graph), machine.buffer_bytes])
        if group & (group - 1) and draw.random() < 0.3:
            return Infeasible("luck", 1, 0, "the dice say no")
        return Planned(Schedule(self.name, group, ()), Cost(int(draw.integers(0, 50)), int(draw.integers(0, 50)), 0, 0))

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


@cache
def small_graph(seed: int) -> Graph:
    """A random network of at most ``MOST_OPS`` ops with one or two inputs."""
    rng = np.random.default_rng(seed)
    while True:
        graph = random_graph(rng, int(rng.integers(2, MOST_OPS)), inputs=int(rng.integers(1, 3)))
        if len(graph) <= MOST_OPS:
            return graph


@cache
def partitions(seed: int) -> tuple[Partition, ...]:
    return tuple(all_partitions(small_graph(seed)))


def small_problem(seed: int, model: str) -> Problem:
    """A buffer between a quarter of what the whole network needs and a little more than that."""
    graph = small_graph(seed)
    rng = np.random.default_rng([seed, 1])
    whole = LineBuffer().demand(graph, graph.everything).nbytes
    return Problem(graph, Machine(int(rng.integers(max(1, whole // 4), whole + 50))), MODELS[model]())


def best_by_trying_all(problem: Problem, plans: tuple[Partition, ...]) -> tuple[int, int] | None:
    """(fewest bytes, fewest groups of a plan that moves so few), or None where nothing runs."""
    scores = []
    for plan in plans:
        cost = problem.cost(plan)
        if isinstance(cost, Cost):
            scores.append((cost.dram_bytes, len(plan)))
    return min(scores, default=None)


def proposals(searcher: Searcher, problem: Problem, rng: Generator | None = None) -> Iterator[Proposal]:
    yield from searcher.propose(problem, rng if rng is not None else np.random.default_rng(0))
