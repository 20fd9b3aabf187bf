"""The buffer floor: it grows with the group, however the group grows, and never exceeds the demand."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from row_nets import everyday_net, groups_of, odd_net

from fusecut.cost import Infeasible
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models._bounds import RowBounds, removable
from fusecut.models.lbdf import LineBuffer
from fusecut.testing import Net

SWITCHES = [
    LineBuffer(
        granularity="pixel" if pixel else "row",
        prefetch_rows=prefetch,
        inline_elementwise=inline,
        virtual_concat=concat,
        skip_separate_buffer=apart,
        squeeze_excite="two_pass" if two_pass else "full",
    )
    for pixel, prefetch, inline, concat, apart, two_pass in product(
        (False, True), (0, 1), (False, True), (False, True), (False, True), (False, True)
    )
]


def label(model: LineBuffer) -> str:
    """The switches that are on."""
    on = [k for k in ("inline_elementwise", "virtual_concat", "skip_separate_buffer") if getattr(model, k)]
    on += ["pixel"] * (model.granularity == "pixel") + ["prefetch"] * model.prefetch_rows
    return "+".join(on + ["two_pass"] * (model.squeeze_excite == "two_pass")) or "none"


every_switch = pytest.mark.parametrize("model", SWITCHES, ids=label)
MACHINE = Machine(1)


@cache
def nets(count: int) -> tuple[Graph, ...]:
    """Everyday networks, and one odd one for every two of them."""
    everyday = [everyday_net(np.random.default_rng(seed)) for seed in range(count)]
    return (
        *everyday,
        *(odd_net(np.random.default_rng(seed), ("constant", "edge", "reflect")) for seed in range(count // 2)),
    )


@cache
def groups(count: int, most: int) -> tuple[tuple[Graph, tuple[Group, ...]], ...]:
    return tuple((graph, tuple(groups_of(graph, most))) for graph in nets(count))


@every_switch
def test_the_floor_grows_when_any_op_joins_in_any_order(model: LineBuffer) -> None:
    rng = np.random.default_rng(1)
    for graph in nets(24):
        floor = model.buffer_floor(graph, MACHINE)
        for _ in range(3):
            group, nbytes = 0, floor.start
            for op in rng.permutation(len(graph)):
                grown = floor.extend(group, nbytes, int(op))
                assert grown >= nbytes
                group, nbytes = group | 1 << int(op), grown


@every_switch
def test_growing_a_floor_op_by_op_gives_the_floor_of_the_whole(model: LineBuffer) -> None:
    rng = np.random.default_rng(2)
    for graph in nets(24):
        floor = model.buffer_floor(graph, MACHINE)
        for _ in range(3):
            group, nbytes = 0, floor.start
            for op in rng.permutation(len(graph)):
                group, nbytes = group | 1 << int(op), floor.extend(group, nbytes, int(op))
                assert nbytes == floor.of(group)


@every_switch
def test_the_floor_never_exceeds_what_a_group_needs(model: LineBuffer) -> None:
    for graph, some in groups(24, 12):
        floor = model.buffer_floor(graph, MACHINE)
        for group in some:
            assert floor.of(group) <= model.demand(graph, group).nbytes, f"group {group:b}"


@every_switch
def test_whatever_fits_is_not_below_its_floor(model: LineBuffer) -> None:
    """Asked with the floor itself as capacity and with one byte less: a plan may exist in the first case only."""
    for graph, some in groups(16, 8):
        floor = model.buffer_floor(graph, MACHINE)
        for group in some:
            least = floor.of(group)
            planned = model.plan(graph, group, Machine(max(1, least)))
            assert isinstance(planned, Infeasible) or planned.cost.buffer_bytes == least
            assert least < 2 or isinstance(model.plan(graph, group, Machine(least - 1)), Infeasible)


def smallest_buffer(model: LineBuffer, graph: Graph, group: Group) -> int:
    """The smallest capacity in which the model finds a plan, by bisection."""
    low, high = 0, model.demand(graph, group).nbytes
    while high - low > 1:
        middle = (low + high) // 2
        fits = not isinstance(model.plan(graph, group, Machine(middle)), Infeasible)
        low, high = (low, middle) if fits else (middle, high)
    return high


@pytest.mark.parametrize("model", [m for m in SWITCHES if m.squeeze_excite == "two_pass"], ids=label)
def test_the_floor_does_not_exceed_what_two_passes_need(model: LineBuffer) -> None:
    for graph, some in groups(12, 6):
        floor = model.buffer_floor(graph, MACHINE)
        for group in some:
            assert floor.of(group) <= smallest_buffer(model, graph, group), f"group {group:b}"


@pytest.mark.slow
@every_switch
def test_the_floor_never_exceeds_what_any_group_of_many_networks_needs(model: LineBuffer) -> None:
    for graph, some in groups(250, 60):
        floor = model.buffer_floor(graph, MACHINE)
        for group in some:
            assert floor.of(group) <= model.demand(graph, group).nbytes, f"group {group:b}"


# The bound itself --------------------------------------------------------------------------------


def test_a_larger_group_never_lowers_the_bound_of_a_tensor() -> None:
    rng = np.random.default_rng(3)
    for graph in nets(60):
        bounds = RowBounds(graph)
        group = 0
        before = [bounds.rows(t, group) for t in range(len(graph.tensors))]
        for op in rng.permutation(len(graph)):
            group |= 1 << int(op)
            after = [bounds.rows(t, group) for t in range(len(graph.tensors))]
            assert all(a >= b for a, b in zip(after, before, strict=True))
            before = after


def test_a_pair_of_readers_holds_the_rows_between_the_early_and_the_late_one() -> None:
    net = Net()
    x = net.input(1, 20, 4)
    net.add(net.conv(net.conv(net.conv(x, 1), 1), 1), x)
    assert RowBounds(net.graph()).pairs(x) == [(0b1001, 4), (0b0001, 3), (0b1000, 1)]


def test_a_tensor_nobody_reads_holds_one_row() -> None:
    net = Net()
    y = net.conv(net.input(1, 8, 4), 1)
    assert RowBounds(net.graph()).rows(y, 0b1) == 1


def test_pixels_have_bounds_of_their_own() -> None:
    net = Net()
    x = net.input(1, 9, 9)
    net.op("conv", [x], (1, 9, 9), kernel=(1, 5), strides=(1, 1), dilations=(1, 1), pads=(0, 2, 0, 2))
    graph = net.graph()
    assert (RowBounds(graph).rows(x, 1), RowBounds(graph, pixels=True).rows(x, 1)) == (1, 5)


def test_rows_below_the_last_demanded_one_do_not_count() -> None:
    """A stride of 3 never looks at the last row of the map between; its producer is not asked for it."""
    net = Net()
    x = net.input(1, 8, 4)
    net.conv(net.conv(x, 1, kernel=1), 1, kernel=1, stride=3)
    assert RowBounds(net.graph()).demand == [6, 2]


@pytest.mark.parametrize(
    ("inline", "concat", "expected"),
    [(False, False, set()), (True, False, {"a"}), (False, True, {"a", "b", "c"}), (True, True, {"a", "b", "c"})],
)
def test_tensors_that_a_switch_may_remove_do_not_count(inline: bool, concat: bool, expected: set[str]) -> None:
    net = Net()
    a = net.conv(net.input(1, 8, 4), 1)
    b = net.op("activation", [a], (1, 8, 4))
    c = net.concat(a, b)
    net.conv(c, 1)
    graph = net.graph()
    named = {"a": a, "b": b, "c": c}
    assert removable(graph, inline, concat) == {named[name] for name in expected}


def test_the_floor_of_a_diamond_by_hand() -> None:
    net = Net()
    x = net.input(8, 56, 56)
    net.add(net.conv(net.conv(x, 8), 8), x)
    graph = net.graph()
    floor = LineBuffer().buffer_floor(graph, MACHINE)
    weights = 2 * 8 * 8 * 9
    assert [floor.of(g) for g in (0b001, 0b011, 0b111)] == [
        weights // 2 + (3 + 1) * 448,
        weights + (3 + 3 + 1) * 448,
        weights + (3 + 3 + 1 + 1) * 448,
    ]
    assert list(bits(0b111)) == [0, 1, 2]


def test_an_op_that_mixes_images_of_a_batch_is_refused_by_name() -> None:
    net = Net(batch=2)
    x = net.input(4, 8, 8)
    net.batch = 1
    net.op("opaque", [x], (4, 8, 8), name="fold")
    refusal = LineBuffer().plan(net.graph(), 1, Machine(2**40))
    assert isinstance(refusal, Infeasible)
    assert (refusal.resource, str(refusal)) == ("batch", "'fold' mixes images of a batch")
