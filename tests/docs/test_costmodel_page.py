"""The page about cost models: its example solves, and passes the suite that it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "costmodel.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    match = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", PAGE, re.S)
    assert match is not None
    return match[1]


def test_the_example_passes_the_suite_as_the_page_says(tmp_path: Path) -> None:
    file = tmp_path / "test_mine.py"
    file.write_text(example("model") + example("suite"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout


def test_a_promise_that_is_not_kept_fails_the_suite(tmp_path: Path) -> None:
    """The same model with weights that nobody reads."""
    forgetful = example("model").replace(
        "return self.lines.plan(graph, group, self._left(machine))",
        "found = self.lines.plan(graph, group, self._left(machine))\n"
        "        if isinstance(found, Infeasible):\n"
        "            return found\n"
        "        cost = found.cost\n"
        "        return found._replace(cost=replace(cost, read_bytes=cost.read_bytes - cost.weight_bytes))",
    )
    file = tmp_path / "test_mine.py"
    file.write_text(forgetful + example("suite"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "2 failed, 6 passed" in done.stdout, done.stdout


def test_the_example_solves() -> None:
    code = f"{example('model')}\nassert solve().status is fc.Status.optimal"
    subprocess.run([sys.executable, "-c", code], check=True)
