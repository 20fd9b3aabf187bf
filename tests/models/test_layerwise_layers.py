"""Convolutions, linear layers and products alone: by hand, against brute force, and of real networks."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from one_op import HUGE, ORDERS, Spec, cost, floor, layer_of, one, plan, refusal, square

from fusecut.ir import Graph
from fusecut.models import _tiling
from fusecut.schedule import Tile

# By hand -------------------------------------------------------------------------------------------

BY_HAND = Spec(c=2, k=2, high=4, wide=1, kernel=(3, 1), pads=(1, 0, 1, 0))
"""8 B in, 12 B of weights, 8 B of biases, 8 B out; two rows a tile need 3 + 3 rows, 4 with the halo kept."""


@pytest.mark.parametrize(
    ("order", "read", "written"),
    [
        ("kcs", 2 * 8 + 12 + 8 + 32, 8 + 32),  # inputs for each k; sums out and back between two c
        ("cks", 2 * 8 + 12 + 8 + 32, 8 + 32),  # the same: c outside s keeps the halo, k between does not matter
        ("ksc", 2 * 12 + 2 * 12 + 8, 8),  # sums stay; inputs with halo for each k, weights for each s
        ("skc", 2 * 12 + 2 * 12 + 16, 8),  # biases for each s as well
        ("csk", 8 + 2 * 12 + 16 + 32, 8 + 32),  # inputs once, halo kept
        ("sck", 12 + 2 * 12 + 16 + 32, 8 + 32),  # the other channel comes between: halo read again
    ],
)
def test_each_loop_order_moves_what_a_person_computes(order: str, read: int, written: int) -> None:
    choice = _tiling.price(layer_of(BY_HAND), Tile(1, 1, 1, 2, 1, "g" + order))
    assert (choice.read_bytes, choice.write_bytes) == (read, written)


def test_a_tile_holds_what_a_person_computes() -> None:
    choice = _tiling.price(layer_of(BY_HAND), Tile(1, 1, 1, 2, 1, "gkcs"))
    assert choice.buffer_bytes == 3 + 3 + 4 + 2 * 4  # rows, weights, bias, two partial sums


def test_outputs_have_activation_width_when_all_input_channels_are_in_the_tile() -> None:
    choice = _tiling.price(layer_of(BY_HAND), Tile(1, 2, 1, 2, 1, "gkcs"))
    assert choice.buffer_bytes == 6 + 6 + 4 + 2


def test_of_several_tiles_with_equally_many_trips_the_smallest_is_not_always_the_best() -> None:
    sizes = [c.size for c in _tiling.cuts(layer_of(Spec(1, 1, 10, 10, (5, 5), pads=(2,) * 4)).rows) if c.trips == 2]
    assert len(sizes) > 1 and sizes[0] == 5


# Real layers ---------------------------------------------------------------------------------------


def axis_cuts(spec: Spec, axis: int) -> list[tuple[int, int, int, int]]:
    """(size, most needed at once, tiles, needed by all tiles) of every integer size."""
    found, outs = [], spec.out(axis)
    needs = [spec.needs(axis, q) for q in range(outs)]
    for size in range(1, outs + 1):
        tiles = [len(set().union(*needs[a : a + size])) for a in range(0, outs, size)]
        found.append((size, max(tiles), len(tiles), sum(tiles)))
    return found


def brute_minimum(spec: Spec, buffer: int) -> int:
    """Every row and column tile, every number of trips of k and c, all orders; one image and group, 8 and 32 bits.

    An operand is loaded once per iteration of the loops from the outermost down to the innermost
    one of several trips on which it depends.
    """
    k, c = (np.array(sorted({-(-n // trips) for trips in range(1, n + 1)})) for n in (spec.k, spec.c))
    k, c = (x.ravel() for x in np.meshgrid(k, c))
    trips = {"k": -(-spec.k // k), "c": -(-spec.c // c)}
    taps, area = spec.kernel[0] * spec.kernel[1], spec.out(0) * spec.out(1)
    rows, cols = axis_cuts(spec, 0), axis_cuts(spec, 1)
    fewest = HUGE
    for (h, tall, nh, high), (w, broad, nw, wide) in product(rows, cols):
        need = c * tall * broad + k * c * taps + 4 * k + np.where(trips["c"] > 1, 4, 1) * k * h * w
        if not (need <= buffer).any():
            continue
        for order in ORDERS:
            n = {**trips, "s": np.full_like(k, nh * nw)}
            halo = (n["c"] > 1) & (order.index("s") < order.index("c"))
            inputs = loads(order, "cs", n) // (n["c"] * n["s"]) * spec.c * np.where(halo, high, rows[-1][3]) * wide
            weights = loads(order, "kc", n) // (n["k"] * n["c"]) * spec.c * spec.k * taps
            biases = loads(order.replace("c", ""), "k", n) // n["k"] * 4 * spec.k
            visits = loads(order, "ks", n) // (n["k"] * n["s"])
            moved = inputs + weights + biases + (8 * (visits - 1) + 1) * spec.k * area
            fewest = min(fewest, int(moved[need <= buffer].min()))
    return fewest


def loads(order: str, operand: str, trips: dict[str, np.ndarray]) -> np.ndarray:
    done, running = np.ones_like(trips["k"]), np.ones_like(trips["k"])
    for loop in order:
        running = running * trips[loop]
        done = np.where((trips[loop] > 1) & (loop in operand), running, done)
    return done


VGG16 = [
    (3, 64, 224, 3_363_776),
    (64, 64, 224, 6_459_648),
    (64, 128, 112, 2_482_688),
    (128, 128, 112, 4_964_864),
    (128, 256, 56, 2_302_976),
    (256, 256, 56, 6_124_544),
    (256, 512, 28, 2_965_504),
    (512, 512, 28, 7_981_056),
    (512, 512, 14, 2_562_048),
]
"""(input channels, output channels, side, DRAM bytes at 128 KiB): 3x3, int8, biases of 32 bits."""


@pytest.mark.parametrize(("c", "k", "side", "dram_bytes"), VGG16)
def test_vgg16_convolutions_at_128_kib_cost_what_brute_force_found(c: int, k: int, side: int, dram_bytes: int) -> None:
    assert cost(square(c, k, side).graph(), 128 * 1024).dram_bytes == dram_bytes


@pytest.mark.parametrize(("c", "k", "side"), [(256, 512, 28), (512, 512, 28), (128, 256, 56)])
@pytest.mark.parametrize("buffer", [16 * 1024, 128 * 1024])
def test_vgg16_layers_that_do_not_fit_equal_brute_force(c: int, k: int, side: int, buffer: int) -> None:
    assert cost(square(c, k, side).graph(), buffer).dram_bytes == brute_minimum(square(c, k, side), buffer)


def linear(features: int, results: int, images: int = 1) -> Graph:
    shapes: list[tuple[int, ...]] = [(images, features), (images, results)]
    return one("linear", shapes, weights=features * results, biases=results, in_features=features)


@pytest.mark.parametrize(("features", "results"), [(25088, 4096), (4096, 4096), (4096, 1000)])
def test_vgg16_fully_connected_layers_are_read_once_within_128_kib(features: int, results: int) -> None:
    graph = linear(features, results)
    assert cost(graph, 128 * 1024).dram_bytes == floor(graph)


def test_a_fully_connected_layer_equals_the_brute_force_of_a_pointwise_convolution() -> None:
    graph, spec = linear(2000, 1000), Spec(2000, 1000, 1, 1)
    assert [cost(graph, b).dram_bytes for b in (64, 500, 4000)] == [brute_minimum(spec, b) for b in (64, 500, 4000)]


def test_a_fully_connected_layer_on_a_map_reads_the_map_as_one_vector() -> None:
    shapes: list[tuple[int, ...]] = [(1, 512, 7, 7), (1, 4096)]
    graph = one("linear", shapes, weights=25088 * 4096, biases=4096, flatten=True)
    assert cost(graph, 8192) == cost(linear(25088, 4096), 8192)


# Special convolutions -----------------------------------------------------------------------------


def test_a_depthwise_convolution_needs_the_window_of_one_channel() -> None:
    found = plan(square(96, 96, 112, groups=96).graph(), 1024)
    assert found.cost.buffer_bytes == 3 * 112 + 9 + 4 + 112


def test_a_grouped_convolution_costs_as_much_as_its_groups_apart() -> None:
    whole, part = square(64, 64, 14, groups=4).graph(), square(16, 16, 14).graph()
    assert [cost(whole, b).dram_bytes for b in (300, 700, 9000)] == [
        4 * cost(part, b).dram_bytes for b in (300, 700, 9000)
    ]


def test_weights_are_shared_by_the_images_of_a_batch() -> None:
    single, batch = square(8, 8, 14).graph(), square(8, 8, 14, images=4).graph()
    assert cost(batch, 4096).dram_bytes == 4 * cost(single, 4096).dram_bytes - 3 * single.ops[0].weight_bytes


def test_a_tile_may_span_images() -> None:
    tile = plan(linear(1000, 1000, images=64), 16 * 1024).schedule.tile
    assert tile is not None and tile.rows > 1


def test_rows_that_no_output_needs_are_read_once_like_every_tensor() -> None:
    spec = Spec(4, 4, 8, 8, stride=(2, 2))
    assert cost(spec.graph(), HUGE).read_bytes == 4 * 64 + 16 + 16


def test_rows_that_no_output_needs_are_not_read_again() -> None:
    choice = _tiling.price(layer_of(Spec(4, 4, 8, 8, stride=(2, 2), bias=False)), Tile(2, 4, 1, 1, 4, "gksc"))
    assert choice.read_bytes == 4 * 64 + 4 * 16 + 16


def test_strips_are_used_only_where_they_save_bytes() -> None:
    tile = plan(square(16, 16, 28).graph(), 64 * 1024).schedule.tile
    assert tile is not None and tile.cols == 28


def test_slopes_folded_into_a_convolution_are_held_beside_its_weights() -> None:
    graph = square(16, 16, 14).graph()
    sloped = replace(graph, ops=(replace(graph.ops[0], weight_elements=graph.ops[0].weight_elements + 16),))
    assert cost(sloped, HUGE).buffer_bytes == cost(graph, HUGE).buffer_bytes + 16


def test_a_convolution_with_computed_weights_is_held_whole() -> None:
    shapes: list[tuple[int, ...]] = [(1, 2, 4, 4), (2, 2, 1, 1), (1, 2, 4, 4)]
    assert cost(one("conv", shapes, kernel=(1, 1)), 1000).buffer_bytes == 32 + 4 + 32


def test_dense_layers_of_4_kib_maps_stay_exact_in_16_bits() -> None:
    spec = Spec(8, 8, 6, 6, (3, 3), pads=(1,) * 4, widths=(16, 8, 32))
    assert cost(spec.graph(), HUGE).dram_bytes == 2 * (8 * 36 * 2) + 9 * 64 + 32


# Products of two activations ----------------------------------------------------------------------


def heads(h: int, m: int, f: int, n: int) -> Graph:
    shapes: list[tuple[int, ...]] = [(1, h, m, f), (1, h, f, n), (1, h, m, n)]
    return one("matmul", shapes, macs=h * m * f * n, row_operand=0)


def test_attention_heads_are_independent_products() -> None:
    assert cost(heads(3, 197, 64, 197), 4096).dram_bytes == 3 * cost(heads(1, 197, 64, 197), 4096).dram_bytes


def test_a_product_costs_as_much_as_a_linear_layer_with_such_weights() -> None:
    product_cost = cost(heads(1, 50, 64, 70), 900)
    shapes: list[tuple[int, ...]] = [(50, 64), (50, 70)]
    assert product_cost.dram_bytes == cost(one("linear", shapes, weights=64 * 70), 900).dram_bytes


def test_a_product_whose_axes_lie_otherwise_costs_the_same() -> None:
    shapes: list[tuple[int, ...]] = [(1, 2, 50, 64), (1, 2, 70, 64), (1, 2, 50, 70)]
    graph = one("matmul", shapes, macs=2 * 50 * 64 * 70, row_operand=0, product=(50, 70))
    assert cost(graph, 900).dram_bytes == cost(heads(2, 50, 64, 70), 900).dram_bytes


def test_a_product_of_activations_reads_no_weights() -> None:
    assert cost(heads(2, 30, 20, 30), 300).weight_bytes == 0


@pytest.mark.parametrize("shared", [0, 1])
def test_an_operand_without_batch_is_shared_by_the_batch(shared: int) -> None:
    shapes: list[tuple[int, ...]] = [(4, 10, 20), (4, 20, 30), (4, 10, 30)]
    shapes[shared] = shapes[shared][1:]
    graph = one("matmul", shapes, macs=4 * 10 * 20 * 30)
    assert cost(graph, 2000).dram_bytes == floor(graph)


def test_a_batch_broadcast_in_part_is_read_anew_for_every_product() -> None:
    shapes: list[tuple[int, ...]] = [(2, 3, 10, 20), (1, 3, 20, 10), (2, 3, 10, 10)]
    graph = one("matmul", shapes, macs=2 * 3 * 10 * 20 * 10)
    assert cost(graph, 400).dram_bytes == floor(graph) + 3 * 20 * 10


def test_a_product_of_a_tensor_with_itself_reads_it_once_if_it_fits() -> None:
    graph = one("matmul", [(10, 10), (10, 10)], macs=1000, inputs=(0, 0))
    assert cost(graph, 10_000).dram_bytes == floor(graph) == 200


def test_a_product_whose_sizes_do_not_match_is_held_whole() -> None:
    graph = one("matmul", [(3, 7), (5, 2), (3, 2)], macs=17)
    assert refusal(graph, 36).demand == 21 + 10 + 6
