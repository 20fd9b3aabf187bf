"""Every node type, row by row through rings, equals onnxruntime on the whole tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fusecut as fc
from fusecut.frontend.weights import network
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.problem import Problem
from fusecut.simulate import execute
from fusecut.simulate.compute import Compute
from fusecut.simulate.memory import Array

ort = pytest.importorskip("onnxruntime")

X = (1, 6, 9, 8)
RNG = np.random.default_rng(7)


def weights(*dims: int) -> Array:
    return RNG.standard_normal(dims).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


Case = tuple[str, dict[str, Any], list[Array | None]]
"""(op type, attributes, constants after the activation; None: left out)."""

CASES: dict[str, Case] = {
    "conv": ("Conv", {"pads": [1, 1, 1, 1]}, [weights(4, 6, 3, 3), weights(4)]),
    "conv, stride 2, uneven pads": ("Conv", {"pads": [0, 2, 1, 0], "strides": [2, 3]}, [weights(4, 6, 3, 2)]),
    "conv, dilated": ("Conv", {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, [weights(4, 6, 3, 3)]),
    "conv, pads larger than the kernel": ("Conv", {"pads": [4, 0, 4, 0]}, [weights(4, 6, 2, 1)]),
    "conv, groups": ("Conv", {"group": 3, "pads": [1, 0, 1, 0]}, [weights(6, 2, 3, 1), weights(6)]),
    "conv, depthwise": ("Conv", {"group": 6, "pads": [2, 2, 2, 2], "strides": [2, 2]}, [weights(6, 1, 5, 5)]),
    "conv, same upper": ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [weights(4, 6, 3, 3)]),
    "conv, same lower": ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [weights(4, 6, 2, 2)]),
    "conv_transpose": ("ConvTranspose", {"strides": [2, 2]}, [weights(6, 4, 2, 2), weights(4)]),
    "conv_transpose, padded": (
        "ConvTranspose",
        {"strides": [2, 3], "pads": [1, 0, 2, 1], "dilations": [2, 1]},
        [weights(6, 4, 3, 3)],
    ),
    "conv_transpose, groups": (
        "ConvTranspose",
        {"strides": [3, 1], "group": 2, "output_padding": [1, 0]},
        [weights(6, 4, 2, 3)],
    ),
    "conv_transpose, kernel below stride": ("ConvTranspose", {"strides": [4, 2]}, [weights(6, 4, 2, 1)]),
    "max pool": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, []),
    "max pool, ceil": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, []),
    "max pool, dilated": ("MaxPool", {"kernel_shape": [2, 3], "dilations": [3, 2]}, []),
    "average pool": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, []),
    "average pool, pads counted": (
        "AveragePool",
        {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "strides": [2, 1], "count_include_pad": 1},
        [],
    ),
    "average pool, ceil": ("AveragePool", {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}, []),
    "average pool over the map": ("AveragePool", {"kernel_shape": [9, 8]}, []),
    "average pool over the rows": ("AveragePool", {"kernel_shape": [9, 3]}, []),
    "max pool over the map": ("MaxPool", {"kernel_shape": [9, 8]}, []),
    "lp pool": ("LpPool", {"kernel_shape": [2, 2], "strides": [1, 2]}, []),
    "global average pool": ("GlobalAveragePool", {}, []),
    "global max pool": ("GlobalMaxPool", {}, []),
    "mean over rows": ("ReduceMean", {"keepdims": 1}, [ints(2)]),
    "mean over rows and columns": ("ReduceMean", {"keepdims": 0}, [ints(2, 3)]),
    "mean over channels": ("ReduceMean", {"keepdims": 1}, [ints(1)]),
    "maximum over rows": ("ReduceMax", {"keepdims": 1}, [ints(2, 3)]),
    "l2 over everything": ("ReduceL2", {"keepdims": 1}, [ints(1, 2, 3)]),
    "log sum exp over rows": ("ReduceLogSumExp", {"keepdims": 1}, [ints(-2)]),
    "arg max over channels": ("ArgMax", {"axis": 1, "keepdims": 1}, []),
    "arg max over rows": ("ArgMax", {"axis": 2, "keepdims": 1}, []),
    "matmul": ("MatMul", {}, [weights(8, 5)]),
    "einsum": ("Einsum", {"equation": "nchw,kw->nchk"}, [weights(5, 8)]),
    "batch norm": ("BatchNormalization", {}, [weights(6), weights(6), weights(6), np.abs(weights(6)) + 1]),
    "instance norm": ("InstanceNormalization", {}, [weights(6), weights(6)]),
    "layer norm": ("LayerNormalization", {"axis": -1}, [weights(8), weights(8)]),
    "layer norm over rows": ("LayerNormalization", {"axis": 2}, [weights(9, 8)]),
    "lrn": ("LRN", {"size": 3, "alpha": 0.5, "beta": 0.7, "bias": 1.5}, []),
    "lp normalise": ("LpNormalization", {"axis": 1, "p": 2}, []),
    "softmax over channels": ("Softmax", {"axis": 1}, []),
    "softmax over rows": ("Softmax", {"axis": 2}, []),
    "log softmax": ("LogSoftmax", {"axis": -1}, []),
    "prelu": ("PRelu", {}, [weights(6, 1, 1)]),
    "clip": ("Clip", {}, [np.array(-0.5, np.float32), np.array(0.75, np.float32)]),
    "hard swish": ("HardSwish", {}, []),
    "gelu": ("Gelu", {"approximate": "tanh"}, []),
    "add a constant for each row": ("Add", {}, [weights(9, 1)]),
    "add a constant map": ("Mul", {}, [weights(6, 9, 8)]),
    "subtract from a constant": ("Sub", {}, [weights(6, 1, 1)]),
    "nearest upsampling": ("Resize", {"mode": "nearest"}, [None, np.array([1, 1, 2, 3], np.float32)]),
    "linear upsampling": ("Resize", {"mode": "linear"}, [None, np.array([1, 1, 2, 2], np.float32)]),
    "linear, corners": (
        "Resize",
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        [None, None, ints(1, 6, 17, 5)],
    ),
    "linear, asymmetric": (
        "Resize",
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        [None, None, ints(1, 6, 13, 16)],
    ),
    "linear downsampling": ("Resize", {"mode": "linear"}, [None, np.array([1, 1, 0.5, 0.5], np.float32)]),
    "cubic": ("Resize", {"mode": "cubic"}, [None, np.array([1, 1, 2, 1], np.float32)]),
    "nearest, ceil": (
        "Resize",
        {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"},
        [None, None, ints(1, 6, 14, 8)],
    ),
    "zero pad": ("Pad", {}, [ints(0, 0, 2, 1, 0, 0, 1, 2)]),
    "constant pad on channels": ("Pad", {}, [ints(0, 1, 1, 0, 0, 1, 0, 0), np.array(3, np.float32)]),
    "crop": ("Pad", {}, [ints(0, 0, -2, 0, 0, 0, -1, -1)]),
    "reflecting pad": ("Pad", {"mode": "reflect"}, [ints(0, 0, 3, 2, 0, 0, 4, 1)]),
    "edge pad": ("Pad", {"mode": "edge"}, [ints(0, 0, 3, 2, 0, 0, 2, 1)]),
    "slice rows and columns": ("Slice", {}, [ints(2, 1), ints(8, 7), ints(2, 3), ints(2, 3)]),
    "slice channels": ("Slice", {}, [ints(-4), ints(-1), ints(1)]),
    "slice backwards": ("Slice", {}, [ints(-1), ints(-100), ints(2), ints(-1)]),
    "gather channels": ("Gather", {"axis": 1}, [ints(4, 1, 1)]),
    "gather rows": ("Gather", {"axis": 2}, [ints(1, 3, 5)]),
    "gather one row": ("Gather", {"axis": 2}, [np.array(4, np.int64)]),
    "space to depth": ("SpaceToDepth", {"blocksize": 2}, []),
    "depth to space": ("DepthToSpace", {"blocksize": 2}, []),
    "depth to space, channels first": ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, []),
    "transpose": ("Transpose", {"perm": [0, 2, 3, 1]}, []),
    "transpose rows and columns": ("Transpose", {"perm": [0, 1, 3, 2]}, []),
    "reshape that keeps rows": ("Reshape", {}, [ints(1, 2, 3, 9, 8)]),
    "reshape that splits rows": ("Reshape", {}, [ints(1, 6, 18, 4)]),
    "reshape that merges rows": ("Reshape", {}, [ints(1, 6, 3, 24)]),
    "reshape that mixes rows": ("Reshape", {}, [ints(1, 9, 6, 8)]),
    "expand": ("Expand", {}, [ints(1, 1, 6, 9, 8)]),
    "tile channels": ("Tile", {}, [ints(1, 2, 1, 1)]),
}


SHAPES = {
    "space to depth": (1, 3, 8, 6),
    "depth to space": (1, 8, 5, 4),
    "depth to space, channels first": (1, 8, 5, 4),
}
"""Shapes of x where it is not X."""

JOINS: dict[str, list[tuple[str, list[str], list[str], dict[str, Any]]]] = {
    "concat channels": [("Concat", ["a", "b"], ["after"], {"axis": 1})],
    "concat rows": [("Concat", ["a", "b", "a"], ["after"], {"axis": 2})],
    "concat columns": [("Concat", ["a", "b"], ["after"], {"axis": 3})],
    "add to itself": [("Add", ["a", "a"], ["after"], {})],
    "where": [("Greater", ["a", "b"], ["c"], {}), ("Where", ["c", "b", "a"], ["after"], {})],
    "mean of three": [("Mean", ["a", "b", "a"], ["after"], {})],
    "squeeze and excite": [
        ("GlobalAveragePool", ["a"], ["g"], {}),
        ("Sigmoid", ["g"], ["s"], {}),
        ("Mul", ["a", "s"], ["after"], {}),
    ],
    "split channels": [("Split", ["a"], ["l", "r"], {"axis": 1, "num_outputs": 2}), ("Add", ["r", "l"], ["after"], {})],
    "split rows": [
        ("Split", ["a"], ["l", "m", "r"], {"axis": 2, "num_outputs": 3}),
        ("Max", ["r", "l"], ["after"], {}),
    ],
    "attention": [
        ("Transpose", ["b"], ["t"], {"perm": [0, 1, 3, 2]}),
        ("MatMul", ["a", "t"], ["q"], {}),
        ("Softmax", ["q"], ["p"], {"axis": -1}),
        ("MatMul", ["p", "b"], ["after"], {}),
    ],
    "attention by letters": [
        ("Einsum", ["a", "b"], ["q"], {"equation": "bcid,bcjd->bcij"}),
        ("Softmax", ["q"], ["p"], {"axis": -1}),
        ("Einsum", ["p", "b"], ["after"], {"equation": "...ij,...jd->...id"}),
    ],
    "classifier": [("GlobalAveragePool", ["a"], ["g"], {}), ("Flatten", ["g"], ["after"], {"axis": 1})],
}
"""Nodes between a and b (two element-wise results) and ``after``."""


def model_of(case: Case, file: Path, shape: tuple[int, ...]) -> None:
    """One node between two element-wise ones, so that its rows come and go through rings."""
    op_type, attrs, constants = case
    names, initializers = ["before"], []
    for i, value in enumerate(constants):
        names.append("" if value is None else f"c{i}")
        if value is not None:
            initializers.append(numpy_helper.from_array(np.asarray(value), f"c{i}"))
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["before"], name="first"),
        helper.make_node(op_type, names, ["after"], name="node", **attrs),
        helper.make_node("Cast", ["after"], ["float"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["float"], ["y"], name="last"),
    ]
    save(nodes, initializers, shape, file)


def save(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], shape: tuple[int, ...], file: Path) -> None:
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), file)


def compare(file: Path, shape: tuple[int, ...], granularity: Any) -> None:
    """Fused as one group where that is possible, op by op, and in a buffer that has just room."""
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    expected = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]
    graph = fc.load(file, granularity=granularity)
    problem = Problem(graph, fc.Machine(1 << 20), WithFallback(LineBuffer(), Layerwise()))
    for groups in ([graph.everything], [1 << i for i in range(len(graph))]):
        plans = [p for p in map(problem.plan, groups) if isinstance(p, fc.Planned)]
        assert len(plans) == len(groups)
        compute = Compute(problem.graph, network(file))
        simulation, dram = execute(problem.graph, problem.machine, plans, compute, {"x": x})
        assert simulation.agrees, str(simulation)
        (out,) = problem.graph.outputs
        found = compute.array_of(out, dram.data[out]).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("granularity", ["folded", "op"])
@pytest.mark.parametrize("name", CASES)
def test_rows_of_a_node_are_the_rows_of_its_whole_result(name: str, granularity: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    shape = SHAPES.get(name, X)
    model_of(CASES[name], file, shape)
    compare(file, shape, granularity)


@pytest.mark.parametrize("granularity", ["folded", "op"])
@pytest.mark.parametrize("name", JOINS)
def test_rows_where_several_tensors_meet(name: str, granularity: Any, tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "x"], ["a"]), helper.make_node("Sin", ["x"], ["b"])]
    nodes += [helper.make_node(kind, reads, makes, **attrs) for kind, reads, makes, attrs in JOINS[name]]
    save([*nodes, helper.make_node("Relu", ["after"], ["y"])], [], X, tmp_path / "model.onnx")
    compare(tmp_path / "model.onnx", X, granularity)
