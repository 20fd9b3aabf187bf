"""How time and memory of the exact search grow with ops, width and buffer, each run in a process of its own.

`python benchmarks/scale.py -o scale.md` writes the page of results; `--only chain` and
`--most 1000` make it short. Networks are made up, so that size is a number: `chain` are residual blocks of two
3x3 convolutions and a sum; `cells` are cells of five sums over ten branches, each cell reading the two
before it, as in NASNet; `layered` are layers of four ops, each reading one or two of the layer before.
CPU seconds and peak memory are those of the whole process, start-up included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import circumstances

import fusecut as fc
from fusecut.ir import Graph
from fusecut.plan_file import write_text
from fusecut.testing import Net

SIZES = (100, 300, 1_000, 3_000, 10_000)
BUFFERS = ("32KiB", "128KiB")
_CELL = ((0, 1), (0, 0), (1, 0), (1, 1), (0, 1))
"""Which of its two inputs the branches of each sum of a cell read."""


def chain(ops: int) -> Graph:
    """Residual blocks: two 3x3 convolutions of 16 channels on 56x56, and a sum."""
    net = Net(f"chain{ops}")
    x = net.input(16, 56, 56)
    for _ in range(ops // 3):
        x = net.add(net.conv(net.conv(x, 16), 16), x)
    return net.graph()


def cells(ops: int) -> Graph:
    """Cells of 18 ops: two 1x1 convolutions, ten depthwise branches, five sums, a concatenation."""
    net = Net(f"cells{ops}")
    x = before = net.input(16, 42, 42)
    for _ in range(max(1, ops // 18)):
        inputs = net.conv(x, 16, kernel=1), net.conv(before, 16, kernel=1)
        sums = [
            net.add(net.depthwise(inputs[a], 3 + 2 * (k % 2)), net.depthwise(inputs[b]))
            for k, (a, b) in enumerate(_CELL)
        ]
        x, before = net.concat(*sums), x
    return net.graph()


def layered(ops: int) -> Graph:
    """Layers of four ops on 28x28; each reads one tensor of the layer before, every third one two. Seed 0."""
    net, rng = Net(f"layered{ops}"), np.random.default_rng(0)
    layer = [net.input(16, 28, 28)]
    for _ in range(max(1, ops // 4)):
        new = []
        for _ in range(4):
            picked = [layer[int(k)] for k in rng.integers(len(layer), size=2)]
            joins = picked[0] != picked[1] and rng.integers(3) == 0
            new.append(net.add(*picked) if joins else net.conv(picked[0], 16))
        layer = new
    return net.graph()


KINDS: dict[str, Callable[[int], Graph]] = {"chain": chain, "cells": cells, "layered": layered}


def solve_one(kind: str, ops: int, buffer: str, seconds: float) -> None:
    """What a process of its own does: solve, and say how it went as JSON."""
    graph = KINDS[kind](ops)
    solution = fc.solve(graph, buffer, scheme="lbdf", max_seconds=seconds)
    found = {
        "ops": len(graph),
        "dram_bytes": solution.cost.dram_bytes,
        "gap": solution.gap,
        "status": solution.status.name,
        "groups": len(solution.planned),
        "evaluations": solution.evaluations,
    }
    print(json.dumps(found))


def row(kind: str, ops: int, buffer: str, seconds: float) -> str:
    """One line of the table, measured in a fresh process."""
    command = [sys.executable, __file__, "--one", kind, str(ops), buffer, "--max-seconds", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        out = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024
    if process.returncode:
        return f"| {kind} | {ops:,} | {buffer} | exit {process.returncode} | | | | {cpu:.1f} | {peak} |"
    r = json.loads(out)
    return (
        f"| {kind} | {r['ops']:,} | {buffer} | {r['dram_bytes']:,} | {100 * r['gap']:.2f} % ({r['status']}) | "
        f"{r['groups']:,} | {r['evaluations']:,} | {cpu:.1f} | {peak} |"
    )


def main() -> None:
    """Run all sizes and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "OPS", "BUFFER"))
    parser.add_argument("--only", choices=KINDS, nargs="*", default=list(KINDS))
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--max-seconds", type=float, default=600.0)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    if args.one:
        solve_one(args.one[0], int(args.one[1]), args.one[2], args.max_seconds)
        return
    lines = [
        f"`python benchmarks/scale.py`, scheme `lbdf`, {circumstances()}, "
        "other jobs running; layered networks of seed 0.",
        "",
        "| network | ops | buffer | DRAM B | gap | groups | groups priced | CPU s | peak MiB |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind in args.only:
        for ops in (size for size in SIZES if size <= args.most):
            for buffer in BUFFERS:
                lines.append(row(kind, ops, buffer, args.max_seconds))
                print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join(lines) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        write_text(args.output, text)


if __name__ == "__main__":
    main()
