"""Plans as bars: what each group moves and holds, and plans side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fusecut.cost import Cost
from fusecut.errors import FusecutError
from fusecut.report.html_data import KINDS, ReportGroup, lines_of, report_data
from fusecut.report.plots.panel import BarPanel, Stack
from fusecut.solution import Solution
from fusecut.units import format_bytes

KIB: Final = 1024
MB: Final = 10**6
_DRAM: Final = ("weights", "tensors read", "tensors written")


def plan_bars(solution: Solution) -> tuple[BarPanel, BarPanel]:
    """A plan group by group, in the order they run: DRAM traffic, and how full the buffer is.

    The shares of a bar of the first panel add up to the group's DRAM bytes: weights and biases, other
    bytes read, bytes written. Those of the second add up to its buffer bytes, at their fullest: rows
    (and tiles) of tensors, weights, accumulators; the dashed line is the capacity. In KiB of 1024 bytes.

    Errors and complexity as in :func:`fusecut.report.html_data.report_data`.
    """
    data = report_data(solution, lines_of(solution))
    bars = tuple(str(group.index) for group in data.groups)
    traffic = zip(*(_traffic(group) for group in data.groups), strict=True)
    held = ([_held(group, kind) for group in data.groups] for kind in KINDS)
    capacity = f"capacity, {format_bytes(data.capacity_bytes)}"
    return (
        BarPanel("DRAM traffic", "group", "KiB", bars, _stacks(_DRAM, traffic, KIB)),
        BarPanel("buffer", "group", "KiB", bars, _stacks(KINDS, held, KIB), data.capacity_bytes / KIB, capacity),
    )


def compared_bars(solutions: Mapping[str, Solution], title: str = "") -> tuple[BarPanel]:
    """Plans side by side, by the names given: DRAM traffic in MB of 1,000,000 bytes, divided as in :func:`plan_bars`.

    The dashed line is the floor, weights and network inputs and outputs once, where it is that of all plans.

    Raises:
        FusecutError: a solution holds no plan.
    """
    for name, solution in solutions.items():
        if solution.partition is None:
            raise FusecutError(f"{name}: there is no plan to compare: the search found none")
    shares = [_traffic(solution.cost) for solution in solutions.values()]
    floors = {solution.floor_bytes for solution in solutions.values()}
    limit = floors.pop() / MB if len(floors) == 1 else None
    traffic = _stacks(_DRAM, zip(*shares, strict=True), MB)
    return (BarPanel(title, "", "DRAM traffic, MB", tuple(solutions), traffic, limit, "floor"),)


def _traffic(of: Cost | ReportGroup) -> tuple[int, int, int]:
    return of.weight_bytes, of.read_bytes - of.weight_bytes, of.write_bytes


def _held(group: ReportGroup, kind: str) -> int:
    return sum(part.nbytes for part in group.parts if part.kind == kind)


def _stacks(labels: Sequence[str], shares: Iterable[Iterable[int]], unit: int) -> tuple[Stack, ...]:
    """Shares that are nowhere anything are left out."""
    stacks = (Stack(label, tuple(n / unit for n in share)) for label, share in zip(labels, shares, strict=False))
    return tuple(stack for stack in stacks if any(stack.heights))
