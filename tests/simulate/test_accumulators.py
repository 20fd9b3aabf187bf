"""The place of a maximum streams by in two accumulators: the best value so far, and its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fusecut as fc
from fusecut.cost import Planned
from fusecut.frontend.weights import network
from fusecut.machine import Machine
from fusecut.models import LineBuffer
from fusecut.ops import accumulator_elements
from fusecut.problem import Problem
from fusecut.simulate import execute
from fusecut.simulate.compute import Compute

DIMS = (1, 3, 8, 5)


def model_of(folder: Path, op_type: str) -> Path:
    """One reduction over the rows."""
    node = helper.make_node(op_type, ["x"], ["y"], name="reduce", axis=2, keepdims=1)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, DIMS)
    made = helper.make_tensor_value_info("y", TensorProto.INT64, (1, 3, 1, 5))
    model = helper.make_model(
        helper.make_graph([node], "g", [given], [made]), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("granularity", ["row", "pixel"])
def test_the_place_of_an_extreme_needs_two_accumulators_for_each_column(
    tmp_path: Path, op_type: str, granularity: str
) -> None:
    file = model_of(tmp_path, op_type)
    problem = Problem(fc.load(file), Machine(10_000), LineBuffer(granularity))  # type: ignore[arg-type]
    graph = problem.graph
    assert accumulator_elements(graph, graph.ops[0]) == 2 * 3 * 5
    planned = problem.plan(1)
    assert isinstance(planned, Planned)
    assert planned.cost.buffer_bytes == 4 * 2 * 3 * 5 + sum(h.nbytes for h in planned.schedule.holds)
    x = np.random.default_rng(0).integers(-4, 4, DIMS).astype(np.float32)
    compute = Compute(graph, network(file))
    simulation, dram = execute(graph, problem.machine, [planned], compute, {"x": x})
    assert simulation.agrees
    expected = getattr(np, op_type.lower())(x, axis=2)
    np.testing.assert_array_equal(compute.array_of(1, dram.data[1]).reshape(3, 5), expected[0])
