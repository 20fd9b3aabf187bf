"""Arithmetic in 8-bit integers: the same rows, bit for bit, whatever the order they are made in.

Every tensor t of the file holds integers of 8 bits times a scale 2^e(t), e(t) the least exponent with
which the largest value of one whole run in floating point does not saturate. Weights are integers of 8
bits, other constants of 16, biases multiples of the scale of what they are added to. A node is computed
exactly and its result rounded once, ties to even, and saturated.

Exactly: all operands are integers times powers of two, so products and their sums are such numbers as
well, and float64 holds them without rounding up to 2^53. It serves as the register; that a sum of
products fits 32 bits is checked. Means are one division of an exact sum. Other functions of one
operand are tables of 256 entries, as an accelerator has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from fusecut.errors import SimulationError
from fusecut.frontend.weights import Network, Step
from fusecut.ir import Graph, Op
from fusecut.simulate.calls import Call, to_slab
from fusecut.simulate.compute import Compute, OpKernel
from fusecut.simulate.memory import Array
from fusecut.simulate.moves import MOVES
from fusecut.simulate.pointwise import POINTWISE

LOW, HIGH = -128, 127
LARGEST_SUM: Final = 2**31
SMALLEST: Final = -1000

PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
EXACT: Final = (
    PRODUCTS
    | (MOVES.keys() - {"Resize", "Upsample"})
    | {"Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Dropout", "GlobalAveragePool", "GlobalMaxPool"}
    | {"Identity", "Max", "MaxPool", "Mean", "Min", "Mul", "Neg", "PRelu", "ReduceMax", "ReduceMean", "ReduceMin"}
    | {"ReduceSum", "Relu", "Sub", "Sum"}
)
"""Op types that are sums, products, comparisons and copies."""


def exponent(largest: float, bits: int = 8) -> int:
    """The least e with largest <= (2^(bits-1) - 1) * 2^e; 0 where everything is zero.

    >>> exponent(1.0), exponent(127.0), exponent(0.0)
    (-6, 0, 0)
    """
    return math.ceil(math.log2(largest / (2 ** (bits - 1) - 1))) if largest > 0 else 0


def on_grid(value: Array, e: int) -> Array:
    """The nearest multiples of 2^e, ties to even ones."""
    return np.asarray(np.rint(np.ldexp(value, -e)) * 2.0**e)


class IntegerCompute(Compute):
    """Kernels in 8-bit integers. Rows are int8; within a kernel they are multiples of their scales.

    Raises:
        SimulationError: a node without integer arithmetic, or values that are no finite numbers.
    """

    def __init__(self, graph: Graph, network: Network, inputs: Mapping[str, Array]) -> None:
        super().__init__(graph, network, "float64")
        self.plain = Compute(graph, network, "float64")
        self.exponents: dict[str, int] = {}
        self.sources: dict[str, list[str]] = {}
        self.grids: dict[str, int] = {}
        self.tables: dict[str, Array] = {}
        self._calibrate(inputs)
        self._share_scales()
        for step in network.steps.values():
            for name in step.inputs if step.outputs[0] in self.sources else ():
                self._place(name, step)

    @property
    def stored(self) -> str:
        return "int8"

    # Scales -----------------------------------------------------------------------------------------

    def _calibrate(self, inputs: Mapping[str, Array]) -> None:
        """One run in floating point, op by op on whole tensors, to see how large every value gets."""
        graph = self.graph
        rows = {t: self.plain.rows_of(t, inputs[graph.tensors[t].name]) for t in graph.inputs}
        for t in graph.inputs:
            self._note(graph.tensors[t].name, rows[t])
        for op in graph.ops:
            rows |= self._observed(op, rows)
            self.plain.forget()

    def _observed(self, op: Op, rows: Mapping[int, Array]) -> dict[int, Array]:
        """Results of an op, every value in it noted."""
        facts, kernel, made = self.graph.tensors, OpKernel(self.plain, op), list[list[Array]]()
        if len({facts[t].batch for t in (*op.inputs, *op.outputs)}) > 1:
            raise SimulationError(f"op {op.name!r} mixes images of a batch: simulate it for one image")
        for step in kernel.steps:
            self._check(step)
            self.sources[step.outputs[0]] = [kernel.origin(name) for name in step.inputs]
        for n in range(facts[op.outputs[0]].batch):
            images = [rows[t][n * facts[t].rows : (n + 1) * facts[t].rows] for t in op.inputs]
            env = kernel.whole([to_slab(x, self.layouts[t]) for x, t in zip(images, op.inputs, strict=True)])
            for name, found in env.items():
                self._note(name, found[0][0])
            made.append(kernel.results(env))
        found_rows = {t: np.concatenate([m[k] for m in made]) for k, t in enumerate(op.outputs)}
        for t, value in found_rows.items():
            self._note(facts[t].name, value)
        return found_rows

    def _note(self, name: str, value: Array | None) -> None:
        largest = float(np.max(np.abs(value), initial=0.0)) if value is not None else 0.0
        if not math.isfinite(largest):
            raise SimulationError(f"{name!r} is not finite: it cannot be scaled to integers")
        self.exponents[name] = max(self.exponents.get(name, SMALLEST), exponent(largest))

    def _share_scales(self) -> None:
        """Parts of a concatenation have its scale, so that putting them side by side changes no value."""
        joins = [
            [s.outputs[0], *self.sources[s.outputs[0]]] for s in self.network.steps.values() if s.op_type == "Concat"
        ]
        joins = [[n for n in names if n in self.exponents] for names in joins]
        while any(len({self.exponents[n] for n in names}) > 1 for names in joins):
            for names in joins:
                self.exponents |= dict.fromkeys(names, max(self.exponents[n] for n in names))

    def _place(self, name: str, step: Step) -> None:
        """The scale of a floating-point constant, by the first node that reads it."""
        value = self.plain.constant(name) if name and name not in self.grids else None
        if value is None or not np.issubdtype(value.dtype, np.floating) or step.op_type == "BatchNormalization":
            return
        if step.op_type in PRODUCTS and step.inputs.index(name) == 2:
            factors = self.sources[step.outputs[0]][:2]
            for factor in factors:
                self._place(factor, step)
            self.grids[name] = sum(self._scale_of(factor) for factor in factors)
        else:
            bits = 8 if step.op_type in PRODUCTS else 16
            self.grids[name] = exponent(float(np.max(np.abs(value), initial=0.0)), bits)
        self.plain.forget()

    def _scale_of(self, name: str) -> int:
        return self.grids[name] if name in self.grids else self.exponents[name]

    # What has integer arithmetic --------------------------------------------------------------------

    def _check(self, step: Step) -> None:
        nearest = step.op_type in ("Resize", "Upsample") and step.attrs.get("mode", "nearest") in (
            "nearest",
            b"nearest",
        )
        exact = step.op_type in EXACT and self._is_plain(step)
        if not exact and not nearest and not self._is_table(step):
            raise SimulationError(
                f"{step.op_type} has no integer arithmetic here: simulate with dtype float32 or float64"
            )

    def _is_plain(self, step: Step) -> bool:
        """No factors of a product, and no padding but with zeros."""
        if step.op_type == "Gemm":
            return float(step.attrs.get("alpha", 1.0)) == float(step.attrs.get("beta", 1.0)) == 1.0
        if step.op_type != "Pad":
            return True
        fill = self.plain.constant(step.inputs[2]) if len(step.inputs) > 2 and step.inputs[2] else None
        return not np.any(fill) and not step.attrs.get("value", 0.0)

    def _is_table(self, step: Step) -> bool:
        """A function of one operand: all others are single constants."""
        if step.op_type not in POINTWISE or step.op_type in EXACT:
            return False
        others = [self.plain.constant(name) for name in step.inputs if name]
        return sum(v is None for v in others) == 1 and all(v is None or v.size == 1 for v in others)

    # Arithmetic -------------------------------------------------------------------------------------

    def constant(self, name: str) -> Array | None:
        """A constant as a multiple of its scale; whole numbers (shapes, indices) as they are."""
        known = name in self._constants
        value = super().constant(name)
        if not known and value is not None and name in self.grids:
            self._constants[name] = value = on_grid(value, self.grids[name])
        return value

    def rows_of(self, tensor: int, array: Array) -> Array:
        return self.rows_out(self.graph.tensors[tensor].name, super().rows_of(tensor, array))

    def slab_in(self, name: str, slab: Array) -> Array:
        return np.asarray(slab * 2.0 ** self.exponents[name])

    def rows_out(self, name: str, rows: Array) -> Array:
        return np.asarray(np.clip(np.rint(np.ldexp(rows, -self.exponents[name])), LOW, HIGH).astype(np.int8))

    def settled(self, step: Step, name: str, value: Array) -> Array:
        """A result rounded to its scale and saturated."""
        e = self.exponents[name]
        if step.op_type in PRODUCTS:
            self._check_sum(step, value)
        return np.asarray(np.clip(np.rint(np.ldexp(value, -e)), LOW, HIGH) * 2.0**e)

    def _check_sum(self, step: Step, value: Array) -> None:
        scale = sum(self._scale_of(name) for name in self.sources[step.outputs[0]][:2])
        largest = float(np.max(np.abs(value), initial=0.0))
        if np.ldexp(largest, -scale) >= LARGEST_SUM:
            raise SimulationError(f"{step.op_type} {step.outputs[0]!r} sums up to more than 32 bits hold")

    def neutral(self, value: float) -> float:
        return max(LOW, min(HIGH, value))

    def result(self, call: Call) -> Sequence[Array]:
        """The node computed exactly, or looked up."""
        if call.step.op_type == "BatchNormalization":
            return [self._normalised(call)]
        return [self._looked_up(call)] if self._is_table(call.step) else super().result(call)

    def _normalised(self, call: Call) -> Array:
        """One factor of 16 bits and one summand for each channel, made from the four constants."""
        scale, bias, mean, var = (call.need(i).reshape(-1, *(1,) * (call.x.ndim - 2)) for i in range(1, 5))
        factor = scale / np.sqrt(var + call.attr("epsilon", 1e-5))
        e = exponent(float(np.max(np.abs(factor))), 16)
        factor = on_grid(factor, e)
        return np.asarray(call.x * factor + on_grid(bias - mean * factor, e + self._input_scale(call.step)))

    def _input_scale(self, step: Step) -> int:
        return next(self.exponents[n] for n in self.sources[step.outputs[0]] if n in self.exponents)

    def _looked_up(self, call: Call) -> Array:
        """The entry of each value in a table of all 256."""
        e, name = self._input_scale(call.step), call.step.outputs[0]
        at = next(k for k, layout in enumerate(call.ins) if layout is not None)
        if name not in self.tables:
            every = np.arange(LOW, HIGH + 1) * 2.0**e
            args = [every if k == at else value for k, value in enumerate(call.args)]
            with np.errstate(all="ignore"):
                made = super().result(replace(call, args=args, row=None))[0]
            self.tables[name] = np.nan_to_num(np.asarray(made, np.float64)).reshape(-1)
        return np.asarray(self.tables[name][np.ldexp(call.need(at), -e).astype(np.int64) - LOW])
