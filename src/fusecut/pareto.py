"""DRAM bytes, buffer bytes and repeated MACs: every plan that no other plan beats in all three.

>>> import fusecut as fc
>>> front = fc.pareto(fc.zoo("squeezenet1_1"), "126KiB", "128KiB", scheme="lbdf")
>>> front.ended, {point.recomputed_macs for point in front.points}
('', {0})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np

from fusecut._descent import refusal
from fusecut.cost import NEVER_BYTES, BufferFloor, CostModel, Infeasible, Planned, unbeaten, ways_of
from fusecut.errors import FusecutError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import never_rising, scheme_model
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Exact
from fusecut.search._front import Found, Front, Way
from fusecut.units import format_bytes, parse_bytes

INTERRUPTED: Final = "interrupted"
EFFORT: Final = 300_000
"""Lattice steps and labels for each buffer at which the front changes."""


@dataclass(frozen=True)
class FrontPoint:
    """A plan that needs ``buffer_bytes``, moves ``dram_bytes`` and repeats ``recomputed_macs``.

    No plan is as good in all three figures and better in one. ``planned`` says how its groups run.
    """

    buffer_bytes: int
    dram_bytes: int
    recomputed_macs: int
    partition: Partition
    planned: tuple[Planned, ...] = field(repr=False, compare=False)

    @property
    def figures(self) -> tuple[int, int, int]:
        """Buffer bytes, DRAM bytes, repeated MACs."""
        return self.buffer_bytes, self.dram_bytes, self.recomputed_macs


class Progress(NamedTuple):
    """How far a sweep has come: the buffer it is at, and points found there and above."""

    buffer_bytes: int
    points: int
    evaluations: int


@dataclass(frozen=True)
class ParetoFront:
    """All plans that no plan beats, from ``from_bytes`` to ``machine.buffer_bytes``, by buffer, then by bytes.

    Where ``ended`` is not empty it says why the sweep stopped before ``from_bytes``; it is complete
    from ``complete_from_bytes`` on, None where not even the largest buffer was finished. Plans
    of the smallest buffer of a sweep may do with less than their point says.
    """

    graph: Graph
    machine: Machine
    scheme: str
    from_bytes: int
    complete_from_bytes: int | None
    floor_bytes: int
    macs: int
    points: tuple[FrontPoint, ...]
    ended: str
    evaluations: int
    seconds: float = field(compare=False)

    def at(self, buffer: str | int) -> tuple[FrontPoint, ...]:
        """The plans to choose from in one buffer: fewest bytes first, each with fewer repeated MACs. O(n log n).

        Raises:
            FusecutError: the buffer is outside what was swept.
            UnitError: not a size.
        """
        size, first = parse_bytes(buffer), self.complete_from_bytes
        if first is None or not first <= size <= self.machine.buffer_bytes:
            swept = (
                "nothing" if first is None else f"{format_bytes(first)} to {format_bytes(self.machine.buffer_bytes)}"
            )
            raise FusecutError(f"a buffer of {format_bytes(size)} is not on the front: it covers {swept}")
        kept: list[FrontPoint] = []
        for point in sorted(self.points, key=lambda p: (p.dram_bytes, p.recomputed_macs)):
            if point.buffer_bytes <= size and (not kept or point.recomputed_macs < kept[-1].recomputed_macs):
                kept.append(point)
        return tuple(kept)

    def to_dict(self) -> dict[str, Any]:
        """Plain data in the layout of docs/pareto.md; plans are listed once."""
        plans = {point.partition.groups: point.partition for point in self.points}
        place = {groups: index for index, groups in enumerate(plans)}
        return {
            "scheme": self.scheme,
            "machine": self.machine.to_dict(),
            "from_bytes": self.from_bytes,
            "to_bytes": self.machine.buffer_bytes,
            "complete_from_bytes": self.complete_from_bytes,
            "ended": self.ended,
            "floor_dram_bytes": self.floor_bytes,
            "macs": self.macs,
            "evaluations": self.evaluations,
            "points": [
                {
                    "buffer_bytes": point.buffer_bytes,
                    "dram_bytes": point.dram_bytes,
                    "recomputed_macs": point.recomputed_macs,
                    "plan": place[point.partition.groups],
                    "recomputed_macs_of_groups": [p.cost.recomputed_macs for p in point.planned],
                }
                for point in self.points
            ],
            "plans": [plan.names() for plan in plans.values()],
        }


def pareto(
    graph: Graph,
    from_buffer: str | int,
    to_buffer: str | int,
    *,
    machine: Machine | None = None,
    scheme: str = "mixed",
    model: CostModel | None = None,
    effort: int = EFFORT,
    max_seconds: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> ParetoFront:
    """All plans that no plan beats in DRAM bytes, buffer bytes and repeated MACs, for buffers of a range.

    For one buffer all plans that none beats in bytes and MACs are found at once
    (:mod:`fusecut.search._front`). They are the same in every buffer down to the most that one of them
    needs; the search below that looks only for what takes the place of plans that no longer fit (docs/pareto.md).

    Args:
        graph: the network, from :func:`fusecut.load` or :func:`fusecut.zoo`.
        from_buffer, to_buffer: the range, ``"16KiB"`` or bytes; both the same for one buffer.
        machine: bits and whatever else a machine has; its buffer is not looked at.
        scheme: a name of :data:`fusecut.models.SCHEMES`; or give any cost ``model`` that never moves more in a
            larger buffer. One that is no :class:`fusecut.cost.Menu` has one way for each group.
        effort: bounds the search in each buffer (steps of the lattice and labels); past it the sweep ends.
        max_seconds: stop after so many seconds. An interrupt (Ctrl-C) ends it as well, with what is found.

    Raises:
        FusecutError: the range is empty.
        UnitError, MachineError, UnknownNameError: see there.
    """
    low, high = parse_bytes(from_buffer), parse_bytes(to_buffer)
    if not 0 < low <= high:
        raise FusecutError(
            f"a front from {format_bytes(low)} to {format_bytes(high)} is empty: begin with at least 1 byte, "
            "and end with at least as much"
        )
    machine = replace(machine or Machine(high), buffer_bytes=high)
    graph = graph.with_bits(machine.activation_bits, machine.weight_bits, machine.accumulator_bits)
    menus = _Menus(never_rising(model if model is not None else scheme_model(scheme)), graph)
    sweep = _Sweep(graph, machine, menus, effort, max_seconds, on_progress)
    sweep.run(low)
    return ParetoFront(
        graph=graph,
        machine=machine,
        scheme=scheme if model is None else model.name,
        from_bytes=low,
        complete_from_bytes=sweep.complete_from,
        floor_bytes=graph.touch_once_bytes(graph.everything),
        macs=sum(op.macs for op in graph.ops),
        points=sweep.points(),
        ended=sweep.ended,
        evaluations=menus.evaluations,
        seconds=perf_counter() - sweep.started,
    )


class _Menus:
    """The ways of every group, asked for again only in a buffer that one of them does not fit.

    Those that still fit are kept: a model that finds bands by bisection may overlook them there.
    """

    def __init__(self, model: CostModel, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.evaluations = 0
        self._known: dict[Group, Sequence[Planned]] = {}

    def of(self, group: Group, machine: Machine) -> Sequence[Planned]:
        capacity, known = machine.buffer_bytes, self._known.get(group)
        ways = () if known is None else [w for w in known if w.cost.buffer_bytes <= capacity]
        if known is None or len(ways) < len(known):
            self.evaluations += 1
            known = self._known[group] = unbeaten([*ways, *ways_of(self.model, self.graph, group, machine)])
        return known


class _Priced:
    """The model of one search: a group runs in the way of the fewest bytes, or in one that repeats no MAC."""

    def __init__(self, menus: _Menus, repeating: bool) -> None:
        self.menus, self.repeating = menus, repeating
        self.name, self.touches_once = menus.model.name, menus.model.touches_once

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        ways = [w for w in self.menus.of(group, machine) if self.repeating or not w.cost.recomputed_macs]
        if ways:
            return ways[0]
        refused = self.menus.model.plan(graph, group, machine)
        if isinstance(refused, Infeasible):
            return refused
        size = machine.buffer_bytes
        return Infeasible("buffer", size + 1, size, "it runs only where MACs are repeated", at_least=True)

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return self.menus.model.finish(graph, planned, machine)

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return self.menus.model.buffer_floor(graph, machine)


class _StopError(Exception):
    """Time or effort is spent; the text says which."""


class _Sweep:
    """The fronts of one buffer after another, from the largest down."""

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        menus: _Menus,
        effort: int,
        max_seconds: float | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.graph, self.machine, self.menus, self.effort = graph, machine, menus, effort
        self.max_seconds, self.on_progress = max_seconds, on_progress
        self.started = perf_counter()
        self.complete_from: int | None = None
        self.ended = ""
        self._left: list[FrontPoint] = []
        self._now: list[FrontPoint] = []
        self._partial: list[FrontPoint] = []

    def run(self, low: int) -> None:
        """Sweep down to ``low``, until nothing runs, or until it is stopped."""
        capacity = self.machine.buffer_bytes
        try:
            while capacity >= low:
                self._at(capacity)
                if not self._now:
                    break
                need = max(low, *(_need(point) for point in self._now))
                self.complete_from, capacity = need, need - 1
        except KeyboardInterrupt:
            self.ended = f"{INTERRUPTED} in a buffer of {format_bytes(capacity)}"
        except _StopError as why:
            self.ended = f"{why} in a buffer of {format_bytes(capacity)}"

    def points(self) -> tuple[FrontPoint, ...]:
        """What was left behind, and what the smallest finished buffer has; of the first buffer also a part."""
        last = self._partial if self.complete_from is None else self._now
        size = self.machine.buffer_bytes if self.complete_from is None else self.complete_from
        return tuple(sorted([*self._left, *(replace(p, buffer_bytes=size) for p in last)], key=lambda p: p.figures))

    def _at(self, capacity: int) -> None:
        """The front of one buffer, from that of the last one."""
        machine = replace(self.machine, buffer_bytes=capacity)
        problem = Problem(self.graph, machine, _Priced(self.menus, repeating=True))
        why = refusal(problem)
        if why is not None:
            self.ended = f"no plan in {format_bytes(capacity)}: op {why[0]!r} {why[1]}"
            self._leave(self._now)
            return
        kept = [point for point in self._now if _need(point) <= capacity]
        self._partial = list(kept)
        self._search(problem, kept)
        now = sorted(_front(self._partial), key=lambda p: p.dram_bytes)
        figures = {p.figures[1:] for p in now}
        self._leave([p for p in self._now if p.figures[1:] not in figures])
        self._now = now
        if not now:
            self.ended = f"no plan in {format_bytes(capacity)}"

    def _leave(self, points: list[FrontPoint]) -> None:
        """Points that no smaller buffer has: they need what was swept last."""
        size = self.machine.buffer_bytes if self.complete_from is None else self.complete_from
        self._left += [replace(point, buffer_bytes=size) for point in points]
        self._now = [point for point in self._now if point not in points]

    def _search(self, problem: Problem, kept: list[FrontPoint]) -> None:
        """What joins the plans kept, appended to the part found so far."""
        most = self._unrepeated(problem.machine, kept)
        menu = self._menu(problem.machine)
        search = Front(problem, menu, [p.figures[1:] for p in kept], most, self.effort)
        for one in search.run():
            self._tick(problem.capacity_bytes)
            if one is not None:
                self._partial.append(self._point(one, problem.machine))
        if search.ran_out:
            raise _StopError("out of effort")

    def _unrepeated(self, machine: Machine, kept: list[FrontPoint]) -> int:
        """Bytes of a plan that repeats no MAC: known, or the best one that a search finds."""
        known = [point.dram_bytes for point in kept if not point.recomputed_macs]
        if known:
            return known[0]
        problem = Problem(self.graph, machine, _Priced(self.menus, repeating=False))
        before = [point.partition.groups for point in self._now if not point.recomputed_macs]
        best: int | None = None
        for plan, _ in Exact(start=before[0] if before else ()).propose(problem, np.random.default_rng(0)):
            self._tick(problem.capacity_bytes)
            cost = None if plan is None else problem.cost(plan)
            if cost is not None and not isinstance(cost, Infeasible):
                best = cost.dram_bytes if best is None else min(best, cost.dram_bytes)
        return NEVER_BYTES if best is None else best

    def _menu(self, machine: Machine) -> Callable[[Group], list[Way]]:
        def menu(group: Group) -> list[Way]:
            ways = self.menus.of(group, machine)
            return [Way(w.cost.dram_bytes, w.cost.recomputed_macs, k) for k, w in enumerate(ways)]

        return menu

    def _point(self, found: Found, machine: Machine) -> FrontPoint:
        ways = {step.group: self.menus.of(step.group, machine)[step.choice] for step in found.steps}
        plan = Partition(self.graph, [step.group for step in found.steps])
        planned = tuple(ways[group] for group in plan.groups)
        return FrontPoint(machine.buffer_bytes, found.dram_bytes, found.recomputed_macs, plan, planned)

    def _tick(self, capacity: int) -> None:
        if self.max_seconds is not None and perf_counter() - self.started >= self.max_seconds:
            raise _StopError("out of time")
        if self.on_progress is not None:
            self.on_progress(Progress(capacity, len(self._left) + len(self._partial), self.menus.evaluations))


def _need(point: FrontPoint) -> int:
    return max(p.cost.buffer_bytes for p in point.planned)


def _front(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """Without points that another one beats, and without second ones of the same figures."""
    kept: list[FrontPoint] = []
    for point in sorted(points, key=lambda p: p.figures[1:]):
        if not kept or point.recomputed_macs < kept[-1].recomputed_macs:
            kept.append(point)
    return kept
