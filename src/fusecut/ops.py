"""Facts about each op kind: how its rows and columns depend on its operands'. No cost.

The kinds, and what ``attrs`` they carry, are the table :data:`RULES`; each rule's docstring is
its row in the documentation. Spatial attributes are (rows, cols) pairs; ``pads`` is (top, left,
bottom, right). Any kind may carry ``barrier=True`` when the axis it works on is the row axis in
a way that cannot be streamed; anything unknown is ``opaque`` and always a barrier.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

from fusecut import rowmap
from fusecut.ir import Graph, Op, Tensor
from fusecut.rowmap import RowMap

ROWS: Final = 0
COLS: Final = 1

Rule: TypeAlias = Callable[[Op, int, int, int, int], RowMap]
"""(op, operand position, axis, operand extent, output extent) -> map along that axis."""


def pair(op: Op, key: str, axis: int, default: int) -> int:
    """One axis of a (rows, cols) attribute."""
    value = op.attrs.get(key)
    return value[axis] if isinstance(value, tuple) else default


def _conv(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Window: rows q*s - p to q*s - p + d(k-1)."""
    return rowmap.window(
        size_in,
        size_out,
        pair(op, "kernel", axis, 1),
        pair(op, "strides", axis, 1),
        pair(op, "dilations", axis, 1),
        pair(op, "pads", axis, 0),
    )


