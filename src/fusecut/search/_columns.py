"""Column generation: a bound of all plans from prices of ops, and good plans from the groups met on the way.

A plan is a choice of groups that holds every op once; leave out that groups must not wait for each
other, and let groups be chosen in parts: a linear program with a column for each group. Its dual says
what an op is worth: prices y with sum of y over G <= bytes(G) for every group bound every plan by the sum
of all y. Columns are made as they are needed: groups that cost less than their ops are worth.

The bound never trusts a floating-point solver. Prices are rounded to whole bytes, and what the
cheapest group with first op s lacks, in exact integers, is taken off y(s), last first op first: then
every group pays for its ops. What is left are prices that bound all plans, and the next ones looked at lie
between them and the prices of the relaxation, which jump from one end to the other by themselves.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from math import floor
from typing import Final, NamedTuple

from fusecut.cost import FitFloor, Infeasible
from fusecut.errors import PartitionError
from fusecut.ir import Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._covers import Covers
from fusecut.search._cuts import Reach
from fusecut.search._master import Master, Relaxed
from fusecut.search._pricing import Duals, Effort, Pricing
from fusecut.search._tables import low_bit
from fusecut.search.protocol import Proposal

_QUICK: Final = Effort(1, 60, 8)
"""Of the first rounds: a short look finds most groups."""

_EFFORTS: Final = (Effort(1, 250, 8), Effort(16, 1000, 8), Effort(100, 1000, 8), Effort(1000, 1000, 8))
"""Of the rounds at all first ops: the next one where the one before left something open and raised no bound.

