"""Ops that bring elements together: matrix products, reductions, normalisation; and row-by-row folding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from fusecut.simulate.calls import Call, Rule
from fusecut.simulate.memory import Array
from fusecut.simulate.windows import Axis, axes_of, counts, extended, views

State: TypeAlias = Any
"""What a streaming reduction keeps between rows."""

Folder: TypeAlias = Callable[[State, Call, Array, int], State]
"""(state or None, call, slab of one row, its number) -> state."""


def matmul(call: Call) -> Sequence[Array]:
    """Where rows of the result are a batch, the factor that is at hand in whole is cut to the row."""
    return [np.matmul(*(_of_batch(call, call.need(k)) for k in (0, 1)))]


def _of_batch(call: Call, factor: Array) -> Array:
    row = call.out.row_axis
    return factor if row is None or row >= len(call.out.dims) - 2 else call.cut(factor)


def einsum(call: Call) -> Sequence[Array]:
    return [np.einsum(call.attr("equation", ""), *(call.need(k) for k in range(len(call.args))), optimize=True)]


def gemm(call: Call) -> Sequence[Array]:
    """alpha * A' * B' + beta * C."""
    a, b, c = call.need(0), call.need(1), call.arg(2)
    a = a.T if call.attr("transA", 0) else a
    made = call.attr("alpha", 1.0) * np.matmul(a, b.T if call.attr("transB", 0) else b)
    return [made if c is None else made + call.attr("beta", 1.0) * call.cut(c)]


def reduced_axes(call: Call) -> tuple[int, ...]:
    """Axes that a reduction takes together."""
    rank = len(call.source.dims)
    if call.step.op_type.startswith("Global"):
        return tuple(range(2, rank))
    if call.step.op_type.startswith("Arg"):
        return (int(call.attr("axis", 0)) % rank,)
    axes = call.ints("axes", 1)
    return tuple(a % rank for a in axes) if axes else tuple(range(rank))


def reduce(call: Call) -> Sequence[Array]:
    """All at once, over axes within the rows at hand."""
    x, axes = call.x, reduced_axes(call)
    return [finished(call, combined(call, None, x, axes, 0), axes, x.shape)]


def combined(call: Call, state: State, x: Array, axes: tuple[int, ...], first: int) -> State:
    """Fold a slab, whose rows start at ``first``, into the state."""
    kind = call.step.op_type
    if kind.startswith("Arg"):
        return _best(call, state, x, axes[0], first)
    part = _PARTS[kind](x, axes)
    return part if state is None else _JOINS.get(kind, np.add)(state, part)


def _best(call: Call, state: State, x: Array, axis: int, first: int) -> State:
    sign = 1 if call.step.op_type == "ArgMax" else -1
    flipped = sign * x
    at = np.argmax(flipped, axis=axis, keepdims=True)
    value = np.take_along_axis(flipped, at, axis)
    at = at + (first if axis == call.source.row_axis else 0)
    if state is None:
        return value, at
    better = value > state[0]
    return np.where(better, value, state[0]), np.where(better, at, state[1])


def finished(call: Call, state: State, axes: tuple[int, ...], shape: Sequence[int]) -> Array:
    """The result, from the folded state of operands of this shape."""
    kind = call.step.op_type
    if kind.startswith("Arg"):
        made: Array = state[1]
    elif kind in ("ReduceMean", "GlobalAveragePool"):
        made = state / np.prod([shape[a] for a in axes])
    elif kind in ("ReduceL2", "GlobalLpPool"):
        made = np.sqrt(state)
    else:
        made = np.log(state) if kind in ("ReduceLogSum", "ReduceLogSumExp") else state
    return made.reshape(call.out_dims())


def _sum(function: Callable[[Array], Array]) -> Callable[[Array, tuple[int, ...]], Array]:
    return lambda x, axes: np.asarray(function(x).sum(axis=axes, keepdims=True))


_PARTS: Final[dict[str, Callable[[Array, tuple[int, ...]], Array]]] = {
    "GlobalAveragePool": _sum(np.asarray),
    "GlobalLpPool": _sum(np.square),
    "GlobalMaxPool": lambda x, axes: np.asarray(x.max(axis=axes, keepdims=True)),
    "ReduceL1": _sum(np.abs),
    "ReduceL2": _sum(np.square),
    "ReduceLogSum": _sum(np.asarray),
    "ReduceLogSumExp": _sum(np.exp),
    "ReduceMax": lambda x, axes: np.asarray(x.max(axis=axes, keepdims=True)),
    "ReduceMean": _sum(np.asarray),
    "ReduceMin": lambda x, axes: np.asarray(x.min(axis=axes, keepdims=True)),
    "ReduceProd": lambda x, axes: np.asarray(x.prod(axis=axes, keepdims=True)),
    "ReduceSum": _sum(np.asarray),
    "ReduceSumSquare": _sum(np.square),
}
_JOINS: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "GlobalMaxPool": np.maximum,
    "ReduceMax": np.maximum,
    "ReduceMin": np.minimum,
    "ReduceProd": np.multiply,
}

NEUTRAL: Final[dict[str, float]] = {
    **dict.fromkeys(("ArgMax", "GlobalMaxPool", "MaxPool", "ReduceLogSumExp", "ReduceMax"), -np.inf),
    **dict.fromkeys(("ArgMin", "ReduceMin"), np.inf),
    "ReduceProd": 1.0,
}
"""Op type -> what changes nothing when it is folded; 0 for those that add."""


# Row by row -------------------------------------------------------------------------------------


def fold_reduce(state: State, call: Call, slab: Array, row: int) -> State:
    """One row into the accumulators of a reduction."""
    return combined(call, state, slab, reduced_axes(call), row)


def end_reduce(state: State, call: Call) -> Array:
    return finished(call, state, reduced_axes(call), call.source.dims)


def fold_pool(state: State, call: Call, slab: Array, row: int) -> State:
    """One row of a pool that covers the whole map: windows along the columns only."""
    axes = [_without_rows(a, i, call) for i, a in enumerate(_pool_axes(call))]
    largest = call.step.op_type == "MaxPool"
    x, left = extended(_plain(call, slab), axes, -np.inf if largest else 0.0)
    v = views(x, left)
    taps = tuple(range(v.ndim - len(left), v.ndim))
    part = v.max(axis=taps) if largest else v.sum(axis=taps)
    if state is None:
        return part
    return np.maximum(state, part) if largest else state + part


def _pool_axes(call: Call) -> list[Axis]:
    return axes_of(call, tuple(call.attr("kernel_shape", ())))


def _without_rows(axis: Axis, place: int, call: Call) -> Axis:
    return Axis(1, 1, 1, 1, 1, 0, 0) if place == (call.source.row_axis or 2) - 2 else axis


def _plain(call: Call, slab: Array) -> Call:
    return Call(call.step, [slab], [0], call.ins[:1], call.outs, None, call.dtype)


def end_pool(state: State, call: Call) -> Array:
    made = state if call.step.op_type == "MaxPool" else state / counts(_plain(call, state), _pool_axes(call))
    return np.asarray(made).reshape(call.out_dims())


def fold_linear(state: State, call: Call, slab: Array, row: int) -> State:
    """One row of a map that is flattened and multiplied: its part of the weights."""
    layout = call.source
    w = call.need(1)
    w = w.T if call.attr("transB", 0) else w
    rest = w.reshape(*layout.dims[1:], w.shape[-1])
    axis = (layout.row_axis or 0) - 1
    part = slab.reshape(slab.shape[0], -1) @ rest.take(row, axis=axis).reshape(-1, w.shape[-1])
    return part if state is None else state + part


def end_linear(state: State, call: Call) -> Array:
    bias = call.arg(2)
    made = call.attr("alpha", 1.0) * state
    return np.asarray(made if bias is None else made + call.attr("beta", 1.0) * bias)


FOLDS: Final[dict[str, tuple[Folder, Callable[[State, Call], Array]]]] = {
    "linear": (fold_linear, end_linear),
    "pool": (fold_pool, end_pool),
    "reduce": (fold_reduce, end_reduce),
}
"""Kind -> how a streaming reduction takes in a row, and how it ends."""


# Normalisation ----------------------------------------------------------------------------------


def softmax(call: Call) -> Sequence[Array]:
    """Over one axis; before opset 13 over all axes from it on."""
    rank = len(call.source.dims)
    old = call.step.opset < 13
    axis = call.axis(1 if old else -1)
    axes = tuple(range(axis, rank)) if old else (axis,)
    shifted = call.x - call.x.max(axis=axes, keepdims=True)
    total = np.exp(shifted).sum(axis=axes, keepdims=True)
    return [shifted - np.log(total) if call.step.op_type == "LogSoftmax" else np.exp(shifted) / total]


def layer_norm(call: Call) -> Sequence[Array]:
    """Mean 0 and variance 1 over all axes from ``axis`` on (RMS: no mean), then scale and bias."""
    axes = tuple(range(call.axis(-1), len(call.source.dims)))
    x = call.x if call.step.op_type == "RMSNormalization" else call.x - call.x.mean(axis=axes, keepdims=True)
    made = x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + call.attr("epsilon", 1e-5))
    scale, bias = call.arg(1), call.arg(2)
    made = made if scale is None else made * call.cut(scale)
    return [made if bias is None else made + call.cut(bias)]


def instance_norm(call: Call) -> Sequence[Array]:
    """Each channel, or each group of channels, over the whole map."""
    x, groups = call.x, int(call.attr("num_groups", call.x.shape[1]))
    parts = x.reshape(x.shape[0], groups, -1)
    parts = parts - parts.mean(axis=-1, keepdims=True)
    parts = parts / np.sqrt((parts * parts).mean(axis=-1, keepdims=True) + call.attr("epsilon", 1e-5))
    shape = (-1, *(1,) * (x.ndim - 2))
    scale, bias = (np.repeat(call.need(i), x.shape[1] // call.need(i).size).reshape(shape) for i in (1, 2))
    return [parts.reshape(x.shape) * scale + bias]


def response_norm(call: Call) -> Sequence[Array]:
    """LRN: divided by a power of the squares of neighbouring channels."""
    x, size = call.x, int(call.attr("size", 1))
    squares = np.pad(x * x, [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return [x / (call.attr("bias", 1.0) + call.attr("alpha", 1e-4) / size * total) ** call.attr("beta", 0.75)]


def lp_norm(call: Call) -> Sequence[Array]:
    axis, p = call.axis(-1), int(call.attr("p", 2))
    return [call.x / (np.abs(call.x) ** p).sum(axis=axis, keepdims=True) ** (1 / p)]


SUMS: Final[dict[str, Rule]] = {
    **dict.fromkeys(_PARTS, reduce),
    "ArgMax": reduce,
    "ArgMin": reduce,
    "Einsum": einsum,
    "Gemm": gemm,
    "GroupNormalization": instance_norm,
    "InstanceNormalization": instance_norm,
    "LRN": response_norm,
    "LayerNormalization": layer_norm,
    "LogSoftmax": softmax,
    "LpNormalization": lp_norm,
    "MatMul": matmul,
    "RMSNormalization": layer_norm,
    "Softmax": softmax,
}
"""ONNX op type -> rule."""
