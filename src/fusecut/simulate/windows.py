"""Convolutions and pools, any number of spatial axes, on a slab of the rows that one output row needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fusecut.errors import SimulationError
from fusecut.simulate.calls import Call, Rule
from fusecut.simulate.memory import Array


@dataclass(frozen=True)
class Axis:
    """A window along one spatial axis: ``size`` inputs, ``outs`` outputs."""

    size: int
    outs: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int

    @property
    def reach(self) -> int:
        """Inputs from the first to the last of a window."""
        return self.dilation * (self.kernel - 1) + 1


def axes_of(call: Call, kernel: Sequence[int]) -> list[Axis]:
    """Windows of the spatial axes, in file order, pads resolved by the frontend."""
    n = len(kernel)
    strides, dilations = call.attr("strides", (1,) * n), call.attr("dilations", (1,) * n)
    pads = _pads(call, n)
    dims, made = call.source.dims[2:], call.out.dims[2:]
    return [Axis(dims[i], made[i], kernel[i], strides[i], dilations[i], pads[i], pads[n + i]) for i in range(n)]


def _pads(call: Call, n: int) -> tuple[int, ...]:
    """(begin of each axis, end of each axis) from the lowered attributes, whose first axis is rows."""
    exact = call.step.facts.get("spatial_pads")
    if isinstance(exact, tuple):
        return exact
    pads = cast("tuple[int, ...]", call.step.facts["pads"])
    row = 0 if call.source.row_axis is None else max(0, call.source.row_axis - 2)
    if n == 1:
        return pads[0], pads[2]
    order = (0, 1) if row == 0 else (1, 0)
    return (*(pads[i] for i in order), *(pads[2 + i] for i in order))


def row_place(call: Call) -> int:
    """Which spatial axis is cut to rows; -1 when the call is for the whole tensor."""
    return -1 if call.row is None or call.source.row_axis is None else call.source.row_axis - 2


def extended(call: Call, axes: Sequence[Axis], fill: float) -> tuple[Array, list[Axis]]:
    """The slab with padding, cut or extended to exactly what the outputs asked for look at.

    The axis of rows is left with a single window.
    """
    place = row_place(call)
    x = call.arg(0)
    if x is None:
        dims = tuple(0 if a == place + 2 else d for a, d in enumerate(call.source.dims))
        x = np.zeros(dims, call.dtype)
    widths, left = [(0, 0), (0, 0)], []
    for i, axis in enumerate(axes):
        if i == place and call.row is not None:
            top = call.row * axis.stride - axis.begin
            check_window(call, x.shape[2 + i], max(0, top), min(axis.size, top + axis.reach))
            before = call.lows[0] - top if x.shape[2 + i] else axis.reach
            widths.append((before, axis.reach - before - x.shape[2 + i]))
            left.append(Axis(axis.reach, 1, axis.kernel, 1, axis.dilation, 0, 0))
        else:
            total = (axis.outs - 1) * axis.stride + axis.reach
            widths.append((axis.begin, total - axis.begin - axis.size))
            left.append(axis)
    return _padded(x, widths, fill), left


def check_window(call: Call, rows: int, first: int, end: int) -> None:
    """Raises SimulationError unless the rows at hand hold rows first..end-1, which the node looks at."""
    low = call.lows[0]
    if first < end and not (rows and low <= first and end <= low + rows):
        had = f"rows {low} to {low + rows - 1}" if rows else "none"
        raise SimulationError(
            f"row {call.row} of {call.step.op_type} looks at rows {first} to {end - 1} and was handed {had}"
        )


def _padded(x: Array, widths: Sequence[tuple[int, int]], fill: float) -> Array:
    """Padding; a negative width cuts."""
    keep = tuple(slice(max(0, -a), d - max(0, -b)) for (a, b), d in zip(widths, x.shape, strict=True))
    grow = [(max(0, a), max(0, b)) for a, b in widths]
    return np.pad(x[keep], grow, constant_values=fill) if any(map(any, grow)) else x[keep]


def views(x: Array, axes: Sequence[Axis]) -> Array:
    """All windows: (N, C, outputs..., kernel...)."""
    n = len(axes)
    every = sliding_window_view(x, tuple(a.reach for a in axes), axis=tuple(range(2, 2 + n)))
    outs = tuple(slice(0, (a.outs - 1) * a.stride + 1, a.stride) for a in axes)
    taps = tuple(slice(None, None, a.dilation) for a in axes)
    return every[(slice(None), slice(None), *outs, *taps)]


def conv(call: Call) -> Sequence[Array]:
    """Each group of channels is one matrix product of weights and windows."""
    w = call.need(1)
    kernel = w.shape[2:]
    x, axes = extended(call, axes_of(call, kernel), 0.0)
    groups, outs = int(call.attr("group", 1)), tuple(a.outs for a in axes)
    n = len(kernel)
    v = np.moveaxis(views(x, axes), range(2 + n, 2 + 2 * n), range(2, 2 + n))
    columns = v.reshape(x.shape[0], groups, x.shape[1] // groups * prod(kernel), prod(outs))
    made = np.matmul(w.reshape(groups, w.shape[0] // groups, -1), columns)
    made = made.reshape(x.shape[0], w.shape[0], *outs)
    bias = call.arg(2)
    return [made if bias is None else made + bias.reshape(-1, *(1,) * n)]


def conv_transpose(call: Call) -> Sequence[Array]:
    """Every input row adds to the output rows it reaches; of a slab's, one is wanted."""
    w = call.need(1)
    kernel = w.shape[2:]
    axes = axes_of(call, kernel)
    groups, place = int(call.attr("group", 1)), row_place(call)
    x = call.arg(0)
    outs = [a.outs for a in axes]
    starts = [a.begin for a in axes]
    if place >= 0 and call.row is not None:
        axis = axes[place]
        first = max(0, -(-(call.row + axis.begin - axis.reach + 1) // axis.stride))
        end = min(axis.size, (call.row + axis.begin) // axis.stride + 1)
        check_window(call, 0 if x is None else x.shape[2 + place], first, end)
        outs[place], starts[place] = 1, call.row + axes[place].begin - call.lows[0] * axes[place].stride
    shape = (call.source.dims[0], w.shape[1] * groups, *outs)
    if x is None:
        return [_biased(np.zeros(shape, call.dtype), call.arg(2))]
    full = [(size - 1) * a.stride + a.reach for size, a in zip(x.shape[2:], axes, strict=True)]
    room = [max(f, s + o) for f, s, o in zip(full, starts, outs, strict=True)]
    made = np.zeros((*shape[:2], *room), call.dtype)
    parts = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    taps = w.reshape(*w.shape[:2], -1).transpose(2, 0, 1)
    for tap in product(*(range(a.kernel) for a in axes)):
        weights = taps[np.ravel_multi_index(tap, kernel)].reshape(groups, -1, w.shape[1])
        add = np.matmul(weights.transpose(0, 2, 1), parts).reshape(shape[0], shape[1], *x.shape[2:])
        at = tuple(
            slice(t * a.dilation, t * a.dilation + (size - 1) * a.stride + 1, a.stride)
            for t, a, size in zip(tap, axes, x.shape[2:], strict=True)
        )
        made[(slice(None), slice(None), *at)] += add
    wanted = tuple(slice(s, s + o) for s, o in zip(starts, outs, strict=True))
    return [_biased(made[(slice(None), slice(None), *wanted)], call.arg(2))]


def _biased(made: Array, bias: Array | None) -> Array:
    return made if bias is None else made + bias.reshape(-1, *(1,) * (made.ndim - 2))


def pool(call: Call) -> Sequence[Array]:
    """Maximum, mean (of real elements, or of padding too) or p-norm of each window."""
    all_axes = axes_of(call, tuple(call.attr("kernel_shape", ())))
    kind = call.step.op_type
    x, axes = extended(call, all_axes, -np.inf if kind == "MaxPool" else 0.0)
    v = views(x, axes)
    taps = tuple(range(v.ndim - len(axes), v.ndim))
    if kind == "MaxPool":
        return [v.max(axis=taps)]
    if kind == "LpPool":
        p = int(call.attr("p", 2))
        return [(np.abs(v) ** p).sum(axis=taps) ** (1 / p)]
    return [v.sum(axis=taps) / counts(call, all_axes)]


def counts(call: Call, axes: Sequence[Axis]) -> Array:
    """Elements each mean is taken over: the product of what each axis contributes."""
    place, total = row_place(call), np.ones((1,) * (2 + len(axes)))
    for i, axis in enumerate(axes):
        each = _count(axis, bool(call.attr("count_include_pad", 0)))
        each = each if i != place or call.row is None else each[call.row : call.row + 1]
        total = total * each.reshape([-1 if a == 2 + i else 1 for a in range(2 + len(axes))])
    return total


def _count(axis: Axis, padding: bool) -> Array:
    at = np.arange(axis.outs)[:, None] * axis.stride - axis.begin + np.arange(axis.kernel) * axis.dilation
    low, high = (-axis.begin, axis.size + axis.end) if padding else (0, axis.size)
    return np.asarray(np.count_nonzero((at >= low) & (at < high), axis=1))


WINDOWS: Final[dict[str, Rule]] = {
    "AveragePool": pool,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "LpPool": pool,
    "MaxPool": pool,
}
"""ONNX op type -> rule."""
