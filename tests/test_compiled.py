"""The compiled inner loops (FUSECUT_COMPILE=1) against the same files in the interpreter."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = (ROOT / "src/fusecut/compiled.txt").read_text().split()

SOLVE = """
import json, sys
import fusecut as fc
from fusecut.models import _events
answers = []
for name, buffer, scheme in json.loads(sys.argv[1]):
    plan = fc.solve(fc.zoo(name), buffer=buffer, scheme=scheme).to_dict()
    plan.pop("seconds")
    answers.append(plan)
print(json.dumps([_events.__file__, answers]))
"""
CASES = [
    ("mobilenet_v2", "64KiB", "lbdf"),
    ("mobilenet_v2", "256KiB", "mixed"),
    ("googlenet", "128KiB", "lbdf"),
    ("densenet121", "256KiB", "lbdf"),
    ("squeezenet1_1", "128KiB", "brr"),
]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_compiled_uses_nothing_that_mypyc_cannot(name: str) -> None:
    """Compiled classes have no ``__dict__`` for a cached property, and cannot be checked protocols."""
    text = (ROOT / "src" / Path(*name.split(".")).with_suffix(".py")).read_text()
    assert not [word for word in ("cached_property", "runtime_checkable", "lru_cache") if word in text]


def _answers(path: Path) -> tuple[str, object]:
    ran = subprocess.run(
        [sys.executable, "-c", SOLVE, json.dumps(CASES)],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    origin, answers = json.loads(ran.stdout)
    return origin, answers


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("mypyc") or not find_spec("setuptools"), reason="needs mypy and setuptools")
@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler")
def test_compiled_loops_give_the_same_plans(tmp_path: Path) -> None:
    target = tmp_path / "src"
    shutil.copytree(ROOT / "src", target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    compiling = (
        "import sys, pathlib, hatch_build as h; print(h.compile_modules(pathlib.Path.cwd(), pathlib.Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", compiling, str(target)], cwd=ROOT, check=True, capture_output=True)
    plain, expected = _answers(ROOT / "src")
    compiled, found = _answers(target)
    assert plain.endswith(".py")
    assert not compiled.endswith(".py")
    assert found == expected
