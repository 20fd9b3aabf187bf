"""One infeasible group at a time: what each splitter makes of it, how often it asks, and whether that is chance.

`python benchmarks/repair.py --networks mobilenet_v2 efficientnet_b3` prints Markdown tables: bytes of the parts over
the touch-once bytes of the group; their difference from random edges under the same algorithm, group by group, with its
95 % interval and Wilcoxon's p, Holm-corrected over the splitters; evaluations, explanations and CPU milliseconds for
each group. Groups are those of random plans that do not fit, of at most 24 ops, each once; every splitter cuts each of
them `--draws` times, and its mean counts. The last table pools the groups of all networks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import mean
from time import process_time

import numpy as np

from fusecut import zoo
from fusecut.ir import Group
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.problem import Problem
from fusecut.reproduce.get.runs import METHODS
from fusecut.reproduce.get.stats import holm, interval, p_text, wilcoxon
from fusecut.search.encoding import random_plan
from fusecut.split import Explained, Random

LARGEST = 24
PLACEBO = "random_edges"
HEADING = """\
| splitter | bytes / touch-once | against random edges | p | asked | explained | CPU ms | rectified |
|---|--:|--:|--:|--:|--:|--:|--:|"""


@dataclass(frozen=True)
class Repairs:
    """What a splitter made of the groups: a ratio for each, and sums over all."""

    ratios: tuple[float, ...]
    asked: int
    explained: int
    helped: int
    runs: int
    seconds: float

    def __add__(self, other: Repairs) -> Repairs:
        both = zip(astuple(self), astuple(other), strict=True)
        return Repairs(*(a + b for a, b in both))


def infeasible(problem: Problem, most: int) -> list[Group]:
    """Distinct groups of random plans that do not fit."""
    rng = np.random.default_rng(0)
    found: dict[Group, None] = {}
    while len(found) < most:
        for group in random_plan(problem.graph, rng).groups:
            if group & (group - 1) and group.bit_count() <= LARGEST and not problem.fits(group):
                found[group] = None
    return list(found)[:most]


def repaired(problem: Problem, groups: Sequence[Group], method: str, draws: int) -> Repairs:
    """Every group cut so many times."""
    splitter = METHODS[method]()
    ratios, asked, explained, helped, started = [], 0, 0, 0, process_time()
    for k, group in enumerate(groups):
        drawn = []
        for draw in range(draws):
            fresh, rng = (
                Problem(problem.graph, problem.machine, problem.model, splitter),
                np.random.default_rng([k, draw]),
            )
            parts = splitter.split(fresh, group, rng)
            if parts is None:
                helped += 1
                parts = Random().split(fresh, group, rng) or ()
            asked += fresh.evaluations
            explained += splitter.explanations(fresh) if isinstance(splitter, Explained) else 0
            drawn.append(sum(fresh.rank(part) or 0 for part in parts) / problem.graph.touch_once_bytes(group))
        ratios.append(mean(drawn))
    return Repairs(tuple(ratios), asked, explained, helped, len(groups) * draws, process_time() - started)


def table(found: dict[str, Repairs]) -> list[str]:
    """Best first; differences in percent of what random edges move."""
    against = {m: [a / b - 1 for a, b in zip(r.ratios, found[PLACEBO].ratios, strict=True)] for m, r in found.items()}
    tested = [method for method in found if method != PLACEBO]
    p = dict(zip(tested, holm([wilcoxon(against[method]) for method in tested]), strict=True))
    lines = [HEADING]
    for method, r in sorted(found.items(), key=lambda item: mean(item[1].ratios)):
        paired = ["", ""]
        if method in p:
            paired = [f"{interval(against[method]).times(100).text(1)} %", p_text(p[method])]
        each = [f"{r.asked / r.runs:.1f}", f"{r.explained / r.runs:.1f}", f"{1e3 * r.seconds / r.runs:.1f}"]
        cells = [method, f"{mean(r.ratios):.4f}", *paired, *each, f"{100 * (1 - r.helped / r.runs):.0f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v2"])
    parser.add_argument("--buffer", default="256KiB")
    parser.add_argument("--groups", type=int, default=60)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=[name for name in METHODS if not name.endswith("literal")])
    args = parser.parse_args()
    methods = dict.fromkeys([*args.methods, PLACEBO])
    together: dict[str, Repairs] = {}
    for network in args.networks:
        problem = Problem(zoo(network), Machine.of(args.buffer), scheme_model("lbdf"))
        groups = infeasible(problem, args.groups)
        for method in methods:
            repaired(problem, groups[:1], method, 1)  # load what it loads
        found = {method: repaired(problem, groups, method, args.draws) for method in methods}
        together = {m: together[m] + r if m in together else r for m, r in found.items()}
        print("\n".join([f"\n{network}, {args.buffer}, {len(groups)} groups\n", *table(found)]), flush=True)
    if len(args.networks) > 1:
        print("\n".join([f"\nall, {args.buffer}, {len(together[PLACEBO].ratios)} groups\n", *table(together)]))


if __name__ == "__main__":
    main()
