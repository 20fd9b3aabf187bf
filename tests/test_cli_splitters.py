"""Splitters by name on the command line: plans that say how they were made, notes, one-line refusals."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_a_buffer_outside_the_training_range_is_noted_and_the_plan_is_still_valid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch_geometric")
    assert solve("--buffer", "24KiB", "--splitter", "occlusion", "--format", "json") == 0
    out, err = capsys.readouterr()
    assert "note: the validity network was trained on buffers of 64 KiB to 2,048 KiB" in err
    plan = json.loads(out)
    assert all(group["buffer_bytes"] <= 24 * 1024 for group in plan["groups"])


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
