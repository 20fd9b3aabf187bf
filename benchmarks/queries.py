"""How many questions to an expensive cost model until a plan is near the optimum.

`python benchmarks/queries.py -o docs/get-queries.md --rows rows.jsonl` runs the grid and writes the page.
The model says only yes or no (the bytes follow from shapes), promises no floor and explains nothing, as a
compiler or a chip would. The delay of a question is accounted, not slept.

What counts as a win was written down before the grid was run, and after ``trusting`` alone had been tried on
the first two networks: a method that learned wins a case if its median number of questions to come within 1 %
of the optimum is at most half that of the best method that did not learn, and it wins the benchmark if it wins
two of the three networks under the rule ``buffer``. The rule ``one_add`` was never taught: it shows what a wrong
classifier costs.

`--wide` runs graphs whose cuts cannot be listed, so that the exact search that asks lazily is out: cells as in
NASNet and random layers, made up, which no network was taught on; and rules that no network was taught. Written
down before any of it was run: the same factor of two at 1 %, now against the best of all methods that know nothing
but a static bound, among them ``believing, static``, which is the same search without a learner. What was taught on
other networks (``taught``, ``taught + active``) wins the wide benchmark with more than half of its cases. ``static +
active`` learns from the answers only; it is no plain method and none that was taught, and is reported as what it
is. Where the optimum is not proved, the best plan that anything found takes its place.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final

import numpy as np
from _common import circumstances
from scale import cells, layered

from fusecut import zoo
from fusecut.bonds import components
from fusecut.cost import BufferFloor, Cost, CostModel, Infeasible, NoFloor, Planned
from fusecut.explain import RandomEdges
from fusecut.explain.gnn import ValidityModel
from fusecut.explain.occlusion import Occlusion
from fusecut.explain.trained import bundled
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.partition import Partition
from fusecut.plan_file import write_text
from fusecut.problem import Problem, Splitter
from fusecut.search import Annealing, Believing, Greedy, LazyExact, LocalSearch, Proposal, Searcher
from fusecut.solve import solve
from fusecut.split import CostGuided, Explained, Random, Surrogate

WIDE: Final[dict[str, Callable[[], Graph]]] = {
    "cells72": lambda: cells(72),
    "cells108": lambda: cells(108),
    "layered80": lambda: layered(80),
}
"""Made up in :mod:`scale`; their buffer is ``WIDE_BUFFER``."""

WIDE_BUFFER: Final = "32KiB"

NETWORKS: Final = ("deeplabv3plus_mobilenet_v3_large", "resnet152", "deeplabv3_mobilenet_v3_large")
"""None of them taught the bundled validity network, though relatives of all did (ResNet-101, MobileNetV3)."""

BUFFER: Final = "256KiB"
NEVER: Final = float("inf")
BOXES: Final = ("buffer", "one_add")
WIDE_BOXES: Final = ("buffer", "one_add", "pairs", "banks")
BANKS: Final = 4
OPS_PER_BANK: Final = 3
WITHIN: Final = (0.05, 0.02, 0.01)
MOST_QUESTIONS: Final = 1_500
MOST_SECONDS: Final = 20.0
EXACT_SECONDS: Final = 60.0
DELAY_SECONDS: Final = 5.0
"""What one question takes in the column of hours."""


@dataclass
class Box:
    """LBDF as a black box: yes or no. ``one_add``: there is one adder, so no group has two elementwise sums.
    ``pairs``: no group has a sum and a concatenation. ``banks``: an op works in bank (its number mod 4), and a bank
    serves at most 3 ops of a group.
    """

    rule: str
    name: str = "lbdf"
    touches_once: bool = True
    asked: int = 0

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        """The answer; questions about single ops are not counted, every method asks for them."""
        self.asked += bool(group & (group - 1))
        answer = _inside().plan(graph, group, machine)
        if isinstance(answer, Infeasible) or RULES[self.rule](graph, group):
            limit = machine.buffer_bytes
            return Infeasible("box", limit + 1, limit, "no")
        return answer

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """The plan as it is."""
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        """Nothing is promised."""
        return NoFloor()


@cache
def _inside() -> CostModel:
    return scheme_model("lbdf")


def _count(graph: Graph, group: Group, kind: str) -> int:
    return sum(graph.ops[i].kind == kind for i in bits(group))


def _clash(group: Group) -> bool:
    return max(Counter(i % BANKS for i in bits(group)).values()) > OPS_PER_BANK


RULES: Final[dict[str, Callable[[Graph, Group], bool]]] = {
    "buffer": lambda graph, group: False,
    "one_add": lambda graph, group: _count(graph, group, "elementwise") > 1,
    "pairs": lambda graph, group: _count(graph, group, "elementwise") > 0 < _count(graph, group, "concat"),
    "banks": lambda graph, group: _clash(group),
}
"""What is forbidden beside the buffer."""


@cache
def network_of(name: str) -> Graph:
    """A network of the zoo, or one that is made up; what follows an @ is its buffer."""
    name = name.partition("@")[0]
    return WIDE[name]() if name in WIDE else zoo(name)


def buffer_of(name: str) -> str:
    """The buffer of a network's cases."""
    name, _, buffer = name.partition("@")
    return buffer or (WIDE_BUFFER if name in WIDE else BUFFER)


