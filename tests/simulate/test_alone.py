"""One op alone: the walked loop nest moves and holds what the layerwise model says."""

from __future__ import annotations

import pytest

from fusecut.cost import Infeasible, Planned
from fusecut.errors import SimulationError
from fusecut.ir import AttrValue, Graph, Op, Tensor
from fusecut.machine import Machine
from fusecut.models import Layerwise
from fusecut.schedule import Schedule, Tile
from fusecut.simulate import execute
from fusecut.simulate.alone import execution
from fusecut.simulate.tiles import Nest, run_nest
from fusecut.testing import Net
from fusecut.zoo import load

NETWORKS = ("vgg16", "mobilenet_v3_small", "vit_tiny_patch16_224", "densenet121", "shufflenet_v2_x1_0")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_op_of_a_network_alone(name: str) -> None:
    plain = load(name)
    seen: set[str] = set()
    for kib, bits in ((24, 8), (200, 8), (600, 16)):
        machine = Machine(kib * 1024, activation_bits=bits)
        graph = plain.with_bits(bits, 8, 32)
        for i, op in enumerate(graph.ops):
            planned = Layerwise().plan(graph, 1 << i, machine)
            if not isinstance(planned, Planned) or _known(graph, op, planned.schedule, seen):
                continue
            if _slow(graph, op, planned):
                continue
            simulation, _ = execute(graph, machine, [planned], given=op.inputs)
            assert simulation.agrees, f"{op.name}: {simulation.groups[0].differences()} {planned.schedule.tile}"


def _known(graph: Graph, op: Op, schedule: Schedule, seen: set[str]) -> bool:
    """Whether an equal layer ran before."""
    shapes = [graph.tensors[t].shape for t in (*op.inputs, *op.outputs)]
    bits = graph.tensors[op.inputs[0]].bits
    key = f"{op.kind} {shapes} {bits} {dict(op.attrs)} {op.weight_elements} {op.bias_elements} {schedule.tile}"
    known = key in seen
    seen.add(key)
    return known


