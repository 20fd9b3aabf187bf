"""The layerwise model against an interpreter that walks the loops tile by tile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import pytest
from loop_walk import Walk
from one_op import HUGE, ORDERS, Spec, cost, floor, layer_of, plan, refusal, seeded, smallest_buffer

from fusecut.models import _tiling
from fusecut.schedule import Tile


def random_spec(rng: random.Random, most: int = 4, side: int = 6, images: int = 3) -> Spec:
    """Small convolutions of every sort; windows larger than the map included."""
    groups = rng.choice([1, 1, 1, 2, 3])
    while True:
        spec = Spec(
            c=groups * rng.randint(1, max(1, most // groups)),
            k=groups * rng.randint(1, max(1, most // groups)),
            high=rng.randint(1, side),
            wide=rng.randint(1, side),
            kernel=(rng.randint(1, 4), rng.randint(1, 3)),
            stride=(rng.randint(1, 3), rng.randint(1, 2)),
            dilation=(rng.randint(1, 2), rng.randint(1, 2)),
            pads=tuple(rng.randint(0, 2) for _ in range(4)),  # type: ignore[arg-type]
            groups=groups,
            images=rng.randint(1, images),
            transposed=rng.random() < 0.3,
            bias=rng.random() < 0.7,
            widths=rng.choice([(8, 8, 32), (8, 8, 32), (16, 8, 32), (4, 2, 16), (8, 4, 8)]),
        )
        if 1 <= spec.out(0) <= side and 1 <= spec.out(1) <= side:
            return spec


def all_tiles(spec: Spec) -> Iterator[Tile]:
    """Every integer tile in every order; beyond one image, whole images."""
    high = spec.out(0)
    rows = [*range(1, high + 1), *(n * high for n in range(2, spec.images + 1))]
    ks, cs = (range(1, n // spec.groups + 1) for n in (spec.k, spec.c))
    for k, c, h, w, order in product(ks, cs, rows, range(1, spec.out(1) + 1), ORDERS):
        yield Tile(k, c, 1, h, w, "g" + order)


def spec_with(rng: random.Random, fewest: int, most: int, side: int) -> Spec:
    """A random convolution with so many tiles and orders."""
    while True:
        spec = random_spec(rng, most=6, side=side)
        if fewest <= spec.k * spec.c // spec.groups**2 * (spec.out(0) + spec.images - 1) * spec.out(1) * 6 <= most:
            return spec


@pytest.mark.parametrize("seed", range(150))
def test_traffic_and_footprint_of_any_tile_and_order_equal_those_of_walking_it(seed: int) -> None:
    rng = seeded(seed)
    spec = random_spec(rng)
    tiles = list(all_tiles(spec))
    for tile in rng.sample(tiles, min(12, len(tiles))):
        choice = _tiling.price(layer_of(spec), tile)
        assert (choice.read_bytes, choice.write_bytes, choice.buffer_bytes) == Walk(spec, tile).bytes(), (spec, tile)


@pytest.mark.parametrize("seed", range(16))
def test_the_minimum_equals_walking_every_integer_tile_in_every_order(seed: int) -> None:
    rng = seeded(1000 + seed)
    spec = spec_with(rng, 300, 1200, side=5)
    walked = [Walk(spec, tile).bytes() for tile in all_tiles(spec)]
    for buffer in sorted({peak for *_, peak in walked})[:: 1 + len({p for *_, p in walked}) // 12]:
        fewest = min(read + written for read, written, peak in walked if peak <= buffer)
        assert cost(spec.graph(), buffer).dram_bytes == fewest, (spec, buffer)


@pytest.mark.parametrize("seed", range(40))
def test_the_minimum_equals_pricing_every_integer_tile_of_larger_ops(seed: int) -> None:
    rng = seeded(2000 + seed)
    spec = spec_with(rng, 1500, 9000, side=8)
    layer = layer_of(spec)
    priced = [_tiling.price(layer, tile) for tile in all_tiles(spec)]
    high = [choice.buffer_bytes for choice in priced]
    for buffer in rng.sample(sorted(set(high)), min(8, len(set(high)))):
        fitting = [choice for choice in priced if choice.buffer_bytes <= buffer]
        fewest = min(choice.dram_bytes for choice in fitting)
        assert cost(spec.graph(), buffer).dram_bytes == fewest, (spec, buffer)


@pytest.mark.parametrize("seed", range(40))
def test_ties_go_to_full_width_and_then_to_the_smallest_buffer(seed: int) -> None:
    rng = seeded(3000 + seed)
    spec = spec_with(rng, 500, 2500, side=6)
    while not Walk(spec, Tile(1, 1, 1, 1, 1, "gksc")).inputs:  # sees nothing but padding
        spec = spec_with(rng, 500, 2500, side=6)
    layer = layer_of(spec)
    priced = [_tiling.price(layer, tile) for tile in all_tiles(spec)]
    buffer = rng.choice([choice.buffer_bytes for choice in priced])
    fitting = [c for c in priced if c.buffer_bytes <= buffer]
    ranked = min((c.dram_bytes, c.tile is not None and c.tile.cols < spec.out(1), c.buffer_bytes) for c in fitting)
    schedule, found = plan(spec.graph(), buffer)
    assert schedule.tile is not None
    assert (found.dram_bytes, schedule.tile.cols < spec.out(1), found.buffer_bytes) == ranked


@pytest.mark.parametrize("seed", range(30))
def test_the_smallest_tile_is_the_demand_of_a_refusal(seed: int) -> None:
    spec = random_spec(seeded(4000 + seed))
    smallest = min(_tiling.price(layer_of(spec), tile).buffer_bytes for tile in all_tiles(spec))
    assert refusal(spec.graph(), smallest - 1).demand == smallest if smallest > 1 else True
    assert cost(spec.graph(), smallest).buffer_bytes == smallest


@pytest.mark.parametrize("seed", range(30))
def test_the_planned_tile_costs_what_walking_it_costs(seed: int) -> None:
    rng = seeded(5000 + seed)
    spec = random_spec(rng)
    schedule, found = plan(spec.graph(), smallest_buffer(spec.graph()) + rng.randint(0, 200))
    assert schedule.tile is not None
    assert (found.read_bytes, found.write_bytes, found.buffer_bytes) == Walk(spec, schedule.tile).bytes()


@pytest.mark.parametrize("seed", range(20))
def test_a_larger_buffer_never_costs_more(seed: int) -> None:
    spec = random_spec(seeded(6000 + seed), most=6, side=6)
    start = smallest_buffer(spec.graph())
    bytes_moved = [cost(spec.graph(), start + step).dram_bytes for step in range(0, 240, 4)]
    assert bytes_moved == sorted(bytes_moved, reverse=True)


@pytest.mark.parametrize("seed", range(20))
def test_the_price_is_never_below_touching_everything_once(seed: int) -> None:
    graph = random_spec(seeded(7000 + seed)).graph()
    start = smallest_buffer(graph)
    assert all(cost(graph, start + step).dram_bytes >= floor(graph) for step in range(0, 100, 9))


@pytest.mark.parametrize("seed", range(20))
def test_a_huge_buffer_touches_everything_once(seed: int) -> None:
    graph = random_spec(seeded(8000 + seed)).graph()
    assert cost(graph, HUGE).dram_bytes == floor(graph)
