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

from collections.abc import Iterator
from importlib.util import find_spec
from math import floor
from typing import Final, NamedTuple

import numpy as np

from fusecut.cost import FitFloor, Infeasible
from fusecut.errors import PartitionError
from fusecut.ir import Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._cuts import Reach
from fusecut.search._growth import Growth
from fusecut.search._master import Master
from fusecut.search._pricing import FEW, Duals, Effort, Pricing
from fusecut.search.protocol import Proposal

_EFFORTS: Final = (
    Effort(1, 60, 8),
    Effort(1, 250, 8),
    Effort(1, 1000, 8),
    Effort(16, 1000, 32),
    Effort(100, 1000, 32),
    Effort(1000, 1000, 32),
)
"""From the first round to the last: most groups are found by a short look, the proof takes a thorough one."""

_PLAN_AT: Final = 2
"""From this effort on a plan is made of the groups known so far before each step up, unless one is near already."""

_THOROUGH: Final = 3
"""From this effort on every round looks at all first ops: at the prices of the relaxation some would take very long."""

_PLAN_EVERY: Final = 5
"""Of so many thorough rounds one is followed by a plan, unless one is near."""

_LEAST_SHARE: Final = 1 / 16
"""Prices that gave no better bound move less far the next time, but this far."""

_PER_OP: Final = 4
"""So many groups for each op may become part of a plan."""

_ROUGH: Final = 0.003
"""The first plan need not be nearer than this to the best among the groups known."""

_NEAR: Final = 1.01
"""A plan that is nearer than this to the relaxation is improved at the end only."""

_GAIN: Final = 0.999
"""A round at all first ops that lowers the relaxation by less than this asks for more effort, too."""

_ASKED_AT_ONCE: Final = 1000
"""Rounds that take so many steps put every group they find to the model, not only those that become useful."""

_FEW: Final = 12
"""A round that finds fewer groups than one for so many ops asks for more effort."""


def solver_is_here() -> bool:
    """Whether scipy, the extra ``lp``, is installed."""
    return find_spec("scipy") is not None


