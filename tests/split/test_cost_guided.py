"""Cost-guided splitting: the best of two parts, and good ones of more."""

from __future__ import annotations

from statistics import mean

import numpy as np

import fusecut as fc
from fusecut.bonds import bonds, components
from fusecut.cost import Cost
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.partition import Partition
from fusecut.problem import Problem, Splitter
from fusecut.split import CostGuided, Random
from fusecut.testing import Net, random_problem


def widest(problem: Problem) -> Group:
    return max(components(problem.graph, problem.graph.everything), key=int.bit_count)


def dram(problem: Problem, groups: list[Group]) -> int:
    cost = problem.cost(groups)
    assert isinstance(cost, Cost)
    return cost.dram_bytes


def hourglass() -> Graph:
    """Six convolutions with one narrow tensor, between the third and the fourth."""
    net = Net()
    x = net.input(8, 16, 16)
    for channels in (8, 8, 1, 8, 8, 8):
        x = net.conv(x, channels)
    return net.graph(x)


def test_the_cut_goes_where_the_tensor_is_narrow() -> None:
    graph = hourglass()
    halves = Problem(graph, Machine(10**6), LineBuffer()).cost([0b000111, 0b111000])
    assert isinstance(halves, Cost)
    problem = Problem(graph, Machine(halves.buffer_bytes), LineBuffer())
    assert CostGuided().split(problem, graph.everything, np.random.default_rng(0)) == (0b000111, 0b111000)


def test_where_two_parts_are_enough_no_two_parts_are_cheaper() -> None:
    tried = 0
    for seed in range(60):
        problem = random_problem(seed)
        group = widest(problem)
        pairs = [list(b) for b in bonds(problem.graph, group) if all(problem.fits(part) for part in b)]
        if problem.fits(group) or not pairs:
            continue
        parts = CostGuided().split(problem, group, np.random.default_rng(0))
        assert parts is not None and len(parts) == 2
        least = min(sum(problem.graph.touch_once_bytes(part) for part in pair) for pair in pairs)
        assert sum(problem.graph.touch_once_bytes(part) for part in parts) == least
        tried += 1
    assert tried >= 10


def test_it_needs_no_randomness() -> None:
    for seed in range(10):
        problem = random_problem(seed, 20)
        group = widest(problem)
        first, again = (CostGuided().split(problem, group, np.random.default_rng(s)) for s in (1, 2))
        assert first == again


def test_it_leaves_a_far_smaller_gap_than_random_cuts_on_a_whole_network() -> None:
    """MobileNetV2 as one group at 256 KiB, split once; the mean of ten random splits beside it."""
    net = fc.zoo("mobilenet_v2")
    optimum = fc.solve(net, "256KiB", scheme="lbdf").cost.dram_bytes

    def gap(splitter: Splitter, seed: int) -> float:
        problem = Problem(net, Machine.of("256KiB"), WithFallback(LineBuffer(), Layerwise()), splitter)
        whole = Partition(problem.graph, [problem.graph.everything])
        repaired = problem.repaired(whole, np.random.default_rng(seed))
        return dram(problem, list(repaired.groups)) / optimum - 1

    guided, random = gap(CostGuided(), 0), mean(gap(Random(), seed) for seed in range(10))
    assert guided < 0.05 < random and guided < random / 4
