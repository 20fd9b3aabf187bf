"""Whole networks, fused and executed row by row, equal onnxruntime on the same weights and inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import fusecut as fc
from fusecut.frontend.weights import Network, network
from fusecut.simulate import execute
from fusecut.simulate.compute import Compute
from fusecut.simulate.memory import Array
from fusecut.zoo import path

ort = pytest.importorskip("onnxruntime")

DATA = Path(__file__).parent.parent / "data"

SMALL = {
    "convnext_tiny": 32,
    "efficientnet_b0": 64,
    "fsrcnn": 24,
    "googlenet": 64,
    "mnasnet1_0": 64,
    "mobilenet_v1": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_large": 64,
    "mobilenet_v3_small": 64,
    "resnet18": 64,
    "resnet50": 32,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "unet": 32,
}
LARGE = {
    "densenet121": 64,
    "efficientnet_b3": 64,
    "hrnet_w18": 64,
    "nasnetalarge": 96,
    "resnet101": 64,
    "resnet152": 64,
}
NATIVE = (
    "alexnet",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3plus_mobilenet_v3_large",
    "shufflenet_v2_x1_0",
    "vgg16",
    "vit_tiny_patch16_224",
)
FILES = ("legacy_mobilenet_v3_small", "legacy_shufflenet_v2_x1_0", "sparse_resnet18", "tf2onnx_MobileNet")


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
    dims = first.dims if size is None else (*first.dims[:2], size, size)
    graph = fc.load(file, input_shapes={first.name: dims})
    solution = fc.solve(graph, buffer=buffer, max_plans=1)
    assert solution.partition is not None
    graph = solution.partition.graph
    net = network(file, {first.name: dims}, seed=1)
    compute = Compute(graph, net)
    inputs = {first.name: np.random.default_rng(0).standard_normal(dims).astype(np.float32)}
    simulation, dram = execute(graph, solution.machine, solution.planned, compute, inputs)
    assert simulation.agrees, str(simulation)
    wanted = [graph.tensors[t].name for t in dram.data if t not in graph.inputs]
    expected = run_onnxruntime(with_values(file, net, {first.name: dims}, wanted), wanted, fed(file, net, inputs))
    for t in dram.data:
        name = graph.tensors[t].name
        if name in expected:
            found = compute.array_of(t, dram.data[t]).reshape(expected[name].shape)
            size_of = float(np.abs(expected[name][np.isfinite(expected[name])]).max(initial=0.0))  # pads may be -inf
            np.testing.assert_allclose(found, expected[name], rtol=tolerance, atol=tolerance * size_of, err_msg=name)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_at_a_small_input_size(name: str) -> None:
    compare(path(name), SMALL[name], "48KiB")


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet", "mobilenet_v3_small"])
def test_a_network_in_a_large_buffer(name: str) -> None:
    compare(path(name), 64, "1MiB")


@pytest.mark.slow
@pytest.mark.parametrize("buffer", ["64KiB", "512KiB"])
@pytest.mark.parametrize("name", LARGE)
def test_the_larger_networks(name: str, buffer: str) -> None:
    compare(path(name), LARGE[name], buffer)


@pytest.mark.slow
@pytest.mark.parametrize("name", NATIVE)
def test_networks_that_run_at_their_own_size_only(name: str) -> None:
    compare(path(name), None, "1MiB")


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_exporters(name: str) -> None:
    compare(DATA / f"{name}.onnx", None, "96KiB")


def test_weights_that_are_inputs_of_the_file() -> None:
    compare(DATA / "asinput_resnet18.onnx", 32, "96KiB")


def test_weights_that_nodes_of_the_file_make() -> None:
    """All of them are one, so every layer grows, and the last ones overflow here as there."""
    compare(DATA / "cos_resnet18.onnx", 32, "96KiB")


def test_batch_normalisation_that_nobody_folded() -> None:
    compare(DATA / "unoptimized_bn_resnet18.onnx", 32, "96KiB")


def test_half_precision_to_its_own_rounding() -> None:
    compare(DATA / "fp16_resnet18.onnx", 32, "96KiB", tolerance=5e-3)


def test_a_quantised_network_rounds_where_onnxruntime_rounds() -> None:
    """Between two roundings floating-point sums may differ in the last place, so one value in a million may flip."""
    compare(DATA / "qdq_int8_resnet18.onnx", 64, "96KiB")
