"""How long one group takes to price: groups that the exact search really asks about, each priced once.

`python benchmarks/group_cost.py` prints microseconds for each group, the median of several runs, split by whether the
closed form decides or a schedule has to be run.
"""

from __future__ import annotations

import platform
import statistics
from time import perf_counter

from fusecut import Machine, Problem, zoo
from fusecut.cost import Infeasible, Planned
from fusecut.ir import Graph, Group
from fusecut.models import LineBuffer, scheme_model

NETWORKS = ("mobilenet_v2", "resnet152", "efficientnet_b3", "googlenet", "densenet121", "vit_tiny_patch16_224")
BUFFER = "256KiB"
RUNS = 5


class Recorder(Problem):
    """Remembers which groups were priced."""

    groups: list[Group]

    def plan(self, group: Group) -> Planned | Infeasible:
        self.groups.append(group)
        return super().plan(group)


def asked(graph: Graph) -> list[Group]:
    """The groups of two ops or more that the exact search prices, in its order."""
    from numpy.random import default_rng

    from fusecut.search import Exact

    problem = Recorder(graph, Machine.of(BUFFER), scheme_model("lbdf"))
    problem.groups = []
    for _ in Exact().propose(problem, default_rng(0)):
        pass
    return [group for group in dict.fromkeys(problem.groups) if group & (group - 1)]


def microseconds(graph: Graph, groups: list[Group]) -> float:
    """Median over runs of the mean time for each group, on a model that has seen the graph before."""
    machine, model, times = Machine.of(BUFFER), LineBuffer(), []
    for group in groups:
        model.plan(graph, group, machine)
    for _ in range(RUNS):
        start = perf_counter()
        for group in groups:
            model.plan(graph, group, machine)
        times.append((perf_counter() - start) / len(groups) * 1e6)
    return statistics.median(times)


def main() -> None:
    """Print one line for each network."""
    print(f"Python {platform.python_version()}, {platform.machine()}, buffer {BUFFER}, median of {RUNS} runs")
    for name in NETWORKS:
        graph = zoo(name)
        groups = asked(graph)
        machine, model = Machine.of(BUFFER), LineBuffer()
        closed, scheduled = [], []
        for group in groups:
            planned = model.plan(graph, group, machine)
            quick = isinstance(planned, Planned) and planned.schedule.policy == "any"
            (closed if quick else scheduled).append(group)
        line = [f"{len(part):4d} at {microseconds(graph, part):8.0f} us" for part in (closed, scheduled) if part]
        print(f"{name:24s} closed form or schedule: {', '.join(line)}")


if __name__ == "__main__":
    main()
