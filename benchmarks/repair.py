"""One infeasible group at a time: what each splitter makes of it, and how often it asks.

`python benchmarks/repair.py --networks mobilenet_v2 efficientnet_b3` prints a Markdown table: bytes of the parts over
the touch-once bytes of the group, evaluations and explanations for each group, CPU milliseconds. Groups are those
of random plans that do not fit, of at most 24 ops, each once.
"""

from __future__ import annotations

import argparse
from statistics import mean
from time import process_time

import numpy as np

from fusecut import zoo
from fusecut.ir import Group
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.problem import Problem
from fusecut.reproduce.get.runs import METHODS
from fusecut.search.encoding import random_plan
from fusecut.split import Explained, Random

LARGEST = 24


def infeasible(problem: Problem, most: int) -> list[Group]:
    """Distinct groups of random plans that do not fit."""
    rng = np.random.default_rng(0)
    found: dict[Group, None] = {}
    while len(found) < most:
        for group in random_plan(problem.graph, rng).groups:
            if group & (group - 1) and group.bit_count() <= LARGEST and not problem.fits(group):
                found[group] = None
    return list(found)[:most]


def repaired(problem: Problem, groups: list[Group], method: str) -> list[str]:
    """A line of the table."""
    splitter = METHODS[method]()
    ratios, asked, explained, helped, started = [], 0, 0, 0, process_time()
    for seed, group in enumerate(groups):
        fresh = Problem(problem.graph, problem.machine, problem.model, splitter)
        parts = splitter.split(fresh, group, np.random.default_rng(seed))
        if parts is None:
            helped += 1
            parts = Random().split(fresh, group, np.random.default_rng(seed)) or ()
        asked += fresh.evaluations
        explained += splitter.explanations(fresh) if isinstance(splitter, Explained) else 0
        ranks = [fresh.rank(part) for part in parts]
        ratios.append(sum(rank for rank in ranks if rank is not None) / problem.graph.touch_once_bytes(group))
    count, seconds = len(groups), process_time() - started
    cells = [f"{mean(ratios):.4f}", f"{asked / count:.1f}", f"{explained / count:.1f}", f"{1e3 * seconds / count:.1f}"]
    return [method, *cells, f"{100 * (1 - helped / count):.0f} %"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v2"])
    parser.add_argument("--buffer", default="256KiB")
    parser.add_argument("--groups", type=int, default=60)
    parser.add_argument("--methods", nargs="+", default=[name for name in METHODS if not name.endswith("literal")])
    args = parser.parse_args()
    for network in args.networks:
        problem = Problem(zoo(network), Machine.of(args.buffer), scheme_model("lbdf"))
        groups = infeasible(problem, args.groups)
        repaired(problem, groups[:2], args.methods[-1])
        print(f"\n{network}, {args.buffer}, {len(groups)} groups\n")
        print("| splitter | bytes / touch-once | asked | explained | CPU ms | rectified |\n|---|--:|--:|--:|--:|--:|")
        for method in args.methods:
            print(f"| {' | '.join(repaired(problem, groups, method))} |", flush=True)


if __name__ == "__main__":
    main()
