"""Bounds in windows against brute force: parts of groups under random prices, and all partitions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from band_nets import wide_net
from numpy.random import Generator

pytest.importorskip("highspy")
pytest.importorskip("numba")

from fusecut.cost import Banded, Infeasible
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import LineBuffer, scheme_model
from fusecut.problem import Problem
from fusecut.search import _windows
from fusecut.search._band_pricing import BandPricing
from fusecut.search._cuts import Reach
from fusecut.search._pricing import Effort
from fusecut.search._root import I64
from fusecut.search._windows import Fitting, bounds_in_windows, windows_of, worth_windows
from fusecut.testing import all_partitions

SEEDS = range(45)
THOROUGH = Effort(1_000, 10_000, 1_000)


def problems(seeds: range, most_ops: int = 8) -> Iterator[tuple[int, Problem, Generator]]:
    """Small networks whose weights count, in buffers of a tenth to nine tenths of what line buffers need for all."""
    for seed in seeds:
        graph = wide_net(np.random.default_rng(seed), most_ops=most_ops - 1, most_batch=2)
        if 2 < len(graph) <= most_ops:
            rng = np.random.default_rng([seed, 2])
            needed = LineBuffer().demand(graph, graph.everything).nbytes
            machine = Machine(max(600, needed * int(rng.integers(1, 10)) // 10))
            yield seed, Problem(graph, machine, scheme_model("mixed")), rng


def some_window(graph: Graph, rng: Generator) -> Group:
    """Consecutive ops."""
    begin, end = sorted(rng.choice(len(graph) + 1, 2, replace=False).tolist())
    return (1 << int(end)) - (1 << int(begin))


def pricing_of(problem: Problem, window: Group) -> BandPricing:
    floor = problem.buffer_floor
    assert isinstance(floor, Banded)
    return BandPricing(problem, floor.bands_table(problem.graph, window), Reach(problem, floor.fits), window)


def random_prices(graph: Graph, window: Group, rng: Generator) -> I64:
    most = [2 * graph.touch_once_bytes(1 << op) if window >> op & 1 else 0 for op in range(len(graph))]
    return np.array([int(rng.integers(0, nbytes + 1)) for nbytes in most], np.int64)


def runnable(problem: Problem) -> Iterator[tuple[Group, int]]:
    """All groups that run, and what they move."""
    graph = problem.graph
    for group in range(1, 1 << len(graph)):
        if graph.is_connected(group) and graph.is_convex(group):
            planned = problem.plan(group)
            if not isinstance(planned, Infeasible):
                yield group, planned.cost.dram_bytes


def alone(problem: Problem) -> list[Group]:
    return [1 << op for op in range(len(problem.graph))]


def together(pricing: BandPricing, part: Group) -> list[Group]:
    """The parts of a part that have nothing to do with each other in the window."""
    found, left = list[Group](), part
    while left:
        piece, grown = 0, left & -left
        while grown != piece:
            piece = grown
            for op in bits(piece):
                grown |= pricing._near[op] & part
        found.append(piece)
        left &= ~piece
    return found


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_group_moves_no_less_than_its_parts_in_all_windows(parts: int) -> None:
    tried = 0
    for seed, problem, rng in problems(SEEDS):
        graph = problem.graph
        borders = [0, *sorted(rng.integers(0, len(graph) + 1, parts - 1).tolist()), len(graph)]
        windows = [(1 << b) - (1 << a) for a, b in pairwise(borders) if a < b]
        priced = [pricing_of(problem, window) for window in windows]
        for group, nbytes in runnable(problem):
            least = sum(p.least_bytes(piece) for p in priced for piece in together(p, group & p.window))
            assert least <= nbytes, f"seed {seed}"
            tried += 1
    assert tried > 300


@pytest.mark.parametrize("effort", [THOROUGH, Effort(1, 60, 4), Effort(3, 2, 4), Effort(2, 250, 1)])
def test_no_part_of_a_group_costs_less_than_the_bound_of_its_first_op(effort: Effort) -> None:
    tried = below = 0
    for seed, problem, rng in problems(SEEDS):
        graph = problem.graph
        window = some_window(graph, rng) if seed % 2 else graph.everything
        pricing = pricing_of(problem, window)
        prices = random_prices(graph, window, rng)
        bounds = {first: pricing.groups(first, prices, 0, effort) for first in pricing.roots}
        pieces = {piece for group, _ in runnable(problem) for piece in together(pricing, group & window)}
        for piece in pieces:
            if piece & (piece - 1):
                first = (piece & -piece).bit_length() - 1
                cost = pricing.least_bytes(piece) - sum(int(prices[op]) for op in bits(piece))
                found = bounds[first]
                assert min(0, cost) >= found.least_bytes, f"seed {seed}"
                if cost < 0 and found.complete and effort == THOROUGH:
                    assert (cost, piece) in found.groups, f"seed {seed}"
                tried, below = tried + 1, below + (cost < 0)
    assert tried > 120 and below > 25


@pytest.mark.parametrize(("least", "most"), [(1, 3), (2, 5), (8, 8)])
def test_bounds_in_windows_are_at_most_the_optimum(least: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_windows, "_LEAST_OPS", least)
    monkeypatch.setattr(_windows, "_MOST_OPS", most)
    monkeypatch.setattr(_windows, "_WINDOW_SLACK", 0)
    met = tried = 0
    for seed, problem, _ in problems(range(30), 7):
        scores = (problem.score(plan) for plan in all_partitions(problem.graph))
        truth = min((score for score in scores if score is not None), default=None)
        if truth is not None:
            assert worth_windows(problem)
            bounds = list(bounds_in_windows(problem))
            assert max(bounds) <= truth, f"seed {seed}"
            plans = [p.partition for p in Fitting(problem, alone(problem)).plans(10**9) if p.partition is not None]
            assert all((problem.score(plan) or 0) >= truth for plan in plans)
            tried, met = tried + 1, met + (max(bounds) == truth)
    assert tried > 15 and met > (5 if least == 8 else 0)


def test_windows_cover_all_ops_and_part_few_bytes() -> None:
    for _, problem, _ in problems(SEEDS):
        windows = windows_of(problem.graph)
        assert sum(windows) == problem.graph.everything
        assert all(problem.graph.is_convex(window) for window in windows)
