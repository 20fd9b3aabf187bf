"""Tiles and loop orders of the published Optimus model, and the traffic they are reported to cause.

Source: Cai, Wang, Zhang, LCTES 2021 and ACM TECS 22(1) 2022, by its public implementation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from math import ceil, isqrt, prod
from typing import Final, NamedTuple

from fusecut.models._optimus_layers import UNROLLED, Layer

_UNTILED: Final = 6
"""Nesting position of a loop that is not tiled at a level."""


class Tile(NamedTuple):
    """Extent of each loop within a tile. Kernel rows and columns are never tiled."""

    c: int
    k: int
    h: int
    w: int
    b: int

    @property
    def area(self) -> int:
        return self.h * self.w * self.b


class Passes(NamedTuple):
    """How often each operand crosses a level, as a possibly fractional number of times."""

    inputs: float
    outputs: float
    weights: float


class Traffic(NamedTuple):
    """Elements of each operand that cross a level."""

    inputs: int
    outputs: int
    weights: int

    @property
    def total(self) -> int:
        return self.inputs + self.outputs + self.weights


def whole(layer: Layer) -> Tile:
    """The layer as one tile."""
    return Tile(layer.in_channels, layer.out_channels, layer.rows, layer.cols, layer.batch)


def least_cols(layer: Layer) -> int:
    """Lower bound of a tile's columns."""
    return min(layer.cols, UNROLLED)


def least_channels(layer: Layer) -> int:
    """Lower bound of a tile's output channels."""
    return min(layer.out_channels, UNROLLED)


def order_of(tile: Tile, extent: Tile, innermost: str) -> Mapping[str, int]:
    """Nesting position of each loop, 0 the innermost.

    The ``innermost`` loops that are tiled come first, in that order, then the other tiled loops as
    c, w, h, k, b; a loop that is not tiled at this level gets a position outside all others.
    """
    tiled = [x for x in "cwhkb" if getattr(tile, x) < getattr(extent, x)]
    nest = [x for x in innermost if x in tiled] + [x for x in tiled if x not in innermost]
    return {x: nest.index(x) if x in nest else _UNTILED for x in "cwhkb"}


def passes(extent: Tile, inner: Tile, outer: Tile, order: Mapping[str, int]) -> Passes:
    """How often each operand of loops of this ``extent`` crosses from the outer to the inner tile.

    A loop that the operand does not depend on repeats it extent/outer times if it runs inside all
    loops that the operand does depend on, else extent/inner times.
    """

    def times(repeating: str, own: str) -> float:
        nearest = min(order[y] for y in own)
        return prod(float(getattr(extent, x) / getattr(outer if order[x] < nearest else inner, x)) for x in repeating)

    return Passes(times("k", "whcb"), times("c", "whkb"), times("whb", "ck"))


def reported(layer: Layer, p: Passes) -> Traffic:
    """Elements moved by so many passes; an output that leaves P times returns P - 1 times."""
    return Traffic(
        ceil(p.inputs * layer.input_elements),
        ceil((2 * p.outputs - 1) * layer.output_elements),
        ceil(p.weights * layer.weight_elements),
    )


@lru_cache(maxsize=1 << 16)
def factored(area: int, batch: int, rows: int, cols: int) -> tuple[int, int, int]:
    """The largest area of at most ``area`` positions that a tile can have, as (h, w, b); zeros if none can.

    Published as "fac". Of equal areas the first in the order of :func:`_slots` wins; that decides
    reported traffic and energy, not the closed form. O(area^1.5) at worst, in practice a few steps.
    """
    for size in range(area, 0, -1):
        for b in _slots(x for x in _divisors(size) if x <= batch):
            for w in _slots(x for x in _divisors(size // b) if min(cols, UNROLLED) <= x <= cols):
                if size // b // w <= rows:
                    return size // b // w, w, b
    return 0, 0, 0


def _divisors(n: int) -> Iterator[int]:
    """Divisors in pairs, the smaller one of each pair ascending."""
    for i in range(1, isqrt(n) + 1):
        if n % i == 0:
            yield i
            if i != n // i:
                yield n // i


def _slots(values: Iterable[int]) -> list[int]:
    """Distinct small integers in the order in which a CPython set yields them.

    The published implementation takes the first element of such a set. The order is spelled out
    here so that results do not depend on the interpreter: open addressing with runs of ten slots,
    the table growing fourfold at three fifths full.
    """
    table: list[int | None] = [None] * 8
    for used, value in enumerate(values, 1):
        _insert(table, value)
        if used * 5 >= (len(table) - 1) * 3:
            old, table = table, [None] * (1 << max(3, (used * 4).bit_length()))
            for kept in old:
                if kept is not None:
                    _insert(table, kept)
    return [value for value in table if value is not None]


def _insert(table: list[int | None], value: int) -> None:
    mask = len(table) - 1
    perturb, slot = value, value & mask
    while True:
        for probe in range(slot, slot + (10 if slot + 9 <= mask else 1)):
            if table[probe] is None:
                table[probe] = value
                return
        perturb >>= 5
        slot = (slot * 5 + 1 + perturb) & mask
