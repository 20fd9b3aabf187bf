"""Kinds, attributes, weights and MACs of single ops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnx_models import Build, builder, ints, weights

from fusecut.ir import Graph, Op


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return builder(tmp_path)


def single(build: Build, op: str, dims: tuple[int, ...], *operands: NDArray[Any] | None, **kwargs: Any) -> Graph:
    """The graph of one node that reads x and then constants (None: left out)."""
    opset = kwargs.pop("opset", 20)
    names = ["" if c is None else f"c{i}" for i, c in enumerate(operands)]
    constants = {n: c for n, c in zip(names, operands, strict=True) if c is not None}
    return build([helper.make_node(op, ["x", *names], ["y"], name="n", **kwargs)], {"x": dims}, constants, opset=opset)


def only(graph: Graph) -> Op:
    (op,) = graph.ops
    return op


def test_a_convolution_has_its_window_weights_biases_and_macs(build: Build) -> None:
    graph = single(
        build, "Conv", (2, 4, 9, 8), weights(6, 2, 3, 5), weights(6), group=2, strides=[2, 1], pads=[1, 2, 0, 3]
    )
    op = only(graph)
    window = {k: op.attrs[k] for k in ("kernel", "strides", "dilations", "pads", "groups")}
    assert window == {"kernel": (3, 5), "strides": (2, 1), "dilations": (1, 1), "pads": (1, 2, 0, 3), "groups": 2}
    assert (op.kind, op.weight_elements, op.bias_elements) == ("conv", 180, 6)
    assert op.macs == graph.tensors[op.outputs[0]].elements * 2 * 3 * 5


def test_a_transposed_convolution_counts_macs_by_its_inputs(build: Build) -> None:
    op = only(single(build, "ConvTranspose", (1, 4, 5, 6), weights(4, 3, 2, 2), strides=[2, 2], group=2))
    assert (op.kind, op.macs) == ("conv_transpose", 4 * 5 * 6 * 3 * 2 * 2)


@pytest.mark.parametrize(
    ("mode", "pads"), [("SAME_UPPER", (0, 0, 1, 1)), ("SAME_LOWER", (1, 1, 0, 0)), ("VALID", (0,) * 4)]
)
def test_automatic_pads_become_numbers(mode: str, pads: tuple[int, ...], build: Build) -> None:
    op = only(single(build, "Conv", (1, 3, 8, 8), weights(2, 3, 3, 3), auto_pad=mode, strides=[2, 2]))
    assert op.attrs["pads"] == pads


def test_the_output_shape_of_a_transposed_convolution_becomes_pads(build: Build) -> None:
    op = only(single(build, "ConvTranspose", (1, 2, 5, 5), weights(2, 2, 3, 3), strides=[2, 2], output_shape=[10, 10]))
    assert op.attrs["pads"] == (1, 1, 0, 0)


def test_a_one_dimensional_convolution_has_rows_only(build: Build) -> None:
    graph = single(build, "Conv", (1, 3, 20), weights(2, 3, 5), pads=[1, 2])
    assert (only(graph).attrs["kernel"], only(graph).attrs["pads"]) == ((5, 1), (1, 0, 2, 0))
    assert graph.tensors[1].shape == (1, 2, 19, 1)


def test_a_three_dimensional_convolution_has_exact_rows_and_whole_columns(build: Build) -> None:
    graph = single(build, "Conv", (1, 2, 6, 4, 4), weights(3, 2, 3, 2, 2), pads=[1, 0, 0, 1, 0, 0])
    op = only(graph)
    assert graph.tensors[1].shape == (1, 3, 6, 9)
    assert (op.attrs["kernel"], op.attrs["pads"]) == ((3, 16 + 9 + 1), (1, 9, 1, 9))
    assert op.attrs["spatial_kernel"] == (3, 2, 2)


def test_rounding_up_makes_a_larger_map(build: Build) -> None:
    graph = single(build, "MaxPool", (1, 1, 6, 6), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    assert graph.tensors[1].shape == (1, 1, 3, 3)


def test_a_one_by_one_pool_is_an_identity(build: Build) -> None:
    assert only(single(build, "AveragePool", (1, 2, 4, 4), kernel_shape=[1, 1])).kind == "identity"


def test_an_average_pool_says_whether_it_counts_pads(build: Build) -> None:
    op = only(single(build, "AveragePool", (1, 2, 4, 4), kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1))
    assert (op.attrs["mode"], op.attrs["count_include_pad"]) == ("average", True)


CONSTANTS: dict[str, tuple[str, NDArray[Any], tuple[str, int, int]]] = {
    "add a number": ("Add", weights(1), ("activation", 0, 0)),
    "multiply by a number": ("Mul", np.array(2, np.float32), ("activation", 0, 0)),
    "add per channel": ("Add", weights(3, 1, 1), ("affine", 0, 3)),
    "subtract per channel": ("Sub", weights(1, 3, 1, 1), ("affine", 0, 3)),
    "multiply per channel": ("Mul", weights(3, 1, 1), ("affine", 3, 0)),
    "divide per channel": ("Div", weights(3, 1, 1), ("affine", 3, 0)),
    "add per position": ("Add", weights(1, 1, 5, 4), ("affine", 20, 0)),
    "add per row": ("Add", weights(5, 1), ("affine", 5, 0)),
    "power per channel": ("Pow", weights(3, 1, 1), ("activation", 3, 0)),
    "slope per channel": ("PRelu", weights(3, 1, 1), ("activation", 3, 0)),
    "one slope": ("PRelu", weights(1), ("activation", 0, 0)),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_operand_is_an_immediate_a_weight_or_a_bias(name: str, build: Build) -> None:
    op_type, constant, expected = CONSTANTS[name]
    op = only(single(build, op_type, (1, 3, 5, 4), constant))
    assert (op.kind, op.weight_elements, op.bias_elements) == expected
    assert op.attrs["function"] == op_type


def test_a_number_divided_by_channels_is_no_affine_map(build: Build) -> None:
    node = helper.make_node("Div", ["c", "x"], ["y"], name="n")
    assert only(build([node], {"x": (1, 3, 5, 4)}, {"c": weights(3, 1, 1)})).kind == "activation"


def test_a_batch_norm_is_one_scale_and_one_bias_per_channel(build: Build) -> None:
    op = only(single(build, "BatchNormalization", (1, 7, 4, 4), *[weights(7)] * 4))
    assert (op.kind, op.weight_elements, op.bias_elements) == ("affine", 7, 7)


def test_a_batch_norm_that_trains_waits_for_all_rows(build: Build) -> None:
    nodes = [helper.make_node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], name="n", training_mode=1)]
    op = only(build(nodes, {"x": (1, 7, 4, 4)}, {k: weights(7) for k in "abcd"}, outputs=["y"]))
    assert (op.kind, op.attrs["barrier"], len(op.outputs)) == ("normalise", True, 1)


def test_a_fully_connected_layer_counts_weights_biases_and_macs(build: Build) -> None:
    op = only(single(build, "Gemm", (4, 10), weights(6, 10), weights(6), transB=1))
    assert (op.kind, op.weight_elements, op.bias_elements, op.macs) == ("linear", 60, 6, 240)
    assert (op.attrs["in_features"], op.attrs["out_features"]) == (10, 6)


def test_a_product_of_two_activations_has_no_weights(build: Build) -> None:
    nodes = [helper.make_node("MatMul", ["x", "k"], ["y"], name="n")]
    op = only(build(nodes, {"x": (1, 2, 5, 4), "k": (1, 2, 4, 7)}))
    assert (op.kind, op.weight_elements, op.macs) == ("matmul", 0, 2 * 5 * 7 * 4)
    assert op.attrs["row_operand"] == 0


@pytest.mark.parametrize(
    ("op", "axes"), [("ReduceMean", (2, 3)), ("ReduceMax", (2,)), ("ReduceSum", (3,)), ("ReduceMean", (1,))]
)
@pytest.mark.parametrize("old", [True, False])
def test_axes_of_reductions_are_read_from_attributes_and_operands(
    op: str, axes: tuple[int, ...], old: bool, build: Build
) -> None:
    where: dict[str, Any] = {"axes": axes, "opset": 11} if old else {}
    graph = single(build, op, (1, 3, 5, 4), *([] if old else [ints(*axes)]), **where)
    assert only(graph).kind == "reduce"
    assert graph.tensors[1].rows == (1 if 2 in axes else 5)


def test_resize_reads_scales_coordinates_and_rounding(build: Build) -> None:
    scales = np.array([1, 1, 2.5, 2], np.float32)
    op = only(
        single(build, "Resize", (1, 2, 4, 4), None, scales, mode="linear", coordinate_transformation_mode="asymmetric")
    )
    assert (op.attrs["scale"], op.attrs["mode"], op.attrs["coordinates"]) == ((5, 2, 2, 1), "linear", "asymmetric")


def test_resize_to_sizes_scales_by_their_ratio(build: Build) -> None:
    op = only(single(build, "Resize", (1, 2, 6, 6), None, None, ints(1, 2, 9, 4), mode="cubic"))
    assert op.attrs["scale"] == (3, 2, 2, 3)


def test_upsample_is_an_asymmetric_resize_that_rounds_down(build: Build) -> None:
    op = only(single(build, "Upsample", (1, 2, 4, 4), np.array([1, 1, 2, 3], np.float32), opset=9))
    assert (op.attrs["scale"], op.attrs["coordinates"], op.attrs["nearest"]) == ((2, 1, 3, 1), "asymmetric", "floor")


def test_an_antialiased_resize_is_a_barrier(build: Build) -> None:
    op = only(single(build, "Resize", (1, 2, 8, 8), None, None, ints(1, 2, 4, 4), mode="linear", antialias=1))
    assert op.attrs["barrier"] is True


def test_padding_has_top_left_bottom_right(build: Build) -> None:
    op = only(single(build, "Pad", (1, 2, 5, 5), ints(0, 0, 1, 2, 0, 0, 3, -1)))
    assert (op.attrs["pads"], op.attrs["mode"]) == ((1, 2, 3, -1), "constant")


def test_padding_by_nothing_is_an_identity(build: Build) -> None:
    assert only(single(build, "Pad", (1, 2, 5, 5), ints(*[0] * 8))).kind == "identity"


def test_an_old_softmax_normalises_all_axes_from_its_axis_on(build: Build) -> None:
    assert only(single(build, "Softmax", (1, 3, 5, 4), axis=1, opset=11)).attrs["barrier"] is True
    assert "barrier" not in only(single(build, "Softmax", (1, 3, 5, 4), axis=1, opset=13)).attrs


def test_a_split_over_rows_is_one_slice_for_each_part(build: Build) -> None:
    nodes = [helper.make_node("Split", ["x", "s"], ["a", "b"], name="n", axis=2)]
    graph = build(nodes, {"x": (1, 3, 6, 4)}, {"s": ints(2, 4)})
    assert [(op.name, op.kind, op.attrs["starts"]) for op in graph.ops] == [
        ("n:a", "slice", (0, 0)),
        ("n:b", "slice", (2, 0)),
    ]


def test_a_split_over_channels_is_one_op(build: Build) -> None:
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], name="n", axis=1, num_outputs=2)]
    graph = build(nodes, {"x": (1, 6, 6, 4)})
    assert (only(graph).kind, len(only(graph).outputs)) == ("split", 2)


def test_results_that_nobody_reads_are_dropped(build: Build) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a", "indices"], name="pool", kernel_shape=[2, 2]),
        helper.make_node("Dropout", ["a"], ["b", "mask"], name="drop"),
    ]
    graph = build(nodes, {"x": (1, 3, 6, 4)}, outputs=["b"])
    assert [len(op.outputs) for op in graph.ops] == [1, 1]


def test_an_op_whose_result_nobody_reads_stays(build: Build) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="dead"), helper.make_node("Sigmoid", ["x"], ["y"], name="n")]
    graph = build(nodes, {"x": (1, 3, 6, 4)}, outputs=["y"], granularity="folded")
    assert [op.name for op in graph.ops] == ["dead", "n"]


def test_an_input_that_nobody_reads_is_noted_and_left_out(build: Build) -> None:
    graph = build([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3), "spare": (1, 3)})
    assert len(graph.inputs) == 1
    assert graph.notes == ("input 'spare' is read by no op and left out",)


def test_shape_arithmetic_disappears(build: Build) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "zeros"], ["n1"]),
        helper.make_node("Div", ["six", "two"], ["three"]),
        helper.make_node("Concat", ["n1", "three", "minus"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"], name="view"),
    ]
    constants = {"zero": np.array(0), "zeros": ints(0), "six": ints(6), "two": ints(2), "minus": ints(-1)}
    graph = build(nodes, {"x": (2, 6, 4)}, constants)
    assert [op.name for op in graph.ops] == ["view"]
    assert graph.tensors[1].dims == (2, 3, 8)


def test_a_weight_that_is_computed_from_constants_is_a_weight(build: Build) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="fc"),
    ]
    graph = build(nodes, {"x": (1, 4)}, {"w": np.ones((6, 4), np.int8), "s": np.float32(0.1)})
    assert (only(graph).kind, only(graph).weight_elements) == ("linear", 24)


def test_a_quantised_convolution_is_a_convolution(build: Build) -> None:
    names = ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    constants: dict[str, NDArray[Any]] = {n: np.array(0.1, np.float32) for n in ("xs", "ws", "ys")}
    constants |= {n: np.array(0, np.int8) for n in ("xz", "wz", "yz")}
    constants |= {"w": np.ones((5, 3, 1, 1), np.int8), "b": np.ones(5, np.int32)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("QLinearConv", names, ["y"], name="conv"),
    ]
    op = build(nodes, {"x": (1, 3, 8, 8)}, constants, outputs=["y"]).ops[1]
    assert (op.kind, op.weight_elements, op.bias_elements, op.macs) == ("conv", 15, 5, 64 * 15)


def test_a_table_look_up_is_opaque_with_the_rows_it_reads_as_weights(build: Build) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=7),
        helper.make_node("Gather", ["table", "i"], ["y"], name="look"),
    ]
    graph = build(nodes, {"x": (1, 5)}, {"table": weights(100, 8)})
    assert (graph.ops[1].kind, graph.ops[1].weight_elements) == ("opaque", 5 * 8)


@pytest.mark.parametrize("fixed", [1, 2])
def test_a_batch_works_on_a_file_that_hard_codes_its_own(fixed: int, build: Build) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], name="view")]
    graph = build(nodes, {"x": (fixed, 3, 4, 4)}, {"s": ints(fixed, 48)}, load_with={"batch": 6})
    assert [t.dims for t in graph.tensors] == [(6, 3, 4, 4), (6, 48)]
