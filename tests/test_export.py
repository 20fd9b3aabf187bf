"""Exported models: onnx's checker, onnxruntime and onnx's own inliner judge them, not our reader."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, inliner, numpy_helper
from onnx_models import DATA, ints, model_of, weights

import fusecut as fc
from fusecut.cli import main
from fusecut.errors import PlanError
from fusecut.export import Pieces, layer_stacks, missing_data, subgraphs, to_onnx, write_onnx
from fusecut.search import Greedy
from fusecut.solution import Solution

Array = NDArray[Any]
Arrays = dict[str, Array]

FILES = (
    "zoo:mobilenet_v3_small",
    "zoo:squeezenet1_1",
    "zoo:shufflenet_v2_x1_0",
    str(DATA / "legacy_shufflenet_v2_x1_0.onnx"),
    str(DATA / "unoptimized_bn_resnet18.onnx"),
    str(DATA / "qdq_int8_resnet18.onnx"),
    str(DATA / "dynbatch_resnet18.onnx"),
)


@cache
def pieces_of(source: str | Path, buffer: str = "96KiB") -> Pieces:
    return Pieces(fc.solve(fc.load(source), buffer, search=Greedy(), scheme="lbdf"), source)


def filled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with random values for the weights that are not with it, equal for equal names."""
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            rng = np.random.default_rng(zlib.crc32(tensor.name.encode()))
            noise = rng.standard_normal(tuple(tensor.dims))
            fan_in = max(1, int(np.prod(tensor.dims[1:])))
            values = noise * np.sqrt(1.5 / fan_in) if len(tensor.dims) > 1 else 0.5 + 0.1 * np.abs(noise)
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            values = rng.integers(-9, 9, tuple(tensor.dims)) if dtype.kind in "iu" else values
            tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), tensor.name))
    return model


def inputs_of(model: onnx.ModelProto) -> Arrays:
    given = {t.name for t in model.graph.initializer}
    rng = np.random.default_rng(0)
    found: Arrays = {}
    for value in model.graph.input:
        if value.name not in given:
            dims = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            found[value.name] = rng.standard_normal(dims).astype(dtype)
    return found


