"""A network solved at every capacity of a range, from the largest down, with few searches.

Two facts about prices carry it (docs/curve.md). *More buffer never costs more*, and *a schedule that
needs u bytes costs the same wherever it fits*. So a group planned at capacity c with a need of u
keeps its price on [u, c]: it is asked for again only below u, and a whole plan that is the best at c
is the best down to the largest need of its groups. Ops that no group can hold together with another
op (too heavy for every line buffer, as the floor proves) run alone in every plan: they do not take
part in that maximum, since their prices are the same constant for all plans, capacity by capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from fusecut.cost import NEVER_BYTES, BufferFloor, CostModel, Dearer, Infeasible, Planned, planned_within
from fusecut.errors import CostModelError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Exact, Searcher
from fusecut.search._cuts import Reach

_FIRST_STEP: Final = 9
_LAST_STEP: Final = 12
"""Where a plan is kept for a while, the buffer is lowered by this share of it first, and last (as powers of two)."""


class Stretch(NamedTuple):
    """Capacities ``low_bytes`` to ``high_bytes``, both included, on which one plan costs the same.

    ``bound_bytes`` is proved for every plan at every capacity of the stretch, and above it.
    """

    low_bytes: int
    high_bytes: int
    dram_bytes: int
    bound_bytes: int
    partition: Partition


class Remembered:
    """A cost model that asks the one inside again only where the answer can be another one.

    Entries are (largest capacity, answer): a plan holds from its need up to there, a refusal from
    there down, and so does what a group moves at least. Asked from large capacities to small ones, no
    answer is ever computed twice.

    Raises:
        CostModelError: a group became cheaper in a smaller buffer, so no curve can be trusted.
    """

    touches_once: bool

    def __init__(self, model: CostModel) -> None:
        self.model = model
        self.name = model.name
        self.touches_once = model.touches_once
        self.evaluations = 0
        self._known: dict[Group, tuple[int, Planned | Infeasible]] = {}
        self._dearer: dict[Group, tuple[int, Dearer]] = {}

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        known = self._known.get(group)
        if known is not None and _holds(known, machine.buffer_bytes):
            return known[1]
        self.evaluations += 1
        return self._told(graph, group, machine, self.model.plan(graph, group, machine))

    def plan_within(
        self, graph: Graph, group: Group, machine: Machine, limit_bytes: int
    ) -> Planned | Infeasible | Dearer:
        """The same where it moves at most ``limit_bytes``. What moved more in a larger buffer is not asked for."""
        known, capacity = self._known.get(group), machine.buffer_bytes
        if known is not None and _holds(known, capacity):
            return known[1]
        least = max(_least_bytes(known, capacity), _least_bytes(self._dearer.get(group), capacity))
        if least > limit_bytes:
            return Dearer(least)
        self.evaluations += 1
        answer = planned_within(self.model, graph, group, machine, limit_bytes)
        if isinstance(answer, Dearer):
            self._dearer[group] = capacity, answer
            return answer
        return self._told(graph, group, machine, answer)

    def _told(self, graph: Graph, group: Group, machine: Machine, answer: Planned | Infeasible) -> Planned | Infeasible:
        known, capacity = self._known.get(group), machine.buffer_bytes
        if known is not None and capacity < known[0]:
            _check_order(graph, group, known, (capacity, answer))
        self._known[group] = capacity, answer
        return answer

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return self.model.finish(graph, planned, machine)

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return self.model.buffer_floor(graph, machine)


def _holds(known: tuple[int, Planned | Infeasible], capacity: int) -> bool:
    asked, answer = known
    return capacity <= asked and (isinstance(answer, Infeasible) or answer.cost.buffer_bytes <= capacity)


def _least_bytes(told: tuple[int, Planned | Infeasible | Dearer] | None, capacity: int) -> int:
    """What a group moves at least, by what was said of it in a buffer at least as large."""
    if told is None or capacity > told[0] or isinstance(told[1], Infeasible):
        return 0
    return told[1].dram_bytes if isinstance(told[1], Dearer) else told[1].cost.dram_bytes


def _check_order(
    graph: Graph, group: Group, large: tuple[int, Planned | Infeasible], small: tuple[int, Planned | Infeasible]
) -> None:
    if isinstance(large[1], Planned) and isinstance(small[1], Planned):
        before, after = large[1].cost.dram_bytes, small[1].cost.dram_bytes
        if after < before:
            name = graph.ops[(group & -group).bit_length() - 1].name
            raise CostModelError(
                f"the group from op {name!r} moves {after:,} B in a buffer of {small[0]:,} B but {before:,} B in "
                f"{large[0]:,} B: a curve needs a cost model that never moves more in a larger buffer"
            )


def descend(
    graph: Graph,
    machine: Machine,
    model: CostModel,
    search: Searcher,
    low_bytes: int,
    out_of_time: Callable[[], bool],
    tolerance: float = 0.0,
) -> Iterator[Stretch]:
    """Stretches from the machine's buffer down to ``low_bytes``, or to where the network runs no more.

    They are adjacent, largest first, and their bounds never fall. One search for each best
    partition (and one more for each partition that ties with a better placed one); stretches
    between two searches cost one tiling each. With a ``tolerance`` a plan is kept as long as it moves no more than
    this share above what it moved where it was found. A search in progress when ``out_of_time`` says so is dropped.
    """
    problem, bound = Problem(graph, machine, model), 0
    plan: Partition | None = None
    while True:
        if isinstance(search, Exact) and plan is not None:
            search = replace(search, start=plan.groups)
        plan, bound = _best(problem, search, bound, out_of_time)
        if plan is None:
            return
        stretch = Stretch(problem.capacity_bytes, problem.capacity_bytes, 0, bound, plan)
        for stretch in _stretches(problem, plan, bound, low_bytes):
            yield stretch
        bound = stretch.bound_bytes
        if tolerance:
            for kept in _kept(problem, stretch, low_bytes, tolerance):
                yield kept
                stretch = kept
        low = stretch.low_bytes
        if low == low_bytes:
            return
        problem = Problem(problem.graph, replace(machine, buffer_bytes=low - 1), model)


def refusal(problem: Problem) -> tuple[str, Infeasible] | None:
    """The first op that can run neither alone nor in any group, and why not; None if there is none."""
    reach = Reach(problem)
    for i, op in enumerate(problem.graph.ops):
        planned = problem.plan(1 << i)
        if isinstance(planned, Infeasible) and reach.alone(i):
            return op.name, planned
    return None


def _best(
    problem: Problem, search: Searcher, bound: int, out_of_time: Callable[[], bool]
) -> tuple[Partition | None, int]:
    """The best plan that a search proposes (None where nothing runs, or out of time), and the proved bound.

    ``bound`` was proved at a larger capacity: a plan that reaches it needs no proof of its own.
    """
    best: tuple[int, int, Partition] | None = None
    if refusal(problem) is not None:
        return None, bound
    for partition, proved in search.propose(problem, np.random.default_rng(0)):
        if out_of_time():
            return None, bound
        bound = max(bound, proved or 0)
        if partition is not None:
            cost = problem.cost(partition)
            if not isinstance(cost, Infeasible) and (best is None or (cost.dram_bytes, len(partition)) < best[:2]):
                best = cost.dram_bytes, len(partition), partition
        if best is not None and best[0] <= bound:
            break
    return (None, bound) if best is None else (best[2], min(bound, best[0]))


def _stretches(problem: Problem, plan: Partition, bound: int, low_bytes: int) -> Iterator[Stretch]:
    """The capacities at which a plan stays the best, cut where an op that runs alone in every plan costs more.

    Let a plan cost D at capacity c, and the ops in question p(c) together. Below c every plan pays p
    for them, and no less than at c for the rest: at least bound + p - p(c). This one pays exactly
    D + p - p(c) down to the largest need of its other groups.
    """
    capacity, machine = problem.capacity_bytes, problem.machine
    alone, need = _needs(problem, plan)
    dram = sum(_bytes(problem.plan(group)) for group in plan.groups)
    while True:
        low = max(low_bytes, need, *(planned.cost.buffer_bytes for planned in alone.values()))
        yield Stretch(low, capacity, dram, bound, plan)
        capacity = low - 1
        if capacity < max(low_bytes, need):
            return
        machine = replace(machine, buffer_bytes=capacity)
        for group, planned in alone.items():
            if planned.cost.buffer_bytes > capacity:
                again = problem.model.plan(problem.graph, group, machine)
                if isinstance(again, Infeasible):
                    return
                dram, bound = (n + again.cost.dram_bytes - planned.cost.dram_bytes for n in (dram, bound))
                alone[group] = again


def _kept(problem: Problem, last: Stretch, low_bytes: int, tolerance: float) -> Iterator[Stretch]:
    """What lies below a stretch where its plan moves little more, as one stretch with what it moves at the lower end.

    What a plan moves never falls with the capacity, so steps down that double, then halve, find the end, nearly.
    """
    most, high, plan = int(last.dram_bytes * (1 + tolerance)), last.low_bytes - 1, last.partition
    low, step, finest, doubling = last.low_bytes, max(1, high >> _FIRST_STEP), max(1, high >> _LAST_STEP), True
    while step >= finest and low > low_bytes:
        size = max(low_bytes, low - step)
        if _plan_bytes(problem.in_buffer(size), plan) <= most:
            low = size
        else:
            doubling = False
        step = 2 * step if doubling else step // 2
    if low <= high:
        end = problem.in_buffer(low)
        dram, need = _plan_bytes(end, plan), max(p.cost.buffer_bytes for p in _planned(end, plan))
        yield Stretch(max(low_bytes, need), high, dram, last.bound_bytes, plan)


def _planned(problem: Problem, plan: Partition) -> list[Planned]:
    return [p for p in map(problem.plan, plan.groups) if isinstance(p, Planned)]


def _plan_bytes(problem: Problem, plan: Partition) -> int:
    """What a plan moves; :data:`NEVER_BYTES` where it does not run."""
    cost = problem.cost(plan)
    return NEVER_BYTES if isinstance(cost, Infeasible) else cost.dram_bytes


def _needs(problem: Problem, plan: Partition) -> tuple[dict[Group, Planned], int]:
    """Ops that run alone in every plan, as far as they need more than every other group; the most of the others."""
    reach, alone = Reach(problem), dict[Group, Planned]()
    for one in sorted(_planned(problem, plan), key=lambda p: -p.cost.buffer_bytes):
        group = one.schedule.group
        if group & (group - 1) or not reach.alone(group.bit_length() - 1):
            return alone, one.cost.buffer_bytes
        alone[group] = one
    return alone, 0


def _bytes(planned: Planned | Infeasible) -> int:
    return 0 if isinstance(planned, Infeasible) else planned.cost.dram_bytes
