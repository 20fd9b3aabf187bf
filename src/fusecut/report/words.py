"""Sentences of the report: the certificate, and why a group is no larger."""

from __future__ import annotations

from typing import Final

from fusecut.ir import Graph
from fusecut.models import LineBuffer
from fusecut.objective import UNITS, Objective
from fusecut.report.explain import Explanation
from fusecut.schedule import Schedule
from fusecut.solution import Solution, Status

_LESS: Final[dict[Objective, str]] = {
    "dram": "moves fewer bytes",
    "energy": "takes less energy",
    "latency": "takes fewer cycles",
}


def certificate(solution: Solution) -> tuple[str, ...]:
    """What is proved about a plan, in words: what it moves, how good that is, and what no plan can do without."""
    cost = solution.cost
    return (
        f"The plan moves {cost.dram_bytes:,} B between the buffer and DRAM in one inference of the whole batch: "
        f"{cost.read_bytes:,} B read, of which {cost.weight_bytes:,} B are weights and biases, and "
        f"{cost.write_bytes:,} B written.",
        _proof(solution),
        f"The floor of {solution.floor_bytes:,} B is weights, network inputs and outputs once.",
    )


def _proof(solution: Solution) -> str:
    scheme, unit = solution.provenance.scheme, UNITS[solution.objective]
    score, bound = solution.score, solution.bound
    if solution.status is Status.optimal:
        return (
            f"Proved optimal: no partition of this network into fusion groups {_LESS[solution.objective]} under the "
            f"scheme '{scheme}' in this buffer. The lower bound of the search met the plan at {bound:,} {unit}."
        )
    return (
        f"Proved: every partition under the scheme '{scheme}' costs at least {bound:,} {unit}; this plan costs "
        f"{score:,} {unit}, at most {score - bound:,} {unit} ({100 * solution.gap:.2f} %) from the best. "
        f"{_ended(solution.status)}"
    )


def _ended(status: Status) -> str:
    return "The search was stopped early." if status is Status.budget else "The search ended without closing the gap."


def how_it_runs(schedule: Schedule) -> str:
    """How a group runs, in one sentence."""
    tile = schedule.tile
    if tile is not None:
        return (
            f"One op in tiles of {tile.out_channels} output by {tile.in_channels} input channels, {tile.rows} rows, "
            f"{tile.cols} columns; loops {tile.order} from the outside in."
        )
    if schedule.bands is not None:
        return "Band by band."
    if schedule.passes > 1:
        return f"Row by row; the inputs are streamed {schedule.passes} times."
    return "Row by row: every tensor inside keeps only the rows its readers still need."


def why_it_stops(graph: Graph, explained: Explanation, lines: LineBuffer) -> str:
    """Why the group is no larger: what its cheapest useful neighbour would need."""
    capacity = explained.capacity_bytes
    if explained.planned.schedule.tile is not None:
        return _why_alone(graph, explained, lines)
    if not explained.levers:
        return "No larger buffer would let it take in a neighbour, or a neighbour's first op, and save bytes."
    lever = explained.levers[0]
    over = lever.buffer_bytes - capacity
    return (
        f"The nearest way to grow with everything moved once, {lever.change}, needs "
        f"{lever.buffer_bytes:,} B of buffer: {over:,} B more than there is."
    )


def _why_alone(graph: Graph, explained: Explanation, lines: LineBuffer) -> str:
    need = lines.demand(graph, explained.planned.schedule.group).nbytes
    if need <= explained.capacity_bytes:
        return "It runs alone because tiles move fewer bytes than streaming would."
    return (
        f"It runs alone: streamed row by row with its weights resident it would need {need:,} B, "
        f"{need - explained.capacity_bytes:,} B more than there is."
    )
