"""Column generation: a bound of all plans from prices of ops, and good plans from the groups met on the way.

A plan is a choice of groups that holds every op once; leave out that groups must not wait for each
other, and let groups be chosen in parts: a linear program with a column for each group. Its dual says
what an op is worth: prices y with sum of y over G <= bytes(G) for every group bound every plan by the sum
of all y. Columns are made as they are needed: groups that cost less than their ops are worth.

The bound never trusts a floating-point solver. Prices are rounded to whole bytes, and what the
cheapest group with first op s lacks, r(s) <= 0 in exact integers, is added: sum of y + sum of r(s).
(Lower y(s) by r(s), and every group pays for its ops.)
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
from fusecut.search._master import Master, Relaxed
from fusecut.search._pricing import FEW, Duals, Effort, Pricing
from fusecut.search.protocol import Proposal

_EFFORTS: Final = (Effort(1, 60, 8), Effort(1, 250, 8), Effort(1, 1000, 8), Effort(8, 1000, 8), Effort(64, 1000, 8))
"""From the first round to the last: most groups are found by a short look, the proof takes a thorough one."""

_PLAN_AT: Final = 2
"""The effort at which a first plan is made of the groups known so far."""

_PER_OP: Final = 4
"""So many groups for each op may become part of a plan."""

_ROUGH: Final = 0.003
"""The first plan need not be nearer than this to the best among the groups known."""

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

    The bound is 0 where not every root was looked at.
    """

    bound: int
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

    def run(self, effort: int) -> Iterator[Proposal]:
        """Rounds until the bound meets the best plan, nothing more can be learnt, or the steps are spent."""
        level, duals, busy = 0, Duals([0] * len(self.graph), {}), set(self.pricing.roots)
        reached = float("inf")
        while self.pricing.steps < effort and not self.done:
            relaxed = self.master.relaxed()
            everywhere = len(busy) == len(self.pricing.roots)
            duals = self._duals(relaxed)
            found = self._round(duals, _EFFORTS[level], busy)
            changed = sum(not self._ask(group) for group in relaxed.used if self._doubtful(group))
            self.bound = max(self.bound, found.bound)
            yield Proposal(None, self.bound)
            busy = found.roots
            gains = not everywhere or relaxed.nbytes < reached * _GAIN
            reached = relaxed.nbytes if everywhere else reached
            if gains and found.new * _FEW >= len(self.graph) and busy:
                continue
            busy = set(self.pricing.roots)
            if not everywhere:
                continue
            if level + 1 < len(_EFFORTS) and not found.complete:
                level += 1
                if level == _PLAN_AT:
                    yield from self._plan(duals, _ROUGH)
            elif not found.new and not changed:
                yield from self._plan(duals)
                if self.done or not self.master.cut_off(relaxed):
                    return
        yield from self._plan(duals)

    @property
    def done(self) -> bool:
        return self.best is not None and self.best <= self.bound

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

    def _duals(self, relaxed: Relaxed) -> Duals:
        """Prices in whole bytes, rounded down, and fines rounded up."""
        fines = {ops: -floor(-fine) for ops, fine in zip(self.master.triples, relaxed.fines, strict=True) if fine > 0}
        return Duals([floor(price) for price in relaxed.prices], fines)

    def _round(self, duals: Duals, effort: Effort, roots: set[int]) -> Round:
        """Look for groups below first ops: those listed, and those of the roots given."""
        lacking = dict.fromkeys(range(len(self.graph)), 0)
        for group, nbytes in self.bytes_of.items():
            first = _first(group)
            lacking[first] = min(lacking[first], duals.reduced(group, nbytes))
        new = self._listed(duals, effort.groups, lacking)
        complete = True
        for first in sorted(roots):
            priced = self.pricing.groups(first, duals, 0, effort, self)
            complete = complete and priced.complete
            lacking[first] = min(lacking[first], priced.least_bytes)
            new += priced.groups
        for _, group in new:
            self.bytes_of[group] = self.graph.touch_once_bytes(group)
            if effort.steps >= _ASKED_AT_ONCE:
                self._ask(group)
        bound = duals.total + sum(lacking.values()) if len(roots) == len(self.pricing.roots) else 0
        return Round(bound, len(new), {_first(group) for _, group in new} & roots, complete)

    def _listed(self, duals: Duals, most: int, lacking: dict[int, int]) -> list[tuple[int, Group]]:
        """The same among the groups that are listed: the cheapest new ones of every first op."""
        listing, found = self.pricing.listing, dict[int, list[tuple[int, Group]]]()
        reduced = listing.reduced(duals.vector, duals.fines)
        for k in np.flatnonzero(reduced < 0).tolist():
            if listing.groups[k] not in self:
                found.setdefault(int(listing.firsts[k]), []).append((int(reduced[k]), listing.groups[k]))
        for first, entries in found.items():
            entries.sort()
            lacking[first] = min(lacking[first], entries[0][0])
        return [entry for entries in found.values() for entry in entries[:most]]

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


def _first(group: Group) -> int:
    return (group & -group).bit_length() - 1
