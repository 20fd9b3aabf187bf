"""Networks of one op, and what the layerwise model says of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import permutations
from types import MappingProxyType

import pytest

from fusecut.cost import Cost, Infeasible, Planned
from fusecut.ir import Graph, Op, Tensor
from fusecut.machine import Machine
from fusecut.models import _tiling
from fusecut.models.layerwise import Layerwise

MODEL = Layerwise()
ORDERS = ["".join(p) for p in permutations("kcs")]
HUGE = 2**40


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


@dataclass(frozen=True)
class Spec:
    """One convolution; ``transposed`` swaps the window rule, not the meaning of c and k."""

    c: int
    k: int
    high: int
    wide: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    images: int = 1
    transposed: bool = False
    bias: bool = True
    widths: tuple[int, int, int] = (8, 8, 32)

    def out(self, axis: int) -> int:
        size, reach = (self.high, self.wide)[axis], self.dilation[axis] * (self.kernel[axis] - 1) + 1
        padding = self.pads[axis] + self.pads[axis + 2]
        if self.transposed:
            return (size - 1) * self.stride[axis] + reach - padding
        return (size + padding - reach) // self.stride[axis] + 1

    def needs(self, axis: int, q: int) -> set[int]:
        """Operand rows (columns) within the window of output q, row by row."""
        size, reach = (self.high, self.wide)[axis], self.dilation[axis] * (self.kernel[axis] - 1)
        stride, pad = self.stride[axis], self.pads[axis]
        if self.transposed:
            return {i for i in range(size) if 0 <= q + pad - i * stride <= reach}
        return {i for i in range(size) if 0 <= i - (q * stride - pad) <= reach}

    def graph(self) -> Graph:
        activation, weight, sums = self.widths
        x = Tensor("x", (self.images, self.c, self.high, self.wide), activation)
        y = Tensor("y", (self.images, self.k, self.out(0), self.out(1)), activation)
        attrs = {"kernel": self.kernel, "strides": self.stride, "dilations": self.dilation, "pads": self.pads}
        weights = self.c * self.k // self.groups * self.kernel[0] * self.kernel[1]
        op = Op(
            name="op",
            kind="conv_transpose" if self.transposed else "conv",
            inputs=(0,),
            outputs=(1,),
            attrs=MappingProxyType({**attrs, "groups": self.groups}),
            weight_elements=weights,
            bias_elements=self.k if self.bias else 0,
            macs=weights * self.images * self.out(0) * self.out(1),
            weight_bits=weight,
            bias_bits=sums,
        )
        return Graph("one", (x, y), (op,), (0,), (1,))


def square(c: int, k: int, size: int, kernel: int = 3, **more: int) -> Spec:
    """A padded convolution of a square map."""
    pad = kernel // 2
    return Spec(c, k, size, size, (kernel, kernel), pads=(pad,) * 4, **more)  # type: ignore[arg-type]


def one(kind: str, shapes: list[tuple[int, ...]], *, weights: int = 0, biases: int = 0, macs: int = 0,
        inputs: tuple[int, ...] | None = None, **attrs: object) -> Graph:  # fmt: skip
    """A network of one op: the last shape is its result, the others its operands."""
    tensors = tuple(Tensor(f"t{i}", _canonical(s), dims=s) for i, s in enumerate(shapes))
    last = len(shapes) - 1
    read = tuple(range(last)) if inputs is None else inputs
    op = Op("op", kind, read, (last,), MappingProxyType(attrs), weights, biases, macs)  # type: ignore[arg-type]
    return Graph("one", tensors, (op,), tuple(range(last)), (last,))


def _canonical(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) == 2:
        return shape[0], shape[1], 1, 1
    if len(shape) == 3:
        return shape[0], shape[2], shape[1], 1
    return shape[0], shape[1], shape[2], shape[3]


def plan(graph: Graph, buffer: int) -> Planned:
    planned = MODEL.plan(graph, 1, Machine(buffer))
    assert isinstance(planned, Planned), str(planned)
    return planned


def cost(graph: Graph, buffer: int) -> Cost:
    return plan(graph, buffer).cost


def floor(graph: Graph) -> int:
    return graph.touch_once_bytes(1)


def refusal(graph: Graph, buffer: int) -> Infeasible:
    refused = MODEL.plan(graph, 1, Machine(buffer))
    assert isinstance(refused, Infeasible)
    return refused


def smallest_buffer(graph: Graph) -> int:
    refused = MODEL.plan(graph, 1, Machine(1))
    return refused.demand if isinstance(refused, Infeasible) else 1


def layer_of(spec: Spec) -> _tiling.Layer:
    """The layer the model searches, as the model itself builds it."""
    seen: list[_tiling.Layer] = []

    def look(layer: _tiling.Layer, capacity: int) -> _tiling.Shortage:
        seen.append(layer)
        return _tiling.Shortage(capacity + 1, "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusecut.models.layerwise.best", look)
        MODEL.plan(spec.graph(), 1, Machine(1))
    return seen[0]