@dataclass(frozen=True)
class Whole:
    """One plan: the whole network as one group, split once."""

    name: str = "whole"

    def propose(self, problem: Problem, rng: np.random.Generator) -> Iterator[Proposal]:
        """The plan, repaired."""
        plan = Partition(problem.graph, components(problem.graph, problem.graph.everything))
        yield Proposal(problem.repaired(plan, rng))


class _Own:
    """The validity network that ``--model`` names; without one the bundled network."""

    file: Path | None = None


def _judge() -> ValidityModel:
    return bundled("lbdf") if _Own.file is None else ValidityModel.load(_Own.file, "lbdf")


def doubt() -> Callable[[Problem, Group], float]:
    """What the network thinks, each group once."""
    judge, known = _judge(), dict[Group, float]()

    def said(problem: Problem, group: Group) -> float:
        if group not in known:
            known[group] = float(judge.infeasible_logits(problem.graph, problem.capacity_bytes, [group])[0])
        return known[group]

    return said


METHODS: Final[dict[str, tuple[Callable[[], Searcher], Callable[[], Splitter], bool]]] = {
    "whole, random": (Whole, Random, False),
    "whole, random edges": (Whole, lambda: Explained(RandomEdges()), False),
    "whole, cost_guided": (Whole, CostGuided, False),
    "whole, occlusion": (Whole, lambda: Explained(Occlusion()), True),
    "whole, surrogate": (Whole, Surrogate, True),
    "greedy": (Greedy, Random, False),
    "local, random": (LocalSearch, Random, False),
    "local, cost_guided": (LocalSearch, CostGuided, False),
    "local, random edges": (LocalSearch, lambda: Explained(RandomEdges()), False),
    "local, occlusion": (LocalSearch, lambda: Explained(Occlusion()), True),
    "local, surrogate": (LocalSearch, Surrogate, True),
    "annealing, random": (Annealing, Random, False),
    "lazy_exact, weights": (lambda: LazyExact(prune="weights"), Random, False),
    "lazy_exact, rows": (lambda: LazyExact(prune="rows"), Random, False),
    "trusting, weights": (lambda: LazyExact(doubt(), "weights", trust=(0.0, 4.0)), Random, True),
    "trusting, rows": (lambda: LazyExact(doubt(), "rows", trust=(0.0, 4.0)), Random, True),
}
"""Searcher and splitter, and whether it learned. ``weights`` and ``rows`` are static bounds of what fits that the
user vouches for. ``trusting`` is ``LazyExact(trust=...)``."""

WIDE_METHODS: Final[dict[str, tuple[Callable[[], Searcher], Callable[[], Splitter], bool]]] = {
    **{name: METHODS[name] for name in ("greedy", "local, random", "local, cost_guided", "local, surrogate")},
    **{name: METHODS[name] for name in ("annealing, random", "whole, surrogate", "lazy_exact, rows", "trusting, rows")},
    "believing, static": (lambda: Believing(prune="rows", learns=False), Random, False),
    "believing, static + active": (lambda: Believing(prune="rows"), Random, True),
    "believing, taught": (lambda: Believing(doubt(), "rows", learns=False), Random, True),
    "believing, taught + active": (lambda: Believing(doubt(), "rows"), Random, True),
}
"""For ``--wide``."""