def worth_trying(problem: Problem) -> bool:
    """Whether the bound is one for this problem: bytes count, every group moves at least its touch-once bytes."""
    tariff = problem.prices.tariff
    bytes_only = not tariff.per_cycle and tariff.per_byte == 1
    return bytes_only and problem.touches_once and isinstance(problem.buffer_floor, FitFloor) and solver_is_here()


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

    def __init__(self, problem: Problem, best: list[Group] | None = None, bound: int = 0, few: int = FEW) -> None:
        self.problem, self.graph = problem, problem.graph
        self.growth = Growth(problem, Reach(problem))
        self.pricing = Pricing(self.growth, few)
        self.bytes_of: dict[Group, int] = {}
        self.asked: set[Group] = set()
        self.refused: set[Group] = set()
        self.best: int | None = None
        self.bound = bound
        self._apart: list[list[Group]] = []
        penalty = 2 * sum(self.graph.touch_once_bytes(1 << op) for op in range(len(self.graph))) + 1
        self.master = Master(len(self.graph), self.bytes_of, penalty)
        for op in range(len(self.graph)):
            self._ask(1 << op)
        for group in best or ():
            self._ask(group)
        if best:
            self.best = sum(self.bytes_of[group] for group in best)

    def run(self, steps: int) -> Iterator[Proposal]:
        """Rounds until the bound meets the best plan, nothing more can be learnt, or the steps are spent."""
        level, busy = 0, set(self.pricing.roots)
        worth = Duals([0] * len(self.graph), {})
        reached = float("inf")
        center: list[int] = []
        share, thorough = 1 / 2, 0
        while self.pricing.steps < steps and not self.done:
            relaxed = self.master.relaxed()
            everywhere = len(busy) == len(self.pricing.roots)
            steady = everywhere and center and not self.master.triples
            worth = self._duals(relaxed.prices, relaxed.fines)
            duals = self._duals(_between(center, relaxed.prices, share), relaxed.fines) if steady else worth
            found = self._round(duals, _EFFORTS[level], busy, everywhere)
            changed = sum(not self._ask(group) for group in relaxed.used if self._doubtful(group))
            if everywhere and (found.bound > self.bound or not found.new):
                center, share = list(found.duals.prices) if found.new else [], 1 / 2
            elif steady:
                share = max(share / 2, _LEAST_SHARE)
            self.bound = max(self.bound, found.bound)
            yield Proposal(None, self.bound)
            busy = found.roots
            gains = not everywhere or relaxed.nbytes < reached * _GAIN
            reached = relaxed.nbytes if everywhere else reached
            if level < _THOROUGH and gains and found.new * _FEW >= len(self.graph) and busy:
                continue
            busy = set(self.pricing.roots)
            if not everywhere:
                continue
            thorough += level >= _THOROUGH
            if thorough and thorough % _PLAN_EVERY == 0 and not self._near(relaxed.nbytes):
                yield from self._plan(worth, _ROUGH)
            if level + 1 < len(_EFFORTS) and not found.complete:
                level += 1
                if level >= _PLAN_AT and not self._near(relaxed.nbytes):
                    yield from self._plan(worth, _ROUGH)
            elif not found.new and not changed and duals is worth:
                yield from self._plan(worth)
                if self.done or not self.master.cut_off(relaxed):
                    return
        yield from self._plan(worth)

    @property
    def done(self) -> bool:
        return self.best is not None and self.best <= self.bound

    def _near(self, nbytes: float) -> bool:
        """Whether the best plan is within a hundredth of the relaxation."""
        return self.best is not None and self.best < nbytes * _NEAR

    def _ask(self, group: Group) -> bool:
        """Ask the model about a group; whether its column is as it was."""
        before = self.bytes_of.get(group)
        planned = self.problem.plan(group)
        self.asked.add(group)
        if isinstance(planned, Infeasible):
            self.refused.add(group)
            self.bytes_of.pop(group, None)
            return before is None
        self.bytes_of[group] = planned.cost.dram_bytes
        return before == planned.cost.dram_bytes

    def _doubtful(self, group: Group) -> bool:
        """Whether a group counts as its touch-once bytes because nobody asked the model."""
        return group in self.bytes_of and group not in self.asked

    def _duals(self, prices: list[float], fined: list[float]) -> Duals:
        """Prices in whole bytes, rounded down, and fines rounded up."""
        fines = {ops: -floor(-fine) for ops, fine in zip(self.master.triples, fined, strict=True) if fine > 0}
        return Duals([floor(price) for price in prices], fines)

    def _round(self, duals: Duals, effort: Effort, roots: set[int], lowered: bool) -> Round:
        """Look for groups below first ops, the last one first: those listed, and those of the roots given.

        What the groups of a first op lack is taken off its price: at once if ``lowered``, so that groups of
        earlier first ops that hold it lack less; else when all are done.
        """
        known: dict[int, list[tuple[Group, int]]] = {}
        for group, nbytes in self.bytes_of.items():
            known.setdefault(_first(group), []).append((group, nbytes))
        lowest, complete, new = duals, True, list[tuple[int, Group]]()
        for first in reversed(range(len(self.graph))):
            least = min((duals.reduced(group, nbytes) for group, nbytes in known.get(first, ())), default=0)
            if first not in self.pricing.roots:
                found = self._listed(first, duals, effort.groups)
                least = min([least, *(cost for cost, _ in found[:1])])
                new += found
            elif first in roots:
                priced = self.pricing.groups(first, duals, 0, effort, self)
                complete = complete and priced.complete
                least = min(least, priced.least_bytes)
                new += priced.groups
            if least < 0:
                lowest = lowest.lowered(first, -least)
                duals = lowest if lowered else duals
        for _, group in new:
            self.bytes_of[group] = self.graph.touch_once_bytes(group)
            if effort.steps >= _ASKED_AT_ONCE:
                self._ask(group)
        bound = lowest.total if len(roots) == len(self.pricing.roots) else 0
        return Round(bound, lowest, len(new), {_first(group) for _, group in new} & roots, complete)

    def _listed(self, first: int, duals: Duals, most: int) -> list[tuple[int, Group]]:
        """The same among the groups of a first op that are listed: the cheapest new ones."""
        groups, reduced = self.pricing.listing.reduced(first, duals.vector, duals.fines)
        found = [(int(reduced[k]), groups[k]) for k in np.flatnonzero(reduced < 0).tolist() if groups[k] not in self]
        return sorted(found)[:most]

    def _cheapest(self, duals: Duals) -> list[Group]:
        """The groups for a plan: the single ops, and those of least reduced cost."""
        ranked = sorted((duals.reduced(group, nbytes), group) for group, nbytes in self.bytes_of.items())
        kept = {group for _, group in ranked[: _PER_OP * len(self.graph)]}
        return [group for group in self.bytes_of if group in kept or not group & (group - 1)]

    def __contains__(self, group: object) -> bool:
        return group in self.bytes_of or group in self.refused

    def _plan(self, duals: Duals, slack: float = 0.0) -> Iterator[Proposal]:
        """A good plan among the groups of least reduced cost, all of which run and none of which wait in a circle."""
        while True:
            whole = self.master.best_whole(self._cheapest(duals), self._apart, slack)
            if whole is None:
                return
            if sum(not self._ask(group) for group in whole if group not in self.asked):
                continue
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


def _between(center: list[int], prices: list[float], share: float) -> list[float]:
    return [a + (b - a) * share for a, b in zip(center, prices, strict=True)]


def _first(group: Group) -> int:
    return (group & -group).bit_length() - 1
