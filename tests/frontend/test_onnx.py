"""Whole files: every network we have, against ONNX's own shape inference and against published sizes."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from dataclasses import astuple, replace
from pathlib import Path

import onnx
import pytest
from onnx import helper, shape_inference
from onnx_models import DATA, Build, builder, model_of, weights

from fusecut.errors import ModelError
from fusecut.frontend.onnx import load, sha256
from fusecut.ir import Graph
from fusecut.zoo import load as load_network
from fusecut.zoo import names as network_names
from fusecut.zoo import path as network_file


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return builder(tmp_path)


LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))
VARIANTS = sorted(DATA.glob("*.onnx"))
ZOO = [network_file(name) for name in network_names()]
EVERYTHING = [*ZOO, *VARIANTS, *LIGHT]
RESNETS = [f for f in VARIANTS if "resnet18" in f.name]


def stem(file: Path) -> str:
    return file.stem


@pytest.fixture(scope="module")
def resnet18() -> Graph:
    return load_network("resnet18")


@pytest.mark.parametrize("granularity", ["op", "folded"])
@pytest.mark.parametrize("file", EVERYTHING, ids=stem)
def test_every_file_loads_with_nothing_opaque(file: Path, granularity: str) -> None:
    graph = load(file, granularity=granularity)  # type: ignore[arg-type]
    assert "opaque" not in {op.kind for op in graph.ops}


@pytest.mark.parametrize("file", EVERYTHING, ids=stem)
def test_no_file_has_a_barrier_after_folding(file: Path) -> None:
    assert not [op.name for op in load(file).ops if op.attrs.get("barrier")]


@pytest.mark.parametrize("file", ZOO, ids=stem)
def test_shapes_equal_those_of_onnx_shape_inference(file: Path) -> None:
    model = onnx.load(file, load_external_data=False)
    del model.graph.value_info[:]
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in inferred.value_info}
    graph = load(file, granularity="op")
    compared = [t for t in graph.tensors if t.name in known]
    assert len(compared) >= len(graph.tensors) - len(graph.inputs) - len(graph.outputs)
    assert {t.name: t.dims for t in compared} == {t.name: known[t.name] for t in compared}


@pytest.mark.parametrize("file", ZOO, ids=stem)
def test_shapes_equal_those_the_exporter_recorded(file: Path) -> None:
    recorded = onnx.load(file, load_external_data=False).graph.value_info
    known = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in recorded}
    graph = load(file, granularity="op")
    assert all(t.dims == known[t.name] for t in graph.tensors if t.name in known)


@pytest.mark.parametrize("file", ZOO, ids=stem)
def test_macs_equal_a_count_from_the_recorded_shapes(file: Path) -> None:
    graph = onnx.load(file, load_external_data=False).graph
    dims = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, *graph.output, *graph.input)
    }
    dims |= {i.name: list(i.dims) for i in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            positions = dims[node.output[0] if node.op_type == "Conv" else node.input[0]]
            total += math.prod(positions) * math.prod(dims[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += math.prod(dims[node.output[0]]) * dims[node.input[0]][-1]
    assert sum(op.macs for op in load(file).ops) == total


# torchvision 0.28's model table: GFLOPS (multiply-adds) and parameters; and how many biases belong
# to layers without batch-norm. A folded batch-norm has one bias where the table counts two values.
PUBLISHED = {
    "alexnet": (0.71, 61_100_840, None),
    "convnext_tiny": (4.46, 28_589_128, None),
    "efficientnet_b0": (0.39, 5_288_548, 10_340),
    "googlenet": (1.5, 6_624_904, 1000),
    "mnasnet1_0": (0.31, 4_383_312, 1000),
    "mobilenet_v2": (0.3, 3_504_872, 1000),
    "resnet101": (7.8, 44_549_160, 1000),
    "resnet152": (11.51, 60_192_808, 1000),
    "resnet18": (1.81, 11_689_512, 1000),
    "resnet50": (4.09, 25_557_032, 1000),
    "shufflenet_v2_x1_0": (0.14, 2_278_604, 1000),
    "squeezenet1_0": (0.82, 1_248_424, None),
    "squeezenet1_1": (0.35, 1_235_496, None),
    "vgg16": (15.47, 138_357_544, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_are_those_published(name: str) -> None:
    assert round(sum(op.macs for op in load_network(name).ops) / 1e9, 2) == PUBLISHED[name][0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name: str) -> None:
    ops = load_network(name).ops
    weights, biases = sum(op.weight_elements for op in ops), sum(op.bias_elements for op in ops)
    plain = PUBLISHED[name][2]
    norms = 0 if plain is None else biases - plain
    assert weights + biases + norms == PUBLISHED[name][1]


def test_resnet18_has_the_macs_of_its_layers(resnet18: Graph) -> None:
    assert sum(op.macs for op in resnet18.ops) == 1_814_073_344


FOLDED = {
    "alexnet": {"conv": 5, "pool": 3, "linear": 3},
    "convnext_tiny": {"conv": 22, "transpose": 44, "normalise": 23, "linear": 37, "elementwise": 18, "reduce": 1},
    "densenet121": {"conv": 120, "pool": 4, "affine": 4, "concat": 58, "reduce": 1, "linear": 1},
    "efficientnet_b0": {"conv": 81, "reduce": 17, "elementwise": 25, "linear": 1},
    "fsrcnn": {"conv": 7, "conv_transpose": 1},
    "hrnet_w18": {"conv": 325, "activation": 34, "elementwise": 177, "resize": 31, "reduce": 1, "linear": 1},
    "mobilenet_v2": {"conv": 52, "elementwise": 10, "reduce": 1, "linear": 1},
    "mobilenet_v3_small": {"conv": 52, "reduce": 10, "elementwise": 15, "linear": 2},
    "resnet18": {"conv": 20, "pool": 1, "elementwise": 8, "activation": 3, "reduce": 1, "linear": 1},
    "shufflenet_v2_x1_0": {
        "conv": 56, "pool": 1, "concat": 16, "transpose": 16, "split": 13, "reduce": 1, "linear": 1
    },
    "squeezenet1_1": {"conv": 26, "pool": 3, "activation": 8, "concat": 8, "reduce": 1},
    "unet": {"conv": 19, "pool": 4, "conv_transpose": 4, "concat": 4},
    "vgg16": {"conv": 13, "pool": 5, "linear": 3},
    "vit_tiny_patch16_224": {
        "conv": 1, "reshape": 1, "transpose": 37, "concat": 1, "normalise": 25, "linear": 49, "slice": 37,
        "matmul": 24, "softmax": 12, "elementwise": 24,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_folding_leaves_these_kinds(name: str) -> None:
    assert Counter(op.kind for op in load_network(name).ops) == FOLDED[name]


def shape_of(graph: Graph) -> list[tuple[object, ...]]:
    """Everything that costs: kinds, tensors read and made, weights and MACs, in order."""
    return [
        (op.kind, *(graph.tensors[t].shape for t in (*op.inputs, *op.outputs)), op.weight_elements, op.macs)
        for op in graph.ops
    ]


@pytest.mark.parametrize("file", [f for f in RESNETS if "qdq" not in f.name], ids=stem)
def test_every_encoding_of_resnet18_gives_the_same_graph(file: Path, resnet18: Graph) -> None:
    assert shape_of(load(file)) == shape_of(resnet18)


@pytest.mark.parametrize("file", [f for f in RESNETS if f.stem[:4] not in ("fp16", "dynb")], ids=stem)
def test_encodings_of_resnet18_with_biases_have_the_same_biases(file: Path, resnet18: Graph) -> None:
    assert sum(op.bias_elements for op in load(file).ops) == sum(op.bias_elements for op in resnet18.ops)


def test_the_quantised_resnet18_differs_only_in_relus_that_its_quantisers_replace(resnet18: Graph) -> None:
    quantised = load(DATA / "qdq_int8_resnet18.onnx")
    assert Counter(shape_of(quantised)) == Counter(row for row in shape_of(resnet18) if row[0] != "activation")


def test_legacy_and_new_exporter_give_the_same_mobilenet_v3() -> None:
    assert shape_of(load(DATA / "legacy_mobilenet_v3_small.onnx")) == shape_of(load_network("mobilenet_v3_small"))


def test_the_legacy_shufflenet_has_two_slices_for_each_split() -> None:
    legacy, new = load(DATA / "legacy_shufflenet_v2_x1_0.onnx"), load_network("shufflenet_v2_x1_0")
    kinds = Counter(op.kind for op in new.ops)
    kinds["slice"] = 2 * kinds.pop("split")
    assert Counter(op.kind for op in legacy.ops) == kinds


def test_an_nhwc_network_has_its_rows_on_axis_one() -> None:
    graph = load(DATA / "tf2onnx_MobileNet.onnx")
    entry = graph.tensors[graph.inputs[0]]
    assert (entry.shape, entry.dims, entry.row_axis) == ((1, 3, 224, 224), (1, 224, 224, 3), 1)


def test_an_open_batch_is_one() -> None:
    graph = load(DATA / "dynbatch_resnet18.onnx")
    assert graph.tensors[graph.inputs[0]].shape == (1, 3, 224, 224)


@pytest.mark.parametrize("file", EVERYTHING, ids=stem)
def test_a_batch_multiplies_every_tensor_and_all_macs(file: Path) -> None:
    one, four = load(file), load(file, batch=4)
    assert [t.shape for t in four.tensors] == [(4 * t.shape[0], *t.shape[1:]) for t in one.tensors]
    assert [replace(a, macs=4 * a.macs, attrs=b.attrs) for a, b in zip(one.ops, four.ops, strict=True)] == list(
        four.ops
    )


def test_another_resolution_changes_the_map_but_not_the_weights() -> None:
    small, large = load_network("resnet18"), load_network("resnet18", input_shapes={"input": (1, 3, 256, 320)})
    assert large.tensors[large.ops[0].outputs[0]].shape == (1, 64, 128, 160)
    assert [op.weight_elements for op in large.ops] == [op.weight_elements for op in small.ops]


def test_weights_given_as_inputs_are_noted() -> None:
    assert load(DATA / "asinput_resnet18.onnx").notes == ("37 inputs are read only as weights and counted as weights",)


def test_the_graph_is_named_after_the_file(resnet18: Graph) -> None:
    assert resnet18.name == "resnet18"


def test_every_node_that_computes_is_a_member_of_one_op(resnet18: Graph) -> None:
    file = onnx.load(network_file("resnet18"), load_external_data=False)
    assert sorted(m for op in resnet18.ops for m in op.members) == sorted(n.name for n in file.graph.node)


@pytest.mark.parametrize("name", network_names())
def test_loading_twice_gives_the_same_graph(name: str) -> None:
    one, two = load_network(name), load_network(name)
    assert astuple(one.tensors[0]) == astuple(two.tensors[0])
    assert (one.tensors, one.ops, one.inputs, one.outputs) == (two.tensors, two.ops, two.inputs, two.outputs)


def test_ops_out_of_order_are_sorted(build: Build) -> None:
    nodes = [helper.make_node("Sigmoid", ["a"], ["y"], name="two"), helper.make_node("Relu", ["x"], ["a"], name="one")]
    graph = build(nodes, {"x": [1, 2, 4, 4]}, outputs=["y"])
    assert [op.name for op in graph.ops] == ["one", "two"]


def test_ops_without_a_name_of_their_own_are_named_after_type_and_result(build: Build) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    assert [op.name for op in build(nodes, {"x": [1, 4]}).ops] == ["Relu:a", "Relu:y"]


def test_an_unknown_op_is_opaque_and_noted(build: Build) -> None:
    nodes = [helper.make_node("Det", ["x"], ["y"], name="d")]
    graph = build(nodes, {"x": [2, 3, 4, 4]})
    assert graph.ops[0].kind == "opaque"
    assert graph.notes == ("Det is not understood: 1 opaque, needs its whole input",)


def test_an_op_that_waits_for_all_rows_is_noted(build: Build) -> None:
    graph = build([helper.make_node("Softmax", ["x"], ["y"], name="s", axis=2)], {"x": [1, 3, 5, 4]})
    assert graph.notes == ("s (Softmax) needs all rows of its input before its first output row",)


def test_an_op_of_a_foreign_domain_takes_the_recorded_shape(tmp_path: Path) -> None:
    nodes = [helper.make_node("Magic", ["x"], ["a"], domain="acme"), helper.make_node("Relu", ["a"], ["y"])]
    model = model_of(nodes, {"x": [1, 3, 8, 8]})
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("a", 1, [1, 5, 4, 4]))
    file = tmp_path / "foreign.onnx"
    file.write_bytes(model.SerializeToString())
    graph = load(file, granularity="op")
    assert [(op.kind, graph.tensors[op.outputs[0]].shape) for op in graph.ops] == [
        ("opaque", (1, 5, 4, 4)),
        ("activation", (1, 5, 4, 4)),
    ]
    with pytest.raises(ModelError, match="shape for another input is not known"):
        load(file, input_shapes={"x": (1, 3, 16, 16)})


def test_the_hash_is_that_of_the_bytes() -> None:
    file = network_file("resnet18")
    assert sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "limit_s"), [("mobilenet_v2", 0.3), ("nasnetalarge", 1.5)])
def test_loading_is_fast(name: str, limit_s: float) -> None:
    load_network("alexnet")
    start = time.process_time()
    load_network(name)
    assert time.process_time() - start < limit_s


def test_a_batch_of_sequences_whose_steps_come_first_leaves_the_steps(tmp_path: Path) -> None:
    """An open number of images is 1 there, too, and an open number of steps is asked for."""
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=6)]
    constants = {"w": weights(1, 24, 5), "r": weights(1, 24, 6)}
    file = tmp_path / "steps.onnx"
    file.write_bytes(model_of(nodes, {"x": (9, "images", 5)}, constants).SerializeToString())
    assert [load(file, batch=batch).tensors[0].shape for batch in (None, 4)] == [(1, 5, 9, 1), (4, 5, 9, 1)]
    file.write_bytes(model_of(nodes, {"x": ("steps", 1, 5)}, constants).SerializeToString())
    with pytest.raises(ModelError, match=r"dimension 0 of input 'x' is open \(steps\)"):
        load(file)
