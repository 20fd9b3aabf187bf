"""The line-buffer model on networks worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from fusecut.cost import Cost, Infeasible, Planned
from fusecut.ir import Graph, bits
from fusecut.machine import Machine
from fusecut.models._bounds import RowBounds
from fusecut.models._events import RowMachine
from fusecut.models._program import Pass, Program, lower
from fusecut.models.lbdf import LineBuffer
from fusecut.ops import row_maps
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.testing import Net

MODEL = LineBuffer()
HUGE = Machine(2**40)
SIZE = 56
WIDTH = 8


def rows_held(graph: Graph, group: int | None = None) -> dict[str, int]:
    """Rows of every tensor by name: "x", and the name of the op that makes it."""
    group = graph.everything if group is None else group
    return {_label(graph, h.tensor): h.rows for h in MODEL.demand(graph, group).holds}


def _label(graph: Graph, tensor: int) -> str:
    maker = graph.producer[tensor]
    return graph.ops[maker].name if maker >= 0 else "x"


def conv(net: Net, x: int, name: str, kernel: int = 3, stride: int = 1, channels: int = WIDTH) -> int:
    return net.conv(x, channels, kernel, stride, name=name)


def add(net: Net, a: int, b: int, name: str) -> int:
    return net.op("elementwise", [a, b], net.tensors[a].shape[1:], name=name)


def planned(graph: Graph, group: int, machine: Machine = HUGE, model: LineBuffer = MODEL) -> Planned:
    found = model.plan(graph, group, machine)
    assert isinstance(found, Planned)
    return found


def whole_cost(graph: Graph, groups: list[int], model: LineBuffer = MODEL) -> Cost:
    cost = Problem(graph, HUGE, model).cost(Partition(graph, groups))
    assert isinstance(cost, Cost)
    return cost


def program_of(graph: Graph) -> Program:
    return lower(graph, RowBounds(graph).maps, Pass(graph.everything))


# Worked examples ---------------------------------------------------------------------------------


def residual(net: Net, x: int, prefix: str = "") -> int:
    return add(net, conv(net, conv(net, x, f"{prefix}y1"), f"{prefix}y2"), x, f"{prefix}z")


def two_convs(net: Net, x: int) -> None:
    conv(net, conv(net, x, "y1"), "y2")


def strided_first(net: Net, x: int) -> None:
    conv(net, conv(net, x, "y1", stride=2), "y2")


def strided_last(net: Net, x: int) -> None:
    conv(net, conv(net, x, "y1"), "y2", stride=2)


def two_residuals(net: Net, x: int) -> None:
    residual(net, residual(net, x, "a."), "b.")


def projected_residual(net: Net, x: int) -> None:
    main = conv(net, conv(net, x, "y1", stride=2), "y2")
    add(net, main, conv(net, x, "pj", kernel=1, stride=2), "z")


def bottleneck(net: Net, x: int) -> None:
    main = conv(net, conv(net, conv(net, x, "y1", kernel=1), "y2"), "y3", kernel=1)
    add(net, main, x, "z")


def inverted_strided(net: Net, x: int) -> None:
    conv(net, conv(net, conv(net, x, "e", kernel=1), "dw", stride=2), "pr", kernel=1)


def inverted_residual(net: Net, x: int) -> None:
    main = conv(net, conv(net, conv(net, x, "e", kernel=1), "dw"), "pr", kernel=1)
    add(net, main, x, "z")


def inception(net: Net, x: int) -> None:
    one = conv(net, x, "b1", kernel=1)
    three = conv(net, conv(net, x, "r3", kernel=1), "b3")
    five = conv(net, conv(net, x, "r5", kernel=1), "b5", kernel=5)
    shape = net.tensors[x].shape[1:]
    pooled = net.op("pool", [x], shape, name="p", kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    pooled = conv(net, pooled, "bp", kernel=1)
    net.op("concat", [one, three, five, pooled], (4 * WIDTH, *shape[1:]), name="z", axis=-1)


def squeeze_excite(net: Net, x: int) -> None:
    dw = conv(net, conv(net, x, "e", kernel=1), "dw")
    gap = net.op("reduce", [dw], (WIDTH, 1, 1), name="gap")
    vector = conv(net, conv(net, gap, "fc1", kernel=1), "fc2", kernel=1)
    scaled = net.op("elementwise", [dw, vector], net.tensors[dw].shape[1:], name="mul")
    add(net, conv(net, scaled, "pr", kernel=1), x, "z")


class Example(NamedTuple):
    build: Callable[[Net, int], object]
    rows: dict[str, int]
    static: int
    size: int = SIZE


EXAMPLES = {
    "residual 3x3, 3x3 with identity": Example(residual, {"x": 3, "y1": 3, "y2": 1, "z": 1}, 8),
    "3x3, 3x3": Example(two_convs, {"x": 3, "y1": 3, "y2": 1}, 7),
    "3x3 s2, 3x3": Example(strided_first, {"x": 3, "y1": 3, "y2": 1}, 7),
    "3x3, 3x3 s2": Example(strided_last, {"x": 3, "y1": 3, "y2": 1}, 7),
    "two residual blocks": Example(
        two_residuals, {"x": 3, "a.y1": 3, "a.y2": 1, "a.z": 3, "b.y1": 3, "b.y2": 1, "b.z": 1}, 15
    ),
    "s2 residual with 1x1 s2 projection": Example(projected_residual, {"x": 3, "y1": 3, "y2": 1, "pj": 1, "z": 1}, 9),
    "bottleneck 1-3-1 with identity": Example(bottleneck, {"x": 2, "y1": 3, "y2": 1, "y3": 1, "z": 1}, 8),
    "inverted residual, depthwise 3x3 s2": Example(inverted_strided, {"x": 1, "e": 3, "dw": 1, "pr": 1}, 6),
    "inverted residual s1 with identity": Example(inverted_residual, {"x": 2, "e": 3, "dw": 1, "pr": 1, "z": 1}, 8),
    "inception 1/3/5/pool": Example(
        inception, {"x": 3, "b1": 1, "r3": 3, "b3": 1, "r5": 5, "b5": 1, "p": 1, "bp": 1, "z": 1}, 17
    ),
    "squeeze-excite with identity, 14 rows": Example(
        squeeze_excite,
        {"x": 14, "e": 3, "dw": 14, "gap": 1, "fc1": 1, "fc2": 1, "mul": 1, "pr": 1, "z": 1},
        37,
        14,
    ),
}


def built(example: Example) -> Graph:
    net = Net()
    example.build(net, net.input(WIDTH, example.size, example.size))
    return net.graph()


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_rows_held_of_worked_examples(example: Example) -> None:
    assert rows_held(built(example)) == example.rows


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_rows_in_all_of_worked_examples(example: Example) -> None:
    graph = built(example)
    assert sum(h.rows for h in MODEL.demand(graph, graph.everything).holds) == example.static


def test_a_tensor_that_is_also_read_outside_adds_demand_but_no_residency() -> None:
    net = Net()
    y = conv(net, net.input(WIDTH, SIZE, SIZE), "y1")
    z = conv(net, y, "z", kernel=1, stride=2)
    assert rows_held(net.graph(y, z)) == {"x": 3, "y1": 1, "z": 1}


@pytest.mark.parametrize("convs", range(1, 8))
def test_an_identity_skip_around_n_convolutions_holds_n_plus_one_rows(convs: int) -> None:
    net = Net()
    x = y = net.input(WIDTH, SIZE, SIZE)
    for n in range(convs):
        y = conv(net, y, f"y{n}")
    add(net, y, x, "z")
    assert rows_held(net.graph())["x"] == max(3, convs + 1)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1), (3, 4), (7, 1)])
def test_a_single_reader_holds_its_window(kernel: int, dilation: int) -> None:
    net = Net()
    net.conv(net.input(1, SIZE, 8), 1, kernel, dilation=dilation)
    assert rows_held(net.graph())["x"] == dilation * (kernel - 1) + 1


# Bytes -------------------------------------------------------------------------------------------


def two_wide_convs() -> Graph:
    net = Net()
    net.conv(net.conv(net.input(64, 56, 56), 64), 64)
    return net.graph()


def test_buffer_of_two_convolutions() -> None:
    demand = MODEL.demand(two_wide_convs(), 0b11)
    assert (demand.lines_bytes, demand.weight_bytes, demand.nbytes) == (25_088, 73_728, 98_816)


def test_traffic_of_two_convolutions_fused_and_apart() -> None:
    graph = two_wide_convs()
    assert [whole_cost(graph, groups).dram_bytes for groups in ([0b11], [0b01, 0b10])] == [475_136, 876_544]


def test_a_group_fits_when_its_bytes_are_at_most_the_capacity() -> None:
    graph = two_wide_convs()
    assert planned(graph, 0b11, Machine(98_816)).cost.buffer_bytes == 98_816
    assert isinstance(MODEL.plan(graph, 0b11, Machine(98_815)), Infeasible)


def mobilenet_block_2() -> Graph:
    net = Net()
    net.conv(net.depthwise(net.conv(net.input(16, 112, 112), 96, 1), stride=2), 24, 1)
    return net.graph()


def test_buffer_of_the_second_block_of_mobilenet_v2() -> None:
    demand = MODEL.demand(mobilenet_block_2(), 0b111)
    assert (demand.lines_bytes, demand.weight_bytes, demand.nbytes) == (40_768, 4_704, 45_472)


def test_traffic_of_the_second_block_of_mobilenet_v2_fused_and_apart() -> None:
    graph = mobilenet_block_2()
    assert [whole_cost(graph, g).dram_bytes for g in ([0b111], [0b001, 0b010, 0b100])] == [280_672, 3_291_232]


def test_traffic_is_split_into_reads_writes_and_weights() -> None:
    cost = whole_cost(mobilenet_block_2(), [0b111])
    assert (cost.read_bytes, cost.write_bytes, cost.weight_bytes) == (16 * 112**2 + 4_704, 24 * 56**2, 4_704)


def test_biases_are_as_wide_as_accumulators_and_stay_resident() -> None:
    net = Net()
    net.conv(net.input(1, 4, 4), 5, 1, biases=True)
    graph = net.graph().with_bits(8, 8, 16)
    assert MODEL.demand(graph, 1).weight_bytes == 5 + 5 * 2


def test_weights_at_four_bits_take_half_the_room() -> None:
    graph = two_wide_convs().with_bits(8, 4, 32)
    assert MODEL.demand(graph, 0b11).weight_bytes == 73_728 // 2


def test_traffic_counts_every_image_of_a_batch_and_weights_once() -> None:
    net = Net(batch=3)
    net.conv(net.input(4, 8, 8), 4, 1)
    cost = whole_cost(net.graph(), [1])
    assert (cost.read_bytes, cost.write_bytes, cost.weight_bytes) == (3 * 256 + 16, 3 * 256, 16)


def test_the_buffer_of_a_batch_is_that_of_one_image() -> None:
    nets = [Net(batch=n) for n in (1, 5)]
    for net in nets:
        net.conv(net.input(4, 8, 8), 4)
    assert MODEL.demand(nets[0].graph(), 1).nbytes == MODEL.demand(nets[1].graph(), 1).nbytes


# Squeeze-excite, three ways: 24 channels, 56x56, expansion 144, kernel 3, 6 squeezed -------------

EXPAND, DEPTHWISE, POOL, SQUEEZE, EXCITE, SCALE, PROJECT, ADD = (1 << i for i in range(8))
WEIGHTS = 24 * 144 + 144 * 9 + 144 * 6 + 6 * 144 + 144 * 24
INPUT = 24 * 56 * 56
WIDE_ROW, NARROW_ROW = 144 * 56, 24 * 56
VECTORS = 144 + 6 + 144
SUMS = 144 * 4


def excited_block() -> Graph:
    net = Net()
    x = net.input(24, 56, 56)
    scaled = net.squeeze_excite(net.depthwise(net.conv(x, 144, 1)), 6)
    net.add(net.conv(scaled, 24, 1), x)
    return net.graph()


def test_full_squeeze_excite_holds_both_maps_the_vectors_and_the_sums() -> None:
    """571,728 B of maps and weights, as usually quoted, and 870 B of vectors and accumulators."""
    graph = excited_block()
    maps = 56 * NARROW_ROW + 3 * WIDE_ROW + 56 * WIDE_ROW + WIDE_ROW + 2 * NARROW_ROW
    assert maps + WEIGHTS == 571_728
    assert MODEL.demand(graph, graph.everything).nbytes == 571_728 + VECTORS + SUMS == 572_598


def test_full_squeeze_excite_moves_input_output_and_weights() -> None:
    graph = excited_block()
    assert planned(graph, graph.everything).cost.dram_bytes == 2 * INPUT + WEIGHTS == 160_464


def test_two_passes_hold_windows_one_vector_and_the_sums() -> None:
    """55,632 B of maps and weights, as usually quoted, and the excitation vector and accumulators.

    The second pass is the larger one; the vectors before the last are gone by then.
    """
    graph = excited_block()
    model = LineBuffer(squeeze_excite="two_pass")
    maps = 2 * NARROW_ROW + 3 * WIDE_ROW + 2 * WIDE_ROW + 2 * NARROW_ROW
    assert maps + WEIGHTS == 55_632
    cost = planned(graph, graph.everything, Machine(56_352), model).cost
    assert cost.buffer_bytes == 55_632 + 144 + SUMS == 56_352
    assert isinstance(model.plan(graph, graph.everything, Machine(56_351)), Infeasible)


def test_two_passes_read_the_input_twice() -> None:
    graph = excited_block()
    cost = planned(graph, graph.everything, Machine(64 * 1024), LineBuffer(squeeze_excite="two_pass")).cost
    assert cost.dram_bytes == 3 * INPUT + WEIGHTS == 235_728


def test_two_passes_compute_expansion_and_depthwise_twice() -> None:
    graph = excited_block()
    cost = planned(graph, graph.everything, Machine(64 * 1024), LineBuffer(squeeze_excite="two_pass")).cost
    once = sum(op.macs for op in graph.ops)
    assert cost.recomputed_macs == graph.ops[0].macs + graph.ops[1].macs == cost.macs - once
    assert round(100 * cost.recomputed_macs / once, 1) == 57.9


def test_a_cut_after_the_depthwise_writes_and_reads_the_wide_map() -> None:
    """1,138,896 B of maps and weights, as usually quoted; the excitation vector crosses the cut, too."""
    graph = excited_block()
    before = EXPAND | DEPTHWISE | POOL | SQUEEZE | EXCITE
    assert 3 * INPUT + 2 * 56 * WIDE_ROW + WEIGHTS == 1_138_896
    assert whole_cost(graph, [before, SCALE | PROJECT | ADD]).dram_bytes == 1_138_896 + 2 * 144


def test_two_passes_are_used_only_where_one_does_not_fit() -> None:
    graph = excited_block()
    model = LineBuffer(squeeze_excite="two_pass")
    assert [planned(graph, graph.everything, Machine(n), model).schedule.passes for n in (572_598, 572_597)] == [1, 2]


# Where shortcuts are wrong -----------------------------------------------------------------------


def test_rows_of_a_skip_are_not_shown_by_any_single_edge() -> None:
    """Each edge of the diamond alone needs 1 or 3 rows of x; five convolutions deep the delay needs 6."""
    net = Net()
    x = y = net.input(1, SIZE, 8)
    for n in range(5):
        y = conv(net, y, f"y{n}", channels=1)
    add(net, y, x, "z")
    graph = net.graph()
    edges = [
        max(h - b + 1 for b, h in zip(m.lo, m.hi, strict=True)) for m in (row_maps(graph)[0][0], row_maps(graph)[5][1])
    ]
    assert (edges, rows_held(graph)["x"]) == ([3, 1], 6)


@pytest.mark.parametrize(
    ("rows", "kernel", "pad", "expected"), [(2, 3, 1, 2), (4, 7, 3, 4), (6, 5, 4, 5), (3, 5, 4, 3)]
)
def test_clipping_on_small_maps_lowers_the_rows_held(rows: int, kernel: int, pad: int, expected: int) -> None:
    net = Net()
    net.conv(net.input(1, rows, 16), 1, kernel, pad=pad)
    assert rows_held(net.graph())["x"] == expected


def parallel_branches() -> Graph:
    net = Net()
    x = net.input(1, 20, 4)
    net.add(*(net.conv(net.conv(x, 1, 1), 1) for _ in range(2)))
    return net.graph()


def test_a_plain_pull_warms_up_above_the_steady_state_on_parallel_branches() -> None:
    program = program_of(parallel_branches())
    ring = next(r for r, ring in enumerate(program.rings) if ring.tensor == 0)
    assert [RowMachine(program, arrival).run().peaks[ring] for arrival in (False, True)] == [2, 1]


def test_the_model_takes_the_better_policy_on_parallel_branches() -> None:
    assert rows_held(parallel_branches())["x"] == 1


def test_rows_below_the_last_demanded_one_are_never_made() -> None:
    net = Net()
    x = net.input(1, 9, 4)
    net.pool(net.conv(x, 1, 1))
    made: list[tuple[int, int]] = []
    program = program_of(net.graph())
    RowMachine(program, True, observer=lambda s, q: made.append((s, q))).run()
    assert max(q for s, q in made if program.op[s] == 0) == 7


def test_with_several_sinks_the_bottom_flush_adds_a_row() -> None:
    """A ring rises once more after the last input row was loaded."""
    net = Net()
    x = net.input(1, 8, 7)
    net.conv(x, 3)
    pooled = net.pool(x)
    net.conv(pooled, 3, stride=2)
    net.pool(pooled)
    program = program_of(net.graph())
    ring = next(r for r, ring in enumerate(program.rings) if ring.tensor == pooled)
    seen: list[tuple[int, int]] = []
    machine = RowMachine(program, True, observer=lambda s, _: seen.append((s, machine.peaks[ring])))
    final = machine.run().peaks[ring]
    at_last_load = next(peak for s, peak in reversed(seen) if program.op[s] < 0)
    assert (at_last_load, final) == (2, 3)


@pytest.mark.parametrize("rows", [2, 7, 14, 56])
def test_squeeze_excite_needs_all_rows_whatever_the_rates(rows: int) -> None:
    """Every ratio of rates on the way is 1 to 1, and yet the whole map is held."""
    net = Net()
    x = net.input(WIDTH, rows, 4)
    net.squeeze_excite(x, 2)
    assert rows_held(net.graph())["x"] == rows


def crossed_skips() -> Graph:
    """Found by random search: three tensors leave the first three ops, the last one joins two of them."""
    net = Net()
    x = net.input(2, 7, 7)
    late, early = net.conv(x, 2, 5), net.conv(x, 2, 1)
    net.concat(early, late)
    net.add(late, early)
    return net.graph()


def test_the_buffer_of_the_fixed_schedule_is_not_monotone() -> None:
    graph = crossed_skips()
    assert [MODEL.demand(graph, group).nbytes for group in (0b0111, 0b1111)] == [258, 244]


def test_the_floor_is_monotone_where_the_buffer_is_not() -> None:
    graph = crossed_skips()
    floor = MODEL.buffer_floor(graph, HUGE)
    assert floor.of(0b0111) <= floor.of(0b1111) <= 244


# Refusals ----------------------------------------------------------------------------------------


def test_a_refusal_names_demand_limit_place_and_levers() -> None:
    refusal = MODEL.plan(two_wide_convs(), 0b11, Machine(98_815))
    assert str(refusal) == (
        "needs at least 98,816 B, the buffer has 98,815 B: 1 B over; "
        "weights take 73,728 B, most of them 'conv0'; a buffer of 98,816 B or more; a cut inside the group"
    )


# Plans -------------------------------------------------------------------------------------------


def test_a_schedule_names_every_ring_of_the_group() -> None:
    graph = two_wide_convs()
    schedule = planned(graph, 0b11).schedule
    assert [(h.tensor, h.rows, h.row_bytes, h.nbytes) for h in schedule.holds] == [
        (0, 3, 3584, 10_752),
        (1, 3, 3584, 10_752),
        (2, 1, 3584, 3_584),
    ]
    assert (schedule.scheme, schedule.order, schedule.passes, schedule.weight_passes) == ("lbdf", (0, 1), 1, 1)


def test_the_buffer_is_weights_sums_and_rings() -> None:
    graph = excited_block()
    plan = planned(graph, graph.everything)
    assert plan.cost.buffer_bytes == WEIGHTS + SUMS + sum(h.nbytes for h in plan.schedule.holds)


def test_the_finished_plan_adds_what_one_pool_would_need() -> None:
    graph = two_wide_convs()
    plan = MODEL.finish(graph, planned(graph, 0b11), HUGE)
    assert plan.cost.pooled_buffer_bytes == 95_232 <= plan.cost.buffer_bytes


def test_the_reason_of_a_ring_names_the_late_and_the_early_reader() -> None:
    net = Net()
    x = y = net.input(1, 20, 4)
    for n in range(4):
        y = conv(net, y, f"y{n}", channels=1)
    add(net, y, x, "z")
    graph = net.graph()
    assert MODEL.reason(graph, x, graph.everything) == (5, 4, 0)


def test_a_reader_outside_the_group_is_no_reason() -> None:
    graph = two_wide_convs()
    assert MODEL.reason(graph, 1, 0b01) is None


def test_models_with_equal_switches_are_equal() -> None:
    assert LineBuffer(prefetch_rows=1) == LineBuffer(prefetch_rows=1) != LineBuffer()


def test_the_order_of_a_schedule_is_upstream_first() -> None:
    graph = excited_block()
    assert planned(graph, graph.everything).schedule.order == tuple(bits(graph.everything))
