"""Energy in the published Optimus model: registers, buffer, hops between PEs, DRAM and MACs.

pJ per 16-bit element. The buffer's price is that of 128 KiB whatever its size: the published figures
at 256 and 512 KiB come out only that way. No static energy, no latency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Final, NamedTuple

from fusecut.models._optimus_layers import UNROLLED, Layer
from fusecut.models._optimus_loops import SCHEDULERS
from fusecut.models._optimus_tiles import Passes, Tile, Traffic, order_of, passes, reported, whole

REGISTER_ELEMENTS: Final = 1024 * 64 // 2
"""Of all PEs: 32 x 32 of them with 64 B each, in elements of 2 B."""


@dataclass(frozen=True)
class EnergyTable:
    """pJ per element moved, per MAC, and per hop from one PE to the next."""

    registers_pj: float = 0.1
    buffer_pj: float = 6.0
    dram_pj: float = 200.0
    hop_pj: float = 0.25
    mac_pj: float = 1.0


class OnChip(NamedTuple):
    """What a convolution costs on chip: elements to and from the buffer, and pJ without the buffer's own."""

    buffer: Traffic
    other_pj: float


def on_chip(layer: Layer, tile: Tile, table: EnergyTable) -> OnChip:
    """Energy of running a layer's tiles out of the buffer.

    The tile is taken for a convolution of its own and mapped to the registers by the schedule that
    moves least between registers and buffer; the first of equals wins. With 1024 PEs at least the
    weight-stationary one maps any tile.
    """
    part = replace(layer, in_channels=tile.c, out_channels=tile.k, rows=tile.h, cols=tile.w, batch=tile.b)
    buffer, times, registers = min(_mappings(layer, part, tile), key=lambda m: m[0].total)
    accesses = 4 * layer.macs - layer.output_elements
    hops = _hop_elements(layer, times, registers)
    return OnChip(buffer, accesses * table.registers_pj + hops * table.hop_pj + layer.macs * table.mac_pj)


def _mappings(layer: Layer, part: Layer, tile: Tile) -> Iterator[tuple[Traffic, Passes, Tile]]:
    for schedule in SCHEDULERS:
        inner = schedule(part, REGISTER_ELEMENTS)
        if inner is not None:
            order = order_of(inner.tile, tile, inner.innermost)
            times = passes(whole(layer), inner.tile, tile, order)
            yield reported(layer, times), times, inner.tile


def _hop_elements(layer: Layer, times: Passes, tile: Tile) -> int:
    """Elements times hops. Columns and output channels are unrolled by 32; where a tile has fewer,
    rows (beside columns) and input channels (beside output channels) fill the array up, far apart."""
    cols, channels = min(UNROLLED, tile.w), min(UNROLLED, tile.k)
    near = (
        ceil(times.inputs * channels * layer.input_elements)
        + ceil(times.outputs * layer.output_elements)
        + ceil(times.weights * cols * layer.weight_elements)
    )
    rows, in_channels = _copies(cols, tile.h), _copies(channels, tile.c)
    far = 0
    if rows > 1:
        far += cols * ceil(times.weights * rows * layer.weight_elements)
    if in_channels > 1:
        far += channels * ceil(times.outputs * in_channels * layer.output_elements)
    return near + far


def _copies(unrolled: int, extent: int) -> int:
    """How often the other loop of a dimension is laid beside the unrolled one."""
    return min(UNROLLED // unrolled, extent)
