"""Plans side by side: anybody's groups, priced by the same model and set against the optimum."""

from __future__ import annotations

from dataclasses import dataclass

from fusecut.cost import Infeasible
from fusecut.ir import bits
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.solution import Solution
from fusecut.text import Column, render_table


@dataclass(frozen=True)
class Compared:
    """One plan's figures; ``dram_bytes`` is None where a group of it cannot run, and ``why`` says so."""

    name: str
    groups: int
    dram_bytes: int | None
    buffer_bytes: int | None
    over_best: float | None
    why: str = ""


def compare(problem: Problem, best: Solution, plans: list[tuple[str, Partition]]) -> list[Compared]:
    """Price plans under one problem: without fusion first, then the given ones, then the best known."""
    rows = []
    dram = best.cost.dram_bytes
    if best.layerwise_bytes is not None:
        over = best.layerwise_bytes / dram - 1
        rows.append(Compared("without fusion", len(problem.graph), best.layerwise_bytes, None, over))
    for name, partition in plans:
        cost = problem.cost(partition)
        if isinstance(cost, Infeasible):
            rows.append(Compared(name, len(partition), None, None, None, _first_refusal(problem, partition)))
        else:
            over = cost.dram_bytes / dram - 1
            rows.append(Compared(name, len(partition), cost.dram_bytes, cost.buffer_bytes, over))
    rows.append(Compared(f"fusecut ({best.status.name})", len(best.planned), dram, best.cost.buffer_bytes, 0.0))
    return rows


def _first_refusal(problem: Problem, partition: Partition) -> str:
    for index, group in enumerate(partition.groups):
        planned = problem.plan(group)
        if isinstance(planned, Infeasible):
            first = problem.graph.ops[next(bits(group))].name
            return f"group {index} (from {first!r}) {planned}"
    return ""


def table(rows: list[Compared], width: int = 80, colour: bool = False) -> str:
    """The comparison as text; what is infeasible is explained below the table."""
    columns = (
        Column("plan", "left", True),
        Column("groups"),
        Column("DRAM B"),
        Column("buffer B"),
        Column("over best"),
    )
    cells = [
        [
            row.name,
            str(row.groups),
            "infeasible" if row.dram_bytes is None else f"{row.dram_bytes:,}",
            "" if row.buffer_bytes is None else f"{row.buffer_bytes:,}",
            "" if row.over_best is None else f"{100 * row.over_best:.2f} %",
        ]
        for row in rows
    ]
    notes = [f"{row.name}: {row.why}" for row in rows if row.why]
    return "\n".join([render_table(columns, cells, width, colour), *notes])
