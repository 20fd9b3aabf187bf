"""Labels of our own: what the exact search finds for random members of families.

One row for each network and task, as CSV ``family,seed,task,value``::

    dram@SIZE             fewest DRAM bytes under scheme mixed, what fusecut solve does by default, proven
    lbdf@SIZE             the same under scheme lbdf
    layerwise@SIZE        DRAM bytes with no fusion, every op under its best tiling
    energy@MACHINE        least energy, fJ, under lbdf
    latency@MACHINE       fewest cycles, under lbdf

Rows are written as they come, and those that a file has already are not computed again, so a run
may be interrupted and goes on where it stopped.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fusecut import machines
from fusecut.errors import FusecutError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.objective import Objective
from fusecut.predict.spaces.families import FAMILIES, member
from fusecut.solution import Solution, Status
from fusecut.solve import solve, unless_interrupted
from fusecut.units import parse_bytes

BUFFERS: Final = ("64KiB", "256KiB", "1MiB")
MACHINE: Final = "array32_256k"
TASKS: Final = (
    *(f"{what}@{size}" for size in BUFFERS for what in ("dram", "lbdf", "layerwise")),
    f"energy@{MACHINE}",
    f"latency@{MACHINE}",
)
LONGEST_SOLVE_SECONDS: Final = {"lbdf": 60.0, "mixed": 15.0}
_FIELDS: Final = ("family", "seed", "task", "value")


class Label(NamedTuple):
    """One network, one task; ``value`` in bytes, fJ or cycles."""

    family: str
    seed: int
    task: str
    value: int


def write_labels(path: Path, seeds: Sequence[int], on_row: Callable[[Label], None] | None = None) -> int:
    """Add to a CSV file what it lacks of all families, tasks and these seeds; returns how many rows were added.

    Networks that are not solved to proof within :data:`LONGEST_SOLVE_SECONDS` are left out.

    Raises:
        FusecutError: the file is there and holds something else.
    """
    known = {(r.family, r.seed, r.task) for r in read_labels(path)} if path.exists() else set()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not known and not path.stat().st_size:
            writer.writerow(_FIELDS)
        added = 0
        for row in missing(seeds, known):
            writer.writerow(row)
            file.flush()
            added += 1
            if on_row is not None:
                on_row(row)
    return added


def missing(seeds: Sequence[int], known: set[tuple[str, int, str]]) -> Iterator[Label]:
    """The rows that are not known yet, seed by seed."""
    for seed in seeds:
        for family in FAMILIES:
            wanted = [task for task in TASKS if (family, seed, task) not in known]
            if wanted:
                found = labels(member(family, seed), wanted)
                yield from (Label(family, seed, task, found[task]) for task in wanted if task in found)


def labels(graph: Graph, tasks: Sequence[str] = TASKS) -> dict[str, int]:
    """Solve a network for some of :data:`TASKS`; tasks without a proven answer are left out."""
    found: dict[str, int] = {}
    for size in BUFFERS:
        machine = Machine(buffer_bytes=parse_bytes(size))
        pair = (f"lbdf@{size}", f"layerwise@{size}")
        if not set(pair).isdisjoint(tasks):
            solution = _solved(graph, machine, "dram")
            if solution.status is Status.optimal:
                found[pair[0]] = solution.cost.dram_bytes
            if solution.layerwise_bytes is not None:
                found[pair[1]] = solution.layerwise_bytes
        if f"dram@{size}" in tasks:
            solution = _solved(graph, machine, "dram", "mixed")
            if solution.status is Status.optimal:
                found[f"dram@{size}"] = solution.cost.dram_bytes
    objectives: tuple[Objective, ...] = ("energy", "latency")
    for objective in objectives:
        task = f"{objective}@{MACHINE}"
        if task in tasks:
            solution = _solved(graph, machines.load(MACHINE), objective)
            score = solution.trace[-1].score if solution.trace else None
            if solution.status is Status.optimal and score is not None:
                found[task] = score
    return {task: value for task, value in found.items() if task in tasks}


def _solved(graph: Graph, machine: Machine, objective: Objective, scheme: str = "lbdf") -> Solution:
    seconds = LONGEST_SOLVE_SECONDS[scheme]
    model = scheme_model(scheme)
    return unless_interrupted(solve(graph, machine=machine, model=model, objective=objective, max_seconds=seconds))


def read_labels(path: Path) -> list[Label]:
    """Read a file of labels back.

    Raises:
        FusecutError: missing, or not such a file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if not rows or tuple(rows[0]) != _FIELDS:
            raise ValueError
        return [Label(family, int(seed), task, int(value)) for family, seed, task, value in rows[1:]]
    except (OSError, ValueError, csv.Error):
        raise FusecutError(f"{path} is no file of labels: expected CSV with columns {','.join(_FIELDS)}") from None