def outputs_of(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def same(found: Arrays, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.isfinite(values).all() and values.std() > 0
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def original(pieces: Pieces) -> onnx.ModelProto:
    return filled(onnx.load(pieces.file, load_external_data=False))


@pytest.mark.parametrize("source", FILES, ids=lambda s: Path(s).stem)
def test_the_exported_model_computes_what_the_file_computes(source: str) -> None:
    pieces = pieces_of(source)
    assert len(pieces.pieces) > 1
    model = filled(to_onnx(pieces))
    inputs = inputs_of(model)
    same(outputs_of(model, inputs), outputs_of(original(pieces), inputs))


@pytest.mark.parametrize("source", FILES[:5], ids=lambda s: Path(s).stem)
def test_the_groups_one_after_the_other_compute_what_the_file_computes(source: str) -> None:
    pieces = pieces_of(source)
    wanted = original(pieces)
    values = inputs_of(wanted)
    expected = outputs_of(wanted, values)
    for _, part in subgraphs(pieces):
        filled(part)
        values |= outputs_of(part, {v.name: values[v.name] for v in part.graph.input})
    same({name: values[name] for name in expected}, expected)


@pytest.mark.parametrize("source", FILES, ids=lambda s: Path(s).stem)
def test_the_exported_model_passes_the_full_check_of_onnx(source: str) -> None:
    onnx.checker.check_model(filled(to_onnx(pieces_of(source))), full_check=True)


@pytest.mark.parametrize("source", FILES, ids=lambda s: Path(s).stem)
def test_between_functions_flow_exactly_the_tensors_the_plan_counts(source: str) -> None:
    pieces = pieces_of(source)
    assert pieces.solution.partition is not None
    graph = pieces.graph
    for piece, group in zip(pieces.pieces, pieces.solution.partition.groups, strict=True):
        activations = [name for name in piece.inputs if not pieces.values[name].constant]
        nbytes = [int(np.prod(pieces.values[name].dims)) for name in (*activations, *piece.outputs)]
        assert len(activations) == len(graph.reads(group)) and len(piece.outputs) == len(graph.writes(group))
        assert sum(nbytes) == sum(graph.tensors[t].elements for t in (*graph.reads(group), *graph.writes(group)))


@pytest.mark.parametrize("source", FILES[:2], ids=lambda s: Path(s).stem)
def test_inlining_the_functions_gives_the_nodes_of_the_file_back(source: str) -> None:
    pieces = pieces_of(source)
    back = inliner.inline_local_functions(to_onnx(pieces))
    before = onnx.load(pieces.file, load_external_data=False)
    assert Counter(n.op_type for n in back.graph.node) == Counter(n.op_type for n in before.graph.node)


def test_every_group_is_one_function_called_once() -> None:
    pieces = pieces_of("zoo:mobilenet_v2")
    model = to_onnx(pieces)
    names = [f"group_{i}" for i in range(len(pieces.solution.planned))]
    assert [f.name for f in model.functions] == names == [n.op_type for n in model.graph.node]


def test_the_metadata_hold_the_plan_and_the_figures_of_every_group() -> None:
    pieces = pieces_of("zoo:mobilenet_v2")
    model = to_onnx(pieces)
    props = {p.key: p.value for p in model.metadata_props}
    assert json.loads(props["fusecut.plan"]) == json.loads(json.dumps(pieces.solution.to_dict()))
    moved = [int(p.value) for n in model.graph.node for p in n.metadata_props if p.key == "fusecut.dram_bytes"]
    assert sum(moved) == pieces.solution.cost.dram_bytes == int(props["fusecut.dram_bytes"])


def saved(folder: Path, *args: Any, **kwargs: Any) -> Path:
    file = folder / "net.onnx"
    file.write_bytes(model_of(*args, ir_version=10, **kwargs).SerializeToString())
    return file


def cut(file: Path, groups: list[list[str]]) -> Pieces:
    """The file cut as told."""
    graph = fc.load(file)
    problem = fc.Problem(graph, fc.Machine.of("1MiB"), fc.models.scheme_model("mixed"))
    solution = fc.solve(graph, "1MiB")
    partition = fc.Partition.of_names(problem.graph, groups)
    return Pieces(Solution(**{**vars(solution), "partition": partition, "planned": problem.finished(partition)}), file)


def test_a_copy_read_by_two_groups_that_depend_on_each_other_makes_no_cycle(tmp_path: Path) -> None:
    """b reads the copy of x, a reads the copy and b: made once, by a, the copy would be a cycle."""
    nodes = [
        helper.make_node("Identity", ["x"], ["copy"], name="copy"),
        helper.make_node("MaxPool", ["copy"], ["p"], name="b", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["copy"], ["r"], name="first", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Add", ["r", "p"], ["y"], name="a"),
    ]
    pieces = cut(saved(tmp_path, nodes, {"x": [1, 2, 4, 4]}), [["first", "a"], ["b"]])
    assert all(piece.inputs[0] == "x" for piece in pieces.pieces if "x" in piece.inputs)
    model = to_onnx(pieces)
    inputs = inputs_of(model)
    same(outputs_of(model, inputs), outputs_of(original(pieces), inputs))


def test_outputs_of_one_node_may_go_to_several_groups(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x", "parts"], ["u", "v"], name="split", axis=1),
        helper.make_node("Relu", ["u"], ["a"], name="left"),
        helper.make_node("Sigmoid", ["v"], ["b"], name="right"),
        helper.make_node("Add", ["a", "b"], ["y"], name="join"),
    ]
    file = saved(tmp_path, nodes, {"x": [1, 4, 4, 4]}, {"parts": ints(2, 2)})
    pieces = cut(file, [["split"], ["left"], ["right", "join"]])
    model = to_onnx(pieces)
    inputs = inputs_of(model)
    same(outputs_of(model, inputs), outputs_of(original(pieces), inputs))


def test_a_shape_that_the_file_computes_becomes_a_constant(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Shape", ["c"], ["s"], name="shape"),
        helper.make_node("MaxPool", ["c"], ["r"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["r", "s"], ["y"], name="reshape"),
    ]
    pieces = cut(saved(tmp_path, nodes, {"x": [1, 3, 4, 4]}, {"w": weights(2, 3, 1, 1)}), [["conv"], ["pool"]])
    model = to_onnx(pieces)
    assert "Shape" not in {n.op_type for f in model.functions for n in f.node}
    inputs = inputs_of(model)
    same(outputs_of(model, inputs), outputs_of(original(pieces), inputs))


def test_a_file_with_functions_of_its_own_can_be_exported(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Sigmoid", ["t"], ["b"])]
    function = helper.make_function("own", "twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    nodes = [
        helper.make_node("twice", ["x"], ["u"], name="f", domain="own"),
        helper.make_node("twice", ["u"], ["y"], name="g", domain="own"),
    ]
    file = saved(tmp_path, nodes, {"x": [1, 2, 4, 4]}, functions=[function])
    model = onnx.load(file)
    model.opset_import.append(helper.make_opsetid("own", 1))
    file.write_bytes(model.SerializeToString())
    pieces = Pieces(fc.solve(fc.load(file, granularity="op"), "1KiB", scheme="layerwise"), file)
    exported = to_onnx(pieces)
    inputs = inputs_of(exported)
    same(outputs_of(exported, inputs), outputs_of(model, inputs))


def external(folder: Path) -> Path:
    """A network whose weights are in a file beside it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    model = model_of(nodes, {"x": [1, 3, 4, 4]}, {"w": weights(64, 3, 1, 1)}, ir_version=10)
    file = folder / "net.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return file


def test_weights_in_another_file_stay_there_and_are_found(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    pieces = pieces_of(external(tmp_path))
    write_onnx(pieces, tmp_path / "fused.onnx")
    assert (tmp_path / "fused.onnx").stat().st_size < 4096 and missing_data(pieces, tmp_path) == []
    inputs = inputs_of(to_onnx(pieces))
    results = [ort.InferenceSession(tmp_path / name).run(None, inputs) for name in ("net.onnx", "fused.onnx")]
    np.testing.assert_array_equal(*results)


def test_the_network_itself_is_never_overwritten(tmp_path: Path) -> None:
    file = external(tmp_path)
    before = file.read_bytes()
    with pytest.raises(PlanError, match="is the network of the plan itself"):
        write_onnx(pieces_of(file), tmp_path / "." / "net.onnx")
    assert file.read_bytes() == before


def test_weights_left_in_another_folder_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, plan, out = external(tmp_path), tmp_path / "plan.json", tmp_path / "out"
    out.mkdir()
    assert main(["solve", str(file), "--buffer", "64KiB", "-o", str(plan), "-q"]) == 0
    capsys.readouterr()
    assert main(["export", str(plan), "--onnx", str(out / "fused.onnx")]) == 0
    assert f"its weights are in weights.bin: copy that from {tmp_path} to {out}" in capsys.readouterr().out


def test_a_network_that_came_without_weights_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.json"
    assert main(["solve", "zoo:squeezenet1_1", "--buffer", "96KiB", "-o", str(plan), "-q"]) == 0
    capsys.readouterr()
    targets = [str(tmp_path / name) for name in ("fused.onnx", "groups", "stacks.json")]
    arguments = [a for pair in zip(("--onnx", "--subgraphs", "--stream"), targets, strict=True) for a in pair]
    assert main(["export", str(plan), *arguments]) == 0
    assert capsys.readouterr().out.count("it opens, and cannot be run") == 2
    groups = json.loads(plan.read_text())["groups"]
    assert len(list((tmp_path / "groups").iterdir())) == len(groups)
    assert len(onnx.load(targets[0], load_external_data=False).functions) == len(groups)


def test_layer_stacks_are_the_groups_as_positions_in_the_file() -> None:
    for source in ("zoo:mobilenet_v2", str(DATA / "legacy_shufflenet_v2_x1_0.onnx")):
        pieces = pieces_of(source)
        nodes = onnx.load(pieces.file, load_external_data=False).graph.node
        assert pieces.solution.partition is not None
        for stack, names in zip(layer_stacks(pieces), pieces.solution.partition.names(), strict=True):
            assert {nodes[i].name for i in stack} == set(names)


def test_the_export_is_the_same_in_any_process(tmp_path: Path) -> None:
    code = (
        "import sys, fusecut as fc; from fusecut.export import Pieces, write_onnx\n"
        "s = fc.solve(fc.zoo('shufflenet_v2_x1_0'), '96KiB', search=fc.search.Greedy(), scheme='lbdf')\n"
        "object.__setattr__(s, 'seconds', 0.0); write_onnx(Pieces(s), sys.argv[1])"
    )
    files = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for seed, file in zip("12", files, strict=True):
        subprocess.run([sys.executable, "-c", code, str(file)], check=True, env={"PYTHONHASHSEED": seed})
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_plan_of_another_network_is_refused() -> None:
    solution = fc.solve(fc.zoo("squeezenet1_1"), "96KiB")
    with pytest.raises(PlanError, match="is not the network of this plan: it has no op"):
        Pieces(solution, str(DATA / "legacy_resnet18.onnx"))


def test_a_graph_without_a_file_must_be_given_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    solution = fc.solve(fc.load(saved(tmp_path, nodes, {"x": [1, 2, 4, 4]})), "96KiB")
    with pytest.raises(PlanError, match="name it with model="):
        Pieces(solution)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to export: give --onnx FILE, --subgraphs DIR or --stream FILE"),
        (("--onnx", "/nowhere/x.onnx"), "there is no folder /nowhere"),
    ],
)
def test_bad_arguments_are_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert main(["export", "plan.json", *arguments]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_nodes_of_a_group_stay_in_the_order_of_the_file() -> None:
    pieces = pieces_of("zoo:mobilenet_v2")
    for piece in pieces.pieces:
        places = [pieces.place[node.name] for node in piece.nodes]
        assert places == sorted(places)
