"""Exact search over tiles and loop orders of one convolution-like op that runs alone.

The op is a loop nest over k (tiles of output channels), c (tiles of input channels) and s
(tiles of space: images, then column strips, then row tiles); groups of channels are outermost
and independent. docs/layerwise.md derives every formula used here.

Formulas are written once, for Python integers and for NumPy arrays alike: the quick look at the
three tiles that touch everything once must not pay for importing NumPy, the full search must not
loop in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from fusecut.rowmap import RowMap
from fusecut.schedule import Tile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]

Count: TypeAlias = Any
"""An int, or an int64 array of them."""

Axis: TypeAlias = RowMap | int
"""A map along rows or columns; an int is that many positions, each of which needs only itself."""

SEARCHED: Final = ("kcs", "ksc", "csk")
"""Every other order moves at least as many bytes as one of these (docs/layerwise.md)."""

_CACHED: Final = 4096
_CHUNK: Final = 1 << 20


class Layer(NamedTuple):
    """A convolution, matrix product or the like, without names: equal layers share one search.

    Channels are those of one of ``groups``; ``kernel`` is weights per pair of an input and an
    output channel, ``channel_bits`` the bits of biases and other constants per output channel.
    ``*_bytes`` is what one touch of the whole operand costs; ``weight_elements`` and
    ``constant_bits`` what every further touch of the weights and of those constants moves.
    """

    groups: int
    out_channels: int
    in_channels: int
    images: int
    rows: Axis
    cols: Axis
    kernel: int
    channel_bits: int
    in_bits: int
    weight_bits: int
    out_bits: int
    sum_bits: int
    in_bytes: int
    weight_bytes: int
    bias_bytes: int
    out_bytes: int
    weight_elements: int
    constant_bits: int


class Choice(NamedTuple):
    """How an op runs and what that moves; ``weight_bytes`` are part of ``read_bytes``."""

    tile: Tile | None
    read_bytes: int
    write_bytes: int
    weight_bytes: int
    buffer_bytes: int
    passes: int = 1
    weight_passes: int = 1

    @property
    def dram_bytes(self) -> int:
        return self.read_bytes + self.write_bytes


class Shortage(NamedTuple):
    """Not even the smallest tile fits: its bytes, and what they are."""

    demand: int
    where: str


class Cut(NamedTuple):
    """An axis cut into tiles of ``size`` outputs.

    ``held``: the most operand rows (or columns) one tile needs; ``trips``: number of tiles;
    ``loaded``: operand rows of all tiles together, those shared by two tiles counted twice.
    """

    size: int
    held: int
    trips: int
    loaded: int


class Passes(NamedTuple):
    """How often each operand crosses; ``reread`` is 1 where row halos are loaded again."""

    inputs: Count
    weights: Count
    biases: Count
    visits: Count
    reread: Count


class Bill(NamedTuple):
    """Bytes of one tile and order. ``weights`` includes biases and is part of ``reads``."""

    reads: Count
    writes: Count
    weights: Count


def up(bits: Count) -> Count:
    """Bits in whole bytes."""
    return -(-bits // 8)


def sizes(extent: int) -> Iterator[int]:
    """The smallest tile size for every number of trips that ``extent`` can be cut into.

    >>> list(sizes(10))
    [1, 2, 3, 4, 5, 10]
    """
    size = 1
    while size < extent:
        yield size
        size = -(-extent // (-(-extent // size) - 1))
    yield extent


def extent(axis: Axis) -> int:
    """How many outputs lie along the axis."""
    return axis if isinstance(axis, int) else len(axis.lo)


@lru_cache(_CACHED)
def _profile(axis: RowMap) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows each output needs, and running totals of the rows it needs that the one before did not."""
    first = tuple(max(0, hi - lo + 1) for lo, hi in zip(axis.lo, axis.hi, strict=True))
    total = [0, first[0]]
    for q in range(1, len(first)):
        total.append(total[-1] + max(0, axis.hi[q] - max(axis.hi[q - 1], axis.lo[q] - 1)))
    return first, tuple(total)


