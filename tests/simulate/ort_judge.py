"""Networks of a file, executed as planned and by onnxruntime, on the same weights and inputs. No test lives here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import fusecut as fc
from fusecut.frontend.weights import Network, network
from fusecut.simulate import execute
from fusecut.simulate.compute import Compute
from fusecut.simulate.memory import Array


def with_values(file: Path, net: Network, shapes: dict[str, tuple[int, ...]], wanted: list[str]) -> bytes:
    """The model with every constant in the file, these input shapes, and more outputs."""
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        value = np.asarray(net.constants[tensor.name]).astype(kind).reshape(tuple(tensor.dims))
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for given in model.graph.input:
        for dim, size in zip(given.type.tensor_type.shape.dim, shapes.get(given.name, ()), strict=False):
            dim.dim_value = size
    del model.graph.value_info[:]
    there = {v.name for v in model.graph.output}
    kind = model.graph.input[0].type.tensor_type.elem_type
    model.graph.output.extend(helper.make_tensor_value_info(n, kind, None) for n in wanted if n not in there)
    for made in model.graph.output:
        made.type.tensor_type.ClearField("shape")
    content: bytes = model.SerializeToString()
    return content


def run_onnxruntime(content: bytes, wanted: list[str], inputs: dict[str, Array]) -> dict[str, Array]:
    """What onnxruntime makes of it, with nothing fused or rewritten."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return dict(zip(wanted, session.run(wanted, inputs), strict=True))


def fed(file: Path, net: Network, inputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs in the types of the file, and weights that are inputs there."""
    graph = onnx.load(file, load_external_data=False).graph
    fixed = {tensor.name for tensor in graph.initializer}
    return {
        given.name: np.asarray(inputs[given.name] if given.name in inputs else net.constants[given.name]).astype(
            helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
        )
        for given in graph.input
        if given.name not in fixed
    }


def compare(file: Path, size: int | None, buffer: str, tolerance: float = 2e-5) -> None:
    """Every tensor that reached DRAM, against onnxruntime; and every figure, against the model."""
    graph = fc.load(file)
    (first,) = (graph.tensors[t] for t in graph.inputs)
    shapes = {} if size is None else {first.name: (*first.dims[:2], size, size)}
    graph = fc.load(file, input_shapes=shapes)
    judge(file, fc.solve(graph, buffer=buffer, max_plans=1), tolerance)


def judge(file: Path, solution: fc.Solution, tolerance: float = 2e-5) -> None:
    """The same for any plan, on inputs drawn at random."""
    assert solution.partition is not None
    graph = solution.partition.graph
    entries = [graph.tensors[t] for t in graph.inputs]
    shapes = {tensor.name: tensor.dims for tensor in entries}
    net = network(file, shapes, seed=1)
    compute = Compute(graph, net)
    rng = np.random.default_rng(0)
    inputs = {tensor.name: rng.standard_normal(tensor.dims).astype(np.float32) for tensor in entries}
    simulation, dram = execute(graph, solution.machine, solution.planned, compute, inputs)
    assert simulation.agrees, str(simulation)
    wanted = [graph.tensors[t].name for t in dram.data if t not in graph.inputs]
    expected = run_onnxruntime(with_values(file, net, shapes, wanted), wanted, fed(file, net, inputs))
    for t in dram.data:
        name = graph.tensors[t].name
        if name in expected:
            found = compute.array_of(t, dram.data[t]).reshape(expected[name].shape)
            size_of = float(np.abs(expected[name][np.isfinite(expected[name])]).max(initial=0.0))  # pads may be -inf
            np.testing.assert_allclose(found, expected[name], rtol=tolerance, atol=tolerance * size_of, err_msg=name)
