"""Each known fault of the published Optimus model, shown on a network where it bites."""

from __future__ import annotations

import pytest

from fusecut.errors import GraphError
from fusecut.ir import mask_of
from fusecut.models._optimus_groups import Streamed
from fusecut.models._optimus_layers import Layer, network_of
from fusecut.models._optimus_loops import all_in_channels, weight_stationary
from fusecut.models._optimus_tiles import order_of, passes, reported, whole
from fusecut.models.optimus import PublishedGroup, PublishedModel
from fusecut.reproduce.optimus import published
from fusecut.reproduce.optimus_nets import network
from fusecut.search.optimus import offline
from fusecut.testing import Net

CAPACITY = 65536


def group_of(name: str, *ops: str, buffer_bytes: int = 131072, batch: int = 1) -> tuple[PublishedGroup, Streamed]:
    graph = network(name, batch)
    return fused(PublishedModel.of(graph, buffer_bytes), tuple(graph.op_index[op] for op in ops))


def fused(model: PublishedModel, ops: tuple[int, ...]) -> tuple[PublishedGroup, Streamed]:
    group = model.group(ops)
    assert group is not None and isinstance(group.schedule, Streamed)
    return group, group.schedule


def layer_of(name: str, op: str, batch: int = 1) -> Layer:
    return next(layer for layer in network_of(network(name, batch)).layers if layer.name == op)


def test_streaming_weights_have_no_space_in_the_buffer() -> None:
    _, s = group_of("vggnet", "conv1", "conv2", "pool1")
    slice_elements = 64 * 32 * 9
    assert not s.fits and s.residency.first + slice_elements > CAPACITY


def test_operands_of_a_concat_from_outside_have_no_space_in_the_buffer() -> None:
    _, s = group_of("squeezenet", "fire9_expand3x3", "fire9_concat", "conv10", "pool10")
    outside = layer_of("squeezenet", "fire9_expand1x1").output_elements
    assert s.residency.first <= CAPACITY < s.residency.first + outside


def test_weights_with_whole_channel_loops_are_reported_once_though_tiles_repeat_them() -> None:
    net = Net()
    net.conv(net.conv(net.conv(net.input(32, 64, 64), 32), 512), 32)
    group, s = fused(PublishedModel.of(net.graph()), (0, 1))
    assert not s.fits and s.tiles > 1
    assert s.weight_passes(0) == 1
    assert group.dram.weights < s.tiles * s.weights


def test_reported_passes_are_fractions_of_the_tiles_that_run() -> None:
    ops = ("fire4_expand1x1", "fire4_expand3x3", "fire4_concat", "pool4", "fire5_squeeze1x1")
    _, s = group_of("squeezenet", *ops)
    assert s.tiles == 7
    assert [s.weight_passes(v) for v in s.convolutions] == pytest.approx([55 / 9, 55 / 9, 27 / 4])


def test_halo_rows_are_neither_read_nor_computed_again() -> None:
    ops = ("fire4_expand1x1", "fire4_expand3x3", "fire4_concat", "pool4", "fire5_squeeze1x1")
    group, s = group_of("squeezenet", *ops)
    first = s.convolutions[0]
    assert s.tiles * s.tile_rows[first] > s.network.layers[first].rows
    assert group.dram.inputs == layer_of("squeezenet", "fire4_squeeze1x1").output_elements


def test_pools_and_depthwise_convolutions_alone_move_nothing() -> None:
    for name, op in (("vggnet", "pool1"), ("mobilenet", "conv2_dw"), ("resnet18", "conv2_0_res")):
        graph = network(name)
        group = PublishedModel.of(graph).group((graph.op_index[op],))
        assert group is not None and (group.dram.total, group.energy_pj) == (0, 0)


def test_a_depthwise_convolution_has_neither_weights_nor_macs() -> None:
    layer = layer_of("mobilenet", "conv2_dw")
    assert (layer.weight_elements, layer.macs) == (0, 0)


def test_a_pool_may_not_start_a_fused_group() -> None:
    graph = network("resnet18")
    assert PublishedModel.of(graph).price((graph.op_index["pool1"], graph.op_index["conv2_0_a"])) is None


def test_the_input_of_a_lone_convolution_is_guessed_from_its_output() -> None:
    assert layer_of("alexnet", "conv1_a").input_elements == 3 * 55 * 55 * 16 < 3 * 227 * 227


def test_alexnet_has_a_plan_in_two_bytes() -> None:
    assert published(network("alexnet"), 2).dram_bytes > 0


def test_a_tile_may_exceed_the_buffer_by_rounding() -> None:
    schedule = all_in_channels(layer_of("squeezenet", "fire2_expand1x1"), CAPACITY)
    assert schedule is not None
    t = schedule.tile
    assert t.k * t.c + t.k * t.area + t.c * t.area > CAPACITY


def test_reported_traffic_of_a_layer_may_be_half_of_what_its_schedule_charges() -> None:
    layer = layer_of("vggnet", "conv1", batch=4)
    schedule = weight_stationary(layer, 32768)
    assert schedule is not None
    extent = whole(layer)
    order = order_of(schedule.tile, extent, schedule.innermost)
    assert 1.9 * reported(layer, passes(extent, schedule.tile, extent, order)).total < schedule.elements


def test_a_tile_may_hold_more_images_than_there_are() -> None:
    net = Net()
    net.conv(net.conv(net.input(8, 8, 8), 8), 8)
    _, s = fused(PublishedModel.of(net.graph()), (0, 1))
    assert s.images > s.network.batch == 1


def test_behind_a_full_and_a_part_branch_all_channels_are_believed_to_be_there() -> None:
    net = Net()
    x = net.input(16, 32, 32)
    inner = net.conv(x, 64, name="part")
    joined = net.add(net.conv(inner, 64, name="full"), net.conv(x, 64, 1, name="branch"), name="sum")
    net.conv(joined, 256, name="reader")
    graph = net.graph()
    _, s = fused(PublishedModel.of(graph), tuple(range(len(graph))))
    index = graph.op_index
    assert {graph.ops[v].name for v in s.residency.full} == {"full", "sum"}
    assert s.tile(index["branch"]).k == 32 < s.tile(index["reader"]).c == 64


def test_the_price_depends_on_the_order_in_which_layers_were_taken() -> None:
    net = Net()
    x = net.input(16, 32, 32)
    parts = [net.conv(x, 64, kernel) for kernel in (1, 3)]
    net.conv(net.concat(*parts), 16, 1)
    model = PublishedModel.of(net.graph(), 65536)
    held = [fused(model, ops)[1].residency.first for ops in ((0, 1, 2, 3), (1, 0, 2, 3))]
    assert held[0] != held[1]


def test_a_group_may_fall_apart() -> None:
    graph = network("alexnet")
    groups = [mask_of(graph.op_index[op] for op in g.ops) for g in published(graph).groups]
    assert not all(graph.is_connected(group) for group in groups)


def test_the_search_misses_plans_whose_groups_only_run_once_they_are_large() -> None:
    net = Net()
    net.conv(net.conv(net.input(8, 8, 8), 8), 8)
    prices = {(0, 1): 5, (1,): 1}
    assert offline(net.graph(), prices.get) is None


def test_squeeze_excite_is_refused() -> None:
    net = Net("se")
    net.squeeze_excite(net.conv(net.input(8, 8, 8), 8), 2)
    with pytest.raises(GraphError, match=r"op 'elementwise4' \(elementwise\) of 'se' does not exist in the published"):
        PublishedModel.of(net.graph())
