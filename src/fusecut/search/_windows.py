"""Wide networks where groups may run in bands: a plan of groups that fit, and a bound in windows of the network.

Column generation over all groups in bands is too dear in wide networks: a first op reaches hundreds of ops, and a floor
that prices groups forbids few. Two smaller problems are not: the groups that fit as they are, for a plan; and the parts
of groups within windows of consecutive ops (:mod:`fusecut.search._band_pricing`), whose bounds add up to a bound of
all plans.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fusecut.cost import Banded
from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem
from fusecut.search._band_pricing import BandPricing
from fusecut.search._columns import STEPS_PER_QUESTION, Columns, bytes_count
from fusecut.search._cuts import Reach
from fusecut.search._pricing import Pricing
from fusecut.search.protocol import Proposal

_LEAST_OPS, _MOST_OPS = 50, 110
"""Of a window."""

_STEPS_PER_OP: Final = 20_000
"""Effort of all windows, for each op of the network."""

_MOST_ASKED: Final = 40
"""Ops of the groups that the model is asked about: longer ones take seconds."""

_BEGINNING: Final = 5
"""One part of so many of its share is what each window gets before the others are looked at."""

_COLUMNS_PER_OP: Final = 14
"""Column generation that needs more than so many columns for each op takes long."""

_PLAN_SLACK, _WINDOW_SLACK = 40, 40


def worth_windows(problem: Problem) -> bool:
    """Whether the bound is one for this problem: bytes count, and groups run in bands where they do not fit."""
    floor = problem.buffer_floor
    return bytes_count(problem) and isinstance(floor, Banded) and floor.fits.table(problem.graph) is not None


def windows_of(graph: Graph) -> list[Group]:
    """Runs of consecutive ops, which are convex: the division that parts fewest bytes from their readers."""
    parted = [0] * (len(graph) + 1)
    for t, maker in enumerate(graph.producer):
        readers = list(bits(graph.consumer_mask[t]))
        if maker >= 0 and readers:
            for border in range(maker + 1, readers[-1] + 1):
                parted[border] += graph.tensors[t].nbytes * (2 if border <= readers[0] else 1)
    best = [0, *[1 << 80] * len(graph)]
    begin = [0] * (len(graph) + 1)
    for end in range(1, len(graph) + 1):
        for first in range(max(0, end - _MOST_OPS), max(1, end - _LEAST_OPS + 1)):
            cost = best[first] + parted[first]
            if cost < best[end]:
                best[end], begin[end] = cost, first
    found, end = list[Group](), len(graph)
    while end:
        found.append((1 << end) - (1 << begin[end]))
        end = begin[end]
    return found[::-1]


class Fitting(Columns):
    """Column generation among groups that fit as they are, and those of a plan: a better plan, but no bound."""

    slack = _PLAN_SLACK

    def __init__(self, problem: Problem, plan: list[Group]) -> None:
        super().__init__(problem)
        for group in plan:
            super()._ask(group)
        self.plan, self.best = plan, sum(self.bytes_of[group] for group in plan)

    @property
    def wide(self) -> bool:
        """Whether it is known by now that this takes long."""
        return len(self.bytes_of) > _COLUMNS_PER_OP * len(self.graph)

    def _pricing(self) -> Pricing:
        return Pricing(self.problem, Reach(self.problem, _floor(self.problem).fits))

    def _ask(self, group: Group) -> bool:
        """Ask the model, but only whether a group fits: bands that move something again are not looked for."""
        if not group & (group - 1):
            return super()._ask(group)
        self.asked.add(group)
        least = self.problem.least_rank(group)
        rank = self.problem.rank_within(group, least)
        if rank is None or rank > least:
            self.refused[group] = None
            self.master.drop(group)
            return False
        return super()._ask(group)

    def plans(self, steps: int) -> Iterator[Proposal]:
        """Better and better plans; ``plan`` is the best one."""
        for proposal in self.run(steps):
            if proposal.partition is not None:
                self.plan = list(proposal.partition.groups)
            yield Proposal(proposal.partition)


class Window(Columns):
    """Column generation within a window: parts of groups, each at what it moves there at least.

    A part with no neighbour outside is a group, and the model is asked about it. Ops outside cost nothing.
    """

    slack = _WINDOW_SLACK

    def __init__(self, problem: Problem, window: Group) -> None:
        self.window = window
        self._weights = sum(problem.graph.ops[op].weight_bytes for op in bits(window))
        super().__init__(problem, bound=self._weights)

    @property
    def begun(self) -> bool:
        """Whether its bound is known to be more than its weights, or took some of its share of the effort."""
        return self.bound > self._weights or self.steps * _BEGINNING > _STEPS_PER_OP * self.window.bit_count()

    @property
    def promise(self) -> float:
        """Bytes that the bound may still rise, for the effort so far."""
        return max(0.0, self.hoped - self.bound) / (self.steps + STEPS_PER_QUESTION)

    @property
    def steps(self) -> int:
        outside = len(self.graph) - self.window.bit_count()
        return super().steps - outside * STEPS_PER_QUESTION - self._rounds * outside

    def _pricing(self) -> BandPricing:
        problem, floor = self.problem, _floor(self.problem)
        fits = Reach(problem, floor.fits)
        return BandPricing(problem, floor.bands_table(self.graph, self.window), fits, self.window)

    def _ask(self, group: Group) -> bool:
        if not group & ~self.window and self._is_whole(group):
            return super()._ask(group)
        before = self.bytes_of.get(group)
        nbytes = 0 if group & ~self.window else self.pricing.least_bytes(group)
        self.asked.add(group)
        self.master.add(group, nbytes)
        return before == nbytes

    def _is_whole(self, part: Group) -> bool:
        """Whether no larger group has this part in the window, and the model answers soon."""
        around = part
        for op in bits(part):
            around |= self.graph.preds[op] | self.graph.succs[op]
        return not around & ~self.window and part.bit_count() <= _MOST_ASKED

    def _plan(self) -> Iterator[Proposal]:
        return iter(())

    def _end(self) -> Iterator[Proposal]:
        return iter(())


def bounds_in_windows(problem: Problem) -> Iterator[int]:
    """Better and better bounds of all plans. The last window begins; then the one that promises most goes on."""
    most, windows = _STEPS_PER_OP * len(problem.graph), list[Window]()
    for window in windows_of(problem.graph):
        windows.append(Window(problem, window))
        yield 0
    running = [window.run(most) for window in windows]
    going = list(range(len(windows)))
    while going and sum(window.steps for window in windows) < most:
        new = [k for k in going if not windows[k].begun]
        first = new[-1] if new else max(going, key=lambda k: (windows[k].promise, -k))
        if next(running[first], None) is None:
            going.remove(first)
        yield sum(window.bound for window in windows)


def _floor(problem: Problem) -> Banded:
    floor = problem.buffer_floor
    if not isinstance(floor, Banded):
        raise AssertionError("a floor that knows no bands")
    return floor