def _pool(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Window, like a convolution; a pool whose one output covers the whole map is a reduction."""
    covers = pair(op, "kernel", axis, 1) - pair(op, "pads", axis, 0) >= size_in
    if size_out == 1 and covers and pair(op, "dilations", axis, 1) == 1:
        return rowmap.reduction(size_in, size_out)
    return _conv(op, operand, axis, size_in, size_out)


def _conv_transpose(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Window: rows ceil((q+p-d(k-1))/s) to floor((q+p)/s)."""
    return rowmap.transposed(
        size_in,
        size_out,
        pair(op, "kernel", axis, 1),
        pair(op, "strides", axis, 1),
        pair(op, "dilations", axis, 1),
        pair(op, "pads", axis, 0),
    )


def _pointwise(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Row q needs row q; a one-row operand is broadcast."""
    if size_in == size_out:
        return rowmap.window(size_in, size_out)
    return rowmap.broadcast(size_out) if size_in == 1 else rowmap.barrier(size_in, size_out)


def _linear(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Row by row; with ``flatten`` (fully connected on a flattened map) a streaming reduction."""
    if op.attrs.get("flatten"):
        return _reduce(op, operand, axis, size_in, size_out)
    return _pointwise(op, operand, axis, size_in, size_out)


def _reduce(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Global pooling and Reduce* over the rows: a streaming reduction; over other axes row by row."""
    if size_in > 1 and size_out == 1:
        return rowmap.reduction(size_in, size_out)
    return _pointwise(op, operand, axis, size_in, size_out)


BOTH: Final = 2
"""``row_operand`` of a product whose rows are a batch: row q of the result is the product of both rows q."""


def _matmul(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Of two activations: the ``row_operand`` row by row, the other one whole; in a batch of products both."""
    if axis == ROWS and op.attrs.get("row_operand") in (operand, BOTH):
        return _pointwise(op, operand, axis, size_in, size_out)
    return rowmap.barrier(size_in, size_out)


def product_sizes(op: Op, left: Tensor, right: Tensor) -> tuple[int, int]:
    """(m, n) of a product (..., m, f) x (..., f, n) of two activations; ``product`` where axes lie otherwise."""
    given = op.attrs.get("product")
    if isinstance(given, tuple):
        return given[0], given[1]
    return left.dims[-2] if len(left.dims) > 1 else 1, right.dims[-1] if len(right.dims) > 1 else 1


def _concat(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Row by row over channels or columns; over rows, row q - offset of the operand."""
    offsets = op.attrs.get("offsets")
    if op.attrs.get("axis") == axis and isinstance(offsets, tuple):
        return rowmap.window(size_in, size_out, pad=offsets[operand])
    return _pointwise(op, operand, axis, size_in, size_out)


def _slice(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Row start + q*step; Split over channels is row by row."""
    start, step = pair(op, "starts", axis, 0), pair(op, "steps", axis, 1)
    if step < 1:
        return rowmap.barrier(size_in, size_out)
    return rowmap.window(size_in, size_out, stride=step, pad=-start)


def _pad(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Row q - top (negative pads crop); reflected and edge rows are those they copy."""
    return rowmap.padded(size_in, size_out, pair(op, "pads", axis, 0), str(op.attrs.get("mode", "constant")))


def _resize(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Nearest floor(q/f), linear two rows, cubic four, by the coordinate mode of the file."""
    scale = op.attrs.get("scale")
    ratio = Fraction(size_out, size_in)
    if isinstance(scale, tuple):
        ratio = Fraction(scale[2 * axis], scale[2 * axis + 1])
    return rowmap.resized(
        size_in,
        size_out,
        ratio,
        str(op.attrs.get("mode", "nearest")),
        str(op.attrs.get("coordinates", "half_pixel")),
        str(op.attrs.get("nearest", "round_prefer_floor")),
    )


def _refold(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Data moved, not computed: rows kept, split (floor(q/f)) or merged (q*f to q*f+f-1)."""
    if size_out % size_in == 0:
        return rowmap.spread(size_in, size_out, size_out // size_in)
    if size_in % size_out == 0:
        return rowmap.gather(size_in, size_out, size_in // size_out)
    return rowmap.barrier(size_in, size_out)


def _opaque(op: Op, operand: int, axis: int, size_in: int, size_out: int) -> RowMap:
    """Unknown: every output row needs every operand row (a barrier, named in the output)."""
    return rowmap.barrier(size_in, size_out)


RULES: Final[dict[str, Rule]] = {
    "conv": _conv,
    "pool": _pool,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
    "activation": _pointwise,
    "elementwise": _pointwise,
    "affine": _pointwise,
    "normalise": _pointwise,
    "softmax": _pointwise,
    "expand": _pointwise,
    "identity": _pointwise,
    "reduce": _reduce,
    "concat": _concat,
    "split": _slice,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "depth_to_space": _refold,
    "space_to_depth": _refold,
    "reshape": _refold,
    "transpose": _pointwise,
    "opaque": _opaque,
}
"""Every op kind and its row rule."""

UNARY_KINDS: Final = frozenset({"activation", "affine", "identity"})
"""One operand, one result of the same shape, element by element: foldable."""

POINTWISE_KINDS: Final = UNARY_KINDS | {"elementwise"}
"""Element by element, any number of operands."""


def axis_map(graph: Graph, op: Op, operand: int, axis: int) -> RowMap:
    """Map of one operand along rows or columns, between the canonical (H, W) extents."""
    source: Tensor = graph.tensors[op.inputs[operand]]
    made: Tensor = graph.tensors[op.outputs[0]]
    size_in, size_out = source.shape[2 + axis], made.shape[2 + axis]
    if op.attrs.get("barrier"):
        return rowmap.barrier(size_in, size_out)
    return RULES[op.kind](op, operand, axis, size_in, size_out)


def row_maps(graph: Graph) -> tuple[tuple[RowMap, ...], ...]:
    """Row maps of every op, one per operand in the order of ``op.inputs``."""
    return tuple(tuple(axis_map(graph, op, k, ROWS) for k in range(len(op.inputs))) for op in graph.ops)


def pixel_map(graph: Graph, op: Op, operand: int) -> RowMap:
    """Map of one operand over pixels in raster order (:func:`fusecut.rowmap.raster`)."""
    rows, cols = (axis_map(graph, op, operand, axis) for axis in (ROWS, COLS))
    return rowmap.raster(rows, cols, graph.tensors[op.inputs[operand]].cols)


def pixel_maps(graph: Graph) -> tuple[tuple[RowMap, ...], ...]:
    """Pixel maps of every op, like :func:`row_maps`."""
    return tuple(tuple(pixel_map(graph, op, k) for k in range(len(op.inputs))) for op in graph.ops)


def event_rows(graph: Graph, op: Op) -> int:
    """How many row events the op has: the rows of its outputs (all outputs have as many)."""
    return graph.tensors[op.outputs[0]].rows


def accumulator_elements(graph: Graph, op: Op) -> int:
    """Accumulators that a streaming reduction keeps: one row of its output; 0 for other ops.

    The place of an extreme (``op_type`` ArgMax or ArgMin) takes two: the best value so far and its row.
    """
    if any(m.reduces for m in (axis_map(graph, op, k, ROWS) for k in range(len(op.inputs)))):
        made = graph.tensors[op.outputs[0]]
        return made.channels * made.cols * (2 if op.attrs.get("op_type") in ("ArgMax", "ArgMin") else 1)
    return 0
