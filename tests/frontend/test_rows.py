"""Row axes and row maps against NumPy: change one input row and see which rows of every tensor change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import Constants, ints, model_of, weights

from fusecut.frontend.onnx import load
from fusecut.ir import Graph
from fusecut.ops import row_maps

Rows = set[int]


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op}_{outputs.split()[0]}", **attrs)


def chain(*steps: tuple[str, dict[str, Any]]) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Nodes one after another on x; arrays among a step's attributes become constant operands."""
    nodes, constants, last = [], {}, "x"
    for index, (op, attrs) in enumerate(steps):
        plain = {k: v for k, v in attrs.items() if not isinstance(v, np.ndarray)}
        operands = [last]
        for key, value in attrs.items():
            if isinstance(value, np.ndarray):
                constants[f"{key}{index}"] = value
                operands.append(f"{key}{index}")
        nodes.append(helper.make_node(op, operands, [f"y{index}"], name=f"n{index}", **plain))
        last = f"y{index}"
    return nodes, constants


def changed_rows(before: NDArray[Any], after: NDArray[Any], axis: int | None) -> Rows:
    """Rows that differ, NaN-safe."""
    differs = ~np.isclose(before, after, rtol=0, atol=0, equal_nan=True)
    if axis is None:
        return {0} if differs.any() else set()
    others = tuple(a for a in range(differs.ndim) if a != axis)
    return set(np.flatnonzero(differs.any(axis=others)).tolist())


def predicted(graph: Graph, tensor: int, row: int) -> list[Rows]:
    """Rows of every tensor that row maps say may depend on one row of one tensor."""
    rows: list[Rows] = [set() for _ in graph.tensors]
    rows[tensor] = {row}
    for op, maps in zip(graph.ops, row_maps(graph), strict=True):
        hit = {
            q
            for t, m in zip(op.inputs, maps, strict=True)
            for q, (lo, hi) in enumerate(zip(m.lo, m.hi, strict=True))
            if any(lo <= r <= hi for r in rows[t])
        }
        for t in op.outputs:
            rows[t] = hit
    return rows


def observe(
    tmp_path: Path, nodes: Sequence[onnx.NodeProto], dims: Sequence[int], constants: Constants, batch: int | None = None
) -> list[tuple[str, Rows, Rows]]:
    """(tensor and row, rows that changed, rows the maps predict), for every input row and every tensor."""
    outputs = [o for n in nodes for o in n.output]
    model = model_of(nodes, {"x": dims}, constants, outputs)
    file = tmp_path / "rows.onnx"
    file.write_bytes(model.SerializeToString())
    graph = load(file, granularity="op", batch=batch)
    runner = ReferenceEvaluator(model)
    x = np.random.default_rng(1).standard_normal(dims).astype(np.float32)
    before = dict(zip(outputs, runner.run(None, {"x": x}), strict=True))
    entry = graph.tensors[0]
    found = []
    for row in range(entry.rows):
        moved = x.copy()
        place = tuple(slice(None) if a != entry.row_axis else row for a in range(x.ndim))
        moved[place] += 1 + np.random.default_rng(row).random(moved[place].shape).astype(np.float32)
        after = dict(zip(outputs, runner.run(None, {"x": moved}), strict=True))
        expected = predicted(graph, 0, row)
        for index, t in enumerate(graph.tensors[1:], start=1):
            assert t.dims == before[t.name].shape
            assert np.prod(t.shape) == before[t.name].size
            real = changed_rows(before[t.name], after[t.name], t.row_axis)
            found.append((f"{t.name}, row {row}", real, expected[index]))
    return found


R, T = "Reshape", "Transpose"
NHWC = (T, {"perm": [0, 2, 3, 1]})
TOKENS = (R, {"shape": ints(1, 4, 36)})  # (1, 4, 6, 6): rows and columns merged

