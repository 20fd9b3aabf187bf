"""Ops that move elements: every one on a slab of the rows that one output row needs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from fusecut.errors import SimulationError
from fusecut.simulate.calls import Call, Rule
from fusecut.simulate.memory import Array


def reshape(call: Call) -> Sequence[Array]:
    """Rows kept, split or merged: the slab is reshaped, and of several rows the one asked for is taken."""
    x, out, source = call.x, call.out, call.source
    if call.row is None or out.row_axis is None:
        return [x.reshape(call.out_dims())]
    made = max(1, out.rows // source.rows)
    dims = tuple(made if a == out.row_axis else d for a, d in enumerate(out.dims))
    return [x.reshape(dims).take([call.row % made], axis=out.row_axis)]


def transpose(call: Call) -> Sequence[Array]:
    return [call.x.transpose(call.attr("perm", None))]


def concat(call: Call) -> Sequence[Array]:
    """Along rows, the row comes from one operand; else the operands lie side by side."""
    axis = int(call.attr("axis", 1)) % len(call.out.dims)
    if call.row is None or axis != call.out.row_axis:
        return [np.concatenate(call.aligned(), axis=axis)]
    start = 0
    for value, layout in zip(call.args, call.ins, strict=True):
        size = layout.dims[axis] if layout is not None else 0 if value is None else value.shape[axis]
        if value is not None and start <= call.row < start + size:
            return [value if layout is not None else value.take([call.row - start], axis=axis)]
        start += size
    raise SimulationError(f"no operand of {call.step.op_type} holds row {call.row}")


def split(call: Call) -> Sequence[Array]:
    """Parts along an axis within the row; along rows each part is an op of its own, row by row."""
    axis = call.axis(0)
    count = len(call.step.outputs)
    if call.row is not None and axis == call.source.row_axis:
        return [call.x]
    size = call.source.dims[axis]
    sizes = call.ints("split", 1) or (-(-size // count),) * count
    ends = np.cumsum(sizes)[:-1]
    parts = np.split(call.x, [int(e) for e in ends], axis=axis)
    return [p for p, name in zip(parts, call.step.outputs, strict=True) if name]


def slice_(call: Call) -> Sequence[Array]:
    """Every axis but the rows; the window is the row already."""
    starts, ends = call.ints("starts", 1), call.ints("ends", 2)
    if starts is None or ends is None:
        raise SimulationError("a slice whose bounds are computed cannot be executed")
    axes = call.ints("axes", 3) or tuple(range(len(starts)))
    steps = call.ints("steps", 4) or (1,) * len(starts)
    windows = [slice(None)] * len(call.source.dims)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = axis % len(windows)
        if call.row is None or place != call.source.row_axis:
            low = -call.source.dims[place] - 1
            windows[place] = slice(start, None if step < 0 and end < low + 1 else end, step)
    return [call.x[tuple(windows)]]


def gather(call: Call) -> Sequence[Array]:
    """Constant indices, or a constant table; along rows the window is the row already."""
    axis = int(call.attr("axis", 0)) % call.x.ndim
    indices = call.need(1).astype(np.int64)
    if call.row is not None and axis == call.source.row_axis:
        return [call.x.reshape(call.out_dims())]
    return [np.take(call.x, indices % call.x.shape[axis], axis=axis)]


def expand(call: Call) -> Sequence[Array]:
    """Expand broadcasts, Tile repeats; of one-row operands every row is the same."""
    dims = call.out_dims()
    if call.step.op_type == "Expand":
        return [np.broadcast_to(call.x, dims)]
    lead = (1,) * (len(dims) - call.x.ndim)
    x = call.x.reshape(*lead, *call.x.shape)
    return [np.tile(x, [d // s for d, s in zip(dims, x.shape, strict=True)])]


def pad(call: Call) -> Sequence[Array]:
    """Constant, edge, reflect and wrap; the row is the one it copies, or all constant."""
    rank, mode = len(call.source.dims), str(call.attr("mode", "constant"))
    amounts = call.ints("pads", 1) or call.ints("paddings", 1) or ()
    axes = call.ints("axes", 3) or tuple(range(rank))
    fill = call.arg(2) if call.step.opset >= 11 else np.asarray(call.attr("value", 0.0))
    value = 0.0 if fill is None else float(np.asarray(fill).reshape(-1)[0])
    n = len(amounts) // 2
    widths = [(0, 0)] * rank
    for i, padded in enumerate(axes):
        widths[padded % rank] = amounts[i], amounts[n + i]
    axis = call.source.row_axis
    if call.row is None or axis is None:
        return [_pad(call.x, widths, mode, value)]
    at = _copied_row(call.row - widths[axis][0], call.source.rows, mode)
    if at is None:
        return [np.full(call.out_dims(), value, call.dtype)]
    widths[axis] = 0, 0
    return [_pad(call.x.take([at - call.lows[0]], axis=axis), widths, mode, value)]


def _copied_row(at: int, rows: int, mode: str) -> int | None:
    """The operand row that is copied to place ``at``; None when none is."""
    if mode == "constant" and not 0 <= at < rows:
        return None
    if mode == "reflect" and rows > 1:
        at %= 2 * (rows - 1)
        at = min(at, 2 * (rows - 1) - at)
    return at % rows if mode == "wrap" else max(0, min(at, rows - 1))


def _pad(x: Array, widths: Sequence[tuple[int, int]], mode: str, value: float) -> Array:
    keep = tuple(slice(max(0, -a), d - max(0, -b)) for (a, b), d in zip(widths, x.shape, strict=True))
    grow = [(max(0, a), max(0, b)) for a, b in widths]
    if mode == "constant":
        return np.pad(x[keep], grow, constant_values=value)
    if mode == "edge":
        return np.pad(x[keep], grow, mode="edge")
    return np.pad(x[keep], grow, mode="reflect") if mode == "reflect" else np.pad(x[keep], grow, mode="wrap")


def filled(call: Call) -> Sequence[Array]:
    """ConstantOfShape."""
    return [np.full(call.out.dims, np.asarray(call.attr("value", 0.0)).reshape(-1)[0])]


def blocks(call: Call) -> Sequence[Array]:
    """DepthToSpace and SpaceToDepth on the rows at hand."""
    x, b = call.x, int(call.attr("blocksize", 1))
    n, c, h, w = x.shape
    if call.step.op_type == "SpaceToDepth":
        made = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
        return [made.reshape(n, c * b * b, h // b, w // b)]
    if call.attr("mode", "DCR") == "DCR":
        made = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        made = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    made = made.reshape(n, c // (b * b), h * b, w * b)
    axis = call.source.row_axis
    return [made if call.row is None or axis is None else made.take([call.row % b], axis=axis)]


def resize(call: Call) -> Sequence[Array]:
    """Separable interpolation along each axis that changes size; along rows, of one row."""
    if call.attr("antialias", 0) or call.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise SimulationError("Resize with antialiasing or cropping cannot be executed")
    x = call.x
    for axis, (size, made) in enumerate(zip(call.source.dims, call.out.dims, strict=True)):
        if size == made:
            continue
        inputs, weights = _interpolation(call, axis, size, made)
        if call.row is not None and axis == call.source.row_axis:
            inputs, weights = inputs[call.row, None] - call.lows[0], weights[call.row, None]
            if np.any((inputs < 0) | (inputs >= x.shape[axis])):
                raise SimulationError(f"row {call.row} of {call.step.op_type} looks at more rows than it is given")
        along = [-1 if a == axis else 1 for a in range(x.ndim)]
        taps = zip(inputs.T, weights.T.astype(x.dtype), strict=True)
        x = np.asarray(sum(x.take(at, axis) * weight.reshape(along) for at, weight in taps))
    return [x]


def _interpolation(call: Call, axis: int, size: int, made: int) -> tuple[Array, Array]:
    """(inputs, weights) of each output along one axis, as many for all: the first again, for nothing, where fewer."""
    mode = str(call.attr("mode", "nearest")).replace("bilinear", "linear")
    old = call.step.opset < 11
    where = str(call.attr("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"))
    scale = _scale(call, axis, size, made)
    taps = [_taps(call, mode, _coordinate(q, size, made, scale, where), size, old) for q in range(made)]
    real = [[(max(0, min(at, size - 1)), weight) for at, weight in each if weight] for each in taps]
    most = max(map(len, real))
    full = [each + [(each[0][0], 0.0)] * (most - len(each)) for each in real]
    return np.array([[at for at, _ in each] for each in full]), np.array([[w for _, w in each] for each in full])


def _scale(call: Call, axis: int, size: int, made: int) -> Fraction:
    scale = call.step.facts.get("scale")
    if isinstance(scale, tuple) and not call.step.facts.get("barrier"):
        i = 0 if axis == call.source.row_axis else 2
        return Fraction(scale[i], scale[i + 1])
    return Fraction(made, size)


def _coordinate(q: int, size: int, made: int, scale: Fraction, where: str) -> Fraction:
    """ONNX coordinate transformations, in exact arithmetic."""
    half = Fraction(1, 2)
    if where == "align_corners":
        return Fraction(q * (size - 1), made - 1) if made > 1 else Fraction(0)
    if where == "asymmetric":
        return q / scale
    if where == "tf_half_pixel_for_nn":
        return (q + half) / scale
    if where == "pytorch_half_pixel" and made == 1:
        return Fraction(0)
    plain = (q + half) / scale - half
    if where == "half_pixel_symmetric":
        return plain + Fraction(size, 2) * (1 - Fraction(made) / (scale * size))
    return plain


def _taps(call: Call, mode: str, place: Fraction, size: int, old: bool) -> list[tuple[int, float]]:
    """(input, weight) pairs of one output; inputs beyond an edge are the edge."""
    if mode == "nearest":
        how = str(call.attr("nearest_mode", "floor" if old else "round_prefer_floor"))
        return [(_nearest(place, how), 1.0)]
    floor = place.__floor__()
    part = float(place - floor)
    if mode == "linear":
        return [(floor, 1 - part), (floor + 1, part)]
    weights = _cubic(part, float(call.attr("cubic_coeff_a", -0.75)))
    taps = [(floor - 1 + i, w) for i, w in enumerate(weights)]
    if call.attr("exclude_outside", 0):
        taps = [(at, w if 0 <= at < size else 0.0) for at, w in taps]
        total = sum(w for _, w in taps)
        taps = [(at, w / total) for at, w in taps]
    return taps


def _nearest(place: Fraction, how: str) -> int:
    half = Fraction(1, 2)
    if how == "floor":
        return place.__floor__()
    if how == "ceil":
        return place.__ceil__()
    return (place - half).__ceil__() if how == "round_prefer_floor" else (place + half).__floor__()


def _cubic(t: float, a: float) -> tuple[float, float, float, float]:
    def near(x: float) -> float:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return far(1 + t), near(t), near(1 - t), far(2 - t)


MOVES: Final[dict[str, Rule]] = {
    "Concat": concat,
    "ConstantOfShape": filled,
    "DepthToSpace": blocks,
    "Expand": expand,
    "Flatten": reshape,
    "Gather": gather,
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": slice_,
    "SpaceToDepth": blocks,
    "Split": split,
    "Squeeze": reshape,
    "Tile": expand,
    "Transpose": transpose,
    "Unsqueeze": reshape,
    "Upsample": resize,
}
"""ONNX op type -> rule."""
