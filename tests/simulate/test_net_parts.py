"""Parts of networks that people build, op by op and fused, judged by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper
from onnx_models import Constants, ints, model_of, weights
from ort_judge import judge

import fusecut as fc
from fusecut.errors import SimulationError

pytest.importorskip("onnxruntime")

BUFFERS = ("2KiB", "1MiB")


def check(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str] | None],
    constants: Constants | None = None,
    outputs: Sequence[str] | None = None,
) -> fc.Graph:
    """Both granularities, in a small and in a large buffer, under both kinds of schedule; returns the folded graph."""
    file = folder / "net.onnx"
    file.write_bytes(model_of(nodes, inputs, constants, outputs, ir_version=10).SerializeToString())
    for granularity in ("op", "folded"):
        graph = fc.load(file, granularity=granularity)
        for scheme in ("lbdf", "mixed"):
            for buffer in BUFFERS:
                judge(file, fc.solve(graph, buffer, scheme=scheme, search=fc.search.Greedy()))
    return graph


def test_a_product_that_sums_over_the_rows_of_both_factors(tmp_path: Path) -> None:
    """Linear attention: keys times values, (16, 64) x (64, 12). Its own rows are made at once, each is kept."""
    nodes = [
        helper.make_node("Transpose", ["v"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["k", "t"], ["context"]),
        helper.make_node("Relu", ["context"], ["y"]),
    ]
    check(tmp_path, nodes, {"k": (1, 16, 64), "v": (1, 12, 64)})


def test_an_einsum_that_sums_over_the_rows_of_both_factors(tmp_path: Path) -> None:
    nodes = [helper.make_node("Einsum", ["x", "x"], ["y"], equation="bchw,bdhw->bcd")]
    check(tmp_path, nodes, {"x": (1, 6, 10, 10)})


def test_a_mean_over_a_map_that_was_given_one_more_axis(tmp_path: Path) -> None:
    """torch's AdaptiveAvgPool1d: Unsqueeze, ReduceMean, Squeeze. The vector keeps one row, so nothing waits for it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1]),
        helper.make_node("Unsqueeze", ["c", "axis"], ["u"]),
        helper.make_node("ReduceMean", ["u", "axes"], ["m"]),
        helper.make_node("Squeeze", ["m", "last"], ["s"]),
        helper.make_node("Flatten", ["s"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"]),
    ]
    constants: Constants = {
        "w": weights(8, 4, 3),
        "axis": ints(2),
        "axes": ints(-1, -2),
        "last": ints(3),
        "g": weights(8, 5),
    }
    graph = check(tmp_path, nodes, {"x": (1, 4, 20)}, constants)
    assert [op.kind for op in graph.ops] == ["conv", "reduce", "linear"]


def test_a_sum_of_rows_and_of_what_has_lost_its_rows(tmp_path: Path) -> None:
    """MLP-Mixer: a linear layer over the tokens, transposed back and added to the tokens."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w"], ["m"]),
        helper.make_node("Transpose", ["m"], ["back"], perm=[0, 2, 1]),
        helper.make_node("Add", ["x", "back"], ["y"]),
    ]
    check(tmp_path, nodes, {"x": (1, 9, 16)}, {"w": weights(9, 9)})


def test_rows_stacked_on_what_has_lost_its_rows(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w"], ["m"]),
        helper.make_node("Transpose", ["m"], ["back"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["x", "back"], ["c"], axis=1),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    check(tmp_path, nodes, {"x": (1, 9, 16)}, {"w": weights(9, 9)})


def test_linear_attention_with_loads_that_would_run_ahead(tmp_path: Path) -> None:
    """A product with rows of one input waits for all of the other; behind it eight rows at a time are asked for."""
    nodes = [
        helper.make_node("MatMul", ["context", "q"], ["m"]),
        helper.make_node("Reshape", ["m", "dims"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["y"]),
    ]
    inputs = {"context": (1, 16, 16), "q": (1, 16, 64), "x": (1, 16, 8, 8)}
    check(tmp_path, nodes, inputs, {"dims": ints(1, 16, 8, 8), "w": weights(16, 16, 1, 1)})


def test_a_batch_of_products_is_made_row_by_row_of_both_factors(tmp_path: Path) -> None:
    """Attention within windows: window q of the result needs window q of queries and of keys, and no other."""
    nodes = [
        helper.make_node("Reshape", ["x", "windows"], ["q"]),
        helper.make_node("Transpose", ["q"], ["k"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "k"], ["a"]),
        helper.make_node("Softmax", ["a"], ["s"]),
        helper.make_node("MatMul", ["s", "q"], ["y"]),
    ]
    graph = check(tmp_path, nodes, {"x": (1, 6, 40)}, {"windows": ints(1, 6, 5, 8)})
    assert {op.attrs.get("row_operand", -1) for op in graph.ops if op.kind == "matmul"} == {2}


def test_a_group_norm_written_with_reshapes_keeps_the_map(tmp_path: Path) -> None:
    """As torch exports it: the convolution behind it streams, and the norm is one op."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "grouped"], ["r"]),
        helper.make_node("InstanceNormalization", ["r", "ones", "zeros"], ["n"]),
        helper.make_node("Reshape", ["n", "dims"], ["b"]),
        helper.make_node("Mul", ["b", "scale"], ["m"]),
        helper.make_node("Add", ["m", "scale"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["y"], pads=[1, 1, 1, 1]),
    ]
    constants: Constants = {
        "w": weights(8, 3, 3, 3),
        "v": weights(4, 8, 3, 3),
        "grouped": ints(0, 4, -1),
        "dims": ints(1, 8, 12, 10),
        "ones": weights(4),
        "zeros": weights(4),
        "scale": weights(8, 1, 1),
    }
    graph = check(tmp_path, nodes, {"x": (1, 3, 12, 10)}, constants)
    assert [op.kind for op in graph.ops] == ["conv", "normalise", "conv"]
    assert [bool(op.attrs.get("barrier")) for op in graph.ops] == [False, True, False]


def test_a_convolution_whose_channels_are_rows_is_priced_as_it_runs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["t"], ["q"]),
        helper.make_node("Reshape", ["q", "dims"], ["m"]),
        helper.make_node("Conv", ["m", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    check(tmp_path, nodes, {"t": (1, 8, 60)}, {"dims": ints(1, 8, 10, 6), "w": weights(8, 8, 3, 3)})


def test_a_sequence_whose_convolutions_come_behind_pads_has_its_samples_for_rows(tmp_path: Path) -> None:
    """WaveNet: the input is read by a pad and by a sum, never by a convolution itself."""
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["c"], dilations=[2]),
        helper.make_node("Add", ["c", "x"], ["y"]),
    ]
    graph = check(tmp_path, nodes, {"x": (1, 8, 40)}, {"pads": ints(0, 0, 2, 0, 0, 0), "w": weights(8, 8, 2)})
    assert not any(op.attrs.get("barrier") for op in graph.ops)
    assert graph.tensors[graph.inputs[0]].rows == 40