def _slow(graph: Graph, op: Op, planned: Planned) -> bool:
    """Positions one by one over a large map: right, but a million iterations."""
    tile = planned.schedule.tile
    made = graph.tensors[op.outputs[0]]
    if tile is None:
        return False
    return made.rows * made.cols * made.channels > 20_000 * tile.rows * tile.cols * tile.out_channels


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions_at_every_buffer_that_changes_something(kernel: int, stride: int, batch: int) -> None:
    net = Net(batch=batch)
    x = net.input(6, 9, 7)
    graph = net.graph(net.conv(x, 4, kernel, stride, groups=2, biases=True))
    capacity = 20
    while capacity < 4000:
        machine = Machine(capacity)
        planned = Layerwise().plan(graph, 1, machine)
        if isinstance(planned, Planned):
            assert execute(graph, machine, [planned])[0].agrees, planned.schedule.tile
        capacity += max(1, capacity // 6)


def nest(outs: int = 4, ins: int = 4, rows: int = 4) -> Nest:
    """A 3x3 convolution without columns, so that numbers can be checked by hand."""
    windows = tuple((max(0, q - 1), min(rows, q + 2)) for q in range(rows))
    return Nest(1, outs, ins, 1, windows, ((0, 1),), 3, 32, 8, 8, 8, 32)


def test_an_operand_is_loaded_again_only_where_a_loop_it_does_not_depend_on_is_outside() -> None:
    count = run_nest(nest(), Tile(2, 4, 1, 4, 1, "gkcs"))
    assert (count.inputs_again, count.weights_again, count.sums) == (0, 0, 0)
    count = run_nest(nest(), Tile(2, 2, 1, 4, 1, "gkcs"))
    assert (count.inputs_again, count.weights_again, count.sums) == (16, 0, 0)
    count = run_nest(nest(), Tile(2, 4, 1, 2, 1, "gskc"))
    assert (count.inputs_again, count.weights_again, count.constants_again) == (0, 48, 4)
    count = run_nest(nest(), Tile(4, 2, 1, 2, 1, "gcks"))
    assert (count.inputs_again, count.sums) == (0, 16)


def test_halo_rows_stay_unless_other_channels_come_between() -> None:
    assert run_nest(nest(), Tile(4, 4, 1, 1, 1, "gkcs")).inputs_again == 0
    assert run_nest(nest(), Tile(4, 2, 1, 1, 1, "gksc")).inputs_again == 4 * (10 - 4)


def test_an_op_alone_needs_its_operands_in_dram() -> None:
    net = Net()
    graph = net.graph(net.conv(net.conv(net.input(2, 4, 4), 2), 2))
    planned = Layerwise().plan(graph, 2, Machine(1000))
    assert isinstance(planned, Planned)
    with pytest.raises(SimulationError, match="group 0, op 'conv1': 't1' is not in DRAM: no group before this one"):
        execute(graph, Machine(1000), [planned])


def test_a_group_of_two_ops_cannot_run_as_one_loop_nest() -> None:
    net = Net()
    graph = net.graph(net.conv(net.conv(net.input(2, 4, 4), 2), 2))
    schedule = Schedule("layerwise", 3, (0, 1))
    planned = Layerwise().plan(graph, 1, Machine(1000))
    assert isinstance(planned, Planned)
    with pytest.raises(SimulationError, match="runs one op at a time, not 2"):
        execute(graph, Machine(1000), [Planned(schedule, planned.cost)])


def test_operands_broadcast_along_axes_that_do_not_nest_are_held_whole() -> None:
    tensors = (Tensor("a", (1, 4, 5, 1)), Tensor("b", (1, 4, 1, 6)), Tensor("y", (1, 4, 5, 6)))
    graph = Graph("g", tensors, (Op("add", "elementwise", (0, 1), (2,)),), (0, 1), (2,))
    planned = Layerwise().plan(graph, 1, Machine(1000))
    assert isinstance(planned, Planned)
    held = execution(graph, graph.ops[0], planned.schedule).held
    assert sum(held.values()) == planned.cost.buffer_bytes == 6 + 6 + 20


def _attention(heads: int, rows: int, features: int, constants: int) -> Graph:
    """Scores of every head and a mask added to them."""
    shapes = [(heads, rows, features), (heads, features, rows), (heads, rows, rows)]
    tensors = tuple(Tensor(f"t{i}", (a, c, b, 1), dims=(a, b, c)) for i, (a, b, c) in enumerate(shapes))
    macs = heads * rows * rows * features
    op = Op("product", "matmul", (0, 1), (2,), weight_elements=constants, macs=macs)
    return Graph("g", tensors, (op,), (0, 1), (2,))


@pytest.mark.parametrize(("heads", "constants"), [(1, 100), (4, 100), (4, 400), (3, 7), (3, 0)])
def test_constants_folded_into_a_product_are_read_whatever_the_buffer(heads: int, constants: int) -> None:
    graph = _attention(heads, 10, 6, constants)
    least, moved = graph.touch_once_bytes(1), 2**60
    for capacity in range(15, 500, 7):
        planned = Layerwise().plan(graph, 1, Machine(capacity))
        if isinstance(planned, Planned):
            assert execute(graph, Machine(capacity), [planned])[0].agrees, planned
            assert least <= planned.cost.dram_bytes <= moved
            assert planned.cost.weight_bytes >= constants
            moved = planned.cost.dram_bytes
    assert moved == least


def test_a_convolution_whose_columns_are_among_its_channels_is_tiled_by_channels_of_the_file() -> None:
    """72 channels here are 12 channels of 6 columns in the file."""
    attrs: dict[str, AttrValue] = {"kernel": (3, 13), "pads": (1, 6, 1, 6), "spatial_kernel": (3, 3), "in_channels": 12}
    op = Op("conv", "conv", (0,), (1,), attrs, weight_elements=16 * 12 * 9, bias_elements=16)
    graph = Graph("g", (Tensor("x", (1, 72, 6, 1)), Tensor("y", (1, 16, 6, 6))), (op,), (0,), (1,))
    least, moved = 432 + 576 + 1728 + 64, 2**60
    for capacity in range(60, 2600, 90):
        planned = Layerwise().plan(graph, 1, Machine(capacity))
        assert isinstance(planned, Planned), capacity
        assert execute(graph, Machine(capacity), [planned])[0].agrees, planned
        assert planned.schedule.tile is not None and planned.schedule.tile.in_channels <= 12
        assert least <= planned.cost.dram_bytes <= moved
        moved = planned.cost.dram_bytes
    assert moved == least


def test_a_convolution_of_fewer_weights_than_its_channels_say_is_held_whole() -> None:
    op = Op("conv", "conv", (0,), (1,), {"kernel": (1, 1)}, weight_elements=12 * 16)
    graph = Graph("g", (Tensor("x", (1, 24, 6, 1)), Tensor("y", (1, 16, 6, 1))), (op,), (0,), (1,))
    need = 144 + 96 + 192
    assert isinstance(Layerwise().plan(graph, 1, Machine(need - 1)), Infeasible)
    planned = Layerwise().plan(graph, 1, Machine(need))
    assert isinstance(planned, Planned)
    assert execute(graph, Machine(need), [planned])[0].agrees
