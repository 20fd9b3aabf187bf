"""One convolution alone: the five published schedules, in closed form.

A schedule keeps something on chip and picks its tile by a formula, not by search; ``elements`` is
what the formula says crosses to DRAM. Every rounding is the published one. The tile of c input
channels, k output channels and t output positions is taken to fill a capacity s when

    RS * k * c + k * t + sigma * c * t = s.

Ceilings in ALL-C, ALL-K, WS and IS may overshoot it by one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Final, NamedTuple

from fusecut.models._optimus_layers import Layer
from fusecut.models._optimus_tiles import Tile, factored, least_channels, least_cols


@dataclass(frozen=True)
class LoopSchedule:
    """A tile, the loops run innermost (first first), and the elements the closed form charges."""

    name: str
    tile: Tile
    innermost: str
    elements: int


Scheduler = Callable[[Layer, int], LoopSchedule | None]
"""(layer, capacity in elements) -> schedule, or None where the formula yields no tile."""


class _Capacity(NamedTuple):
    """The footprint equation, solved for one extent."""

    elements: int
    window: int
    sigma: int

    def c(self, k: float, t: float) -> float:
        return (self.elements - k * t) / (self.window * k + self.sigma * t)

    def k(self, c: float, t: float) -> float:
        return (self.elements - self.sigma * c * t) / (self.window * c + t)

    def t(self, c: float, k: float) -> float:
        return (self.elements - self.window * k * c) / (k + self.sigma * c)


class _Side(NamedTuple):
    """One of two free extents: its value, its bounds, and what the capacity leaves it beside the other."""

    value: float
    least: int
    most: int
    beside: Callable[[float], float]


def _clamped(x: _Side, y: _Side) -> tuple[float, float]:
    """Both extents within their loops, then above their lower bounds, as published."""
    a, b = x.value, y.value
    if a > x.most and b > y.most:
        a, b = x.most, y.most
    elif a > x.most:
        a, b = x.most, min(y.beside(x.most), y.most)
    elif b > y.most:
        a, b = min(x.beside(y.most), x.most), y.most
    if a * b > x.least * y.least:
        if a < x.least:
            return x.least, min(y.beside(x.least), y.most)
        if b < y.least:
            return min(x.beside(y.least), x.most), y.least
    return a, b


def _shape(layer: Layer, area: int) -> tuple[int, int, int]:
    return factored(min(area, layer.positions), layer.batch, layer.rows, layer.cols)


def all_in_channels(layer: Layer, capacity: int) -> LoopSchedule | None:
    """ALL-C: c = C; inputs and outputs cross once."""
    fill = _Capacity(capacity, layer.window, layer.sigma)
    c, k0 = layer.in_channels, least_channels(layer)
    if capacity < k0 * c * layer.window:
        return None
    h, w, b = _shape(layer, ceil(fill.t(c, k0)))
    k = min(ceil(fill.k(c, h * w * b)), layer.out_channels)
    return _maps_cross_once(layer, "ALL-C", Tile(c, k, h, w, b), "k")


def all_out_channels(layer: Layer, capacity: int) -> LoopSchedule | None:
    """ALL-K: k = K; inputs and outputs cross once."""
    fill = _Capacity(capacity, layer.window, layer.sigma)
    k = layer.out_channels
    if capacity < k * layer.window:
        return None
    h, w, b = _shape(layer, ceil(fill.t(1, k)))
    c = min(ceil(fill.c(k, h * w * b)), layer.in_channels)
    return _maps_cross_once(layer, "ALL-K", Tile(c, k, h, w, b), "c")


def _maps_cross_once(layer: Layer, name: str, tile: Tile, innermost: str) -> LoopSchedule | None:
    if min(tile) <= 0:
        return None
    moved = layer.input_elements + ceil(layer.macs / tile.area) + layer.output_elements
    return LoopSchedule(name, tile, innermost, moved)


def weight_stationary(layer: Layer, capacity: int) -> LoopSchedule | None:
    """WS: weights cross once, maps MAC / rho elements with rho = ckRS / (c sigma + 2k - 1)."""
    fill = _Capacity(capacity, layer.window, layer.sigma)
    w, ratio = least_cols(layer), layer.window / layer.sigma
    a = 3 * w / (4 * ratio)
    k = max(sqrt(capacity / (2 * ratio) + a * a) - a, 1)
    best_c, best_k = _clamped(
        _Side(ceil(2 * k / layer.sigma), 1, layer.in_channels, lambda k: ceil(fill.c(k, w))),
        _Side(k, least_channels(layer), layer.out_channels, lambda c: ceil(fill.k(c, w))),
    )
    tile = Tile(int(best_c), floor(best_k), 1, w, 1)
    if min(tile) <= 0:
        return None
    rho = tile.c * tile.k * layer.window / (tile.c * layer.sigma + 2 * tile.k - 1)
    return LoopSchedule("WS", tile, "whb", layer.weight_elements + ceil(layer.macs / rho))


def input_stationary(layer: Layer, capacity: int) -> LoopSchedule | None:
    """IS: inputs cross once, the rest MAC / rho elements with rho = tcRS / (cRS + 2t - 1)."""
    fill = _Capacity(capacity, layer.window, layer.sigma)
    k0, ratio = least_channels(layer), layer.window / layer.sigma
    a = 3 * k0 * ratio / 4
    t = max(ceil(sqrt(capacity * ratio / 2 + a * a) - a), 1)
    best_t, best_c = _clamped(
        _Side(t, least_cols(layer), layer.positions, lambda c: ceil(fill.t(c, k0))),
        _Side(ceil(2 * t / layer.window), 1, layer.in_channels, lambda t: ceil(fill.c(k0, t))),
    )
    h, w, b = _shape(layer, int(best_t))
    t, c = h * w * b, int(best_c)
    if t <= 0 or c <= 0:
        return None
    tile = Tile(c, min(ceil(fill.k(c, t)), layer.out_channels), h, w, b)
    if tile.k <= 0:
        return None
    rho = t * c * layer.window / (c * layer.window + 2 * t - 1)
    return LoopSchedule("IS", tile, "k", ceil(layer.macs / rho) + layer.input_elements)


def output_stationary(layer: Layer, capacity: int) -> LoopSchedule | None:
    """OS: outputs cross once, the rest MAC / rho elements with rho = tkRS / (t sigma + kRS)."""
    fill = _Capacity(capacity, layer.window, layer.sigma)
    ratio, a = layer.window / layer.sigma, layer.sigma
    free = max(sqrt(capacity / ratio + a * a) - a, 1)
    best_k, best_t = _clamped(
        _Side(floor(free), least_channels(layer), layer.out_channels, lambda t: floor(fill.k(1, t))),
        _Side(
            floor(free * layer.window / a),
            least_cols(layer),
            layer.positions,
            lambda k: floor(fill.t(1, k)),
        ),
    )
    h, w, b = _shape(layer, int(best_t))
    t, k = h * w * b, int(best_k)
    if t <= 0 or k <= 0:
        return None
    tile = Tile(min(floor(fill.c(k, t)), layer.in_channels), k, h, w, b)
    if tile.c <= 0:
        return None
    rho = t * k * layer.window / (t * layer.sigma + k * layer.window)
    return LoopSchedule("OS", tile, "c", ceil(layer.macs / rho) + layer.output_elements)


SCHEDULERS: Final[tuple[Scheduler, ...]] = (
    all_in_channels,
    all_out_channels,
    weight_stationary,
    input_stationary,
    output_stationary,
)
"""In the published order; of equally cheap schedules the first one wins."""


def cheapest(layer: Layer, capacity: int, schedulers: tuple[Scheduler, ...] = SCHEDULERS) -> LoopSchedule | None:
    """The schedule that charges least; None when none yields a tile."""
    found = [s for s in (schedule(layer, capacity) for schedule in schedulers) if s is not None]
    return min(found, key=lambda s: s.elements, default=None)
