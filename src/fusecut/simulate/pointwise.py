"""Element by element arithmetic, by ONNX op type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

import numpy as np

from fusecut.simulate.calls import Call, Rule
from fusecut.simulate.memory import Array

_ERF: Final = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Array) -> Array:
    return np.asarray(_ERF(x.astype(np.float64)), np.float64)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def _unary(function: Callable[[Array], Any]) -> Rule:
    return lambda call: [np.asarray(function(call.x))]


def _fold(function: Callable[..., Any]) -> Rule:
    return lambda call: [np.asarray(reduce(function, call.aligned()))]


def _mean(call: Call) -> Sequence[Array]:
    parts = call.aligned()
    return [np.asarray(sum(parts) / len(parts))]


def _where(call: Call) -> Sequence[Array]:
    condition, a, b = call.aligned()
    return [np.where(condition != 0, a, b)]


def _clip(call: Call) -> Sequence[Array]:
    low = call.attr("min", None) if call.arg(1) is None else call.arg(1)
    high = call.attr("max", None) if call.arg(2) is None else call.arg(2)
    return [call.x if low is None and high is None else np.clip(call.x, low, high)]


def _gelu(call: Call) -> Sequence[Array]:
    x = call.x
    if call.attr("approximate", "none") == "tanh":
        return [0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))]
    return [0.5 * x * (1 + _erf(x / math.sqrt(2)))]


def _elu(call: Call) -> Sequence[Array]:
    return [np.where(call.x > 0, call.x, call.attr("alpha", 1.0) * np.expm1(np.minimum(call.x, 0)))]


def _celu(call: Call) -> Sequence[Array]:
    alpha = call.attr("alpha", 1.0)
    return [np.maximum(call.x, 0) + np.minimum(0, alpha * np.expm1(call.x / alpha))]


def _selu(call: Call) -> Sequence[Array]:
    alpha, gamma = call.attr("alpha", 1.67326319217681884765625), call.attr("gamma", 1.05070102214813232421875)
    return [gamma * np.where(call.x > 0, call.x, alpha * np.expm1(np.minimum(call.x, 0)))]


def _hard_sigmoid(call: Call) -> Sequence[Array]:
    return [np.clip(call.attr("alpha", 0.2) * call.x + call.attr("beta", 0.5), 0, 1)]


def _hard_swish(call: Call) -> Sequence[Array]:
    return [call.x * np.clip(call.x / 6 + 0.5, 0, 1)]


def _leaky(call: Call) -> Sequence[Array]:
    return [np.where(call.x >= 0, call.x, call.attr("alpha", 0.01) * call.x)]


def _prelu(call: Call) -> Sequence[Array]:
    x, slope = call.aligned()
    return [np.where(x >= 0, x, slope * x)]


def _thresholded(call: Call) -> Sequence[Array]:
    return [np.where(call.x > call.attr("alpha", 1.0), call.x, 0)]


def _shrink(call: Call) -> Sequence[Array]:
    bias, limit = call.attr("bias", 0.0), call.attr("lambd", 0.5)
    return [np.where(call.x < -limit, call.x + bias, np.where(call.x > limit, call.x - bias, 0))]


def _swish(call: Call) -> Sequence[Array]:
    return [call.x * _sigmoid(call.attr("alpha", 1.0) * call.x)]


def _mod(call: Call) -> Sequence[Array]:
    a, b = call.aligned()
    return [np.fmod(a, b) if call.attr("fmod", 0) else np.mod(a, b)]


def _per_channel(value: Array, rank: int, axis: int) -> Array:
    """A vector along one axis, ready to broadcast."""
    return value if value.ndim != 1 else value.reshape([-1 if a == axis else 1 for a in range(rank)])


def _batch_norm(call: Call) -> Sequence[Array]:
    scale, bias, mean, var = (_per_channel(call.need(i), call.x.ndim, 1) for i in range(1, 5))
    return [(call.x - mean) / np.sqrt(var + call.attr("epsilon", 1e-5)) * scale + bias]


def _quantize(call: Call) -> Sequence[Array]:
    """Divided by the scale, rounded to even, moved by the zero point, and saturated in its type."""
    scale, zero = _scale_and_zero(call)
    limits = np.iinfo(np.uint8 if zero is None else zero.dtype)
    values = np.round(call.x / scale) + (0 if zero is None else zero)
    return [np.clip(values, limits.min, limits.max)]


def _dequantize(call: Call) -> Sequence[Array]:
    scale, zero = _scale_and_zero(call)
    return [(call.x - (0 if zero is None else zero.astype(call.dtype))) * scale]


def _scale_and_zero(call: Call) -> tuple[Array, Array | None]:
    axis = int(call.attr("axis", 1)) % max(1, call.x.ndim)
    zero = call.arg(2)
    scale = _per_channel(call.need(1), call.x.ndim, axis)
    return scale, None if zero is None else _per_channel(zero, call.x.ndim, axis)


def _copy(call: Call) -> Sequence[Array]:
    return [call.x]


POINTWISE: Final[dict[str, Rule]] = {
    "Abs": _unary(np.abs),
    "Add": _fold(np.add),
    "And": _fold(np.logical_and),
    "Atan": _unary(np.arctan),
    "BatchNormalization": _batch_norm,
    "Cast": _copy,
    "CastLike": _copy,
    "Ceil": _unary(np.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _unary(np.cos),
    "DequantizeLinear": _dequantize,
    "Div": _fold(np.divide),
    "Dropout": _copy,
    "Elu": _elu,
    "Equal": _fold(np.equal),
    "Erf": _unary(_erf),
    "Exp": _unary(np.exp),
    "Floor": _unary(np.floor),
    "Gelu": _gelu,
    "Greater": _fold(np.greater),
    "GreaterOrEqual": _fold(np.greater_equal),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _copy,
    "LeakyRelu": _leaky,
    "Less": _fold(np.less),
    "LessOrEqual": _fold(np.less_equal),
    "Log": _unary(np.log),
    "Max": _fold(np.maximum),
    "Mean": _mean,
    "Min": _fold(np.minimum),
    "Mish": _unary(lambda x: x * np.tanh(_softplus(x))),
    "Mod": _mod,
    "Mul": _fold(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _fold(np.logical_or),
    "PRelu": _prelu,
    "Pow": _fold(np.power),
    "QuantizeLinear": _quantize,
    "Reciprocal": _unary(np.reciprocal),
    "Relu": _unary(lambda x: np.maximum(x, 0)),
    "Round": _unary(np.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _unary(_sigmoid),
    "Sign": _unary(np.sign),
    "Sin": _unary(np.sin),
    "Softplus": _unary(_softplus),
    "Softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "Sqrt": _unary(np.sqrt),
    "Sub": _fold(np.subtract),
    "Sum": _fold(np.add),
    "Swish": _swish,
    "Tan": _unary(np.tan),
    "Tanh": _unary(np.tanh),
    "ThresholdedRelu": _thresholded,
    "Where": _where,
    "Xor": _fold(np.logical_xor),
}
"""ONNX op type -> rule; operands broadcast."""
