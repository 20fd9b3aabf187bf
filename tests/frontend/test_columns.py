"""Column maps against NumPy, like row maps in test_rows: what changes lies within what the maps name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx_models import Constants, ints, model_of
from test_rows import BRANCHES, EXACT, SOUND, R, Rows, T, chain, refold

from fusecut.frontend.inputs import Asked, resolve
from fusecut.frontend.lower import Lowering
from fusecut.frontend.source import read
from fusecut.ir import Graph
from fusecut.ops import COLS, axis_map
from fusecut.zoo import load as load_network
from fusecut.zoo import names as network_names


def by_column(array: NDArray[Any], roles: str) -> NDArray[Any]:
    """(columns, everything else)."""
    order = [a for a, r in enumerate(roles) if r == "W"], [a for a, r in enumerate(roles) if r != "W"]
    columns = int(np.prod([array.shape[a] for a in order[0]]))
    return np.transpose(array, [*order[0], *order[1]]).reshape(columns, -1)


def predicted(graph: Graph, column: int) -> list[Rows]:
    """Columns of every tensor that column maps say may depend on one column of the input."""
    columns: list[Rows] = [set() for _ in graph.tensors]
    columns[0] = {column}
    for op in graph.ops:
        hit: Rows = set()
        for position, t in enumerate(op.inputs):
            table = axis_map(graph, op, position, COLS)
            for q, (lo, hi) in enumerate(zip(table.lo, table.hi, strict=True)):
                if any(lo <= c <= hi for c in columns[t]):
                    hit.add(q)
        for t in op.outputs:
            columns[t] = hit
    return columns


def check(tmp_path: Path, nodes: Sequence[onnx.NodeProto], dims: Sequence[int], constants: Constants) -> None:
    outputs = [o for n in nodes for o in n.output]
    model = model_of(nodes, {"x": dims}, constants, outputs)
    file = tmp_path / "columns.onnx"
    file.write_bytes(model.SerializeToString())
    source = read(file)
    lowering = Lowering(source, resolve(source, Asked(None, {})))
    graph = lowering.graph()
    roles = {name: value.roles for name, value in lowering.values.items()}
    runner = ReferenceEvaluator(model)
    x = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    before = dict(zip(outputs, runner.run(None, {"x": x}), strict=True))
    for column in range(graph.tensors[0].cols):
        moved = x.copy()
        place = tuple(column if r == "W" else slice(None) for r in roles["x"])
        moved[place] += 1 + np.random.default_rng(1).random(moved[place].shape).astype(np.float32)
        after = dict(zip(outputs, runner.run(None, {"x": moved}), strict=True))
        expected = predicted(graph, column)
        for index, t in enumerate(graph.tensors[1:], start=1):
            same = np.asarray(np.isclose(before[t.name], after[t.name], rtol=0, atol=0, equal_nan=True))
            real = set(np.flatnonzero((~by_column(same, roles[t.name])).any(axis=1)).tolist())
            assert real <= expected[index], (t.name, column, roles[t.name])


MAPS = {name: case for name, case in {**EXACT, **SOUND}.items() if len(case[0]) < 5}


@pytest.mark.parametrize("name", MAPS)
def test_column_maps_name_every_column_that_changes(name: str, tmp_path: Path) -> None:
    dims, steps = MAPS[name]
    nodes, constants = chain(*steps)
    check(tmp_path, nodes, dims, constants)


@pytest.mark.parametrize("name", BRANCHES)
def test_column_maps_hold_where_branches_meet(name: str, tmp_path: Path) -> None:
    dims, nodes, constants = BRANCHES[name]
    check(tmp_path, nodes, dims, constants)


@pytest.mark.parametrize("seed", [*range(20), 35, 76, 116, 118, 125, 141, 330])
def test_column_maps_are_sound_on_random_chains_of_data_movement(seed: int, tmp_path: Path) -> None:
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
    check(tmp_path, nodes, dims, constants)


@pytest.mark.parametrize("name", network_names())
def test_every_window_of_the_zoo_is_exact(name: str) -> None:
    assert not [op.name for op in load_network(name).ops if "spatial_kernel" in op.attrs]
