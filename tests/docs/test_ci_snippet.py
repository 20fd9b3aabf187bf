"""The workflow in docs/ci.md: its commands do what the page says, with the environment it sets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")


def snippet() -> str:
    match = re.search(r"<!-- snippet: workflow -->\n```yaml\n(.*?)```", PAGE, re.S)
    assert match is not None
    return match[1]


def solve_step(folder: Path, model: str, limit: str) -> int:
    """Run the step of the page in a shell, with this interpreter's fusecut."""
    (command,) = re.findall(r"run: (fusecut solve .*)", snippet())
    (buffer,) = re.findall(r"BUFFER: (\S+)", snippet())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MODEL": model, "BUFFER": buffer, "LIMIT": limit}
    done = subprocess.run(["bash", "-e", "-c", command], cwd=folder, env=environment, capture_output=True)
    return done.returncode


def limit_on_the_page() -> str:
    (limit,) = re.findall(r"LIMIT: (\S+)", snippet())
    return str(limit)


def test_the_step_passes_within_the_limit_and_leaves_plan_and_report(tmp_path: Path) -> None:
    assert solve_step(tmp_path, "zoo:mobilenet_v2", limit_on_the_page()) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"plan.json", "report.html"}


def test_the_step_fails_over_the_limit_and_leaves_plan_and_report_all_the_same(tmp_path: Path) -> None:
    assert solve_step(tmp_path, "zoo:mobilenet_v2", "3.7MB") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"plan.json", "report.html"}


def test_the_step_says_so_when_the_model_is_missing(tmp_path: Path) -> None:
    assert solve_step(tmp_path, "models/net.onnx", limit_on_the_page()) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_snippet_is_a_workflow() -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(snippet())
    steps = workflow["jobs"]["budget"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps) and len(steps) == 5