ALL_METHODS: Final = {**METHODS, **WIDE_METHODS}
LEARNED: Final = {
    **{name: "yes" if learned else "no" for name, (_, _, learned) in ALL_METHODS.items()},
    "believing, static + active": "from answers",
}
SEEDED: Final = ("random", "annealing", "local", "believing")


@dataclass(frozen=True)
class Row:
    """One run: the gap after so many questions, at every improvement."""

    network: str
    box: str
    method: str
    seed: int
    optimum_bytes: int
    trace: tuple[tuple[int, int], ...]
    questions: int
    cpu_seconds: float

    def questions_within(self, share: float, best: int) -> int | None:
        """Questions until a plan was within a share of the best there is; None if none was."""
        near = [asked for asked, nbytes in self.trace if nbytes <= (1 + share) * best]
        return near[0] if near else None


@cache
def optimum(network: str, rule: str) -> tuple[int, bool]:
    """The least bytes, and whether they are proved."""
    found = solve(network_of(network), buffer_of(network), model=_WithFloor(rule), max_seconds=EXACT_SECONDS)
    return found.cost.dram_bytes, found.status.name == "optimal"


class _WithFloor(Box):
    """The box with the floor of what is inside it: sound, since the rule only takes away."""

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return _inside().buffer_floor(graph, machine)


def reference(network: str, rule: str) -> Row:
    """The best plan of the exact search, as a row; without an optimum if it was not proved, so that no run ends there.

    Its questions are not counted.
    """
    best, proved = optimum(network, rule)
    return Row(network, rule, "exact", 0, best if proved else 0, ((0, best),), 0, 0.0)


def run(network: str, rule: str, method: str, seed: int, best: int, seconds: float = MOST_SECONDS) -> Row:
    """One run, until the optimum, the end, or a limit."""
    make, split, _ = ALL_METHODS[method]
    box = Box(rule)
    problem = Problem(network_of(network), Machine.of(buffer_of(network)), box, split())
    for i in range(len(problem.graph)):
        problem.fits(1 << i)
    started, trace, least = process_time(), list[tuple[int, int]](), 0
    for plan, _bound in make().propose(problem, np.random.default_rng(seed)):
        cost = problem.cost(plan) if plan is not None else None
        if isinstance(cost, Cost) and (not least or cost.dram_bytes < least):
            least = cost.dram_bytes
            trace.append((box.asked, least))
        if 0 < least <= best or box.asked > MOST_QUESTIONS or process_time() - started > seconds:
            break
    return Row(network, rule, method, seed, best, tuple(trace), box.asked, round(process_time() - started, 2))


def read(path: Path) -> list[Row]:
    """Rows of an earlier run."""
    if not path.exists():
        return []
    data = [json.loads(line) for line in path.read_text().splitlines()]
    return [Row(**{**row, "trace": tuple(map(tuple, row["trace"]))}) for row in data]


@dataclass(frozen=True)
class Grid:
    """What is to be run."""

    networks: Sequence[str]
    boxes: Sequence[str]
    methods: Sequence[str]
    seeds: int
    seconds: float

    def runs(self, known: set[tuple[str, str, str, int]]) -> Iterator[tuple[str, str, str, int]]:
        """Seed by seed, so that a run that is stopped has all methods for fewer seeds."""
        for seed, network, rule, method in product(range(self.seeds), self.networks, self.boxes, self.methods):
            once = not method.startswith(SEEDED) and "random" not in method
            if (network, rule, method, seed) not in known and not (once and seed):
                yield network, rule, method, seed


def measured(path: Path, grid: Grid) -> list[Row]:
    """Known rows and new ones, each kept at once."""
    rows = read(path)
    best = {(row.network, row.box): row.optimum_bytes for row in rows}
    for network, rule, method, seed in grid.runs({(row.network, row.box, row.method, row.seed) for row in rows}):
        if (network, rule) not in best:
            _keep(path, rows, reference(network, rule))
            best[network, rule] = rows[-1].optimum_bytes
        _keep(path, rows, run(network, rule, method, seed, best[network, rule], grid.seconds))
    return rows


def _keep(path: Path, rows: list[Row], row: Row) -> None:
    rows.append(row)
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")
    print(row.network, row.box, row.method, row.seed, row.questions, row.cpu_seconds, file=sys.stderr, flush=True)