def test_constants_that_nodes_make_may_use_any_operator(tmp_path: Path) -> None:
    """A causal mask by Trilu of a constant."""
    nodes = [
        helper.make_node("Trilu", ["m"], ["mask"], upper=0),
        helper.make_node("Mul", ["x", "mask"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"]),
    ]
    check(tmp_path, nodes, {"x": (1, 2, 70, 70)}, {"m": weights(70, 70)})


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_layer_is_a_barrier_with_known_macs(tmp_path: Path, kind: str, gates: int) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node(kind, ["t", "w", "r"], ["every", "last"], hidden_size=6, name="layer"),
        helper.make_node("Squeeze", ["every", "axis"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    constants: Constants = {"w": weights(1, gates * 6, 5), "r": weights(1, gates * 6, 6), "axis": ints(1)}
    graph = check(tmp_path, nodes, {"x": (1, 9, 5)}, constants, ["y", "last"])
    layer = next(op for op in graph.ops if op.name == "layer")
    assert (layer.kind, layer.macs, layer.weight_elements) == ("opaque", 9 * gates * 6 * 11, gates * 6 * 11)
    assert graph.tensors[layer.outputs[0]].rows == 9


def test_an_operator_without_rows_of_its_own_is_computed_whole(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("CumSum", ["c", "axis"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    check(tmp_path, nodes, {"x": (1, 3, 8, 8)}, {"w": weights(4, 3, 1, 1), "axis": ints(2)[0]})


def test_of_a_table_only_the_rows_that_are_looked_up_are_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["e"], name="embedding"),
        helper.make_node("Relu", ["e"], ["y"]),
    ]
    graph = check(tmp_path, nodes, {"x": (1, 7)}, {"table": weights(100, 16)})
    assert [op.weight_elements for op in graph.ops if op.name == "embedding"] == [7 * 16]
    assert not graph.notes


@pytest.mark.parametrize("shape", [False, True], ids=["", "whose_shape_is_read"])
def test_an_input_whose_steps_come_first_has_its_steps_for_rows(tmp_path: Path, shape: bool) -> None:
    """As torch lays out its recurrent layers: (steps, images, features). Once steps were taken for images."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["t"]),
        helper.make_node("LSTM", ["t", "w", "r"], ["every"], hidden_size=6, direction="bidirectional", name="layer"),
        helper.make_node("Transpose", ["every"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "dims"], ["s"]),
        helper.make_node("MatMul", ["s", "m"], ["y"]),
    ]
    nodes += [helper.make_node("Shape", ["x"], ["dims_of_x"])] if shape else []
    constants: Constants = {"w": weights(2, 24, 5), "r": weights(2, 24, 6), "m": weights(12, 3), "dims": ints(0, 0, -1)}
    constants = {**constants, "one": weights(1)}
    for steps, images in ((9, 1), (4, 3)):
        graph = check(tmp_path, nodes, {"x": (steps, images, 5)}, constants, ["y"])
        entry = graph.tensors[graph.inputs[0]]
        assert (entry.batch, entry.rows, entry.channels) == (images, steps, 5)


def test_a_sequence_made_of_the_columns_of_a_map_keeps_one_image(tmp_path: Path) -> None:
    """Text recognition: columns of the map become steps, channels and rows the features of one step."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[3, 0, 1, 2]),
        helper.make_node("Reshape", ["t", "dims"], ["s"]),
        helper.make_node("GRU", ["s", "v", "r"], ["every"], hidden_size=4),
        helper.make_node("Squeeze", ["every", "axis"], ["y"]),
    ]
    constants: Constants = {"w": weights(3, 1, 3, 3), "dims": ints(10, 1, 12), "axis": ints(1)}
    graph = check(tmp_path, nodes, {"x": (1, 1, 4, 10)}, {**constants, "v": weights(1, 12, 12), "r": weights(1, 12, 4)})
    assert {t.batch for t in graph.tensors} == {1}


def test_a_layer_whose_first_state_is_for_all_images_is_not_run_image_by_image(tmp_path: Path) -> None:
    nodes = [helper.make_node("RNN", ["x", "w", "r", "", "", "h"], ["", "y"], hidden_size=6)]
    constants: Constants = {"w": weights(1, 6, 5), "r": weights(1, 6, 6), "h": weights(1, 2, 6)}
    file = tmp_path / "net.onnx"
    file.write_bytes(model_of(nodes, {"x": (3, 2, 5)}, constants, ir_version=10).SerializeToString())
    with pytest.raises(SimulationError, match="mixes images of a batch: simulate it for one image"):
        fc.simulate(fc.solve(fc.load(file), "1MiB"), model=file)


def test_a_network_input_without_axes_is_a_number(tmp_path: Path) -> None:
    graph = check(tmp_path, [helper.make_node("Mul", ["x", "k"], ["y"])], {"x": (1, 3, 8, 8), "k": ()})
    assert graph.tensors[1].dims == ()
    check(tmp_path, [helper.make_node("Relu", ["k"], ["y"])], {"k": ()})


def test_a_network_output_may_be_a_number(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("ReduceMean", ["r"], ["y"], keepdims=0)]
    check(tmp_path, nodes, {"x": (1, 3, 8, 8)})


def test_results_without_arithmetic_are_named(tmp_path: Path) -> None:
    """Where the largest values lie, for an upsampling that puts them back."""
    window: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["values", "places"], name="pool", **window),
        helper.make_node("MaxUnpool", ["values", "places"], ["y"], **window),
    ]
    file = tmp_path / "net.onnx"
    file.write_bytes(model_of(nodes, {"x": (1, 3, 8, 8)}, ir_version=10).SerializeToString())
    solution = fc.solve(fc.load(file), "1MiB")
    with pytest.raises(SimulationError, match=r"op 'pool': MaxPool has no arithmetic for 'places' here: .* \(--fast"):
        fc.simulate(solution, model=file)
    assert fc.simulate(solution, mode="fast").agrees
