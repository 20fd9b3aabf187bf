"""Compiled inner loops beside the same files in the interpreter: CPU seconds of whole solves, in turns, medians.

    python benchmarks/compiled.py [--rounds 5]

Compiles to a temporary folder (mypy, setuptools and a C compiler are needed; two minutes), then solves every case in a
fresh process with and without, in turns, and prints a Markdown table. The answers must be the same.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CASES = (
    ("mobilenet_v2", "256KiB", "lbdf"),
    ("efficientnet_b3", "256KiB", "lbdf"),
    ("googlenet", "128KiB", "lbdf"),
    ("densenet121", "256KiB", "lbdf"),
    ("mobilenet_v2", "256KiB", "mixed"),
    ("resnet50", "128KiB", "mixed"),
)
SOLVE = """
import json, sys, time
import fusecut as fc
name, buffer, scheme = sys.argv[1:]
graph = fc.zoo(name)
before = time.process_time()
solution = fc.solve(graph, buffer=buffer, scheme=scheme)
print(json.dumps([solution.cost.dram_bytes, time.process_time() - before]))
"""


def _run(path: Path, case: tuple[str, str, str]) -> tuple[int, float]:
    command = [sys.executable, "-c", SOLVE, *case]
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True, check=True
    )
    nbytes, seconds = json.loads(ran.stdout)
    return nbytes, seconds


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5, help="solves of each kind for each case (default 5)")
    rounds = options.parse_args().rounds
    sys.path.insert(0, str(ROOT))
    from hatch_build import compile_modules

    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch, "src")
        shutil.copytree(ROOT / "src", compiled, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        compile_modules(ROOT, compiled)
        print("| network | buffer | scheme | DRAM B | interpreter CPU s | compiled CPU s | ratio |")
        print("|---|---|---|--:|--:|--:|--:|")
        for case in CASES:
            pairs = [(_run(ROOT / "src", case), _run(compiled, case)) for _ in range(rounds)]
            answers = {nbytes for pair in pairs for nbytes, _ in pair}
            if len(answers) != 1:
                sys.exit(f"{case}: not the same bytes: {sorted(answers)}")
            slow = statistics.median(plain[1] for plain, _ in pairs)
            fast = statistics.median(quick[1] for _, quick in pairs)
            ratio = statistics.median(plain[1] / quick[1] for plain, quick in pairs)
            print(f"| {' | '.join(case)} | {answers.pop():,} | {slow:.2f} | {fast:.2f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
