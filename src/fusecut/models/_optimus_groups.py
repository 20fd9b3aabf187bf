"""A fused group in the published Optimus model: rows in flight, colours, tiles, and the elements moved.

Full-width row tiles. A *full* convolution keeps all output channels of its current rows on chip, a
*part* one 32 channels at a time, which the next convolution accumulates at once. Weights are loaded
once if they fit beside the rows, else streamed again for every tile.

The formulas are the published ones, faults included; :mod:`fusecut.models.optimus` lists those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import lcm
from typing import NamedTuple

from fusecut.ir import Group
from fusecut.models._optimus_layers import IMAGE, Layer, Network
from fusecut.models._optimus_tiles import Tile, least_channels, order_of, passes, whole
from fusecut.ops import COLS, ROWS


class Residency(NamedTuple):
    """Elements held with one unit of rows in flight, more for each further unit, and who is full."""

    first: int
    step: int
    full: frozenset[int]


@dataclass(frozen=True)
class Rows:
    """How the rows of a group hang together.

    ``order`` is the vertex order; ``inside`` the predecessors of a layer in the group. For one unit
    of advance a layer makes ``scale`` rows and needs ``least`` of them at once. ``lasts`` are the
    layers none of whose readers are in the group.
    """

    order: tuple[int, ...]
    inside: dict[int, tuple[int, ...]]
    lasts: tuple[int, ...]
    scale: dict[int, int]
    least: dict[int, int]


@dataclass(frozen=True)
class Streamed:
    """A feasible fused group. Elements throughout.

    ``inputs`` and ``outputs`` cross once each, weights once per tile: ``tiles`` tiles of ``rows``
    units of rows of ``images`` images. ``fits`` says whether all weights stay on chip; the rest of
    the buffer, ``residency.first + (rows - 1) * residency.step`` elements, is for rows.
    """

    network: Network
    rows_of: Rows
    residency: Residency
    weights: int
    inputs: int
    outputs: int
    fits: bool
    rows: int
    images: int
    tiles: int

    @property
    def elements(self) -> int:
        """The objective: Q * weights + inputs + outputs."""
        return self.tiles * self.weights + self.inputs + self.outputs

    @cached_property
    def convolutions(self) -> tuple[int, ...]:
        """The layers with weights, in vertex order."""
        return tuple(v for v in self.rows_of.order if not self.network.layers[v].local)

    @cached_property
    def tile_rows(self) -> dict[int, int]:
        """Output rows of each layer in one tile, halo included."""
        ends = {v: self.rows_of.scale[v] * self.rows for v in self.rows_of.lasts}
        return _rows_back(self.network, self.rows_of.order, ends)

    def tile(self, v: int) -> Tile:
        """The tile that traffic and energy are reported for."""
        layer, full = self.network.layers[v], self.residency.full
        k = layer.out_channels if v in full else least_channels(layer)
        c = min(least_channels(layer), layer.in_channels)
        if k < layer.out_channels or any(p in full for p in self.network.preds[v]):
            c = layer.in_channels
        return Tile(c, k, self.tile_rows[v], layer.cols, self.images)

    def weight_passes(self, v: int) -> float:
        """How often a layer's weights are *reported* to be read: once too when both channel loops are whole."""
        if self.fits:
            return 1
        layer, tile = self.network.layers[v], self.tile(v)
        extent = whole(layer)
        return passes(extent, tile, extent, order_of(tile, extent, "kc")).weights