EXACT: dict[str, tuple[tuple[int, ...], list[tuple[str, dict[str, Any]]]]] = {
    "channel shuffle": (
        (1, 4, 6, 5),
        [(R, {"s": ints(1, 2, 2, 6, 5)}), (T, {"perm": [0, 2, 1, 3, 4]}), (R, {"s": ints(1, 4, 6, 5)})],
    ),
    "channel shuffle, batch 3": (
        (3, 4, 6, 5),
        [(R, {"s": ints(3, 2, 2, 6, 5)}), (T, {"perm": [0, 2, 1, 3, 4]}), (R, {"s": ints(3, 4, 6, 5)})],
    ),
    "NHWC and back": ((2, 3, 6, 5), [NHWC, ("Relu", {}), (T, {"perm": [0, 3, 1, 2]})]),
    "rows and columns swapped": ((1, 3, 6, 5), [(T, {"perm": [0, 1, 3, 2]}), ("Relu", {})]),
    "patches": ((1, 4, 6, 6), [TOKENS, (T, {"perm": [0, 2, 1]})]),
    "patches and back": (
        (1, 4, 6, 6),
        [TOKENS, (T, {"perm": [0, 2, 1]}), (R, {"s": ints(1, 6, 6, 4)}), (T, {"perm": [0, 3, 1, 2]})],
    ),
    "attention heads": (
        (1, 7, 12),
        [
            (R, {"s": ints(1, 7, 3, 2, 2)}),
            (T, {"perm": [2, 0, 3, 1, 4]}),
            ("Gather", {"i": np.array(1), "axis": 0}),
            (T, {"perm": [0, 1, 3, 2]}),
        ],
    ),
    "squeeze the batch": ((1, 5, 4), [("Squeeze", {"a": ints(0)}), ("Unsqueeze", {"a": ints(0)})]),
    "fold columns into channels": ((1, 3, 6, 4), [(T, {"perm": [0, 2, 1, 3]}), (R, {"s": ints(1, 6, 12)})]),
    "slice rows": ((1, 3, 9, 4), [("Slice", {"s": ints(2), "e": ints(8), "a": ints(2), "t": ints(2)})]),
    "slice rows and columns": (
        (1, 3, 9, 8),
        [("Slice", {"s": ints(1, -6), "e": ints(-1, 8), "a": ints(2, 3), "t": ints(3, 2)})],
    ),
    "slice channels": ((1, 6, 5, 4), [("Slice", {"s": ints(1), "e": ints(4), "a": ints(1)})]),
    "gather one row": ((1, 3, 6, 4), [("Gather", {"i": np.array(4), "axis": 2})]),
    "gather every second row": ((1, 3, 6, 4), [("Gather", {"i": ints(1, 3, 5), "axis": 2})]),
    "gather the last token": ((1, 6, 4), [("Gather", {"i": np.array(-1), "axis": 1})]),
    "gather channels": ((1, 6, 5, 4), [("Gather", {"i": ints(3, 0), "axis": 1})]),
    "concat a constant token": ((1, 6, 4), [("Concat", {"c": weights(1, 2, 4), "axis": 1})]),
    "conv": ((1, 2, 9, 8), [("Conv", {"w": weights(3, 2, 3, 3), "strides": [2, 1], "pads": [1, 0, 0, 1]})]),
    "conv with columns as rows": (
        (1, 2, 9, 8),
        [(T, {"perm": [0, 1, 3, 2]}), ("Conv", {"w": weights(3, 2, 1, 3), "strides": [1, 2]})],
    ),
    "conv 3-D": ((1, 2, 6, 4, 4), [("Conv", {"w": weights(3, 2, 3, 3, 3), "pads": [1, 0, 1, 0, 1, 1]})]),
    "conv, SAME_UPPER": (
        (1, 2, 9, 8),
        [("Conv", {"w": weights(3, 2, 4, 3), "strides": [2, 2], "auto_pad": "SAME_UPPER"})],
    ),
    "conv, SAME_LOWER": (
        (1, 2, 9, 8),
        [("Conv", {"w": weights(3, 2, 4, 3), "strides": [2, 2], "auto_pad": "SAME_LOWER"})],
    ),
    "transposed conv": (
        (1, 2, 5, 4),
        [("ConvTranspose", {"w": weights(2, 3, 3, 3), "strides": [2, 2], "pads": [1, 1, 0, 1]})],
    ),
    "pool": ((1, 2, 9, 8), [("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]})]),
    "pad rows": ((1, 2, 5, 4), [("Pad", {"p": ints(0, 0, 2, 1, 0, 0, 1, 0)})]),
    "resize nearest": (
        (1, 2, 5, 4),
        [
            (
                "Resize",
                {
                    "r": np.zeros(0, np.float32),
                    "s": np.array([1, 1, 2, 2], np.float32),
                    "mode": "nearest",
                    "coordinate_transformation_mode": "asymmetric",
                    "nearest_mode": "floor",
                },
            )
        ],
    ),
    "depth to space": ((1, 8, 3, 4), [("DepthToSpace", {"blocksize": 2})]),
    "space to depth": ((1, 2, 6, 4), [("SpaceToDepth", {"blocksize": 2})]),
    "mean over columns": ((1, 2, 5, 4), [("ReduceMean", {"a": ints(3), "keepdims": 0})]),
    "mean over the map": ((1, 2, 5, 4), [("ReduceMean", {"a": ints(2, 3), "keepdims": 0})]),
    "global pool": ((1, 2, 5, 4), [("GlobalAveragePool", {})]),
    "layer norm over channels": ((1, 5, 4), [("LayerNormalization", {"s": weights(4), "b": weights(4)})]),
    "softmax over channels": ((1, 5, 4), [("Softmax", {"axis": -1})]),
    "linear over channels": ((1, 5, 4), [("MatMul", {"w": weights(4, 3)}), ("Add", {"b": weights(3)})]),
    "grow a one-row tensor": ((1, 12), [(R, {"s": ints(1, 3, 2, 2)})]),
    "expand over rows": ((1, 3, 1, 4), [("Expand", {"s": ints(1, 3, 5, 4)})]),
    "dropped unit axes": ((2, 3, 1, 1), [("Flatten", {}), ("Relu", {})]),
}

SOUND: dict[str, tuple[tuple[int, ...], list[tuple[str, dict[str, Any]]]]] = {
    "conv 1-D": ((1, 2, 9), [("Conv", {"w": weights(3, 2, 3), "dilations": [2]})]),
    "resize linear": (
        (1, 2, 5, 4),
        [("Resize", {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 2], np.float32), "mode": "linear"})],
    ),
    "resize cubic down": (
        (1, 2, 8, 8),
        [("Resize", {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 0.5, 0.5], np.float32), "mode": "cubic"})],
    ),
    "reflected rows": ((1, 2, 5, 4), [("Pad", {"p": ints(0, 0, 2, 1, 0, 0, 2, 0), "mode": "reflect"})]),
    "flatten": ((1, 3, 5, 4), [("Flatten", {})]),
    "a reshape across rows": ((1, 3, 5, 4), [(R, {"s": ints(1, 4, 5, 3)})]),
    "rows merged with channels": ((1, 3, 5, 4), [(R, {"s": ints(1, 15, 4)})]),
    "batch merged with channels": ((2, 3, 5, 4), [(R, {"s": ints(6, 5, 4)})]),
    "softmax over rows": ((1, 3, 5, 4), [("Softmax", {"axis": 2})]),
    "instance norm": ((1, 3, 5, 4), [("InstanceNormalization", {"s": weights(3), "b": weights(3)})]),
    "tile rows": ((1, 3, 5, 4), [("Tile", {"r": ints(1, 1, 2, 1)})]),
    "shuffled rows": ((1, 3, 5, 4), [("Gather", {"i": ints(2, 0, 4), "axis": 2})]),
    "rows backwards": ((1, 3, 5, 4), [("Slice", {"s": ints(-1), "e": ints(-6), "a": ints(2), "t": ints(-1)})]),
    "a linear map over rows": ((1, 5, 4), [(T, {"perm": [0, 2, 1]}), ("MatMul", {"w": weights(5, 3)})]),
    "conv over tokens": (
        (1, 5, 4),
        [(R, {"s": ints(1, 1, 5, 4)}), (T, {"perm": [0, 2, 1, 3]}), ("Conv", {"w": weights(2, 5, 1, 1)})],
    ),
    "windows": (
        (1, 2, 6, 6),
        [(R, {"s": ints(1, 2, 2, 3, 2, 3)}), (T, {"perm": [0, 2, 4, 3, 5, 1]}), (R, {"s": ints(4, 9, 2)})],
    ),
    "a 2-D table broadcast": ((5, 4), [("Add", {"b": weights(1, 3, 5, 4)})]),
}