def _or_never(asked: int | None) -> float:
    return NEVER if asked is None else asked


def summary(rows: list[Row], share: float) -> list[str]:
    """A line for each case, a column for each method: questions until a plan was within the share of the best."""
    cases = dict.fromkeys((row.network, row.box) for row in rows)
    methods = [method for method in ALL_METHODS if any(row.method == method for row in rows)]
    lines = [f"| questions to {100 * share:.0f} % | {' | '.join(methods)} |", "|---|" + "--:|" * len(methods)]
    for case in cases:
        here = [row for row in rows if (row.network, row.box) == case]
        best = min(row.trace[-1][1] for row in here)
        found = [[_or_never(row.questions_within(share, best)) for row in here if row.method == m] for m in methods]
        lines.append(f"| {', '.join(case)} | {' | '.join(_spread(each) if each else '' for each in found)} |")
    return [*lines, ""]


def table(rows: list[Row], network: str, rule: str) -> list[str]:
    """Medians over the seeds, with the least and the most; a run that did not get there counts as more than all."""
    here = [row for row in rows if (row.network, row.box) == (network, rule)]
    best = min(row.trace[-1][1] for row in here)
    lines = [
        f"### {network}, {rule}{'' if here[0].optimum_bytes else ' (against the best plan found)'}",
        "",
        f"| method | learned | seeds | {' | '.join(f'{100 * w:.0f} %' for w in WITHIN)} | end gap % | asked "
        "| CPU s | hours to 1 % |",
        "|---|---|--:|" + "--:|" * (len(WITHIN) + 4),
    ]
    lines += [_line(method, mine, best) for method in ALL_METHODS if (mine := [r for r in here if r.method == method])]
    return [*lines, ""]


def _line(method: str, mine: list[Row], best: int) -> str:
    each = [[_or_never(row.questions_within(share, best)) for row in mine] for share in WITHIN]
    cells = [_spread(found) for found in each]
    to_one_percent = median(each[-1])
    gap = median(100 * (row.trace[-1][1] / best - 1) for row in mine)
    asked, seconds = (median(getattr(row, what) for row in mine) for what in ("questions", "cpu_seconds"))
    line = [method, LEARNED[method], str(len(mine)), *cells, f"{gap:.2f}", f"{asked:,.0f}", f"{seconds:.1f}"]
    line.append("" if to_one_percent == NEVER else f"{(to_one_percent * DELAY_SECONDS + seconds) / 3600:.2f}")
    return f"| {' | '.join(line)} |"


def _spread(found: list[float]) -> str:
    ends = dict.fromkeys((min(found), max(found)))
    return _count_text(median(found)) + (f" ({' to '.join(map(_count_text, ends))})" if len(ends) > 1 else "")


def _count_text(questions: float) -> str:
    return "never" if questions == NEVER else f"{questions:,.0f}"


def header() -> list[str]:
    """What, where and when."""
    return [
        f"`python benchmarks/queries.py`, {BUFFER}, 8 bits, {circumstances()}",
        "shared with other work. "
        f"A run ends at the optimum, after {MOST_QUESTIONS:,} questions or {MOST_SECONDS:.0f} CPU seconds of its own.",
        "",
    ]


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="CPU seconds of a run, at most")
    parser.add_argument("--networks", nargs="+", help="names of the zoo, or made up; NAME@SIZE for another buffer")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="a validity network trained without the networks asked"
    )
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--boxes", nargs="+")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    _Own.file = args.model
    networks, boxes, methods = (WIDE, WIDE_BOXES, WIDE_METHODS) if args.wide else (NETWORKS, BOXES, METHODS)
    grid = Grid(
        args.networks or tuple(networks), args.boxes or boxes, args.methods or tuple(methods), args.seeds, args.seconds
    )
    rows = measured(args.rows, grid)
    cases = dict.fromkeys((row.network, row.box) for row in rows)
    short = [line for share in (WITHIN[0], WITHIN[-1]) for line in summary(rows, share)]
    page = "\n".join([*header(), *short, *(line for case in cases for line in table(rows, *case))])
    print(page)
    if args.output is not None:
        write_text(args.output, page)


if __name__ == "__main__":
    main()
