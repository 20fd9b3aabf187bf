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
from typing import Final, NamedTuple, TypeVar, cast

import numpy as np

from fusecut.cost import NEVER_BYTES, FitFloor, Infeasible
from fusecut.ir import Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._covers import Covers, Look, list_groups, list_known
from fusecut.search._cuts import Reach
from fusecut.search._master import Master, Relaxed
from fusecut.search._pricing import Effort, Pricing
from fusecut.search._root import I64
from fusecut.search._sets import NEVER
from fusecut.search._tables import low_bit
from fusecut.search.protocol import Proposal

T = TypeVar("T")

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

_FIRST_PLAN: Final = 4
"""After so many rounds at all first ops a plan is made, unless one is near; after twice as many the next one."""

_NEAR: Final = 1.003
"""A plan that is nearer than this to the relaxation is improved at the end only."""

_DOUBTS: Final = 4
"""The relaxation is solved again while more than one group of so many in use changes when the model is asked."""

STEPS_PER_QUESTION: Final = 2_000
"""A question to the model takes as long as so many steps, roughly."""

_ROOTS_PER_PROPOSAL: Final = 50
_QUESTIONS_PER_PROPOSAL: Final = 8

_PARTS: Final = (8, 1)
"""Groups within an eighth of what is left below the best plan are listed first, then all of them."""

_PLAN_PARTS: Final = (4, 1)
"""The same for the best plan among the groups known."""

_LOOKS: Final = (Look(64, 20_000, 80_000), Look(256, 200_000, 800_000))
"""Tails of every op: a short look ahead, then a long one."""

_LAST_LOOK: Final = Look(0, 4_000_000, 4_000_000)
"""For the best choice of all. A set takes some 100 bytes."""

_PLAN_LOOKS: Final = (Look(64, 5_000, 20_000), Look(256, 50_000, 200_000))
_LAST_PLAN_LOOK: Final = Look(0, 300_000, 1_200_000)


def worth_trying(problem: Problem) -> bool:
    """Whether the bound is one for this problem: bytes count, every group moves at least its touch-once bytes."""
    floor = problem.buffer_floor
    return bytes_count(problem) and isinstance(floor, FitFloor) and floor.table(problem.graph) is not None


def bytes_count(problem: Problem) -> bool:
    """Whether bytes are all that counts, and every group moves at least its touch-once bytes."""
    tariff = problem.prices.tariff
    return problem.touches_once and not tariff.per_cycle and tariff.per_byte == 1


class Round(NamedTuple):
    """What one round of pricing came to: ``roots`` are the first ops below which new groups were found.

    ``prices`` are such that every group pays for its ops; the bound is 0 where not every root was looked at.
    """

    bound: int
    prices: I64
    new: int
    roots: set[int]
    complete: bool