@pytest.mark.parametrize("name", EXACT)
def test_row_maps_name_exactly_the_rows_that_change(name: str, tmp_path: Path) -> None:
    dims, steps = EXACT[name]
    nodes, constants = chain(*steps)
    for where, real, expected in observe(tmp_path, nodes, dims, constants):
        assert real == expected, where


@pytest.mark.parametrize("name", SOUND)
def test_row_maps_name_every_row_that_changes(name: str, tmp_path: Path) -> None:
    dims, steps = SOUND[name]
    nodes, constants = chain(*steps)
    for where, real, expected in observe(tmp_path, nodes, dims, constants):
        assert real <= expected, where


BRANCHES: dict[str, tuple[tuple[int, ...], list[onnx.NodeProto], dict[str, NDArray[Any]]]] = {
    "split over channels": (
        (1, 6, 5, 4),
        [node("Split", "x", "a b", axis=1, num_outputs=2), node("Add", "a b", "y")],
        {},
    ),
    "split over rows": ((1, 3, 6, 4), [node("Split", "x", "a b", axis=2, num_outputs=2), node("Add", "a b", "y")], {}),
    "split over columns": (
        (1, 3, 5, 6),
        [node("Split", "x s", "a b", axis=3), node("Relu", "b", "y")],
        {"s": ints(2, 4)},
    ),
    "concat over rows": ((1, 3, 5, 4), [node("Relu", "x", "a"), node("Concat", "x a", "y", axis=2)], {}),
    "concat over columns": ((1, 3, 5, 4), [node("Relu", "x", "a"), node("Concat", "x a", "y", axis=-1)], {}),
    "concat over channels": ((1, 3, 5, 4), [node("Relu", "x", "a"), node("Concat", "x a", "y", axis=1)], {}),
    "squeeze and excite": (
        (1, 3, 5, 4),
        [node("GlobalAveragePool", "x", "a"), node("Sigmoid", "a", "b"), node("Mul", "b x", "y")],
        {},
    ),
    "self attention": (
        (1, 5, 4),
        [
            node("Transpose", "x", "k", perm=[0, 2, 1]),
            node("MatMul", "x k", "s"),
            node("Softmax", "s", "p"),
            node("MatMul", "p x", "y"),
        ],
        {},
    ),
    "attention over channels": (
        (1, 5, 4),
        [node("Transpose", "x", "q", perm=[0, 2, 1]), node("MatMul", "q x", "s"), node("MatMul", "x s", "y")],
        {},
    ),
    "rows on two axes": ((1, 1, 4, 4), [node("Transpose", "x", "a", perm=[0, 1, 3, 2]), node("Add", "x a", "y")], {}),
    "concat of rows on two axes": (
        (1, 2, 4, 4),
        [node("Transpose", "x", "a", perm=[0, 1, 3, 2]), node("Concat", "x a", "y", axis=1)],
        {},
    ),
    "mean and map in one sequence": (
        (1, 5, 4),
        [node("ReduceMean", "x i", "a"), node("Concat", "a x", "y", axis=1)],
        {"i": ints(1)},
    ),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_row_maps_hold_where_branches_meet(name: str, tmp_path: Path) -> None:
    dims, nodes, constants = BRANCHES[name]
    for where, real, expected in observe(tmp_path, nodes, dims, constants):
        assert real <= expected, where


@pytest.mark.parametrize("seed", range(25))
def test_row_maps_are_sound_on_random_chains_of_data_movement(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    dims = tuple(int(d) for d in rng.choice([1, 2, 3, 4, 6], size=4))
    steps: list[tuple[str, dict[str, Any]]] = []
    shape = dims
    for _ in range(5):
        if rng.random() < 0.5:
            perm = [int(a) for a in rng.permutation(len(shape))]
            steps.append((T, {"perm": perm}))
            shape = tuple(shape[a] for a in perm)
        else:
            shape = refold(shape, rng)
            steps.append((R, {"s": ints(*shape)}))
    nodes, constants = chain(*steps)
    for where, real, expected in observe(tmp_path, nodes, dims, constants):
        assert real <= expected, (where, dims, steps)


def refold(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    """Merge two neighbours, or split one axis by a factor of it."""
    axis = int(rng.integers(len(shape)))
    factors = [f for f in range(1, shape[axis] + 1) if shape[axis] % f == 0]
    if len(shape) > 2 and axis + 1 < len(shape) and rng.random() < 0.5:
        return (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    factor = int(rng.choice(factors))
    return (*shape[:axis], factor, shape[axis] // factor, *shape[axis + 1 :]) if len(shape) < 6 else shape
