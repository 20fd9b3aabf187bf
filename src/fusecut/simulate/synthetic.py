"""A computable network for a graph that came from no file: nodes invented from kinds and attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

from fusecut.errors import SimulationError
from fusecut.frontend.weights import Constants, Layout, Missing, Network, Step
from fusecut.ir import Graph, Op
from fusecut.simulate.calls import Call, Rule
from fusecut.simulate.memory import Array

Invention: TypeAlias = tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]
"""(op type, attributes, shapes of constants by role)."""


def network_of(graph: Graph, seed: int = 0) -> Network:
    """Nodes and random weights for every op of a graph made by hand.

    Raises:
        SimulationError: an op of a kind that nothing is invented for.
    """
    steps, missing = {}, dict[str, Missing]()
    for op in graph.ops:
        op_type, attrs, shapes = _invent(graph, op)
        names = [graph.tensors[t].name for t in op.inputs]
        for operand, (role, dims) in enumerate(shapes.items(), start=1):
            names.append(f"{op.name}.{role}")
            missing[names[-1]] = Missing(dims, False, op_type, operand)
        outputs = tuple(graph.tensors[t].name for t in op.outputs)
        steps[op.name] = Step(op_type, tuple(names), outputs, attrs, 20, op.kind, op.attrs)
    layouts = {t.name: Layout((1, *t.shape[1:]), 2, 0, (3,)) for t in graph.tensors}
    return Network(steps, layouts, {}, {}, Constants({}, {}, missing, seed))


def _invent(graph: Graph, op: Op) -> Invention:
    if op.kind not in _INVENTIONS:
        raise SimulationError(f"op {op.name!r} of kind {op.kind!r} has no nodes to compute: simulate without data")
    return _INVENTIONS[op.kind](graph, op)


def _conv(graph: Graph, op: Op) -> Invention:
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    groups = cast(int, op.attrs.get("groups", 1))
    kernel = _pair(op, "kernel")
    shapes = {"weight": (made.channels, source.channels // groups, *kernel)}
    if op.kind == "conv_transpose":
        shapes = {"weight": (source.channels, made.channels // groups, *kernel)}
    if op.bias_elements:
        shapes["bias"] = (made.channels,)
    attrs = {"strides": _pair(op, "strides"), "dilations": _pair(op, "dilations"), "group": groups}
    return "Conv" if op.kind == "conv" else "ConvTranspose", attrs, shapes


def _pair(op: Op, key: str) -> tuple[int, ...]:
    return cast("tuple[int, ...]", op.attrs.get(key, (1, 1)))


def _pool(graph: Graph, op: Op) -> Invention:
    attrs = {
        "kernel_shape": _pair(op, "kernel"),
        "strides": _pair(op, "strides"),
        "dilations": _pair(op, "dilations"),
        "count_include_pad": int(bool(op.attrs.get("count_include_pad", 0))),
    }
    return "MaxPool" if op.attrs.get("mode", "max") == "max" else "AveragePool", attrs, {}


def _function(graph: Graph, op: Op) -> Invention:
    return str(op.attrs.get("function", "Add" if op.kind == "elementwise" else "Relu")), {}, {}


def _concat(graph: Graph, op: Op) -> Invention:
    axis = op.attrs.get("axis", -1)
    return "Concat", {"axis": {0: 2, 1: 3}.get(axis if isinstance(axis, int) else -1, 1)}, {}


def _resize(graph: Graph, op: Op) -> Invention:
    attrs = {
        "mode": str(op.attrs.get("mode", "nearest")),
        "coordinate_transformation_mode": str(op.attrs.get("coordinates", "half_pixel")),
        "nearest_mode": str(op.attrs.get("nearest", "round_prefer_floor")),
    }
    return "Resize", attrs, {}


def _reduce(graph: Graph, op: Op) -> Invention:
    kind = {"mean": "ReduceMean", "max": "ReduceMax", "sum": "ReduceSum"}[str(op.attrs.get("mode", "mean"))]
    return kind, {"axes": (2, 3)}, {}


def _softmax(graph: Graph, op: Op) -> Invention:
    return "Softmax", {"axis": 1}, {}


def _opaque(graph: Graph, op: Op) -> Invention:
    return "Opaque", {}, {}


_INVENTIONS: Final[dict[str, Callable[[Graph, Op], Invention]]] = {
    "activation": _function,
    "concat": _concat,
    "conv": _conv,
    "conv_transpose": _conv,
    "elementwise": _function,
    "opaque": _opaque,
    "pool": _pool,
    "reduce": _reduce,
    "resize": _resize,
    "softmax": _softmax,
}


def _mixed(call: Call) -> Sequence[Array]:
    """Something that depends on every element: the map turned around, less its mean."""
    return [call.x[:, :, ::-1, ::-1] * 0.5 - call.x.mean()]


INVENTED: Final[dict[str, Rule]] = {"Opaque": _mixed}
"""Op types that no file has."""
