"""Every refusal is one line that names the file, and the op or input where there is one, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import DATA, ints, model_of, weights

from fusecut.errors import ModelError, UnknownNameError
from fusecut.frontend import source
from fusecut.frontend.onnx import load, sha256
from fusecut.zoo import load as load_network

RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")


def refusal(file: Path, **asked: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(file, **asked)
    text = str(caught.value)
    assert "\n" not in text
    assert file.name in text
    return text


def saved(tmp_path: Path, model: onnx.ModelProto | bytes) -> Path:
    file = tmp_path / "bad.onnx"
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return file


def refused(tmp_path: Path, *args: Any, asked: dict[str, Any] | None = None, **kwargs: Any) -> str:
    return refusal(saved(tmp_path, model_of(*args, **kwargs)), **(asked or {}))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.onnx")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not an ONNX file"),
        (b"import torch\nprint(1)\n", "not an ONNX"),
        (b"\x08\x0a", "no graph in it"),
        (b"PK\x03\x04" + bytes(64), "is a zip archive, as torch.save writes; export"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS.*git lfs pull"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(64), "is a TFLite file; convert"),
        (b"<!DOCTYPE html><html>", "is a web page; download"),
    ],
    ids=["empty", "png", "text", "no graph", "zip", "LFS", "TFLite", "page"],
)
def test_a_file_that_is_not_onnx_is_refused(content: bytes, text: str, tmp_path: Path) -> None:
    assert re.search(text, refusal(saved(tmp_path, content)))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = (DATA / "legacy_resnet18.onnx").read_bytes()
    assert "truncated" in refusal(saved(tmp_path, whole[: len(whole) // 2]))


def test_every_truncation_is_refused_or_read_and_never_crashes(tmp_path: Path) -> None:
    whole = (DATA / "fp16_resnet18.onnx").read_bytes()
    for end in range(0, len(whole), 97):
        file = saved(tmp_path, whole[:end])
        try:
            load(file)
        except ModelError as error:
            assert "\n" not in str(error)


def test_every_damaged_byte_is_refused_or_read_and_never_crashes(tmp_path: Path) -> None:
    whole = (DATA / "fp16_resnet18.onnx").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] = int(rng.integers(256))
        try:
            load(saved(tmp_path, bytes(damaged)))
        except ModelError as error:
            assert "\n" not in str(error)


def test_a_file_over_two_gib_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.onnx"
    with file.open("wb") as stream:
        stream.truncate(2**31 + 1)
    assert "at most 2,147,483,648" in refusal(file)


def test_a_file_of_weights_only_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph([], "weights", [], [], [helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])])
    assert "no nodes" in refusal(saved(tmp_path, helper.make_model(graph)))


def test_an_input_without_a_shape_is_refused_with_the_option_that_gives_it(tmp_path: Path) -> None:
    assert "--input-shape x=1x3x224x224" in refused(tmp_path, [RELU], {"x": None})


def test_an_open_dimension_is_refused_with_the_option_that_gives_it(tmp_path: Path) -> None:
    text = refused(tmp_path, [RELU], {"x": ["N", 3, "height", 224]})
    assert "dimension 2 of input 'x' is open (height)" in text
    assert "--input-shape x=1x3x224x224" in text


def test_a_zero_dimension_is_refused(tmp_path: Path) -> None:
    assert "at least 1" in refused(tmp_path, [RELU], {"x": [1, 0, 4, 4]})


def test_a_negative_dimension_is_refused(tmp_path: Path) -> None:
    assert "at least 1" in refused(tmp_path, [RELU], {"x": [-1, 3, 4, 4]})


def test_a_window_larger_than_its_input_is_refused(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    assert "'conv'" in refused(tmp_path, [conv], {"x": [1, 3, 4, 4]}, {"w": weights(2, 3, 7, 7)})


def test_control_flow_is_refused(tmp_path: Path) -> None:
    body = helper.make_graph([], "b", [], [])
    node = helper.make_node("If", ["x"], ["y"], name="branch", then_branch=body, else_branch=body)
    assert "'branch' is If" in refused(tmp_path, [node], {"x": [1]})


def test_sequences_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("SplitToSequence", ["x"], ["y"], name="s")
    assert "control flow or sequences" in refused(tmp_path, [node], {"x": [1, 4]})


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], name="one"), helper.make_node("Relu", ["a"], ["b"], name="two")]
    assert "'one' waits for itself" in refused(tmp_path, nodes, {"x": [1, 4]})


def test_a_dangling_operand_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "ghost"], ["y"], name="add")
    text = refused(tmp_path, [node], {"x": [1, 4]})
    assert "'add' (Add) reads 'ghost'" in text


def test_a_dangling_output_is_refused(tmp_path: Path) -> None:
    assert "'ghost' is made by no op" in refused(tmp_path, [RELU], {"x": [1, 4]}, outputs=["ghost"])


def test_two_makers_of_one_tensor_are_refused(tmp_path: Path) -> None:
    assert "exists already" in refused(tmp_path, [RELU, RELU], {"x": [1, 4]})


def test_operands_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "c"], ["y"], name="add")
    text = refused(tmp_path, [node], {"x": [1, 4, 5]}, {"c": weights(3)})
    assert "'add' (Add) cannot take operands of these shapes: x (1, 4, 5), c (3,)" in text


def test_a_convolution_with_other_channels_is_refused(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    text = refused(tmp_path, [conv], {"x": [1, 4, 8, 8]}, {"w": weights(2, 3, 3, 3)})
    assert "expects 3 x 1 input channels" in text


@pytest.mark.parametrize("start", [0.5, "one", [1, 2]])
def test_a_shape_from_no_axis_is_refused(start: Any, tmp_path: Path) -> None:
    shape = helper.make_node("Shape", ["x"], ["s"], name="shape", start=start)
    reshape = helper.make_node("Reshape", ["x", "s"], ["y"], name="reshape")
    assert "'shape' (Shape) cannot take" in refused(tmp_path, [shape, reshape], {"x": [1, 4]})


def test_matrices_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], name="fc", transB=1)
    assert "'fc'" in refused(tmp_path, [gemm], {"x": [1, 4]}, {"w": weights(2, 3)})


def test_a_shape_that_depends_on_data_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("NonZero", ["x"], ["y"], name="nz")
    assert "'nz' (NonZero)" in refused(tmp_path, [node], {"x": [2, 3]})


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    assert "at most 65,536" in refused(tmp_path, [RELU], {"x": [1, 1, 65_537, 1]})


def test_too_many_elements_are_refused(tmp_path: Path) -> None:
    assert "2**40" in refused(tmp_path, [RELU], {"x": [1, 2**20, 2**10, 2**11]})


def test_a_constant_of_too_many_elements_is_refused(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"], name="add")], {"x": [1, 4]})
    model.graph.initializer.append(onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**62, 4]))
    assert "constant 'w' has shape (4611686018427387904, 4): more than 2**40" in refusal(saved(tmp_path, model))


def test_too_many_nodes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_NODES", 3)
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"]) for i in range(4)]
    assert "more than 3 nodes" in refused(tmp_path, nodes, {"x0": [1, 4]})


def function(name: str, body: Sequence[str]) -> onnx.FunctionProto:
    """A local function that passes its input through other ops or functions."""
    steps = [f"t{i}" for i in range(len(body))]
    nodes = [
        helper.make_node(op, [a], [b], domain="local" if op.startswith("f") else "")
        for op, a, b in zip(body, ["a", *steps[:-1]], steps, strict=True)
    ]
    return helper.make_function("local", name, ["a"], [steps[-1]], nodes, [helper.make_opsetid("", 20), LOCAL])


LOCAL = helper.make_opsetid("local", 1)


def with_functions(call: str, functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    model = model_of([helper.make_node(call, ["x"], ["y"], name="call", domain="local")], {"x": [1, 4]})
    model.functions.extend(functions)
    model.opset_import.append(LOCAL)
    return model


def test_functions_that_would_inline_to_a_billion_nodes_are_refused(tmp_path: Path) -> None:
    functions = [function("f0", ["Relu"] * 10)] + [function(f"f{i}", [f"f{i - 1}"] * 10) for i in range(1, 9)]
    assert "more than 200,000 nodes" in refusal(saved(tmp_path, with_functions("f8", functions)))


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    functions = [function("f0", ["f1"]), function("f1", ["f0"])]
    assert "calls itself" in refusal(saved(tmp_path, with_functions("f0", functions)))


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    functions = [function("f0", ["Relu", "Sigmoid"]), function("f1", ["f0", "f0"])]
    graph = load(saved(tmp_path, with_functions("f1", functions)), granularity="op")
    assert [op.attrs["op_type"] for op in graph.ops] == ["Relu", "Sigmoid", "Relu", "Sigmoid"]


def test_an_unknown_input_override_lists_the_inputs(tmp_path: Path) -> None:
    text = refused(tmp_path, [RELU], {"x": [1, 4]}, asked={"input_shapes": {"image": (1, 4)}})
    assert "no input 'image'" in text
    assert "the inputs are x" in text


def test_an_override_of_another_rank_is_refused(tmp_path: Path) -> None:
    text = refused(tmp_path, [RELU], {"x": [1, 4]}, asked={"input_shapes": {"x": (1, 3, 4)}})
    assert "2 dimensions (1, 4), 3 were given" in text


def test_a_batch_is_that_of_a_given_shape_as_well(tmp_path: Path) -> None:
    file = saved(tmp_path, model_of([RELU], {"x": [1, 4]}))
    for asked in (1, 8):
        graph = load(file, batch=8, input_shapes={"x": (asked, 6)})
        assert graph.tensors[graph.inputs[0]].dims == (8, 6)
    assert "a batch of 8 was asked for, and 4x6 for input 'x'" in refusal(file, batch=8, input_shapes={"x": (4, 6)})


def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    assert "at least 1" in refused(tmp_path, [RELU], {"x": [1, 4]}, asked={"batch": 0})


def test_a_network_of_constants_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["c"], ["y"], name="relu")
    assert "no output depends on an input" in refused(tmp_path, [node], {"x": [1]}, {"c": weights(3)})


def test_a_network_without_inputs_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["c"], ["y"], name="relu")
    assert "no inputs besides weights" in refused(tmp_path, [node], {}, {"c": weights(3)})


def test_an_unknown_granularity_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="folded, op"):
        load(DATA / "fp16_resnet18.onnx", granularity="fold")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (helper.make_node("ConstantOfShape", ["s"], ["c"]), {"s": ints(2**20, 2**19)}),
        (helper.make_node("Expand", ["o", "s"], ["c"]), {"o": weights(1), "s": ints(2**20, 2**19)}),
        (
            helper.make_node("Range", ["a", "b", "d"], ["c"]),
            {"a": np.float32(0), "b": np.float32(2**39), "d": np.float32(1)},
        ),
        (helper.make_node("Tile", ["o", "s"], ["c"]), {"o": weights(1), "s": ints(2**39)}),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_hostile_constants_are_never_allocated(node: onnx.NodeProto, constants: dict[str, Any], tmp_path: Path) -> None:
    total = helper.make_node("ReduceMax", ["c"], ["m"], keepdims=0)
    model = model_of([node, total, helper.make_node("Add", ["x", "m"], ["y"])], {"x": [1, 4]}, constants)
    graph = load(saved(tmp_path, model))
    assert [op.kind for op in graph.ops] == ["activation"]


def external(name: str, location: str, dims: Sequence[int]) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["../../../../etc/passwd", "/etc/passwd", "zeros.bin"])
@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_external_data_is_never_opened(
    location: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"], name="add")], {"x": [1, 4]})
    if where == "initializer":
        model.graph.initializer.append(external("w", location, [4]))
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=external("", location, [4])))
    file = saved(tmp_path, model)
    opened: list[Any] = []
    monkeypatch.setattr("onnx.external_data_helper.load_external_data_for_tensor", lambda *a, **_: opened.append(a))
    assert load(file).ops[0].bias_elements == 4
    assert opened == []


def test_the_hash_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        sha256(tmp_path / "none.onnx")


@pytest.mark.parametrize("name", ["alexnet", "vit_tiny_patch16_224", "shufflenet_v2_x1_0"])
def test_a_reshape_that_was_exported_for_another_input_size_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"cannot take operands of these shapes.*elements cannot become"):
        load_network(name, input_shapes={network_input(name): (1, 3, 96, 96)})


def network_input(name: str) -> str:
    graph = load_network(name)
    return graph.tensors[graph.inputs[0]].name
