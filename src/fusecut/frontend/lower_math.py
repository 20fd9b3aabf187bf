"""Lowering of ops that compute: linear maps, element-wise arithmetic, reductions, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fusecut.frontend import layout
from fusecut.frontend.layout import Placed
from fusecut.frontend.values import Value, whole_numbers
from fusecut.frontend.view import Attributes, Draft, Rule, View, barrier_if, names, opaque
from fusecut.ops import BOTH

_AFFINE: Final = frozenset({"Add", "Sub", "Mul", "Div"})
_MATMUL_AT: Final = {"QLinearMatMul": (0, 3)}
"""Positions of the two factors where they are not (0, 1)."""


def pointwise(view: View) -> list[Draft]:
    """Element by element: `elementwise` of several activations, else `affine` or `activation`.

    Constants of one element are immediates and cost nothing.
    """
    acts = view.activations
    function = view.node.op_type
    placed = layout.broadcast(acts, view.result.dims)
    consts = [c for c in view.constants if c.elements > 1]
    grown = layout.canonical(view.result.dims, placed.roles) != _canonical(acts[0])
    if len(acts) > 1 or grown:
        return view.one("elementwise", placed.roles, function=function, **barrier_if(placed.barrier))
    if len(acts) + len(view.constants) == 1 and function in ("Sum", "Mean", "Max", "Min"):
        return view.moved("identity", acts[0].roles)
    if not consts or function not in _AFFINE or (function == "Div" and view.operands[0] is not acts[0]):
        return view.one("activation", placed.roles, function=function)
    return [_affine(view, acts[0], consts[0], placed)]


def _canonical(value: Value) -> tuple[int, int, int, int]:
    return layout.canonical(value.dims, value.roles)


def _affine(view: View, x: Value, const: Value, placed: Placed) -> Draft:
    """Per-channel sums are biases (accumulator width); everything else is weights."""
    adds = _along_channels(x, const) and view.node.op_type in ("Add", "Sub")
    first = x.rank - const.rank
    attrs: Attributes = {"function": view.node.op_type}
    attrs |= layout.channels_of(x, [first + a for a, size in enumerate(const.dims) if size > 1] if first >= 0 else [])
    weights, biases = (0, const.elements) if adds else (const.elements, 0)
    return Draft("affine", [x.name], names(view.results), placed.roles, attrs, weights, biases)


def _along_channels(x: Value, const: Value) -> bool:
    """Whether the constant has one value per channel and no more."""
    roles = x.roles[x.rank - const.rank :] if const.rank <= x.rank else ""
    return bool(roles) and all(d == 1 or r == "C" for d, r in zip(const.dims, roles, strict=True))


def unary(view: View) -> list[Draft]:
    """One operand, element by element; constant parameters of more than one element are weights."""
    if len(view.activations) > 1:
        return pointwise(view)
    return view.one("activation", view.first.roles, function=view.node.op_type)


def identity(view: View) -> list[Draft]:
    """Identity, Dropout, Cast, Quantize and Dequantize; with a scale per channel, affine."""
    x = view.operands[0]
    if x is None or x.constant:
        return opaque(view)
    scale, zero = view.operand(1), view.operand(2)
    if view.node.op_type in ("QuantizeLinear", "DequantizeLinear") and scale is not None and scale.elements > 1:
        return _quantized_per_channel(view, x, scale, zero)
    return view.moved("identity", x.roles)


def _quantized_per_channel(view: View, x: Value, scale: Value, zero: Value | None) -> list[Draft]:
    attrs: Attributes = {"function": view.node.op_type}
    biases = zero.elements if zero is not None and zero.elements > 1 else 0
    return [Draft("affine", [x.name], names(view.results), x.roles, attrs, scale.elements, biases)]


def batch_norm(view: View) -> list[Draft]:
    """Frozen statistics make it one scale and one bias per channel; training mode is a barrier."""
    x = view.operands[0]
    if x is None or x.constant or len(view.activations) > 1:
        return opaque(view)
    channels = x.dims[1] if x.rank > 1 else 1
    results = names(view.results[:1])
    attrs: Attributes = {"function": "BatchNormalization"} | layout.channels_of(x, [1] if x.rank > 1 else [])
    if view.attr("training_mode", 0):
        attrs = {"function": "BatchNormalization"} | barrier_if(x.rows > 1 or x.batch > 1)
        return [Draft("normalise", [x.name], results, x.roles, attrs, channels, channels)]
    return [Draft("affine", [x.name], results, x.roles, attrs, channels, channels)]


def gemm(view: View) -> list[Draft]:
    """Gemm with constant B: linear; C is the bias unless it is a single number."""
    a, b, c = view.operands[0], view.operands[1], view.operand(2)
    if a is None or b is None:
        raise view.fail("has no matrices to multiply; export the network again")
    inner, other = a.dims[0 if view.attr("transA", 0) else 1], b.dims[1 if view.attr("transB", 0) else 0]
    if inner != other:
        raise view.fail(f"multiplies {a.dims} by {b.dims}: {inner} columns meet {other} rows; check the input shape")
    macs = view.result.elements * inner
    if a.constant or not b.constant or (c is not None and not c.constant):
        return opaque(view, macs)
    biases = 0 if c is None or c.elements == 1 < view.result.dims[1] else c.elements
    roles = a.roles[::-1] if view.attr("transA", 0) else a.roles
    return [linear(view, a, b, roles, inner, macs, biases)]


def linear(view: View, x: Value, w: Value, roles: str, inner: int, macs: int, biases: int = 0) -> Draft:
    """A linear map of ``x`` over the last axis of ``roles``, then channels; a barrier when that axis was rows."""
    lost = roles[-1] == "H" and x.rows > 1
    roles = roles[:-1] + "C"
    attrs: Attributes = {"in_features": inner, "out_features": view.result.dims[-1]}
    attrs |= {"channels": (1, w.elements // inner)}
    return Draft("linear", [x.name], names(view.results), roles, attrs | barrier_if(lost), w.elements, biases, macs)


def matmul(view: View) -> list[Draft]:
    """MatMul: `linear` with one constant factor, `matmul` of two activations."""
    left, right = _MATMUL_AT.get(view.node.op_type, (0, 1))
    a, b = view.operand(left), view.operand(right)
    if a is None or b is None or not a.rank or not b.rank:
        raise view.fail("needs two factors with at least one axis; export the network again")
    macs = view.result.elements * a.dims[-1]
    if a.constant == b.constant:
        return _product(view, a, b, macs)
    if b.constant and (view.result.rank == a.rank):
        return [linear(view, a, b, a.roles, a.dims[-1], macs)]
    if a.constant and view.result.rank == b.rank >= 2:
        lost = b.roles[-2] == "H" and b.rows > 1
        attrs: Attributes = {"in_features": b.dims[-2], "out_features": view.result.dims[-2]}
        roles = b.roles if lost else b.roles[:-2] + ("C" if b.roles[-2] == "W" else b.roles[-2]) + b.roles[-1]
        attrs |= layout.channels_of(replace(view.result, roles=roles), [b.rank - 2])
        return [Draft("linear", [b.name], names(view.results), roles, attrs | barrier_if(lost), a.elements, 0, macs)]
    return opaque(view, macs)


def _product(view: View, a: Value, b: Value, macs: int) -> list[Draft]:
    """Of two activations: rows come from the factor whose row axis is not summed over."""
    rank = view.result.rank
    if min(a.rank, b.rank) < 2:
        return opaque(view, macs)
    rows_a, rows_b = (v.row_axis for v in (a, b))
    roles = list(layout.natural(rank))
    operand = -1
    if rows_a is not None and rows_a != a.rank - 1:
        operand, row = 0, rank - a.rank + rows_a
        roles = ["C"] * (rank - a.rank) + list(a.roles)
    elif rows_b is not None and rows_b != b.rank - 2:
        operand, row = 1, rank - b.rank + rows_b
        roles = ["C"] * (rank - b.rank) + list(b.roles)
    if operand >= 0:
        roles = ["C" if r == "H" else r for r in roles]
        roles[row] = "H"
        roles[-1 if operand == 0 else -2] = "C"
        if row < rank - 2 and all(v.rows > 1 and rank - v.rank + (v.row_axis or 0) == row for v in (a, b)):
            operand = BOTH
    attrs: Attributes = {"row_operand": operand}
    return [Draft("matmul", [a.name, b.name], names(view.results), "".join(roles), attrs, macs=macs)]


def reduce(view: View) -> list[Draft]:
    """Reduce*, ArgMax/ArgMin: rows are kept unless they are reduced (then it streams into accumulators)."""
    x = view.first
    axes = view.ints("axes", 1) or view.ints("axis", 9)
    if axes is None and len(view.node.inputs) > 1 and view.node.inputs[1] and whole_numbers(view.operand(1)) is None:
        return opaque(view)
    if not axes and view.attr("noop_with_empty_axes", 0):
        return view.moved("identity", x.roles)
    mode = view.node.op_type.removeprefix("Reduce").lower()
    default = (0,) if mode.startswith("arg") else range(x.rank)
    return [_reduced(view, x, {a % x.rank for a in axes or default}, mode)]


def _reduced(view: View, x: Value, axes: set[int], mode: str) -> Draft:
    kept = int(view.attr("keepdims", 1)) and view.result.rank == x.rank
    roles = "".join(r for a, r in enumerate(x.roles) if kept or a not in axes)
    lost = any(x.roles[a] == "N" and x.dims[a] > 1 for a in axes)
    attrs: Attributes = {"mode": "average" if mode == "mean" else mode}
    return Draft("reduce", [x.name], names(view.results), roles, attrs | barrier_if(lost))


def global_pool(view: View) -> list[Draft]:
    """GlobalAveragePool and its kin: every axis after the channels is reduced."""
    mode = {"GlobalAveragePool": "mean", "GlobalMaxPool": "max"}.get(view.node.op_type, "lp")
    return [_reduced(view, view.first, set(range(2, view.first.rank)), mode)]


def softmax(view: View) -> list[Draft]:
    """Softmax and its kin over one axis (before opset 13: over all axes from it on)."""
    x = view.first
    old = view.opset < 13
    axis = view.axis(1 if old else -1, x.rank)
    return _normalised(view, x, range(axis, x.rank) if old else (axis,), "softmax")


def _normalised(view: View, x: Value, axes: Sequence[int], kind: str = "normalise") -> list[Draft]:
    """Scale and bias are weights and biases; a barrier when rows, or images, are normalised together."""
    lost = any(x.roles[a] in "HN" and x.dims[a] > 1 for a in axes)
    scale, bias = view.operand(1), view.operand(2)
    weights, biases = (0 if v is None or not v.constant else v.elements for v in (scale, bias))
    attrs: Attributes = {"function": view.node.op_type} | barrier_if(lost)
    mixed = not lost and any(a in layout.wide_columns(x) for a in axes)
    roles = layout.without_columns(x.roles) if mixed else x.roles
    return [Draft(kind, [x.name], names(view.results[:1]), roles, attrs, weights, biases)]


def layer_norm(view: View) -> list[Draft]:
    """LayerNormalization, RMSNormalization: all axes from ``axis`` on."""
    x = view.first
    return _normalised(view, x, range(view.axis(-1, x.rank), x.rank))


def instance_norm(view: View) -> list[Draft]:
    """InstanceNormalization, GroupNormalization: over the whole map, so rows wait for each other."""
    return _normalised(view, view.first, range(1, view.first.rank))


def channel_norm(view: View) -> list[Draft]:
    """LRN, LpNormalization: over the channel axis, or the one named."""
    x = view.first
    axis = 1 if view.node.op_type == "LRN" else view.axis(-1, x.rank)
    return _normalised(view, x, (axis,))


def mean_variance_norm(view: View) -> list[Draft]:
    """MeanVarianceNormalization: over batch and map unless axes are named."""
    return _normalised(view, view.first, tuple(view.attr("axes", (0, 2, 3))))


_UNARY: Final = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not PRelu Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin "
    "Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
_POINTWISE: Final = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or Pow Sub Sum Where Xor"
)
_IDENTITY: Final = "Cast CastLike DequantizeLinear Dropout Identity QuantizeLinear"
_REDUCE: Final = (
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare"
)

MATH_RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(_UNARY.split(), unary),
    **dict.fromkeys(_POINTWISE.split(), pointwise),
    **dict.fromkeys(_IDENTITY.split(), identity),
    **dict.fromkeys(_REDUCE.split(), reduce),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"), global_pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_norm),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), instance_norm),
    **dict.fromkeys(("LRN", "LpNormalization"), channel_norm),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), matmul),
    "BatchNormalization": batch_norm,
    "Gemm": gemm,
    "MeanVarianceNormalization": mean_variance_norm,
}
"""ONNX op type -> lowering rule."""