def cut(axis: Axis, size: int) -> Cut:
    """Cut an axis into tiles of ``size``. Clipped windows count only their real rows. O(trips).

    >>> from fusecut import rowmap
    >>> cut(rowmap.window(6, 6, kernel=3, pad=1), 2)
    Cut(size=2, held=4, trips=3, loaded=10)
    """
    if isinstance(axis, int):
        return Cut(size, size, -(-axis // size), axis)
    first, total = _profile(axis)
    n = len(first)
    unions = [first[a] + total[min(a + size, n)] - total[a + 1] for a in range(0, n, size)]
    return Cut(size, max(unions), len(unions), sum(unions))


@lru_cache(_CACHED)
def cuts(axis: Axis) -> tuple[Cut, ...]:
    """Every cut worth trying: no other with as many trips is at least as good in all fields.

    Near an edge windows are clipped, so a larger tile can share fewer rows with the next one
    than the smallest tile of the same number of trips: one size per trip count is not enough.
    O(H log H).
    """
    if isinstance(axis, int):
        return tuple(cut(axis, size) for size in sizes(axis))
    kept: list[Cut] = []
    rivals: list[Cut] = []
    for size in range(1, len(axis.lo) + 1):
        new = cut(axis, size)
        if rivals and rivals[0].trips != new.trips:
            rivals = []
        if not any(r.held <= new.held and r.loaded <= new.loaded for r in rivals):
            rivals.append(new)
            kept.append(new)
    return tuple(kept)


def row_cut(layer: Layer, rows: int) -> Cut:
    """Rows of a tile: of one image up to its height, beyond that whole images."""
    height = extent(layer.rows)
    if rows <= height:
        one = cut(layer.rows, rows)
        return Cut(rows, one.held, layer.images * one.trips, layer.images * one.loaded)
    images, needed = rows // height, cut(layer.rows, height).loaded
    return Cut(rows, images * needed, -(-layer.images // images), layer.images * needed)


def passes(order: str, nk: Count, nc: Count, ns: Count) -> Passes:
    """Loads of each operand for so many trips of each loop; ``order`` is outermost first.

    A loop on which an operand does not depend multiplies its loads when a loop with more than
    one trip on which it depends runs inside. Biases start the sums, so the c loop never repeats
    them. Row halos stay on chip unless every row tile brings other input channels in between:
    s outside a c loop of several trips.
    """
    trips = {"k": nk, "c": nc, "s": ns}

    def repeats(loop: str, operand: str) -> Count:
        inside: Count = False
        for inner in order[order.index(loop) + 1 :]:
            if inner in operand:
                inside = inside | (trips[inner] > 1)
        return 1 + (trips[loop] - 1) * inside

    reread = (nc > 1) * (order.index("s") < order.index("c"))
    return Passes(repeats("k", "cs"), repeats("s", "kc"), repeats("s", "k"), repeats("c", "ks"), reread)


def footprint(layer: Layer, k: Count, c: Count, held: Count, made: Count) -> Count:
    """Bytes of one tile: inputs, weights, biases, and outputs or their partial sums."""
    return sum(_parts(layer, k, c, held, made))


def _parts(layer: Layer, k: Count, c: Count, held: Count, made: Count) -> tuple[Count, Count, Count, Count]:
    split = c < layer.in_channels
    return (
        up(c * held * layer.in_bits),
        up(k * c * layer.kernel * layer.weight_bits),
        up(k * layer.channel_bits),
        up(k * made * (layer.out_bits + (layer.sum_bits - layer.out_bits) * split)),
    )


def _bill(layer: Layer, go: Passes, rows: Count, cols: Count) -> Bill:
    """Bytes moved, given rows and columns loaded when every halo is loaded again.

    The first touch of an operand costs its whole size, parts that no output needs included (the
    project's definition of traffic); each further touch costs what is needed.
    """
    every_row, every_col = row_cut(layer, extent(layer.rows)).loaded, cut(layer.cols, extent(layer.cols)).loaded
    loaded = (every_row + (rows - every_row) * go.reread) * cols
    again = layer.groups * layer.in_channels * (go.inputs * loaded - every_row * every_col)
    made = layer.images * extent(layer.rows) * extent(layer.cols) * layer.groups * layer.out_channels
    sums = up((go.visits - 1) * made * layer.sum_bits)
    weights = layer.weight_bytes + up((go.weights - 1) * layer.weight_elements * layer.weight_bits)
    weights = weights + layer.bias_bytes + up((go.biases - 1) * layer.constant_bits)
    reads = layer.in_bytes + up(again * layer.in_bits) + weights + sums
    return Bill(reads, layer.out_bytes + sums, weights)


def tile_passes(layer: Layer, tile: Tile) -> Passes:
    """How often each operand crosses under one tile and order. O(trips of s)."""
    nk, nc = -(-layer.out_channels // tile.out_channels), -(-layer.in_channels // tile.in_channels)
    ns = row_cut(layer, tile.rows).trips * cut(layer.cols, tile.cols).trips
    return passes(tile.order.lstrip("g"), nk, nc, ns)


def price(layer: Layer, tile: Tile) -> Choice:
    """What one tile and order cost, whether it fits or not. All six orders; O(trips of s)."""
    rows, cols = row_cut(layer, tile.rows), cut(layer.cols, tile.cols)
    go = tile_passes(layer, tile)
    bill = _bill(layer, go, rows.loaded, cols.loaded)
    need = footprint(layer, tile.out_channels, tile.in_channels, rows.held * cols.held, tile.rows * tile.cols)
    return Choice(tile, bill.reads, bill.writes, bill.weights, need, go.inputs, go.weights)


@lru_cache(_CACHED)
def best(layer: Layer, capacity: int) -> Choice | Shortage:
    """The fewest DRAM bytes within ``capacity`` over all integer tiles and loop orders.

    Ties: full width before column strips, then the smallest buffer, then a fixed order (for an op
    that sees nothing but padding the buffer may not be the smallest).
    O(1) tiles when everything can be touched once at full width, else
    O(sqrt(C) * cuts(rows) * cuts(cols)) array elements; k is solved for, not enumerated.
    """
    once = min((price(layer, tile) for tile in _touch_once_tiles(layer)), key=lambda choice: choice.buffer_bytes)
    if once.buffer_bytes <= capacity:
        return once
    found = _search(layer, capacity)
    return _shortage(layer) if found is None else price(layer, found)


def _touch_once_tiles(layer: Layer) -> tuple[Tile, ...]:
    """All full-width tiles that can be the smallest to move every byte once.

    Of two loops with several trips each always repeats something, so one loop at most is cut:
    space with the weights resident, outputs with the inputs resident, or inputs with the sums
    resident; the loop that is cut is cut finest.
    """
    k, c = layer.out_channels, layer.in_channels
    high, wide = layer.images * extent(layer.rows), extent(layer.cols)
    return Tile(k, c, 1, 1, wide, "gkcs"), Tile(1, c, 1, high, wide, "gkcs"), Tile(k, 1, 1, high, wide, "gkcs")


def _shortage(layer: Layer) -> Shortage:
    """The smallest tile there is; a single input channel costs partial sums, all of them do not."""
    held = cut(layer.rows, 1).held * cut(layer.cols, 1).held
    parts = min((_parts(layer, 1, c, held, 1) for c in (1, layer.in_channels)), key=sum)
    return Shortage(
        sum(parts),
        f"its smallest tile holds {parts[0]:,} B of inputs, {parts[1]:,} B of weights, "
        f"{parts[2]:,} B of biases and {parts[3]:,} B of outputs",
    )


def _search(layer: Layer, capacity: int) -> Tile | None:
    """The best tile of the whole space; None when none fits."""
    found = [key for grid in _grids(layer, capacity) for key in _rank(layer, grid, capacity)]
    if not found:
        return None
    _, _, _, order, k, c, rows, cols = min(found)
    return Tile(k, c, 1, rows, cols, "g" + SEARCHED[order])


def _grids(layer: Layer, capacity: int) -> Iterator[Ints]:
    """Columns (c, rows, cols, operand positions held, trips of s, rows and columns loaded) that fit with k = 1.

    In pieces of bounded memory.
    """
    import numpy as np

    height = extent(layer.rows)
    images = [row_cut(layer, n * height) for n in sizes(layer.images) if n > 1]
    tall = [Cut(c.size, c.held, layer.images * c.trips, layer.images * c.loaded) for c in cuts(layer.rows)]
    r, w = (np.array(x, dtype=np.int64).T for x in (tall + images, cuts(layer.cols)))
    r, w = np.repeat(r, w.shape[1], axis=1), np.tile(w, r.shape[1])
    plane = np.stack([r[0], w[0], r[1] * w[1], r[2] * w[2], r[3], w[3]])
    c = np.fromiter(sizes(layer.in_channels), dtype=np.int64)
    for part in np.array_split(c, -(-c.size * plane.shape[1] // _CHUNK)):
        grid = np.vstack([np.repeat(part, plane.shape[1]), np.tile(plane, part.size)])
        fits = footprint(layer, 1, grid[0], grid[3], grid[1] * grid[2]) <= capacity
        if fits.any():
            yield grid[:, fits]


def _rank(layer: Layer, grid: Ints, capacity: int) -> Iterator[tuple[int, ...]]:
    """The best of a grid for every order, as (bytes, strips, buffer, order, k, c, rows, cols).

    For fixed c and space, bytes never rise with k and depend on its trips alone: they fall with
    every trip less, or only with the last one. So the largest k that fits is best, shrunk to what
    its trips need, and k = 1 is the smallest tile wherever trips of k cost nothing.
    """
    import numpy as np

    c, rows, cols, held, ns, rows_loaded, cols_loaded = grid
    nc = -(-layer.in_channels // c)
    for largest in (_largest_k(layer, grid, capacity), np.ones_like(c)):
        nk = -(-layer.out_channels // largest)
        k = -(-layer.out_channels // nk)
        need = footprint(layer, k, c, held, rows * cols)
        for index, order in enumerate(SEARCHED):
            bill = _bill(layer, passes(order, nk, nc, ns), rows_loaded, cols_loaded)
            dram = bill.reads + bill.writes
            tied = np.flatnonzero(dram == dram.min())
            strips = cols[tied] < extent(layer.cols)
            at = tied[np.lexsort((cols[tied], rows[tied], c[tied], k[tied], need[tied], strips))[0]]
            narrow = cols[at] < extent(layer.cols)
            yield tuple(map(int, (dram[at], narrow, need[at], index, k[at], c[at], rows[at], cols[at])))


def _largest_k(layer: Layer, grid: Ints, capacity: int) -> Ints:
    """The most output channels that fit; at least 1, which is known to fit."""
    import numpy as np

    c, rows, cols, held = grid[:4]
    width = np.where(c < layer.in_channels, layer.sum_bits, layer.out_bits)
    each = c * layer.kernel * layer.weight_bits + layer.channel_bits + rows * cols * width
    k: Ints = np.clip((8 * capacity - c * held * layer.in_bits) // each, 1, layer.out_channels)
    while True:
        over = footprint(layer, k, c, held, rows * cols) > capacity
        if not over.any():
            return k
        k = k - over