After the last one cuts are doubled, ``_DOUBLED`` times at most.
"""

_DOUBLED: Final = 8

_BUSY: Final = 8
"""First rounds end when fewer than one first op of so many finds anything."""

_MOST_SHARE, _LEAST_SHARE, _RISE = 1 / 2, 1 / 32, 5 / 4
"""Prices that gave a better bound move further the next time, others half as far."""

_PLAN_EVERY: Final = 4
"""Of so many rounds at all first ops one is followed by a plan, unless one is near."""

_PER_OP: Final = 4
"""So many groups for each op may become part of a plan."""

_ROUGH: Final = 0.003
"""The first plan need not be nearer than this to the best among the groups known."""

_NEAR: Final = 1.003
"""A plan that is nearer than this to the relaxation is improved at the end only."""

_DOUBTS: Final = 4
"""The relaxation is solved again while more than one group of so many in use changes when the model is asked."""

_CLOSE: Final = 4
"""Cuts come as soon as the bound is nearer to the relaxation than so many parts of what the best plan is above it."""

_STEPS_PER_QUESTION: Final = 2_000
"""A question to the model takes as long as so many steps, roughly."""

_ROOTS_PER_PROPOSAL: Final = 50

_PARTS: Final = (8, 4, 2, 1)
"""What is left below the best plan is closed in parts: first an eighth of it, in the end all."""

_MOST_SETS: Final = 300_000
"""Of covered ops, for each part."""


def worth_trying(problem: Problem) -> bool:
    """Whether the bound is one for this problem: bytes count, every group moves at least its touch-once bytes."""
    tariff, buffer_floor = problem.prices.tariff, problem.buffer_floor
    bytes_only = not tariff.per_cycle and tariff.per_byte == 1
    listed = isinstance(buffer_floor, FitFloor) and buffer_floor.table(problem.graph) is not None
    return bytes_only and problem.touches_once and listed


class Round(NamedTuple):
    """What one round of pricing came to: ``roots`` are the first ops below which new groups were found.

    ``duals`` are prices that no group lacks any more; the bound is 0 where not every root was looked at.
    """

    bound: int
    duals: Duals
    new: int
    roots: set[int]
    complete: bool


class Columns:
    """Column generation for one problem; ``best`` is the rank of the best plan known, ``bound`` of all plans."""

    def __init__(self, problem: Problem, best: list[Group] | None = None, bound: int = 0) -> None:
        self.problem, self.graph = problem, problem.graph
        self.pricing = Pricing(problem, Reach(problem))
        self.asked: set[Group] = set()
        self.refused: dict[Group, None] = {}
        self.best: int | None = None
        self.bound = bound
        self._rounds = 0
        self._apart: list[list[Group]] = []
        penalty = 2 * sum(self.graph.touch_once_bytes(1 << op) for op in range(len(self.graph))) + 1
        self.master = Master(len(self.graph), penalty)
        for op in range(len(self.graph)):
            self._ask(1 << op)
        for group in best or ():
            self._ask(group)
        if best:
            self.best = sum(self.bytes_of[group] for group in best)

    @property
    def bytes_of(self) -> Mapping[Group, int]:
        """The groups known and what they move."""
        return self.master.bytes_of

    @property
    def done(self) -> bool:
        return self.best is not None and self.best <= self.bound

    @property
    def steps(self) -> int:
        """The effort so far: steps of growth, and rounds and questions to the model as so many of them."""
        return self.pricing.steps + len(self.asked) * _STEPS_PER_QUESTION + self._rounds * len(self.graph)

    def run(self, steps: int) -> Iterator[Proposal]:
        """Rounds until the bound meets the best plan, nothing more can be learnt, or the steps are spent."""
        busy = set(self.pricing.roots)
        while len(busy) * _BUSY > len(self.pricing.roots) and self.steps < steps and not self.done:
            relaxed, _ = self._relaxed()
            duals = _whole(relaxed.prices, relaxed.fines)
            found = yield from self._round(duals, _QUICK, busy, at_once=False)
            self.bound, busy = max(self.bound, found.bound), found.roots
        yield from self._steady(steps)
        if not self.done:
            relaxed, _ = self._relaxed()
            yield from self._plan(_whole(relaxed.prices, relaxed.fines))

    def _steady(self, steps: int) -> Iterator[Proposal]:
        """Rounds at all first ops, at prices between the best ones so far and those of the relaxation."""
        roots = set(self.pricing.roots)
        center: Duals | None = None
        reached, share, level, rounds = 0, _MOST_SHARE / 2, 0, 0
        while self.steps < steps and not self.done:
            relaxed, changed = self._relaxed()
            duals = _between(center, relaxed, share)
            found = yield from self._round(duals, _effort(level), roots)
            rounds += 1
            self.bound = max(self.bound, found.bound)
            yield Proposal(None, self.bound)
            better = found.bound > reached
            if center is None or better:
                center, reached, share = found.duals, found.bound, min(_MOST_SHARE, share * _RISE)
            else:
                share = max(_LEAST_SHARE, share / 2)
            if not found.complete and not better:
                level += 1
            elif not found.new:
                share = _MOST_SHARE
            left = relaxed.nbytes - self.bound
            if left * 100 < relaxed.nbytes and rounds % _PLAN_EVERY == 0 and not self._near(relaxed.nbytes):
                yield from self._plan(duals, _ROUGH)
            ended = not changed and relaxed.nbytes - reached <= len(self.graph) + len(relaxed.fines)
            if ended:
                yield from self._plan(duals)
            if (ended or self._closed_in(left)) and not self.master.cut_off(relaxed) and ended:
                yield from self._covers(center)
                return

    def _covers(self, duals: Duals) -> Iterator[Proposal]:
        """All choices of groups within a part of the room that is left below the best plan, then within all of it."""
        for part in _PARTS:
            if self.best is None or self.done:
                return
            room = -((self.bound - self.best) // part)
            known = {group: nbytes for group, nbytes in self.bytes_of.items() if group in self.asked}
            covers = Covers(self.pricing, duals, self.bound - duals.total + room, known, self.refused, self._moved)
            for _ in covers.run(_MOST_SETS):
                self.bound = max(self.bound, min(covers.bound_bytes, self.best))
                yield Proposal(None, self.bound)
            self.bound = max(self.bound, min(covers.bound_bytes, self.best))
            yield Proposal(None, self.bound)
            yield from self._accept(covers.chosen)
            if not covers.done:
                return

    def _moved(self, group: Group) -> int | None:
        """What the model says that a group moves; None if it does not run."""
        if group not in self.asked:
            self._ask(group)
        return self.bytes_of.get(group)

    def _accept(self, groups: list[Group] | None) -> Iterator[Proposal]:
        """Take a choice of groups for the best plan, if it is better and none of them wait in a circle."""
        cost = sum(self.bytes_of[group] for group in groups or ())
        if not groups or self.best is None or cost >= self.best:
            return
        try:
            partition = Partition(self.graph, groups)
        except PartitionError:
            return
        self.best = cost
        yield Proposal(partition, self.bound)

    def _closed_in(self, left: float) -> bool:
        """Whether the bound is near the relaxation, compared with the best plan."""
        return self.best is not None and left * _CLOSE < self.best - self.bound - left

    def _near(self, nbytes: float) -> bool:
        """Whether the best plan is within a hundredth of the relaxation."""
        return self.best is not None and self.best < nbytes * _NEAR

    def _relaxed(self) -> tuple[Relaxed, int]:
        """The relaxation, once the model knows most groups in use; how many of them changed in the end."""
        while True:
            relaxed = self.master.relaxed()
            changed = sum(not self._ask(group) for group in relaxed.used if group not in self.asked)
            if changed * _DOUBTS <= len(relaxed.used):
                return relaxed, changed

    def _ask(self, group: Group) -> bool:
        """Ask the model about a group; whether its column is as it was."""
        before = self.bytes_of.get(group)
        planned = self.problem.plan(group)
        self.asked.add(group)
        if isinstance(planned, Infeasible):
            self.refused[group] = None
            self.master.drop(group)
            return before is None
        self.master.add(group, planned.cost.dram_bytes)
        return before == planned.cost.dram_bytes

    def _round(
        self, duals: Duals, effort: Effort, roots: set[int], at_once: bool = True
    ) -> Generator[Proposal, None, Round]:
        """Look for groups below first ops, the last one first: those known already, and those of the roots given.

        What the groups of a first op lack is taken off its price: ``at_once``, so that groups of earlier first ops
        that hold it lack less; else when all are done, so that they are found all the same.
        """
        self.pricing.know(self.bytes_of, self.refused)
        self._rounds += 1
        lowest, complete, new = duals.copy(), True, list[tuple[int, Group]]()
        looked = lowest if at_once else duals
        for done, first in enumerate(reversed(range(len(self.graph)))):
            least = self.pricing.least_known(first, looked)
            if first in roots:
                priced = self.pricing.groups(first, looked, 0, effort)
                complete = complete and priced.complete
                least = min(least, priced.least_bytes)
                new += priced.groups
            if least < 0:
                lowest.lower(first, -least)
            if done % _ROOTS_PER_PROPOSAL == 0:
                yield Proposal(None, self.bound)
        for _, group in new:
            self.master.add(group, self.graph.touch_once_bytes(group))
        bound = lowest.total if len(roots) == len(self.pricing.roots) else 0
        return Round(bound, lowest, len(new), {low_bit(group) for _, group in new}, complete)

    def _cheapest(self, duals: Duals, asked: int) -> list[Group]:
        """The groups for a plan, all of which run: the single ops, and those of least reduced cost.

        The model is ``asked`` about so many of the cheapest.
        """
        ranked = sorted(self.pricing.reduced(self.bytes_of, duals))
        for _, group in ranked[:asked]:
            self._moved(group)
        running = [group for _, group in ranked if group in self.asked and group in self.bytes_of]
        singles = [1 << op for op in range(len(self.graph)) if 1 << op in self.bytes_of]
        return list(dict.fromkeys([*singles, *running[: _PER_OP * len(self.graph)]]))

    def _plan(self, duals: Duals, slack: float = 0.0) -> Iterator[Proposal]:
        """A good plan among the groups of least reduced cost, none of which wait in a circle."""
        groups = self._cheapest(duals, len(self.graph) * (1 if slack else _PER_OP))
        while True:
            whole = self.master.best_whole(groups, self._apart, slack)
            if whole is None:
                return
            cost = sum(self.bytes_of[group] for group in whole)
            try:
                partition = Partition(self.graph, whole)
            except PartitionError:
                self._apart.append(whole)
                continue
            if self.best is None or cost < self.best:
                self.best = cost
                yield Proposal(partition, self.bound)
            return


def _effort(level: int) -> Effort:
    """The effort of a level, each larger than the one before."""
    last = len(_EFFORTS) - 1
    effort = _EFFORTS[min(level, last)]
    return effort._replace(cuts=effort.cuts << min(max(0, level - last), _DOUBLED))


def _whole(prices: list[float], fines: Mapping[Group, float]) -> Duals:
    """Prices in whole bytes, rounded down, and fines rounded up."""
    return Duals([floor(price) for price in prices], {ops: -floor(-fine) for ops, fine in fines.items() if fine > 0})


def _between(center: Duals | None, relaxed: Relaxed, share: float) -> Duals:
    """Prices and fines on the way from the center to those of the relaxation."""
    if center is None:
        return _whole(relaxed.prices, relaxed.fines)
    prices = [a + (b - a) * share for a, b in zip(center.prices.tolist(), relaxed.prices, strict=True)]
    old = center.fines
    fines = {ops: old.get(ops, 0) + (fine - old.get(ops, 0)) * share for ops, fine in relaxed.fines.items()}
    return _whole(prices, fines)
