"""The layerwise model against an interpreter that walks the loops tile by tile, and by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product
from types import MappingProxyType

import numpy as np
import pytest

from fusecut.cost import Cost, CostModel, Infeasible, Planned
from fusecut.ir import Graph, Op, Tensor, mask_of
from fusecut.machine import Machine
from fusecut.models import _tiling
from fusecut.models.layerwise import Layerwise
from fusecut.models.lbdf import LineBuffer
from fusecut.schedule import Tile

MODEL = Layerwise()
ORDERS = ["".join(p) for p in permutations("kcs")]
HUGE = 2**40


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


# Networks of one op ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """One convolution; ``transposed`` swaps the window rule, not the meaning of c and k."""

    c: int
    k: int
    high: int
    wide: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    images: int = 1
    transposed: bool = False
    bias: bool = True
    widths: tuple[int, int, int] = (8, 8, 32)

    def out(self, axis: int) -> int:
        size, reach = (self.high, self.wide)[axis], self.dilation[axis] * (self.kernel[axis] - 1) + 1
        padding = self.pads[axis] + self.pads[axis + 2]
        if self.transposed:
            return (size - 1) * self.stride[axis] + reach - padding
        return (size + padding - reach) // self.stride[axis] + 1

    def needs(self, axis: int, q: int) -> set[int]:
        """Operand rows (columns) within the window of output q, row by row."""
        size, reach = (self.high, self.wide)[axis], self.dilation[axis] * (self.kernel[axis] - 1)
        stride, pad = self.stride[axis], self.pads[axis]
        if self.transposed:
            return {i for i in range(size) if 0 <= q + pad - i * stride <= reach}
        return {i for i in range(size) if 0 <= i - (q * stride - pad) <= reach}

    def graph(self) -> Graph:
        activation, weight, sums = self.widths
        x = Tensor("x", (self.images, self.c, self.high, self.wide), activation)
        y = Tensor("y", (self.images, self.k, self.out(0), self.out(1)), activation)
        attrs = {"kernel": self.kernel, "strides": self.stride, "dilations": self.dilation, "pads": self.pads}
        weights = self.c * self.k // self.groups * self.kernel[0] * self.kernel[1]
        op = Op(
            name="op",
            kind="conv_transpose" if self.transposed else "conv",
            inputs=(0,),
            outputs=(1,),
            attrs=MappingProxyType({**attrs, "groups": self.groups}),
            weight_elements=weights,
            bias_elements=self.k if self.bias else 0,
            macs=weights * self.images * self.out(0) * self.out(1),
            weight_bits=weight,
            bias_bits=sums,
        )
        return Graph("one", (x, y), (op,), (0,), (1,))


def square(c: int, k: int, size: int, kernel: int = 3, **more: int) -> Spec:
    """A padded convolution of a square map."""
    pad = kernel // 2
    return Spec(c, k, size, size, (kernel, kernel), pads=(pad,) * 4, **more)  # type: ignore[arg-type]


def one(kind: str, shapes: list[tuple[int, ...]], *, weights: int = 0, biases: int = 0, macs: int = 0,
        inputs: tuple[int, ...] | None = None, **attrs: object) -> Graph:  # fmt: skip
    """A network of one op: the last shape is its result, the others its operands."""
    tensors = tuple(Tensor(f"t{i}", _canonical(s), dims=s) for i, s in enumerate(shapes))
    last = len(shapes) - 1
    read = tuple(range(last)) if inputs is None else inputs
    op = Op("op", kind, read, (last,), MappingProxyType(attrs), weights, biases, macs)  # type: ignore[arg-type]
    return Graph("one", tensors, (op,), tuple(range(last)), (last,))


def _canonical(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) == 2:
        return shape[0], shape[1], 1, 1
    if len(shape) == 3:
        return shape[0], shape[2], shape[1], 1
    return shape[0], shape[1], shape[2], shape[3]


def plan(graph: Graph, buffer: int) -> Planned:
    planned = MODEL.plan(graph, 1, Machine(buffer))
    assert isinstance(planned, Planned), str(planned)
    return planned


def cost(graph: Graph, buffer: int) -> Cost:
    return plan(graph, buffer).cost


def floor(graph: Graph) -> int:
    return graph.touch_once_bytes(1)


def refusal(graph: Graph, buffer: int) -> Infeasible:
    refused = MODEL.plan(graph, 1, Machine(buffer))
    assert isinstance(refused, Infeasible)
    return refused


def smallest_buffer(graph: Graph) -> int:
    refused = MODEL.plan(graph, 1, Machine(1))
    return refused.demand if isinstance(refused, Infeasible) else 1


# The judge: walk the loops, remember what is on chip, count what is loaded ------------------------


def pieces(extent: int, size: int) -> list[range]:
    return [range(a, min(a + size, extent)) for a in range(0, extent, size)]


@dataclass
class Walk:
    """Elements moved and the peak of bytes on chip, counted by running the loops of one tile."""

    spec: Spec
    tile: Tile

    def __post_init__(self) -> None:
        self.inputs = self.weights = self.biases = self.sums = self.spilled = self.outs = 0
        self.regions = [0, 0, 0, 0]
        self.touched: set[tuple[int, ...]] = set()
        for group in range(self.spec.groups):
            self.run_group(group)
        self.unneeded = self.spec.images * self.spec.c * self.spec.high * self.spec.wide - len(self.touched)

    def spaces(self) -> list[tuple[range, range, range]]:
        """Images, then column strips, then row tiles."""
        high, wide, tile = self.spec.out(0), self.spec.out(1), self.tile
        images, rows = max(1, tile.rows // high), min(tile.rows, high)
        return list(product(pieces(self.spec.images, images), pieces(wide, tile.cols), pieces(high, rows)))

    def run_group(self, group: int) -> None:
        spec, tile, spaces = self.spec, self.tile, self.spaces()
        ks = pieces(spec.k // spec.groups, tile.out_channels)
        cs = pieces(spec.c // spec.groups, tile.in_channels)
        trips = {"k": len(ks), "c": len(cs), "s": len(spaces)}
        state = _State()
        order = tile.order.lstrip("g")
        for indices in product(*(range(trips[loop]) for loop in order)):
            at = dict(zip(order, indices, strict=True))
            space = spaces[at["s"]]
            self.bring_inputs(state, at, group, cs[at["c"]], spaces)
            if state.weights != (at["k"], at["c"]):
                state.weights = (at["k"], at["c"])
                self.weights += len(ks[at["k"]]) * len(cs[at["c"]]) * spec.kernel[0] * spec.kernel[1]
            if at["c"] == 0 and state.biases != at["k"]:
                state.biases = at["k"]
                self.biases += len(ks[at["k"]]) if spec.bias else 0
            area = len(space[0]) * len(space[1]) * len(space[2]) * len(ks[at["k"]])
            self.bring_outputs(state, (at["k"], at["s"]), at["c"], area, trips["c"])
            self.note_peak(state, len(ks[at["k"]]), len(cs[at["c"]]), area, trips["c"] > 1)
        self.put_back(state, trips["c"])

    def bring_inputs(self, state: _State, at: dict[str, int], group: int, channels: range,
                     spaces: list[tuple[range, range, range]]) -> None:  # fmt: skip
        s, c = at["s"], at["c"]
        if state.inputs == (s, c):
            return
        images, cols, rows = spaces[s]
        offset = group * (self.spec.c // self.spec.groups)
        ys = set().union(*(self.spec.needs(0, q) for q in rows))
        xs = set().union(*(self.spec.needs(1, q) for q in cols))
        want: set[tuple[int, ...]] = {(n, offset + ch, y, x) for n in images for ch in channels for y in ys for x in xs}
        next_row = state.inputs == (s - 1, c) and s > 0 and spaces[s - 1][:2] == (images, cols)
        self.inputs += len(want - state.here if next_row else want)
        state.inputs, state.here = (s, c), want
        self.touched |= want

    def bring_outputs(self, state: _State, key: tuple[int, int], c: int, area: int, trips: int) -> None:
        if state.outputs != key:
            self.put_back(state, trips)
            state.outputs, state.area = key, area
            if state.seen.get(key):
                self.sums += area
        state.seen.setdefault(key, set()).add(c)

    def put_back(self, state: _State, trips: int) -> None:
        if state.outputs is None:
            return
        if len(state.seen[state.outputs]) == trips:
            self.outs += state.area
        else:
            self.spilled += state.area

    def note_peak(self, state: _State, k: int, c: int, area: int, split: bool) -> None:
        """Every operand has a region of its own, as large as its largest tile."""
        activation, weight, sums = self.spec.widths
        weights = k * c * self.spec.kernel[0] * self.spec.kernel[1]
        made = sums if split else activation
        held = (len(state.here), activation), (weights, weight), (k * self.spec.bias, sums), (area, made)
        for index, (elements, width) in enumerate(held):
            self.regions[index] = max(self.regions[index], -(-elements * width // 8))

    def bytes(self) -> tuple[int, int, int]:
        """(read, written, peak): every tensor once as a whole, everything beyond that packed."""
        activation, weight, sums = self.spec.widths
        graph = self.spec.graph()
        x, y = graph.tensors
        assert self.sums == self.spilled and self.outs == y.elements
        op = graph.ops[0]
        read = x.nbytes + -(-(self.inputs + self.unneeded - x.elements) * activation // 8)
        read += op.weight_bytes + -(-(self.weights - op.weight_elements) * weight // 8)
        read += -(-(self.biases - op.bias_elements) * sums // 8) + -(-self.sums * sums // 8)
        return read, y.nbytes + -(-self.spilled * sums // 8), sum(self.regions)


class _State:
    """What one group has on chip."""

    def __init__(self) -> None:
        self.inputs: tuple[int, int] | None = None
        self.here: set[tuple[int, ...]] = set()
        self.weights: tuple[int, int] | None = None
        self.biases: int | None = None
        self.outputs: tuple[int, int] | None = None
        self.area = 0
        self.seen: dict[tuple[int, int], set[int]] = {}


# The model against the judge -----------------------------------------------------------------------


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


def layer_of(spec: Spec) -> _tiling.Layer:
    """The layer the model searches, as the model itself builds it."""
    seen: list[_tiling.Layer] = []

    def look(layer: _tiling.Layer, capacity: int) -> _tiling.Shortage:
        seen.append(layer)
        return _tiling.Shortage(capacity + 1, "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusecut.models.layerwise.best", look)
        MODEL.plan(spec.graph(), 1, Machine(1))
    return seen[0]


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


# Ops without reuse across channels ----------------------------------------------------------------

MAP = (1, 8, 16, 16)
ONCE: dict[str, tuple[Graph, int]] = {
    "activation": (one("activation", [MAP, MAP]), 32),
    "identity": (one("identity", [MAP, MAP]), 32),
    "add": (one("elementwise", [MAP, MAP, MAP]), 48),
    "add of a tensor to itself": (one("elementwise", [MAP, MAP], inputs=(0, 0)), 32),
    "squeeze-excite": (one("elementwise", [MAP, (1, 8, 1, 1), MAP]), 33),
    "spatial attention": (one("elementwise", [MAP, (1, 1, 16, 16), MAP]), 48),
    "outer product": (one("elementwise", [(1, 8, 1, 1), (1, 1, 16, 16), MAP]), 40),
    "unknown broadcast": (one("elementwise", [MAP, (1, 2, 3, 4), MAP]), 24 + 32),
    "affine": (one("affine", [MAP, MAP], weights=8, biases=8), 32 + 1 + 4),
    "affine of every element": (one("affine", [MAP, MAP], weights=2048), 48),
    "affine of a broadcast operand": (one("affine", [(1, 8, 1, 1), MAP], weights=8), 1 + 16 + 8),
    "expand": (one("expand", [(1, 8, 1, 1), MAP]), 17),
    "concat": (one("concat", [MAP, MAP, (1, 16, 16, 16)]), 32),
    "slice": (one("slice", [MAP, (1, 8, 8, 16)], starts=(4, 0), steps=(1, 1)), 32),
    "transpose": (one("transpose", [MAP, (1, 16, 16, 8)]), 16),
    "barrier reshape": (one("reshape", [MAP, (1, 64, 8, 4)], barrier=True), 8),
    "depth to space": (one("depth_to_space", [MAP, (1, 2, 32, 32)]), 64),
    "zero pad": (one("pad", [MAP, (1, 8, 18, 18)], pads=(1, 1, 1, 1)), 36),
    "reflecting pad": (one("pad", [MAP, (1, 8, 18, 18)], pads=(1, 1, 1, 1), mode="reflect"), 2 * 16 + 18),
    "max pool": (one("pool", [MAP, (1, 8, 8, 8)], kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), 48 + 8),
    "global pool": (one("pool", [MAP, (1, 8, 1, 1)], kernel=(16, 16)), 1 + 4),
    "pool over rows": (one("pool", [MAP, (1, 8, 1, 14)], kernel=(16, 3)), 16 + 14 * 4),
    "nearest resize": (one("resize", [MAP, (1, 8, 32, 32)], coordinates="asymmetric"), 16 + 32),
    "linear resize": (one("resize", [MAP, (1, 8, 32, 32)], mode="linear"), 32 + 32),
    "global mean": (one("reduce", [MAP, (1, 8, 1, 1)]), 1 + 4),
    "mean of channels": (one("reduce", [MAP, (1, 1, 16, 16)]), 16 + 64),
    "softmax of tokens": (one("softmax", [(1, 5, 24), (1, 5, 24)]), 24 + 8 + 1),
    "softmax of columns": (one("softmax", [MAP, MAP]), 8 * 16 + 8 + 1),
    "softmax across rows": (one("softmax", [MAP, MAP], barrier=True), 2048 + 8 + 1),
    "layer norm": (one("normalise", [(1, 5, 24), (1, 5, 24)], weights=24, biases=24), 24 + 8 + 1 + 24 + 96),
    "opaque": (one("opaque", [MAP, MAP]), 0),
}
"""Ops and the bytes they hold, worked out by hand: a row of one channel, a window, a span."""


@pytest.mark.parametrize("name", ONCE)
def test_each_tensor_is_touched_once(name: str) -> None:
    assert cost(ONCE[name][0], 8192).dram_bytes == floor(ONCE[name][0])


@pytest.mark.parametrize("name", ONCE)
def test_the_buffer_holds_what_a_person_computes(name: str) -> None:
    assert cost(ONCE[name][0], 8192).buffer_bytes == ONCE[name][1]


@pytest.mark.parametrize("name", ["activation", "concat", "squeeze-excite", "mean of channels", "spatial attention"])
def test_where_a_row_does_not_fit_single_elements_do(name: str) -> None:
    graph = ONCE[name][0]
    assert cost(graph, 12).dram_bytes == floor(graph)


def test_a_split_writes_every_part_once() -> None:
    tensors = Tensor("x", MAP), Tensor("a", (1, 4, 16, 16)), Tensor("b", (1, 4, 16, 16))
    graph = Graph("split", tensors, (Op("op", "split", (0,), (1, 2)),), (0,), (1, 2))
    assert cost(graph, 64) == Cost(2048, 2048, 0, 32, 32)


def test_a_pool_in_strips_reads_the_column_halo_again() -> None:
    graph = one("pool", [(1, 2, 8, 8), (1, 2, 8, 8)], kernel=(3, 3), pads=(1, 1, 1, 1))
    assert cost(graph, 3 * 6 + 5).dram_bytes == floor(graph) + 2 * 8 * 2


def test_a_pool_whose_smallest_window_does_not_fit_is_refused() -> None:
    assert refusal(ONCE["max pool"][0], 9).demand == 10


def test_a_span_that_does_not_fit_is_read_twice() -> None:
    graph, _ = ONCE["softmax of tokens"]
    assert cost(graph, 32).dram_bytes == floor(graph) + 5 * 24


def test_a_second_pass_holds_two_statistics_and_one_element() -> None:
    assert cost(ONCE["softmax of tokens"][0], 32).buffer_bytes == 1 + 8 + 1


def test_constants_of_a_normalisation_are_read_for_every_span_where_they_do_not_fit() -> None:
    graph, _ = ONCE["layer norm"]
    found = plan(graph, 100)
    assert (found.cost.weight_bytes, found.schedule.weight_passes) == (5 * 120, 5)


# Groups, messages, speed --------------------------------------------------------------------------


def network() -> Graph:
    """A stem, an inverted residual with squeeze-excite, a pool, attention over the map, a classifier."""
    shapes = [(1, 3, 64, 64), (1, 32, 32, 32), (1, 32, 32, 32), (1, 32, 1, 1), (1, 32, 1, 1), (1, 32, 32, 32)]
    shapes += [(1, 32, 32, 32), (1, 32, 16, 16), (1, 32, 16, 16), (1, 32, 16, 16), (1, 1000, 1, 1)]
    tensors = tuple(Tensor(f"t{i}", s) for i, s in enumerate(shapes))

    def op(kind: str, inputs: tuple[int, ...], made: int, weights: int = 0, **attrs: object) -> Op:
        return Op(f"op{made}", kind, inputs, (made,), MappingProxyType(attrs), weights)  # type: ignore[arg-type]

    ops = (
        op("conv", (0,), 1, 864, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        op("conv", (1,), 2, 288, kernel=(3, 3), pads=(1, 1, 1, 1), groups=32),
        op("reduce", (2,), 3),
        op("conv", (3,), 4, 1024, kernel=(1, 1)),
        op("elementwise", (2, 4), 5),
        op("elementwise", (1, 5), 6),
        op("pool", (6,), 7, kernel=(2, 2), strides=(2, 2)),
        op("normalise", (7,), 8, 32),
        op("softmax", (8,), 9),
        op("linear", (9,), 10, 32 * 256 * 1000, flatten=True),
    )
    return Graph("net", tensors, ops, (0,), (10,))


def test_every_op_of_a_network_runs_within_8_kib() -> None:
    graph = network()
    assert all(isinstance(MODEL.plan(graph, 1 << i, Machine(8192)), Planned) for i in range(len(graph)))


@pytest.mark.parametrize("buffer", [512, 4096, 32 * 1024, 512 * 1024])
def test_no_op_alone_is_cheaper_as_a_line_buffer(buffer: int) -> None:
    graph, machine = network(), Machine(buffer)
    for i in range(len(graph)):
        lines, tiles = LineBuffer().plan(graph, 1 << i, machine), MODEL.plan(graph, 1 << i, machine)
        assert isinstance(lines, Infeasible) or tiles.cost.dram_bytes <= lines.cost.dram_bytes  # type: ignore[union-attr]


def test_a_group_of_two_ops_is_refused_whatever_the_buffer() -> None:
    refused = MODEL.plan(network(), mask_of([0, 1]), Machine(HUGE))
    assert isinstance(refused, Infeasible) and (refused.resource, refused.demand, refused.limit) == ("group size", 2, 1)


def test_the_buffer_floor_rules_out_exactly_groups_of_two_ops() -> None:
    bound = MODEL.buffer_floor(network(), Machine(8192))
    assert [bound.start, bound.extend(0, 0, 3), bound.extend(1 << 3, 0, 4) > HUGE] == [0, 0, True]


def test_a_refusal_names_the_op_and_what_fills_its_smallest_tile() -> None:
    text = str(refusal(square(4, 4, 8).graph(), 10))
    assert text == (
        "needs 26 B, the buffer has 10 B: 16 B over; conv 'op' cannot run even alone: its smallest tile holds "
        "9 B of inputs, 9 B of weights, 4 B of biases and 4 B of outputs; a buffer of 26 B holds its smallest tile"
    )


def test_it_is_a_cost_model() -> None:
    assert isinstance(MODEL, CostModel)


def test_read_bytes_include_weights_and_the_macs_are_the_ops() -> None:
    spec = square(4, 4, 8)
    found = cost(spec.graph(), HUGE)
    assert (found.read_bytes, found.weight_bytes, found.macs) == (256 + 144 + 16, 144 + 16, 144 * 64)


def test_equal_layers_with_other_names_share_one_search() -> None:
    graph = square(8, 8, 12).graph()
    renamed = Graph("other", graph.tensors, (replace(graph.ops[0], name="again", members=("again",)),), (0,), (1,))
    plan(graph, 777)
    before = _tiling.best.cache_info().hits
    plan(renamed, 777)
    assert _tiling.best.cache_info().hits == before + 1


def test_an_op_that_can_touch_everything_once_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiling, "_search", lambda *_: pytest.fail("searched"))
    assert cost(square(8, 8, 20).graph(), HUGE).dram_bytes == floor(square(8, 8, 20).graph())
