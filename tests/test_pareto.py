"""The front against brute force over every partition and every way of every group; sweeps that do not end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest

import fusecut as fc
from fusecut.cost import BufferFloor, Cost, CostModel, Infeasible, NoFloor, Planned, unbeaten, ways_of
from fusecut.errors import FusecutError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import SCHEMES, Brr, Layerwise, LineBuffer, WithFallback, never_rising, scheme_model
from fusecut.pareto import ParetoFront, Progress, pareto
from fusecut.schedule import Schedule
from fusecut.testing import Net, all_partitions, random_graph

Figures = tuple[int, int, int]
CHAIN = -1
"""In place of a seed: a network whose weights overflow the buffer, so that bands trade bytes for MACs."""


class Drawn:
    """Up to four ways for each group, drawn by group: a way needs, moves and repeats something."""

    name = "drawn"
    touches_once = False

    def ways(self, graph: Graph, group: Group, machine: Machine) -> tuple[Planned, ...]:
        rng = np.random.default_rng(group)
        count = int(rng.integers(1, 5))
        drawn = [tuple(int(n) for n in rng.integers(1, most, count)) for most in (60, 100, 9)]
        ways = []
        for need, moved, again in zip(*drawn, strict=True):
            size = len(graph) * 20 if group & (group - 1) == 0 else need
            if min(size, 60) <= machine.buffer_bytes:
                cost = Cost(moved, 0, 0, min(size, 60), macs=again - 1, recomputed_macs=again - 1)
                ways.append(Planned(Schedule(self.name, group, ()), cost))
        return unbeaten(ways)

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        ways = self.ways(graph, group, machine)
        return ways[0] if ways else Infeasible("buffer", machine.buffer_bytes + 1, machine.buffer_bytes, "drawn")

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


MODELS: dict[str, Callable[[], CostModel]] = {
    "mixed": lambda: scheme_model("mixed"),
    "brr": lambda: scheme_model("brr"),
    "two passes": lambda: WithFallback(LineBuffer(squeeze_excite="two_pass"), Layerwise()),
    "drawn": Drawn,
}
every_model = pytest.mark.parametrize("model", MODELS)


# Against brute force -----------------------------------------------------------------------------


def end(graph: Graph) -> int:
    """A little more than fusing everything takes."""
    return LineBuffer().demand(graph, graph.everything).nbytes + 20


def case(seed: int, model: str) -> tuple[Graph, int, int]:
    """A random network and a range of buffers, from where little runs to where much does."""
    if seed == CHAIN:
        return chain(), 11_230, 11_264
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, int(rng.integers(2, 6)), rows=int(rng.choice([4, 8])))
    return (graph, 1, 64) if model == "drawn" else (graph, end(graph) // 2, end(graph) // 2 + 60)


def truth(graph: Graph, model: CostModel, low: int, high: int) -> set[Figures]:
    """All figures of plans that none beats, with the least buffer of the range they fit, by trying all there is.

    A way that fits is there, whether or not the model names it again in the smaller buffer.
    """
    plans = [plan.groups for plan in all_partitions(graph)]
    groups = sorted({group for plan in plans for group in plan})
    seen: dict[tuple[int, int], int] = {}
    menus: dict[Group, tuple[Planned, ...]] = dict.fromkeys(groups, ())
    for size in range(high, low - 1, -1):
        for g in groups:
            fitting = [w for w in menus[g] if w.cost.buffer_bytes <= size]
            menus[g] = unbeaten([*fitting, *ways_of(model, graph, g, Machine(size))])
        ways = {g: [(w.cost.dram_bytes, w.cost.recomputed_macs) for w in menus[g]] for g in groups}
        for plan in plans:
            for chosen in product(*(ways[g] for g in plan)):
                figures = sum(d for d, _ in chosen), sum(r for _, r in chosen)
                seen[figures] = size
    found = {(size, *figures) for figures, size in seen.items()}
    return {a for a in found if not any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in found)}


def figures_of(front: ParetoFront) -> list[Figures]:
    return [point.figures for point in front.points]


@cache
def cases(model: str) -> tuple[tuple[ParetoFront, set[Figures]], ...]:
    found = []
    for seed in range(CHAIN, 8) if model != "drawn" else range(14):
        graph, low, high = case(seed, model)
        if len(graph) <= 6:
            front = pareto(graph, low, high, model=MODELS[model]())
            found.append((front, truth(graph, never_rising(MODELS[model]()), low, high)))
    return tuple(found)


@every_model
def test_the_front_is_that_of_all_plans_in_all_their_ways(model: str) -> None:
    for front, known in cases(model):
        assert len(figures_of(front)) == len(set(figures_of(front)))
        assert set(figures_of(front)) == known


@every_model
def test_a_plan_moves_repeats_and_needs_what_its_point_says(model: str) -> None:
    for front, _ in cases(model):
        for point in front.points:
            costs = [p.cost for p in point.planned]
            assert sum(c.dram_bytes for c in costs) == point.dram_bytes
            assert sum(c.recomputed_macs for c in costs) == point.recomputed_macs
            assert max(c.buffer_bytes for c in costs) <= point.buffer_bytes
            assert tuple(p.schedule.group for p in point.planned) == point.partition.groups


def test_the_brute_force_covers_fronts_of_many_points_and_of_several_in_one_buffer() -> None:
    sizes = [len(known) for _, known in cases("drawn")]
    assert max(sizes) >= 8 and sum(sizes) > 40
    assert any(any(again for _, _, again in known) for _, known in cases("brr"))


@pytest.mark.slow
@every_model
def test_the_front_is_that_of_all_plans_of_many_networks(model: str) -> None:
    for seed in range(100, 160):
        graph, low, high = case(seed, model)
        if len(graph) <= 6:
            known = truth(graph, never_rising(MODELS[model]()), low, high)
            assert set(figures_of(pareto(graph, low, high, model=MODELS[model]()))) == known


# Menus -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_first_way_of_a_menu_moves_what_the_plan_does_and_no_way_is_beaten(scheme: str) -> None:
    several = 0
    for seed in (CHAIN, 5, 7, 9):
        graph, low, high = case(seed, scheme)
        model = never_rising(scheme_model(scheme))
        for group in {group for plan in all_partitions(graph) for group in plan.groups} if len(graph) < 7 else ():
            for size in (low, high):
                ways, planned = ways_of(model, graph, group, Machine(size)), model.plan(graph, group, Machine(size))
                assert bool(ways) == isinstance(planned, Planned)
                if isinstance(planned, Planned):
                    assert ways[0].cost.dram_bytes == planned.cost.dram_bytes
                    assert ways[0].cost.recomputed_macs <= planned.cost.recomputed_macs
                assert all(w.cost.buffer_bytes <= size for w in ways)
                for a, b in pairwise(w.cost for w in ways):
                    assert a.dram_bytes < b.dram_bytes and a.recomputed_macs > b.recomputed_macs
                several += len(ways) > 1
    assert several or scheme in ("lbdf", "layerwise")


# The shape of a front ----------------------------------------------------------------------------


def chain() -> Graph:
    net = Net("chain")
    x = net.input(32, 16, 16)
    for _ in range(3):
        x = net.conv(x, 32)
    return net.graph()


def test_the_fewest_bytes_in_a_buffer_are_those_of_solve() -> None:
    front = pareto(chain(), 11_000, 11_264, model=Brr())
    for size in (11_000, 11_100, 11_264):
        assert front.at(size)[0].dram_bytes == fc.solve(chain(), size, model=Brr()).bound


def test_plans_of_one_buffer_trade_bytes_for_macs() -> None:
    choices = pareto(chain(), 11_264, 11_264).at(11_264)
    assert len(choices) > 1 and choices[-1].recomputed_macs == 0
    for a, b in pairwise(choices):
        assert a.dram_bytes < b.dram_bytes and a.recomputed_macs > b.recomputed_macs


def test_a_front_that_begins_where_nothing_runs_says_which_op_and_why() -> None:
    front = pareto(chain(), 1, 40, scheme="layerwise")
    assert front.ended.startswith("no plan in ") and "needs" in front.ended


@pytest.mark.parametrize("ends", [(0, 10), (11, 10)])
def test_an_empty_range_is_refused(ends: tuple[int, int]) -> None:
    with pytest.raises(FusecutError, match="is empty: begin with at least 1 byte, and end with at least as much"):
        pareto(chain(), *ends)


def test_a_buffer_that_was_not_swept_is_refused() -> None:
    front = pareto(chain(), 11_264, 11_264)
    with pytest.raises(FusecutError, match=r"a buffer of 11,263 B is not on the front: it covers 11 KiB to 11 KiB"):
        front.at(11_263)


# Sweeps that do not end --------------------------------------------------------------------------


def interrupt_at(size: int) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.buffer_bytes <= size:
            raise KeyboardInterrupt

    return show


def test_an_interrupted_sweep_keeps_the_upper_part() -> None:
    whole = pareto(chain(), 7_000, 9_000)
    part = pareto(chain(), 7_000, 9_000, on_progress=interrupt_at(8_500))
    assert part.ended.startswith("interrupted in a buffer of 8,4")
    assert part.complete_from_bytes is not None and part.complete_from_bytes > 7_000
    for size in (part.complete_from_bytes, 9_000):
        assert [p.figures[1:] for p in part.at(size)] == [p.figures[1:] for p in whole.at(size)]


def test_a_first_buffer_out_of_effort_leaves_a_part_of_its_front() -> None:
    whole = {p.figures[1:] for p in pareto(chain(), 11_264, 11_264).points}
    partial = []
    for effort in range(1, 10):
        front = pareto(chain(), 11_264, 11_264, effort=effort)
        if front.ended:
            assert front.ended == "out of effort in a buffer of 11 KiB" and front.complete_from_bytes is None
            assert {p.figures[1:] for p in front.points} <= whole
            partial.append(len(front.points))
    assert 0 in partial and any(0 < count < len(whole) for count in partial)


def test_a_sweep_out_of_time_says_so() -> None:
    assert pareto(chain(), 11_264, 11_264, max_seconds=0).ended == "out of time in a buffer of 11 KiB"
