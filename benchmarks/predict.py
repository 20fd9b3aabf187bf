"""How much faster than the exact search a prediction is, and what the ranking is worth.

Fresh members of the families (seeds from 1000, none of them trained on) at 256 KiB: CPU seconds of both, errors,
whether the predicted best ten of each family hold the true best, how much dearer than the true best the best of these
ten is, and how many of the true best ten are among them. Under mixed, networks that are not solved to proof within ten
seconds are left out.

    python benchmarks/predict.py 200 lbdf
    python benchmarks/predict.py 40 mixed detect mobilenet_v2 mobilenet_v3 pose resnet segment unet
"""

from __future__ import annotations

import sys
from time import process_time

import numpy as np

from fusecut.ir import Graph
from fusecut.predict.metrics import TOP, metrics
from fusecut.predict.spaces.families import FAMILIES, member
from fusecut.predictions import predict
from fusecut.solution import Status
from fusecut.solve import solve

FIRST_SEED = 1000
LONGEST_SECONDS = 10.0
TASKS = {"lbdf": "lbdf@256KiB", "mixed": "dram@256KiB"}


def fewest_bytes(graph: Graph, scheme: str) -> float:
    """The proven fewest DRAM bytes; NaN where there is no proof in time."""
    found = solve(graph, buffer="256KiB", scheme=scheme, max_seconds=LONGEST_SECONDS)
    return float(found.cost.dram_bytes) if found.status is Status.optimal else float("nan")


def measured(family: str, count: int, scheme: str) -> tuple[int, float, float]:
    """Print the line of a family; how many were solved, and CPU seconds of the search and of the predictions."""
    names = [f"{family}:{FIRST_SEED + i}" for i in range(count)]
    started = process_time()
    truth = np.array([fewest_bytes(member(family, FIRST_SEED + i), scheme) for i in range(count)])
    solved = process_time()
    rows = predict(names, TASKS[scheme])
    spent = (solved - started, process_time() - solved)
    proven = np.isfinite(truth)
    values, truth = np.array([r.value for r in rows])[proven], truth[proven]
    inside = np.mean([r.low <= t <= r.high for r, t in zip(np.array(rows, dtype=object)[proven], truth, strict=True)])
    found = metrics(truth, values)
    dearer = truth[np.argsort(values, kind="stable")[:TOP]].min() / truth.min() - 1
    print(
        f"| {family} | {len(truth)} | {spent[0]:.1f} | {spent[1]:.2f} | {100 * found.mape:.1f} | {found.srcc:.3f}"
        f" | {inside:.2f} | {'yes' if found.best else 'no'} | {100 * dearer:.1f} | {found.top:.1f} |",
        flush=True,
    )
    return len(truth), *spent


def main(count: int, scheme: str, families: list[str]) -> None:
    """A line for each family, and one for all."""
    print("| family | networks | solve, CPU s | predict, CPU s | MAPE % | SRCC | in the 90 % interval"
          " | true best in the predicted 10 | best of the 10, % dearer | of the true 10 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    predict([f"{families[0]}:0"], TASKS[scheme])
    lines = [measured(family, count, scheme) for family in families]
    solved, searching, predicting = (sum(column) for column in zip(*lines, strict=True))
    print(f"all: {solved} solved, {searching:.1f} s against {predicting:.2f} s: {searching / predicting:.0f} times")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 20,
        sys.argv[2] if len(sys.argv) > 2 else "lbdf",
        sys.argv[3:] or list(FAMILIES),
    )
