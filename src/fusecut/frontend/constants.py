"""Values of small constants: the ops that exporters use to compute shapes, in NumPy.

Only called when the result is known to be small, so nothing here can be made to allocate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fusecut.frontend.values import MAX_CONSTANT, Array, Dims, Node

_SHAPE_OPERAND: Final = 64  # operands up to this size may steer a shape; larger ones never do
_SHAPE_TYPES: Final = (np.bool_, np.int32, np.int64, np.float32, np.float64)


@dataclass(frozen=True)
class Call:
    """A node with its operands' values (None: not known) and the shape of its first output."""

    node: Node
    operands: Sequence[Array | None]
    dims: Dims

    def need(self, index: int) -> Array:
        """Value of an operand; ValueError when it is not known."""
        return _known(self.operands[index])


Evaluator: TypeAlias = Callable[[Call], Array]
"""Value of the first output."""


def evaluate(call: Call) -> Array | None:
    """Value of the node's first output, or None when the op is not one of these or cannot be computed."""
    evaluator = EVALUATORS.get(call.node.op_type)
    if evaluator is None or call.node.domain:
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(evaluator(call))
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError):
        return None


def array_of(tensor: onnx.TensorProto) -> Array | None:
    """Values of a small tensor that are in the file itself; None otherwise. External data is never opened."""
    outside = tensor.data_location == onnx.TensorProto.EXTERNAL
    if outside or tensor.data_type == onnx.TensorProto.STRING or any(d < 0 for d in tensor.dims):
        return None
    if math.prod(tensor.dims) > MAX_CONSTANT:
        return None
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):  # damaged values: the shape is all that is needed of weights
        return None


def _constant(call: Call) -> Array:
    for key, dtype in (
        ("value_ints", np.int64),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_float", np.float32),
    ):
        if key in call.node.attrs:
            return np.asarray(call.node.attrs[key], dtype)
    return _known(array_of(call.node.attrs["value"]))


def _constant_of_shape(call: Call) -> Array:
    value = call.node.attrs.get("value")
    fill = np.zeros(1, np.float32) if value is None else _known(array_of(value))
    return np.full(call.dims, fill.reshape(-1)[0])


def _binary(function: Callable[..., Any]) -> Evaluator:
    return lambda call: np.asarray(function(call.need(0), call.need(1)))


def _unary(function: Callable[..., Any]) -> Evaluator:
    return lambda call: np.asarray(function(call.need(0)))


def _div(call: Call) -> Array:
    """Integers divide like C: towards zero."""
    a, b = call.need(0), call.need(1)
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    quotient = np.abs(a) // np.abs(b)
    return np.asarray((np.sign(a) * np.sign(b) * quotient).astype(a.dtype))


def _mod(call: Call) -> Array:
    function = np.fmod if call.node.attrs.get("fmod") else np.mod
    return np.asarray(function(call.need(0), call.need(1)))


def _cast(call: Call) -> Array:
    return call.need(0).astype(helper.tensor_dtype_to_np_dtype(call.node.attrs["to"]))


def _cast_like(call: Call) -> Array:
    like = call.operands[1]
    return call.need(0) if like is None else call.need(0).astype(like.dtype)


def _gather(call: Call) -> Array:
    return np.take(call.need(0), call.need(1), axis=call.node.attrs.get("axis", 0))


def _reshaped(call: Call) -> Array:
    return call.need(0).reshape(call.dims)


def _expanded(call: Call) -> Array:
    return np.array(np.broadcast_to(call.need(0), call.dims))


def _concat(call: Call) -> Array:
    return np.concatenate([call.need(i) for i in range(len(call.operands))], axis=call.node.attrs["axis"])


def _transpose(call: Call) -> Array:
    return np.transpose(call.need(0), call.node.attrs.get("perm"))


def _range(call: Call) -> Array:
    start, step = call.need(0), call.need(2)
    return np.asarray(start + np.arange(call.dims[0]) * step, start.dtype)


def _slice(call: Call) -> Array:
    source = call.need(0)
    windows = [slice(None)] * source.ndim
    for axis, start, stop, step in slice_windows(call.node, call.operands, source.ndim):
        windows[axis] = slice(start, None if stop < 0 and step < 0 and stop < -source.shape[axis] else stop, step)
    return source[tuple(windows)]


def _known(value: Array | None) -> Array:
    if value is None:
        raise ValueError("value not known")
    return value


def slice_windows(node: Node, operands: Sequence[Array | None], rank: int) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a Slice as written, from attributes (opset < 10) or operands."""
    if len(operands) == 1:
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        axes = list(node.attrs.get("axes", range(len(starts))))
        return [(a % rank, s, e, 1) for a, s, e in zip(axes, starts, ends, strict=True)]
    starts, ends = _ints(_known(operands[1])), _ints(_known(operands[2]))
    given = list(operands[3:5]) + [None] * (5 - max(len(operands), 3))
    axes = list(range(len(starts))) if given[0] is None else _ints(given[0])
    steps = [1] * len(starts) if given[1] is None else _ints(given[1])
    return [(a % rank, s, e, t) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)]


def _ints(array: Array) -> list[int]:
    return [int(v) for v in array.reshape(-1)]


def _where(call: Call) -> Array:
    return np.where(call.need(0), call.need(1), call.need(2))


def _reduced(function: Callable[..., Any]) -> Evaluator:
    def run(call: Call) -> Array:
        axes = call.node.attrs.get("axes")
        if len(call.operands) > 1 and call.operands[1] is not None:
            axes = _ints(call.operands[1])
        source = call.need(0)
        return np.asarray(function(source, axis=tuple(axes) if axes else None)).astype(source.dtype).reshape(call.dims)

    return run


def _tile(call: Call) -> Array:
    return np.tile(call.need(0), _ints(call.need(1)))


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
    "GreaterOrEqual": _binary(np.greater_equal),
    "Identity": _unary(np.asarray),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
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
    "Xor": _binary(np.logical_xor),
}
"""Every op that can take part in computing a shape."""


def proto_of(value: Array | None, name: str) -> onnx.TensorProto | None:
    """A constant as ONNX shape inference wants it; None for values and types no shape is made of."""
    if value is None or value.size > _SHAPE_OPERAND or value.dtype not in _SHAPE_TYPES:
        return None
    return numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