def streamed(network: Network, ops: Sequence[int], capacity: int, *, parts: bool, resident: bool) -> Streamed | None:
    """A group of at least two layers, or None where the model has no schedule for it.

    Args:
        ops: layers in the order in which the search took them; the order of those without
            predecessors inside decides the vertex order, and with it the charge of a shared input.
        capacity: elements.
        parts: whether convolutions may keep part of their channels (BRR).
        resident: whether all weights must fit.

    O(V + E) of the group.
    """
    group = sum(1 << v for v in ops)
    rows_of = _rows(network, group, ops)
    if rows_of is None:
        return None
    residency = _residency(network, rows_of, capacity, parts)
    if residency is None:
        return None
    weights = sum(network.layers[v].weight_elements for v in ops)
    fits = capacity >= weights + residency.first
    if resident and not fits:
        return None
    room = capacity - weights if fits else capacity
    units, images = _tile(network, rows_of.lasts, residency, room, fits)
    height = _height(network, rows_of.lasts)
    tiles = 1 if fits else -(-height * network.batch // (images * units))
    ins = {p for v in ops for p in network.preds[v] if p == IMAGE or not group >> p & 1}
    outs = [v for v in ops if network.succ_masks[v] & ~group or not network.succ_masks[v]]
    return Streamed(
        network,
        rows_of,
        residency,
        weights,
        sum(map(network.made_elements, ins)),
        sum(map(network.made_elements, outs)),
        fits,
        units,
        images,
        tiles,
    )


def _rows(network: Network, group: Group, ops: Sequence[int]) -> Rows | None:
    """Vertex order and relative rows; None when a free layer comes first or branches disagree."""
    firsts = [v for v in ops if not network.pred_masks[v] & group]
    if any(network.layers[v].local for v in firsts):
        return None
    order = _vertex_order(network, group, firsts)
    lasts = tuple(v for v in order if not network.succ_masks[v] & group)
    inside: dict[int, tuple[int, ...]] = {}
    advance: dict[int, int] = {}
    for v in order:
        inside[v] = tuple([p for p in network.preds[v] if p in inside])
        advance[v] = network.layers[v].strides[ROWS] * max([advance[p] for p in inside[v]], default=1)
    scale = _scales(network, order, advance, lcm(*[advance[v] for v in lasts]))
    if scale is None:
        return None
    return Rows(order, inside, lasts, scale, _rows_back(network, order, {v: scale[v] for v in lasts}))


def _scales(network: Network, order: Sequence[int], advance: dict[int, int], common: int) -> dict[int, int] | None:
    """Rows of each layer per unit; None where two readers ask one layer for different numbers."""
    scale: dict[int, int] = {}
    for v in reversed(order):
        asked = {network.layers[s].strides[ROWS] * scale[s] for s in network.succs[v] if s in scale}
        if len(asked) > 1:
            return None
        scale[v] = asked.pop() if asked else common // advance[v]
    return scale


def _rows_back(network: Network, order: Sequence[int], ends: dict[int, int]) -> dict[int, int]:
    """Rows every layer must have at once so that the last ones make the rows of ``ends``."""
    rows: dict[int, int] = {}
    for v in reversed(order):
        needed = [_window_rows(network.layers[s], rows[s]) for s in network.succs[v] if s in rows]
        rows[v] = min(max(needed), network.layers[v].rows) if needed else ends[v]
    return rows


def _window_rows(reader: Layer, rows: int) -> int:
    return (rows - 1) * reader.strides[ROWS] + reader.kernel[ROWS]


def _vertex_order(network: Network, group: Group, firsts: Sequence[int]) -> tuple[int, ...]:
    """Reversed depth-first post-order; successors declared last, the highest ones, are visited first."""
    unseen, post = group, []
    for first in firsts:
        unseen &= ~(1 << first)
        stack = [first]
        while stack:
            after = network.succ_masks[stack[-1]] & unseen
            if after:
                unseen ^= 1 << (after.bit_length() - 1)
                stack.append(after.bit_length() - 1)
            else:
                post.append(stack.pop())
    return tuple(reversed(post))


def _residency(network: Network, rows_of: Rows, capacity: int, parts: bool) -> Residency | None:
    """The better of two colourings, which begin with full and with part; None when neither fits.

    Better is the smaller step / (capacity - first); full wins ties.
    """
    best: Residency | None = None
    for start_full in (True, False) if parts else (True,):
        trial = _coloured(network, rows_of, start_full, parts)
        room = capacity - trial.first
        if room > 0 and (best is None or trial.step * (capacity - best.first) < best.step * room):
            best = trial
    return best


def _coloured(network: Network, rows_of: Rows, start_full: bool, parts: bool) -> Residency:
    full: set[int] = set()
    first = step = 0
    charged: set[int] = set()
    for v, inside in rows_of.inside.items():
        layer = network.layers[v]
        if layer.local:
            full.update([v] if not full.isdisjoint(inside) else [])
            continue
        if not parts or (inside[-1] not in full if inside else start_full):
            full.add(v)
        kept = layer.full_row if v in full else layer.part_row
        first += kept * rows_of.least[v]
        step += kept * rows_of.scale[v]
        if not inside and v not in full:
            more = _held_input(network, v, rows_of, charged)
            first, step = first + more[0], step + more[1]
    return Residency(first, step, frozenset(full))


def _held_input(network: Network, v: int, rows_of: Rows, charged: set[int]) -> tuple[int, int]:
    """What a part convolution at the start holds of its input: all channels; each maker charged once."""
    layer = network.layers[v]
    cols = (layer.cols - 1) * layer.strides[COLS] + layer.kernel[COLS]
    first = step = 0
    for maker in network.preds[v]:
        if maker not in charged:
            charged.add(maker)
            channels, rows = network.made_shape(maker)
            first += channels * min(_window_rows(layer, rows_of.least[v]), rows) * cols
            step += channels * rows_of.scale[v] * layer.strides[ROWS] * cols
    return first, step


def _height(network: Network, lasts: Sequence[int]) -> int:
    return min(network.image[2], *(network.layers[v].rows for v in lasts))


def _tile(network: Network, lasts: Sequence[int], held: Residency, room: int, fits: bool) -> tuple[int, int]:
    """Units of rows and images in one tile. Where the weights fit, images may exceed the batch (sic)."""
    height = _height(network, lasts)
    units = (room - held.first) // held.step + 1
    if units <= height:
        return units, 1
    images = room // ((height - 1) * held.step + held.first)
    return height, max(images, network.batch) if fits else min(images, network.batch)
