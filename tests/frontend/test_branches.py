"""Conditions that are known beforehand: the branch taken stands in place of the If; all else is refused in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Constants, ints, model_of, weights

import fusecut as fc
from fusecut.errors import ModelError
from fusecut.export import Pieces, to_onnx
from fusecut.frontend import source
from fusecut.frontend.onnx import load
from fusecut.ir import Graph

YES, NO = np.array(True), np.array(False)


def node(op_type: str, inputs: Sequence[str], output: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [output], name=attrs.pop("name", output), **attrs)


def branch(nodes: Sequence[onnx.NodeProto], *outputs: str, constants: Constants | None = None) -> onnx.GraphProto:
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    inits = [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    return helper.make_graph(list(nodes), "branch", [], made, inits)


def choice(then: onnx.GraphProto, otherwise: onnx.GraphProto, *outputs: str, on: str = "c") -> onnx.NodeProto:
    return helper.make_node("If", [on], outputs, name=f"if_{outputs[0]}", then_branch=then, else_branch=otherwise)


RELU, TANH = branch([node("Relu", ["x"], "r")], "r"), branch([node("Tanh", ["x"], "t")], "t")
PLAIN = choice(RELU, TANH, "y")


def loaded(tmp_path: Path, *args: Any, asked: dict[str, Any] | None = None, **kwargs: Any) -> Graph:
    file = tmp_path / "net.onnx"
    file.write_bytes(model_of(*args, **kwargs).SerializeToString())
    return load(file, **({"granularity": "op"} | (asked or {})))


def kinds(graph: Graph) -> list[object]:
    return [op.attrs["op_type"] for op in graph.ops]


def refused(tmp_path: Path, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path, *args, **kwargs)
    assert "\n" not in str(caught.value) and "net.onnx" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("value", "taken"), [(YES, ["Relu"]), (NO, ["Tanh"]), (np.array([True]), ["Relu"])])
def test_a_constant_takes_its_branch(tmp_path: Path, value: Any, taken: list[str]) -> None:
    graph = loaded(tmp_path, [PLAIN], {"x": [1, 4]}, {"c": value})
    assert kinds(graph) == taken
    assert [graph.tensors[t].name for t in graph.outputs] == ["y"]


@pytest.mark.parametrize(("columns", "taken"), [(1, ["Squeeze"]), (5, ["Identity"])])
def test_a_squeeze_that_depends_on_a_dimension_is_decided_by_the_shape(
    tmp_path: Path, columns: int, taken: list[str]
) -> None:
    """As torch.jit writes x.squeeze(3)."""
    squeeze = branch([node("Squeeze", ["x", "three"], "s")], "s")
    same = branch([node("Identity", ["x"], "i")], "i")
    nodes = [
        node("Shape", ["x"], "shape"),
        node("Gather", ["shape", "three"], "size"),
        node("Equal", ["size", "one"], "c"),
        choice(squeeze, same, "y"),
    ]
    graph = loaded(tmp_path, nodes, {"x": [1, 3, 8, columns]}, {"three": ints(3), "one": ints(1)})
    assert kinds(graph) == taken


@pytest.mark.parametrize("compare", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"])
def test_every_comparison_can_decide(tmp_path: Path, compare: str) -> None:
    nodes = [node("Size", ["x"], "size"), node(compare, ["size", "four"], "c"), PLAIN]
    expected = "Relu" if "Equal" in compare else "Tanh"
    assert kinds(loaded(tmp_path, nodes, {"x": [1, 4]}, {"four": np.array(4)})) == [expected]


def test_constants_of_the_branch_are_weights(tmp_path: Path) -> None:
    then = branch([node("Conv", ["x", "w"], "r")], "r", constants={"w": weights(4, 3, 1, 1)})
    graph = loaded(tmp_path, [choice(then, TANH, "y")], {"x": [1, 3, 8, 8]}, {"c": YES})
    assert [op.weight_elements for op in graph.ops] == [12]


def test_branches_within_branches_see_what_is_outside(tmp_path: Path) -> None:
    inner = choice(branch([node("Add", ["a", "x"], "s")], "s"), TANH, "deep", on="d")
    then = branch([node("Relu", ["x"], "a"), node("Identity", ["c"], "d"), inner, node("Exp", ["deep"], "e")], "e")
    graph = loaded(tmp_path, [choice(then, TANH, "y")], {"x": [1, 4]}, {"c": YES})
    assert kinds(graph) == ["Relu", "Add", "Exp"]


def test_names_that_are_taken_outside_are_changed(tmp_path: Path) -> None:
    """The same branch twice, with names that the graph around it has, too."""
    body = branch([node("Relu", ["x"], "t"), node("Exp", ["t"], "o")], "o")
    nodes = [
        choice(body, TANH, "y"),
        choice(body, TANH, "z"),
        node("Tanh", ["x"], "t"),
        node("Sum", ["y", "z", "t"], "o"),
    ]
    graph = loaded(tmp_path, nodes, {"x": [1, 4]}, {"c": YES})
    assert sorted(map(str, kinds(graph))) == ["Exp", "Exp", "Relu", "Relu", "Sum", "Tanh"]
    assert len({t.name for t in graph.tensors}) == len(graph.tensors) and [*graph.outputs] == [graph.ops[-1].outputs[0]]


def test_an_inner_name_hides_one_outside(tmp_path: Path) -> None:
    hiding = branch([node("Exp", ["x"], "a"), node("Neg", ["a"], "n")], "n")
    outer = branch([node("Relu", ["x"], "a"), choice(hiding, TANH, "i"), node("Add", ["a", "i"], "s")], "s")
    nodes = [choice(outer, TANH, "z"), node("Tanh", ["x"], "a"), node("Add", ["z", "a"], "y")]
    assert sorted(map(str, kinds(loaded(tmp_path, nodes, {"x": [1, 4]}, {"c": YES})))) == sorted(
        ["Exp", "Neg", "Relu", "Add", "Tanh", "Add"]
    )


def test_one_result_may_have_several_names_and_an_outer_tensor_may_be_one(tmp_path: Path) -> None:
    body = branch([node("Relu", ["x"], "r")], "r", "r", "x")
    nodes = [choice(body, body, "p", "q", "same"), node("Sum", ["p", "q", "same"], "y")]
    graph = loaded(tmp_path, nodes, {"x": [1, 4]}, {"c": YES})
    assert kinds(graph) == ["Relu", "Identity", "Identity", "Sum"]


def test_what_only_the_other_branch_reads_is_dropped(tmp_path: Path) -> None:
    other = branch([node("Neg", ["heavy"], "n")], "n")
    nodes = [node("Exp", ["x"], "e"), node("Sin", ["e"], "heavy"), choice(RELU, other, "y")]
    assert kinds(loaded(tmp_path, nodes, {"x": [1, 4]}, {"c": YES})) == ["Relu"]
    assert kinds(loaded(tmp_path, nodes, {"x": [1, 4]}, {"c": NO})) == ["Exp", "Sin", "Neg"]


def test_a_loop_in_the_branch_left_out_is_no_matter(tmp_path: Path) -> None:
    loop = branch([helper.make_node("Loop", ["", "c", "x"], ["l"], name="loop", body=RELU)], "l")
    assert kinds(loaded(tmp_path, [choice(RELU, loop, "y")], {"x": [1, 4]}, {"c": YES})) == ["Relu"]
    assert "'loop' is Loop" in refused(tmp_path, [choice(RELU, loop, "y")], {"x": [1, 4]}, {"c": NO})


def test_local_functions_inside_a_branch_are_inlined(tmp_path: Path) -> None:
    called = branch([helper.make_node("f", ["x"], ["r"], domain="local")], "r")
    model = model_of([choice(called, TANH, "y")], {"x": [1, 4]}, {"c": YES})
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("local", "f", ["a"], ["b"], [node("Relu", ["a"], "b")], opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert kinds(load(tmp_path / "net.onnx")) == ["Relu"]


def test_functions_within_branches_count_before_anything_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_NODES", 3)
    body = branch([node("Relu", ["x"], "a"), node("Relu", ["a"], "b"), node("Relu", ["b"], "r")], "r")
    assert "more than 3 nodes" in refused(tmp_path, [choice(body, TANH, "y")], {"x": [1, 4]}, {"c": YES})


def test_a_condition_that_depends_on_data_is_refused(tmp_path: Path) -> None:
    nodes = [node("ReduceMax", ["x"], "m", keepdims=0), node("Greater", ["m", "zero"], "c"), PLAIN]
    text = refused(tmp_path, nodes, {"x": [1, 4]}, {"zero": np.float32(0)})
    assert "'if_y' is If, and which branch it takes depends on data ('c')" in text


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (choice(branch([]), TANH, "y"), "has 1 outputs, its branch 'branch' makes 0"),
        (choice(branch([], "ghost"), TANH, "y"), "reads 'ghost'"),
        (choice(branch([node("Relu", ["ghost"], "r")], "r"), TANH, "y"), "reads 'ghost'"),
        (choice(branch([node("Add", ["x", "r"], "r")], "r"), TANH, "y"), "waits for itself"),
        (choice(branch([node("Relu", ["x"], "r"), node("Exp", ["x"], "r")], "r"), TANH, "y"), "exists already"),
        (helper.make_node("If", ["c"], ["y"], name="if_y", else_branch=TANH), "has no then_branch"),
        (helper.make_node("If", ["c"], ["y"], name="if_y", then_branch=1, else_branch=TANH), "has no then_branch"),
        (helper.make_node("If", [], ["y"], name="if_y", then_branch=RELU, else_branch=TANH), "depends on data ('')"),
        (helper.make_node("If", [""], ["y"], name="if_y", then_branch=RELU, else_branch=TANH), "depends on data ('')"),
        (choice(RELU, TANH, "y", "y"), "exists already"),
    ],
    ids=range(10),
)
def test_damaged_branches_are_refused_in_one_line(tmp_path: Path, bad: onnx.NodeProto, says: str) -> None:
    assert says in refused(tmp_path, [bad], {"x": [1, 4]}, {"c": YES}, outputs=["y"])


def test_as_deep_as_a_file_can_nest_is_read(tmp_path: Path) -> None:
    """Protocol buffers end at 100 messages within each other; an If is three."""
    body = RELU
    for depth in range(31):
        body = branch([choice(body, TANH, f"o{depth}")], f"o{depth}")
    assert kinds(loaded(tmp_path, [choice(body, TANH, "y")], {"x": [1, 4]}, {"c": YES})) == ["Relu"]


def test_another_batch_must_take_the_same_branch(tmp_path: Path) -> None:
    single = [node("Shape", ["x"], "shape"), node("Gather", ["shape", "zero"], "n"), node("Equal", ["n", "one"], "c")]
    constants = {"zero": ints(0), "one": ints(1)}
    text = refused(tmp_path, [*single, PLAIN], {"x": [1, 4]}, constants, asked={"batch": 8})
    assert "'if_y' is If, and takes another branch for this batch" in text
    assert kinds(loaded(tmp_path, [PLAIN], {"x": [1, 4]}, {"c": YES}, asked={"batch": 8})) == ["Relu"]


def test_a_plan_of_a_taken_branch_is_executed_and_exported(tmp_path: Path) -> None:
    then = branch(
        [node("Conv", ["x", "w"], "a", pads=[1, 1, 1, 1]), node("Relu", ["a"], "r")],
        "r",
        constants={"w": weights(4, 3, 3, 3)},
    )
    nodes = [choice(then, TANH, "y"), node("Sigmoid", ["y"], "z")]
    file = tmp_path / "net.onnx"
    file.write_bytes(model_of(nodes, {"x": [1, 3, 8, 8]}, {"c": YES}, ir_version=10).SerializeToString())
    solution = fc.solve(fc.load(file), "4KiB")
    assert fc.simulate(solution, model=file).agrees
    exported = to_onnx(Pieces(solution, file))
    session = pytest.importorskip("onnxruntime").InferenceSession
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    before, after = (session(m).run(None, {"x": x})[0] for m in (file.read_bytes(), exported.SerializeToString()))
    assert np.array_equal(before, after)