class Columns:
    """Column generation for one problem; ``best`` is the rank of the best plan known, ``bound`` of all plans.

    With a ``slack`` it ends where bound and relaxation differ by no more than this share of the relaxation.
    """

    slack = 0

    def __init__(self, problem: Problem, best: list[Group] | None = None, bound: int = 0) -> None:
        self.problem, self.graph = problem, problem.graph
        self.pricing = self._pricing()
        self.asked: set[Group] = set()
        self.refused: dict[Group, None] = {}
        self.best: int | None = None
        self.bound = bound
        self._rounds = 0
        self.hoped = float("inf")
        self._center: I64 | None = None
        penalty = 2 * sum(self.graph.touch_once_bytes(1 << op) for op in range(len(self.graph))) + 1
        self.master = Master(len(self.graph), penalty)
        for op in range(len(self.graph)):
            self._ask(1 << op)
        for group in best or ():
            self._ask(group)
        if best:
            self.best = sum(self.bytes_of[group] for group in best)

    def _pricing(self) -> Pricing:
        """What finds groups below first ops."""
        return Pricing(self.problem, Reach(self.problem))

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
        return self.pricing.steps + len(self.asked) * STEPS_PER_QUESTION + self._rounds * len(self.graph)

    def run(self, steps: int) -> Iterator[Proposal]:
        """Rounds until the bound meets the best plan, nothing more can be learnt, or the steps are spent."""
        busy = set(self.pricing.roots)
        while len(busy) * _BUSY > len(self.pricing.roots) and self.steps < steps and not self.done:
            relaxed, _ = yield from self._told(self._relaxed())
            if self._near_enough(relaxed.nbytes):
                break
            found = yield from self._round(_between(None, relaxed, 1.0), _QUICK, busy, at_once=False)
            self.bound, busy = max(self.bound, found.bound), found.roots
        yield from self._steady(steps)

    def _steady(self, steps: int) -> Iterator[Proposal]:
        """Rounds at all first ops, at prices between the best ones so far and those of the relaxation."""
        roots = set(self.pricing.roots)
        reached, share, level, rounds, due = 0, _MOST_SHARE / 2, 0, 0, _FIRST_PLAN
        while self.steps < steps and not self.done:
            relaxed, changed = yield from self._told(self._relaxed())
            if self._near_enough(relaxed.nbytes):
                break
            prices = _between(self._center, relaxed, share)
            found = yield from self._round(prices, _effort(level), roots)
            rounds += 1
            self.bound = max(self.bound, found.bound)
            yield Proposal(None, self.bound)
            better = found.bound > reached
            if self._center is None or better:
                self._center, reached, share = found.prices, found.bound, min(_MOST_SHARE, share * _RISE)
            else:
                share = max(_LEAST_SHARE, share / 2)
            if not found.complete and not better:
                level += 1
            elif not found.new:
                share = _MOST_SHARE
            left = relaxed.nbytes - self.bound
            if left * 100 < relaxed.nbytes and rounds >= due and not self._near(relaxed.nbytes):
                due = 2 * rounds
                yield from self._plan()
            if not changed and relaxed.nbytes - reached <= len(self.graph):
                yield from self._end()
                return
        if not self.done:
            yield from self._plan()

    def _end(self) -> Iterator[Proposal]:
        """The best choice among groups within a part of the room below the best plan, then among all.

        Each asks about groups that the next plan may take. Where covers were too many, a better plan leaves less room.
        """
        yield from self._plan()
        parts = list(_PARTS)
        while parts and not self.done:
            part, before = parts.pop(0), self.best
            spent = yield from self._covers(part)
            if not self.done:
                yield from self._plan()
            if spent:
                parts = [part] if self.best != before else []

    def _covers(self, part: int) -> Generator[Proposal, None, bool]:
        """The best choice among groups within a part of the room below the best plan; whether covers were too many."""
        prices = self._center
        if self.best is None or prices is None:
            return False
        total = int(prices.sum())
        room = self.best - total
        limit = -(-room // part)
        known = self._sure()
        listing = yield from self._told(list_groups(self.pricing, prices, known, self.refused, limit, room))
        covers = Covers(self.pricing, listing, room, known, self._moved)
        for _ in covers.run(_LOOKS, _LAST_LOOK):
            self.bound = max(self.bound, total + covers.bound)
            yield Proposal(None, self.bound)
        self.bound = max(self.bound, total + covers.bound)
        yield from self._accept(covers.chosen)
        return covers.spent

    def _told(self, work: Generator[None, None, T]) -> Generator[Proposal, None, T]:
        """Do some work, and show what is known meanwhile."""
        while True:
            try:
                next(work)
            except StopIteration as end:
                return cast(T, end.value)
            yield Proposal(None, self.bound)

    def _sure(self) -> dict[Group, int]:
        """The groups that the model has been asked about."""
        return {group: nbytes for group, nbytes in self.bytes_of.items() if group in self.asked}

    def _moved(self, group: Group) -> int | None:
        """What the model says that a group moves; None if it does not run."""
        if group not in self.asked:
            self._ask(group)
        return self.bytes_of.get(group)

    def _accept(self, groups: list[Group] | None) -> Iterator[Proposal]:
        """Take a choice of groups for the best plan, if it is better."""
        cost = sum(self.bytes_of[group] for group in groups or ())
        if groups and (self.best is None or cost < self.best):
            self.best = cost
            yield Proposal(Partition(self.graph, groups), self.bound)

    def _near_enough(self, nbytes: float) -> bool:
        """Whether the bound is within the slack of the relaxation, whose bytes are kept."""
        self.hoped = nbytes
        return bool(self.slack) and (nbytes - self.bound) * self.slack <= nbytes

    def _near(self, nbytes: float) -> bool:
        """Whether the best plan is within a hundredth of the relaxation."""
        return self.best is not None and self.best < nbytes * _NEAR

    def _relaxed(self) -> Generator[None, None, tuple[Relaxed, int]]:
        """The relaxation, once the model knows most groups in use; how many of them changed in the end."""
        while True:
            relaxed, changed = self.master.relaxed(), 0
            yield
            for number, group in enumerate(group for group in relaxed.used if group not in self.asked):
                changed += not self._ask(group)
                if number % _QUESTIONS_PER_PROPOSAL == 0:
                    yield
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

    def _enter(self, group: Group) -> None:
        """A new column, of what its group moves at least; none, where the floor of its pricing refuses it after all."""
        nbytes = self.pricing.least_bytes(group)
        if nbytes < NEVER_BYTES:
            self.master.add(group, nbytes)
        else:
            self.refused[group] = None

    def _round(
        self, prices: I64, effort: Effort, roots: set[int], at_once: bool = True
    ) -> Generator[Proposal, None, Round]:
        """Look for groups below first ops, the last one first: those known already, and those of the roots given.

        What the groups of a first op lack is taken off its price: ``at_once``, so that groups of earlier first ops
        that hold it lack less; else when all are done, so that they are found all the same.
        """
        self.pricing.know(self.bytes_of, self.refused)
        self._rounds += 1
        lowest, complete, new = prices.copy(), True, list[tuple[int, Group]]()
        looked = lowest if at_once else prices
        for done, first in enumerate(reversed(range(len(self.graph)))):
            least = self.pricing.least_known(first, looked)
            if first in roots:
                priced = self.pricing.groups(first, looked, 0, effort)
                complete = complete and priced.complete
                least = min(least, priced.least_bytes)
                new += priced.groups
            if least < 0:
                lowest[first] += least
            if done % _ROOTS_PER_PROPOSAL == 0:
                yield Proposal(None, self.bound)
        for _, group in new:
            self._enter(group)
        bound = int(lowest.sum()) if len(roots) == len(self.pricing.roots) else 0
        return Round(bound, lowest, len(new), {low_bit(group) for _, group in new}, complete)

    def _plan(self) -> Iterator[Proposal]:
        """The best plan among the groups asked about and the cheapest others.

        First only groups within a part of what is left below the best plan.
        """
        prices = self._center
        if prices is None:
            return
        room = NEVER if self.best is None else self.best - int(prices.sum())
        others = {group: nbytes for group, nbytes in self.bytes_of.items() if group not in self.asked}
        cheapest = {group for _, group in sorted(self.pricing.reduced(others, prices))[: len(self.graph)]}
        for part in _PLAN_PARTS:
            within, known = -(-room // part), self._sure()
            groups = {group: nbytes for group, nbytes in self.bytes_of.items() if group in known or group in cheapest}
            listing = list_known(groups, prices, self.pricing, within)
            covers = Covers(self.pricing, listing, within, known, self._moved)
            for _ in covers.run(_PLAN_LOOKS, _LAST_PLAN_LOOK):
                yield Proposal(None, self.bound)
            if covers.chosen is not None:
                yield from self._accept(covers.chosen)
                return


def _effort(level: int) -> Effort:
    """The effort of a level, each larger than the one before."""
    last = len(_EFFORTS) - 1
    effort = _EFFORTS[min(level, last)]
    return effort._replace(cuts=effort.cuts << min(max(0, level - last), _DOUBLED))


def _between(center: I64 | None, relaxed: Relaxed, share: float) -> I64:
    """Whole prices on the way from the center to those of the relaxation, rounded down."""
    prices = np.array(relaxed.prices)
    return np.floor(prices if center is None else center + (prices - center) * share).astype(np.int64)
