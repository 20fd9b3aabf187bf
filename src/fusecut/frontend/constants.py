"""Values of small constants: the ops that exporters use to compute shapes, in NumPy.

Only called when the result is known to be small, so nothing here can be made to allocate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fusecut.frontend.values import Array, Dims, Node

_Arrays: TypeAlias = Sequence[Array | None]
Evaluator: TypeAlias = Callable[[Node, _Arrays, Dims], Array]
"""(node, operand values, shape of the result) -> value of the first output."""


def evaluate(node: Node, operands: _Arrays, dims: Dims) -> Array | None:
    """Value of the node's first output, or None when the op is not one of these or cannot be computed."""
    evaluator = EVALUATORS.get(node.op_type)
    if evaluator is None or node.domain:
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(evaluator(node, operands, dims))
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError):
        return None


def _need(operands: _Arrays, index: int) -> Array:
    value = operands[index]
    if value is None:
        raise ValueError("value not known")
    return value


def _constant(node: Node, operands: _Arrays, dims: Dims) -> Array:
    for key, dtype in (("value_ints", np.int64), ("value_int", np.int64), ("value_floats", np.float32), ("value_float", np.float32)):
        if key in node.attrs:
            return np.asarray(node.attrs[key], dtype)
    return numpy_helper.to_array(node.attrs["value"])


def _constant_of_shape(node: Node, operands: _Arrays, dims: Dims) -> Array:
    value = node.attrs.get("value")
    fill = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return np.full(dims, fill.reshape(-1)[0])


def _binary(function: Callable[..., Any]) -> Evaluator:
    return lambda node, operands, dims: np.asarray(function(_need(operands, 0), _need(operands, 1)))


def _unary(function: Callable[..., Any]) -> Evaluator:
    return lambda node, operands, dims: np.asarray(function(_need(operands, 0)))


def _div(node: Node, operands: _Arrays, dims: Dims) -> Array:
    """Integers divide like C: towards zero."""
    a, b = _need(operands, 0), _need(operands, 1)
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    quotient = np.abs(a) // np.abs(b)
    return np.asarray((np.sign(a) * np.sign(b) * quotient).astype(a.dtype))


def _mod(node: Node, operands: _Arrays, dims: Dims) -> Array:
    function = np.fmod if node.attrs.get("fmod") else np.mod
    return np.asarray(function(_need(operands, 0), _need(operands, 1)))


def _cast(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return _need(operands, 0).astype(helper.tensor_dtype_to_np_dtype(node.attrs["to"]))


def _cast_like(node: Node, operands: _Arrays, dims: Dims) -> Array:
    like = operands[1]
    return _need(operands, 0) if like is None else _need(operands, 0).astype(like.dtype)


def _gather(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return np.take(_need(operands, 0), _need(operands, 1), axis=node.attrs.get("axis", 0))


def _reshaped(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return _need(operands, 0).reshape(dims)


def _expanded(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return np.array(np.broadcast_to(_need(operands, 0), dims))


def _concat(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return np.concatenate([_need(operands, i) for i in range(len(operands))], axis=node.attrs["axis"])


def _transpose(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return np.transpose(_need(operands, 0), node.attrs.get("perm"))


def _range(node: Node, operands: _Arrays, dims: Dims) -> Array:
    start, step = _need(operands, 0), _need(operands, 2)
    return np.asarray(start + np.arange(dims[0]) * step, start.dtype)


def _slice(node: Node, operands: _Arrays, dims: Dims) -> Array:
    source = _need(operands, 0)
    windows = [slice(None)] * source.ndim
    for axis, start, stop, step in slice_windows(node, operands, source.ndim):
        windows[axis] = slice(start, None if stop < 0 and step < 0 and stop < -source.shape[axis] else stop, step)
    return source[tuple(windows)]


def slice_windows(node: Node, operands: _Arrays, rank: int) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a Slice as written, from attributes (opset < 10) or operands."""
    if len(operands) == 1:
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        axes = list(node.attrs.get("axes", range(len(starts))))
        return [(a % rank, s, e, 1) for a, s, e in zip(axes, starts, ends, strict=True)]
    starts, ends = _ints(_need(operands, 1)), _ints(_need(operands, 2))
    given = list(operands[3:5]) + [None] * (5 - max(len(operands), 3))
    axes = list(range(len(starts))) if given[0] is None else _ints(given[0])
    steps = [1] * len(starts) if given[1] is None else _ints(given[1])
    return [(a % rank, s, e, t) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)]


def _ints(array: Array) -> list[int]:
    return [int(v) for v in array.reshape(-1)]


def _where(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return np.where(_need(operands, 0), _need(operands, 1), _need(operands, 2))


def _reduced(function: Callable[..., Any]) -> Evaluator:
    def run(node: Node, operands: _Arrays, dims: Dims) -> Array:
        axes = node.attrs.get("axes")
        if len(operands) > 1 and operands[1] is not None:
            axes = _ints(operands[1])
        source = _need(operands, 0)
        return np.asarray(function(source, axis=tuple(axes) if axes else None)).astype(source.dtype).reshape(dims)

    return run


def _tile(node: Node, operands: _Arrays, dims: Dims) -> Array:
    return np.tile(_need(operands, 0), _ints(_need(operands, 1)))


EVALUATORS: Final[dict[str, Evaluator]] = {
    "Abs": _unary(np.abs),
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _unary(np.ceil),
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _div,
    "Equal": _binary(np.equal),
    "Expand": _expanded,
    "Flatten": _reshaped,
    "Floor": _unary(np.floor),
    "Gather": _gather,
    "Greater": _binary(np.greater),
    "Identity": _unary(np.asarray),
    "Less": _binary(np.less),
    "Max": _binary(np.maximum),
    "Min": _binary(np.minimum),
    "Mod": _mod,
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _binary(np.logical_or),
    "Pow": _binary(np.power),
    "Range": _range,
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "Reshape": _reshaped,
    "Slice": _slice,
    "Sqrt": _unary(np.sqrt),
    "Squeeze": _reshaped,
    "Sub": _binary(np.subtract),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshaped,
    "Where": _where,
}
"""Every op that can take part in computing a shape."""


def proto_of(value: Array, name: str) -> onnx.TensorProto:
    """A constant as ONNX shape inference wants it."""
    return numpy_helper.from_array(np.ascontiguousarray(value) if value.ndim else value, name)
