"""The curve against brute force at every byte, against independent solves; sweeps that do not end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import fusecut as fc
from fusecut.cost import BufferFloor, Cost, CostModel, Infeasible, NoFloor, Planned
from fusecut.curve import Curve, Progress, curve
from fusecut.errors import CostModelError, FusecutError, UnitError, UnknownNameError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import SCHEMES, Layerwise, LineBuffer, WithFallback, never_rising, scheme_model
from fusecut.schedule import Schedule
from fusecut.search import Exact, LocalSearch
from fusecut.testing import Net, all_partitions, random_graph

SWITCHES = "lbdf, every switch"
MODELS: dict[str, Callable[[], CostModel]] = {
    **{name: lambda name=name: scheme_model(name) for name in SCHEMES},  # type: ignore[misc]
    SWITCHES: lambda: WithFallback(LineBuffer("pixel", 1, True, True, True, "two_pass"), Layerwise()),
    "lbdf, no fallback": LineBuffer,
}
every_model = pytest.mark.parametrize("model", MODELS)
SEEDS = range(8)
LARGEST_RANGE = 1_200


# Against brute force -----------------------------------------------------------------------------


@cache
def tiny_nets() -> tuple[Graph, ...]:
    """Random networks of a few ops whose whole curve takes little more than a thousand bytes."""
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        while True:
            graph = random_graph(rng, int(rng.integers(2, 5)), rows=int(rng.choice([3, 6])))
            if len(graph) <= 6 and end(graph) <= LARGEST_RANGE:
                break
        found.append(graph)
    return tuple(found)


def end(graph: Graph) -> int:
    """A little more than fusing everything takes."""
    return LineBuffer().demand(graph, graph.everything).nbytes + 20


@dataclass(frozen=True)
class Truth:
    """The fewest bytes of any plan at every capacity from 1 on, None where nothing runs, by trying all plans."""

    curve: Curve
    fewest: list[int | None]


def truth(graph: Graph, model: CostModel, found: Curve) -> Truth:
    plans = [plan.groups for plan in all_partitions(graph)]
    groups = sorted({group for plan in plans for group in plan})
    fewest: list[int | None] = []
    for capacity in range(1, end(graph) + 1):
        planned = {group: model.plan(graph, group, Machine(capacity)) for group in groups}
        price = {g: p.cost.dram_bytes for g, p in planned.items() if isinstance(p, Planned)}
        runnable = (sum(price[g] for g in plan) for plan in plans if all(g in price for g in plan))
        fewest.append(min(runnable, default=None))
    return Truth(found, fewest)


@cache
def truths(model: str) -> tuple[Truth, ...]:
    return tuple(
        truth(graph, never_rising(MODELS[model]()), curve(graph, 1, end(graph), model=MODELS[model]()))
        for graph in tiny_nets()
    )


def height(found: Curve, capacity: int) -> int | None:
    """Bytes at a capacity; None below the curve."""
    return found.at(capacity).dram_bytes if capacity >= found.points[0].buffer_bytes else None


@every_model
def test_the_curve_is_the_optimum_at_every_byte(model: str) -> None:
    for known in truths(model):
        assert [height(known.curve, n + 1) for n in range(len(known.fewest))] == known.fewest


@every_model
def test_every_point_is_proved(model: str) -> None:
    assert all(known.curve.proved for known in truths(model))


@every_model
def test_one_byte_less_than_a_breakpoint_costs_more(model: str) -> None:
    for known in truths(model):
        for point in known.curve.points[1:]:
            before = known.fewest[point.buffer_bytes - 2]
            assert before is not None and before > point.dram_bytes


@every_model
def test_a_plan_costs_and_needs_what_its_point_says(model: str) -> None:
    for known in truths(model):
        for point in known.curve.points:
            planned = known.curve.planned(point.buffer_bytes)
            assert sum(p.cost.dram_bytes for p in planned) == point.dram_bytes
            assert max(p.cost.buffer_bytes for p in planned) <= point.buffer_bytes
            assert tuple(p.schedule.group for p in planned) == point.partition.groups


def test_the_brute_force_covers_ranges_where_nothing_runs_and_many_steps() -> None:
    known = truths("mixed")
    assert any(None in t.fewest for t in known)
    assert sum(len(t.curve.points) for t in known) > 40


@pytest.mark.slow
@every_model
def test_the_curve_is_the_optimum_at_every_byte_of_many_networks(model: str) -> None:
    for seed in range(100, 160):
        graph = random_graph(np.random.default_rng(seed), 4, rows=8, inputs=1 + seed % 2)
        if len(graph) <= 6 and end(graph) <= 3_000:
            known = truth(graph, MODELS[model](), curve(graph, 1, end(graph), model=MODELS[model]()))
            heights = [height(known.curve, n + 1) if known.curve.points else None for n in range(len(known.fewest))]
            assert heights == known.fewest


# With a tolerance --------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [0.05, 0.9])
def test_with_a_tolerance_the_curve_is_so_near_the_optimum_at_every_byte(tolerance: float) -> None:
    fewer = 0
    for known in truths("mixed"):
        found = curve(known.curve.graph, 1, end(known.curve.graph), tolerance=tolerance)
        fewer += len(known.curve.points) - len(found.points)
        for capacity, fewest in enumerate(known.fewest, 1):
            moved = height(found, capacity)
            assert (moved is None) == (fewest is None)
            if moved is not None and fewest is not None:
                assert found.at(capacity).bound_bytes <= fewest <= moved <= fewest * (1 + tolerance)
        for point in found.points:
            assert sum(p.cost.dram_bytes for p in found.planned(point.buffer_bytes)) == point.dram_bytes
    assert (fewer > 0) == (tolerance > 0.5)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, float("nan")])
def test_a_tolerance_that_is_no_share_is_refused(tolerance: float) -> None:
    with pytest.raises(FusecutError, match="give a share of DRAM bytes"):
        curve(tiny_nets()[0], 1, 100, tolerance=tolerance)


# Against independent solves ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_curve_equals_solve_at_every_byte_of_a_small_network(scheme: str) -> None:
    graph = tiny_nets()[0]
    found, model = fc.curve(graph, 1, end(graph), scheme=scheme), never_rising(scheme_model(scheme))
    for capacity in range(found.points[0].buffer_bytes, end(graph) + 1):
        assert found.at(capacity).dram_bytes == fc.solve(graph, capacity, model=model).cost.dram_bytes


@cache
def zoo_curve(network: str, scheme: str = "lbdf") -> Curve:
    return fc.curve(fc.zoo(network), "16KiB", "8MiB", scheme=scheme)


def agrees_at(network: str, capacity: int) -> bool:
    point, alone = zoo_curve(network).at(capacity), fc.solve(fc.zoo(network), capacity, scheme="lbdf")
    return (point.dram_bytes, point.bound_bytes) == (alone.cost.dram_bytes, alone.bound)


@pytest.mark.parametrize("network", ["mobilenet_v2", "squeezenet1_1"])
def test_bundled_networks_agree_with_solve_at_random_buffers(network: str) -> None:
    sizes = np.random.default_rng(5).uniform(np.log(16_384), np.log(8 * 2**20), 12)
    assert all(agrees_at(network, int(np.exp(size))) for size in sizes)


def test_one_byte_less_than_a_breakpoint_costs_more_on_a_bundled_network() -> None:
    graph, points = fc.zoo("mobilenet_v2"), zoo_curve("mobilenet_v2").points
    for point in points[1::6]:
        assert fc.solve(graph, point.buffer_bytes, scheme="lbdf").cost.dram_bytes == point.dram_bytes
        assert fc.solve(graph, point.buffer_bytes - 1, scheme="lbdf").cost.dram_bytes > point.dram_bytes


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet50", "efficientnet_b3", "googlenet", "unet", "convnext_tiny"])
def test_large_networks_agree_with_solve_at_random_buffers(network: str) -> None:
    sizes = np.random.default_rng(6).uniform(np.log(16_384), np.log(8 * 2**20), 20)
    steps = [point.buffer_bytes - less for point in zoo_curve(network).points[1::40] for less in (0, 1)]
    assert all(agrees_at(network, size) for size in [*steps, *(int(np.exp(size)) for size in sizes)])


# Shape of a curve --------------------------------------------------------------------------------


def chain() -> Graph:
    net = Net("chain")
    y = net.input(8, 32, 16)
    for channels in (8, 16, 16, 8, 8):
        y = net.conv(y, channels)
    return net.graph()


def test_the_last_breakpoint_is_what_fusing_everything_takes() -> None:
    graph = chain()
    needed = LineBuffer().demand(graph, graph.everything).nbytes
    last = curve(graph, 1, "64KiB", scheme="lbdf").points[-1]
    assert last.buffer_bytes == needed
    mixed = curve(graph, 1, "64KiB")
    assert needed - 100 < mixed.points[-1].buffer_bytes <= needed  # bands of one row hold no row of the last result
    assert (
        last.dram_bytes == graph.touch_once_bytes(graph.everything) == mixed.points[-1].dram_bytes == mixed.floor_bytes
    )


def test_a_curve_that_begins_where_nothing_runs_says_which_op_and_why() -> None:
    found = curve(chain(), 1, "64KiB")
    assert found.points[0].buffer_bytes > 1
    below = fc.solve(chain(), found.points[0].buffer_bytes - 1)
    name, why = below.refusals[0]
    assert found.ended == f"no plan in {found.points[0].buffer_bytes - 1:,} B: op {name!r} {why}"


def test_a_range_of_one_byte_is_one_point() -> None:
    found = curve(chain(), 6_000, 6_000)
    assert [(p.buffer_bytes, p.dram_bytes) for p in found.points] == [(6_000, fc.solve(chain(), 6_000).cost.dram_bytes)]
    assert found.ended == "" and found.knees() == ()


def test_a_range_where_nothing_runs_has_no_points() -> None:
    found = curve(chain(), 1, 3)
    assert found.points == () and found.ended.startswith("no plan in 3 B: op 'conv0' needs ")


def test_a_wider_range_has_the_same_steps() -> None:
    wide, narrow = curve(chain(), 1, "64KiB"), curve(chain(), 5_000, 7_000)
    inside = [(p.buffer_bytes, p.dram_bytes) for p in wide.points if 5_000 < p.buffer_bytes <= 7_000]
    assert [(p.buffer_bytes, p.dram_bytes) for p in narrow.points[1:]] == inside
    assert narrow.points[0].buffer_bytes == 5_000


def test_the_machine_gives_widths_and_the_range_the_buffer() -> None:
    found = curve(chain(), 1_000, 9_000, machine=Machine(5, weight_bits=4))
    assert found.machine == Machine(9_000, weight_bits=4)
    alone = fc.solve(chain(), machine=Machine(8_000, weight_bits=4))
    assert found.at(8_000).dram_bytes == alone.cost.dram_bytes


def test_groups_are_priced_far_less_often_than_by_solving_again() -> None:
    found = zoo_curve("squeezenet1_1")
    again = sum(
        fc.solve(fc.zoo("squeezenet1_1"), p.buffer_bytes, scheme="lbdf").evaluations for p in found.points[::10]
    )
    assert found.evaluations < again


@pytest.mark.parametrize("buffer", [4_999, 7_001, "1MiB"])
def test_a_buffer_outside_the_curve_is_refused(buffer: str | int) -> None:
    with pytest.raises(FusecutError, match=r"is not on the curve: it goes from 5,000 B to 7,000 B$"):
        curve(chain(), 5_000, 7_000).at(buffer)


@pytest.mark.parametrize("ends", [(0, 10), (11, 10)])
def test_an_empty_range_is_refused(ends: tuple[int, int]) -> None:
    with pytest.raises(FusecutError, match="is empty: begin with at least 1 byte, and end with at least as much"):
        curve(chain(), *ends)


def test_a_search_without_end_is_refused() -> None:
    with pytest.raises(FusecutError, match="search 'local' never ends by itself"):
        curve(chain(), "1KiB", "2KiB", search=LocalSearch())


def test_sizes_and_schemes_are_checked() -> None:
    with pytest.raises(UnitError):
        curve(chain(), "1KiBs", "2KiB")
    with pytest.raises(UnknownNameError, match="unknown scheme 'mixd'"):
        curve(chain(), "1KiB", "2KiB", scheme="mixd")


# Sweeps that do not end, or do not prove -----------------------------------------------------------


def interrupt_after(count: int) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.stretches == count:
            raise KeyboardInterrupt

    return show


def test_an_interrupted_sweep_keeps_the_upper_part() -> None:
    whole, part = curve(chain(), 1, "64KiB"), curve(chain(), 1, "64KiB", on_progress=interrupt_after(4))
    assert part.ended == "interrupted"
    assert 1 < len(part.points) < len(whole.points)
    for point in part.points:
        assert whole.at(point.buffer_bytes).dram_bytes == point.dram_bytes and point.proved


def test_a_sweep_out_of_time_says_so() -> None:
    found = curve(chain(), 1, "64KiB", max_seconds=0)
    assert found.points == () and found.ended == "out of time"


def weak(graph: Graph) -> Curve:
    search = Exact(effort=1, first_effort=1, beam_effort=1, column_effort=0)
    return curve(graph, 1, end(graph), search=search, scheme="lbdf")


def test_points_without_proof_carry_a_bound_below_the_optimum() -> None:
    unproved = 0
    for graph, known in zip(tiny_nets(), truths("lbdf"), strict=True):
        found = weak(graph)
        for capacity in range(found.points[0].buffer_bytes, end(graph) + 1):
            point, best = found.at(capacity), known.fewest[capacity - 1]
            assert best is not None and point.bound_bytes <= best <= point.dram_bytes
            unproved += not point.proved
    assert unproved > 100


def test_without_proof_a_larger_buffer_still_moves_no_more_and_bounds_fall() -> None:
    for graph in tiny_nets():
        for a, b in pairwise(weak(graph).points):
            assert a.dram_bytes >= b.dram_bytes and a.bound_bytes >= b.bound_bytes
            assert (a.dram_bytes, a.bound_bytes) != (b.dram_bytes, b.bound_bytes)


@dataclass(frozen=True)
class Perverse:
    """Charges more in a larger buffer."""

    name: str = "perverse"
    touches_once: bool = False

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        size = machine.buffer_bytes
        return Planned(Schedule(self.name, group, ()), Cost(size, 0, 0, size))

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


def test_a_model_that_charges_more_in_a_larger_buffer_is_refused() -> None:
    with pytest.raises(
        CostModelError, match=r"^the group from op 'conv0' moves 99 B in a buffer of 99 B but 100 B in "
    ):
        curve(chain(), 1, 100, model=Perverse())
