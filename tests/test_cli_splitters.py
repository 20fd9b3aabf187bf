"""Splitters by name on the command line: plans that say how they were made, notes, one-line refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from fusecut.cli import main
from fusecut.plan_file import load_plan


def solve(*arguments: str) -> int:
    return main(
        ["solve", "zoo:squeezenet1_1", "--scheme", "lbdf", "--search", "local", "--max-plans", "25", *arguments]
    )


@pytest.mark.parametrize("name", ["random_edges", "attribution", "occlusion", "surrogate"])
def test_a_plan_file_says_which_splitter_made_it_and_can_be_read_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in ("occlusion", "surrogate"):
        pytest.importorskip("torch_geometric")
    file = tmp_path / "plan.json"
    assert solve("--buffer", "128KiB", "--splitter", name, "-o", str(file), "-q") == 0
    assert json.loads(file.read_text())["splitter"] == name
    assert load_plan(file).provenance.splitter == name


@pytest.mark.parametrize("kib", [24, 65_536])
def test_a_buffer_outside_the_training_range_is_noted_and_the_plan_is_still_valid(
    kib: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_geometric")
    assert solve("--buffer", f"{kib}KiB", "--splitter", "occlusion", "--format", "json") == 0
    out, err = capsys.readouterr()
    assert "note: the validity network was trained on buffers of 64 KiB to 2,048 KiB" in err
    plan = json.loads(out)
    assert all(group["buffer_bytes"] <= kib * 1024 for group in plan["groups"])


@pytest.mark.parametrize("damaged", ["validity", "rg"])
def test_a_damaged_installation_is_told_in_one_line(
    damaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_geometric")
    from fusecut.explain import rgexplainer, trained, weights_file

    for file in weights_file.BUNDLED.glob("*_lbdf.safetensors"):
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[:3000] if file.name.startswith(damaged) else content)
    for module in (trained, weights_file):
        monkeypatch.setattr(module, "BUNDLED", tmp_path)
    caches = (trained.bundled, rgexplainer._taught)
    try:
        for cached in caches:
            cached.cache_clear()
        assert solve("--buffer", "128KiB", "--splitter", "rg") == 2
    finally:
        for cached in caches:
            cached.cache_clear()
    err = capsys.readouterr().err
    assert f"{damaged}_lbdf.safetensors is damaged" in err and err.count("\n") == 1


def test_an_op_never_met_is_noted_and_the_plan_is_still_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_geometric")
    network, plan = tmp_path / "odd.onnx", tmp_path / "plan.json"
    onnx.save(_with_an_op_nobody_knows(), network)
    asked = ["--scheme", "lbdf", "--buffer", "64KiB", "--search", "local", "--max-plans", "25", "--splitter", "pg"]
    assert main(["solve", str(network), *asked, "-o", str(plan)]) == 0
    assert "note: the validity network never met ops of kind opaque" in capsys.readouterr().err
    groups = json.loads(plan.read_text())["groups"]
    assert all(group["buffer_bytes"] <= 64 * 1024 for group in groups)
    assert sum(len(group["ops"]) for group in groups) == 5


def _with_an_op_nobody_knows() -> onnx.ModelProto:
    def tensor(name: str, channels: int) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 28, 28])

    def weights(name: str, channels: int) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.ones((64, channels, 3, 3), np.float32), name)

    nodes = [
        onnx.helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        onnx.helper.make_node("Wobble", ["a"], ["b"], domain="nobody"),
        onnx.helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        onnx.helper.make_node("Conv", ["c", "w2"], ["d"], pads=[1] * 4),
        onnx.helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    between = [tensor(name, 64) for name in "abcd"]
    graph = onnx.helper.make_graph(
        nodes, "odd", [tensor("x", 8)], [tensor("y", 64)], [weights("w1", 8), weights("w2", 64)], value_info=between
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("nobody", 1)]
    )


def test_a_scheme_that_no_network_speaks_for_is_refused_before_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch_geometric")
    assert solve("--buffer", "128KiB", "--splitter", "occlusion", "--scheme", "layerwise") == 2
    err = capsys.readouterr().err
    assert err.startswith("fusecut: no validity network speaks for cost model 'layerwise'") and err.count("\n") == 1


def test_without_the_extra_the_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert solve("--buffer", "128KiB", "--splitter", "rg") == 2
    err = capsys.readouterr().err
    assert "pip install 'fusecut[gnn]'" in err and err.count("\n") == 1
