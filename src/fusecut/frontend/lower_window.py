"""Lowering of ops with spatial windows: convolutions, pooling, resizing, padding, block moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from fusecut.frontend.layout import wide_columns
from fusecut.frontend.values import Dims, Value
from fusecut.frontend.view import Attributes, Draft, Rule, View, barrier_if, names, opaque

_WEIGHTS_AT: Final = {"QLinearConv": (3, 8)}
"""(weights, bias) operand positions where they are not (1, 2)."""

_SCALE_LIMIT: Final = 1 << 16  # float scales become fractions with at most this denominator


def _row_axis(x: Value) -> int:
    """Which spatial axis is rows; -1 when rows lie on the batch or channel axis, or nowhere."""
    axis = x.row_axis
    return -1 if axis is None or axis < 2 else axis - 2


def _roles(x: Value, rank: int, row: int) -> str:
    lead = "C" if x.roles[0] == "H" else x.roles[0]
    return lead + "C" + "".join("H" if i == max(row, 0) else "W" for i in range(rank - 2))


def _pair(values: Sequence[int], row: int, default: int) -> tuple[int, int]:
    """Per-axis values as (rows, cols); one spatial axis is rows only."""
    row = max(row, 0)
    return values[row], values[1 - row] if len(values) == 2 else default


def _window(view: View, x: Value, kernel: Dims, pads: Dims) -> tuple[str, Attributes]:
    """Roles of the result and the window attributes.

    With two or more column axes (3-D convolutions), or columns that lie on another axis, the window
    along the columns is their whole extent; ``spatial_*`` keep the exact window, ``in_channels`` what is on the axis
    of channels.
    """
    n = len(kernel)
    strides = tuple(view.attr("strides", (1,) * n))
    dilations = tuple(view.attr("dilations", (1,) * n))
    row = _row_axis(x)
    attrs: Attributes = {
        "kernel": _pair(kernel, row, 1),
        "strides": _pair(strides, row, 1),
        "dilations": _pair(dilations, row, 1),
        "pads": (*_pair(pads[:n], row, 0), *_pair(pads[n:], row, 0)),
    }
    if n > 2 or (row >= 0 and not _columns_fit(x, n, row)):
        cols_in = math.prod(x.dims[a] for a in wide_columns(x))
        cols_out = math.prod(view.result.dims[2:]) // view.result.dims[2 + max(row, 0)]
        attrs["kernel"] = (kernel[max(row, 0)], cols_in + cols_out + 1)
        attrs["pads"] = (pads[max(row, 0)], cols_out, pads[n + max(row, 0)], cols_out)
        attrs |= {"spatial_kernel": kernel, "spatial_strides": strides, "spatial_pads": pads}
        attrs["in_channels"] = x.dims[1]
    if row < 0:
        attrs["barrier"] = True
    return _roles(x, n + 2, row), attrs


def _columns_fit(x: Value, n: int, row: int) -> bool:
    """Whether the columns of the operand are the other spatial axis, or there is one column."""
    axis = 3 - row if n > 1 else -1
    return wide_columns(x) == ((axis,) if n > 1 and x.dims[axis] > 1 else ())


def _pads(view: View, x: Value, kernel: Dims) -> Dims:
    """Begin and end pads of each spatial axis, auto_pad resolved."""
    n = len(kernel)
    mode = view.attr("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return tuple(view.attr("pads", (0,) * (2 * n)))
    if mode == "VALID":
        return (0,) * (2 * n)
    strides = view.attr("strides", (1,) * n)
    dilations = view.attr("dilations", (1,) * n)
    totals = [
        max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        for size, k, s, d in zip(x.dims[2:], kernel, strides, dilations, strict=True)
    ]
    return _shared_out(totals, extra_first=mode == "SAME_LOWER")


def _shared_out(totals: Sequence[int], extra_first: bool) -> Dims:
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (*large, *small) if extra_first else (*small, *large)


def _parameters(view: View) -> tuple[Value | None, Value | None]:
    weight, bias = _WEIGHTS_AT.get(view.node.op_type, (1, 2))
    if view.node.op_type == "ConvInteger":
        return view.operand(1), None
    return view.operand(weight), view.operand(bias)


def conv(view: View) -> list[Draft]:
    """Conv, QLinearConv, ConvInteger. MACs = outputs * input channels of a group * kernel elements."""
    weight, bias = _parameters(view)
    x = view.operand(0)
    if weight is None:
        raise view.fail("has no weights; export the network again")
    macs = view.result.elements * math.prod(weight.dims[1:])
    if x is None or x.constant or not weight.constant or (bias is not None and not bias.constant):
        return opaque(view, macs)
    groups = int(view.attr("group", 1))
    if x.rank != weight.rank or x.dims[1] != weight.dims[1] * groups or weight.dims[0] % groups:
        raise view.fail(
            f"expects {weight.dims[1]} x {groups} input channels (weights {weight.dims}, {groups} groups), found "
            f"input {x.dims}; check the input shape and its layout"
        )
    kernel = tuple(weight.dims[2:])
    roles, attrs = _window(view, x, kernel, _pads(view, x, kernel))
    biases = 0 if bias is None else bias.elements
    attrs["groups"] = groups
    return [Draft("conv", [x.name], names(view.results), roles, attrs, weight.elements, biases, macs)]


def conv_transpose(view: View) -> list[Draft]:
    """ConvTranspose. MACs = inputs * output channels of a group * kernel elements."""
    weight, bias = _parameters(view)
    x = view.operand(0)
    if weight is None or x is None or x.constant or not weight.constant or (bias is not None and not bias.constant):
        return opaque(view)
    if x.rank != weight.rank or x.dims[1] != weight.dims[0]:
        raise view.fail(f"expects {weight.dims[0]} input channels, found input {x.dims}; check the input shape")
    kernel = tuple(weight.dims[2:])
    roles, attrs = _window(view, x, kernel, _transposed_pads(view, x, kernel))
    attrs["groups"] = int(view.attr("group", 1))
    macs = x.elements * math.prod(weight.dims[1:])
    biases = 0 if bias is None else bias.elements
    return [Draft("conv_transpose", [x.name], names(view.results), roles, attrs, weight.elements, biases, macs)]


def _transposed_pads(view: View, x: Value, kernel: Dims) -> Dims:
    """As written, or what makes the known output shape: total = s(in-1) + extra + d(k-1) + 1 - out."""
    n = len(kernel)
    mode = view.attr("auto_pad", "NOTSET")
    if mode in ("NOTSET", "") and "output_shape" not in view.node.attrs:
        return tuple(view.attr("pads", (0,) * (2 * n)))
    strides, dilations = view.attr("strides", (1,) * n), view.attr("dilations", (1,) * n)
    extra = view.attr("output_padding", (0,) * n)
    totals = [
        max(
            strides[i] * (x.dims[2 + i] - 1) + extra[i] + dilations[i] * (kernel[i] - 1) + 1 - view.result.dims[2 + i],
            0,
        )
        for i in range(n)
    ]
    return _shared_out(totals, extra_first=mode != "SAME_UPPER")


def pool(view: View) -> list[Draft]:
    """MaxPool, AveragePool, LpPool. A 1x1 window with stride 1 is an identity."""
    x = view.first
    kernel = tuple(view.attr("kernel_shape", ()))
    if len(kernel) != x.rank - 2:
        raise view.fail(f"has a window of {len(kernel)} axes on an input of shape {x.dims}; export the network again")
    roles, attrs = _window(view, x, kernel, _pads(view, x, kernel))
    if math.prod(kernel) == 1 and x.dims == view.result.dims:
        return view.moved("identity", x.roles)
    mode = {"MaxPool": "max", "AveragePool": "average"}.get(view.node.op_type, "lp")
    attrs |= {"mode": mode, "count_include_pad": bool(view.attr("count_include_pad", 0))}
    attrs["ceil_mode"] = bool(view.attr("ceil_mode", 0))
    return view.moved("pool", roles, **attrs)


def _only_along(x: Value, axes: Sequence[int]) -> tuple[int, int] | None:
    """The (row, column) axes among ``axes``; None if another axis, or one of several column axes, is meant."""
    row, col = -1, -1
    wide = wide_columns(x)
    for axis in axes:
        if x.roles[axis] == "H":
            row = axis
        elif x.roles[axis] == "W" and wide in ((), (axis,)):
            col = axis
        else:
            return None
    return row, col


def pad(view: View) -> list[Draft]:
    """Pad; negative pads crop. Pads on other axes than rows and columns leave rows as they are."""
    x = view.first
    amounts = view.ints("pads", 1) or view.ints("paddings", 1)
    if amounts is None:
        return opaque(view)
    axes = view.ints("axes", 3) or tuple(range(x.rank))
    n = len(amounts) // 2
    begin = {a % x.rank: amounts[i] for i, a in enumerate(axes)}
    end = {a % x.rank: amounts[n + i] for i, a in enumerate(axes)}
    if not any(amounts):
        return view.moved("identity", x.roles)
    touched = [a for a in begin if begin[a] or end[a]]
    spatial = [a for a in touched if x.roles[a] in "HW"]
    place = _only_along(x, spatial)
    mode = str(view.attr("mode", "constant"))
    if place is None or any(x.roles[a] == "N" for a in touched):
        return view.moved("pad", x.roles, mode=mode, pads=(0, 0, 0, 0), barrier=True)
    row, col = place
    pads = (begin.get(row, 0), begin.get(col, 0), end.get(row, 0), end.get(col, 0))
    return view.moved("pad", x.roles, mode=mode, pads=pads)


def resize(view: View) -> list[Draft]:
    """Resize and Upsample. Scales on other axes, antialiasing and cropping coordinates are barriers."""
    x = view.first
    if x.dims == view.result.dims and view.attr("coordinate_transformation_mode", "") != "tf_crop_and_resize":
        return view.moved("identity", x.roles)
    changed = [a for a in range(x.rank) if x.dims[a] != view.result.dims[a]]
    place = _only_along(x, changed)
    old = view.opset < 11
    coordinates = str(view.attr("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"))
    mode = str(view.attr("mode", "nearest"))
    attrs: Attributes = {"mode": "linear" if mode == "bilinear" else mode, "coordinates": coordinates}
    attrs["nearest"] = str(view.attr("nearest_mode", "floor" if old else "round_prefer_floor"))
    special = bool(view.attr("antialias", 0)) or coordinates == "tf_crop_and_resize"
    if place is None or special or x.row_axis is None:
        return view.moved("resize", x.roles, **attrs, scale=(1, 1, 1, 1), barrier=True)
    scales = _scales(view, x)
    rows, cols = (scales.get(a, Fraction(1)) for a in (x.row_axis, place[1]))
    attrs["scale"] = (rows.numerator, rows.denominator, cols.numerator, cols.denominator)
    return view.moved("resize", x.roles, **attrs)


def _scales(view: View, x: Value) -> dict[int, Fraction]:
    """Scale of each axis: as written when it is written, else output extent over input extent."""
    exact = {a: Fraction(view.result.dims[a], x.dims[a]) for a in range(x.rank)}
    given = view.operand(2 if view.node.op_type == "Resize" and view.opset >= 11 else 1)
    written = view.attr("scales", None)
    if written is None and given is not None and given.data is not None and given.dims != (0,):
        written = given.data.reshape(-1).tolist()
    if written is None:
        return exact
    axes = view.attr("axes", range(x.rank))
    for axis, scale in zip(axes, written, strict=False):
        near = abs(float(exact[axis % x.rank]) - scale) < 1e-6 * scale
        if not near and scale > 0:
            exact[axis % x.rank] = Fraction(scale).limit_denominator(_SCALE_LIMIT)
    return exact


def blocks(view: View) -> list[Draft]:
    """DepthToSpace and SpaceToDepth, rows on either spatial axis."""
    x = view.first
    kind = "depth_to_space" if view.node.op_type == "DepthToSpace" else "space_to_depth"
    attrs: Attributes = {"block": int(view.attr("blocksize", 1)), "mode": str(view.attr("mode", "DCR"))}
    row = _row_axis(x)
    return view.moved(kind, _roles(x, x.rank, row), **attrs, **barrier_if(row < 0 or not _columns_fit(x, 2, row)))


WINDOW_RULES: Final[dict[str, Rule]] = {
    "AveragePool": pool,
    "Conv": conv,
    "ConvInteger": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": blocks,
    "LpPool": pool,
    "MaxPool": pool,
    "Pad": pad,
    "QLinearConv": conv,
    "Resize": resize,
    "SpaceToDepth": blocks,
    "Upsample": resize,
}
"""ONNX op type -> lowering rule."""
