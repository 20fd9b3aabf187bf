"""A* over the ideals of the network, one label at a time: what :mod:`fusecut.search.exact` runs.

Edges are priced optimistically from shapes; the cost model is asked for a group only when its edge is the most
promising of all (lazy A*), so few groups are ever scheduled. What makes the proof: the buffer floor that prunes is
monotone, the bound on the rest of a plan is consistent, and an edge settles its ideal only with its true cost.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from fusecut.cost import NEVER_BYTES
from fusecut.ir import Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._beams import Settled, path_to
from fusecut.search._cuts import ForcedCuts, Reach
from fusecut.search._lattice import Lattice
from fusecut.search._ranking import Ranking
from fusecut.search.protocol import NO_PLAN, Proposal

_A_LITTLE: Final = 64
"""A group is priced to the byte only where it makes plans dearer by no more than this share of what they cost."""

_STEPS_PER_PROPOSAL: Final = 500
_ONE_EXPANSION: Final = 30_000
"""So many steps beyond the effort may be spent on finishing what begins within it."""


class _Label(NamedTuple):
    """One way to an ideal, ordered by the bound of the plans through it; deeper ideals first, small groups first.

    ``behind`` is the ideal before, negated, so that the group is the sum of both: large networks have too
    many labels for sets of their own.
    """

    bound: int
    depth: int
    ideal: Group
    behind: int
    reached: int
    rest_bytes: int
    verified: bool

    @property
    def parent(self) -> Group:
        return -self.behind

    @property
    def group(self) -> Group:
        return self.ideal + self.behind


class AStar:
    """The search itself. ``price`` gives the rank of a group, None if it cannot run: the model's
    answer, or, for a search that asks later, what it must be at least."""

    def __init__(
        self, problem: Problem, reach: Reach | None = None, price: Callable[[Group], int | None] | None = None
    ) -> None:
        self.problem = problem
        self.price = price
        reach = reach or Reach(problem)
        self.reach, self.cuts = reach, ForcedCuts(problem, reach)
        self.lattice = Lattice(problem, reach, self.cuts)
        self.ranking = Ranking(problem, reach, self.cuts)
        self.scale = len(problem.graph) + 1
        self.settled: dict[Group, Settled] = {}
        self.deepest = 0
        self._met: dict[Group, Group] = {}
        self.best: int | None = None
        self.plan: list[Group] = []
        self.proved = 0
        self.done = False
        start = self.ranking.whole(self.lattice.whole)
        self.root = start * self.scale
        self.open = [_Label(self.root, 0, 0, 0, 0, self.lattice.whole, True)]

    def take(self, plan: list[Group] | None) -> Iterator[Proposal]:
        """A plan from elsewhere: labels that cannot beat it are dropped from now on."""
        if plan is None:
            return
        score = sum(self._price(group) or 0 for group in plan)
        if self.best is None or score < self.best:
            self.best, self.plan = score, plan
            self.open = [label for label in self.open if label.bound < score]
            heapq.heapify(self.open)
            self.done = not self.open
            yield Proposal(Partition(self.problem.graph, plan), self.bound())

    def prove(self, bound: int) -> None:
        """A bound of the score from elsewhere; the search is over where the best plan reaches it."""
        self.proved = max(self.proved, bound)
        if self.best is not None and self.problem.prices.score(self.best // self.scale) <= bound:
            self.done, self.open = True, []

    @property
    def far(self) -> bool:
        """Whether this search is far from a proof: the bound lies more than 2 % below the best plan."""
        best = None if self.best is None else self.problem.prices.score(self.best // self.scale)
        return best is not None and bool(self.open) and self.bound() * 100 < best * 98

    def advances(self, per_op: int) -> bool:
        """Whether it would be done after ``per_op`` steps for each op if it went on as fast as so far.

        Where the lattice does not explode the search goes through the network once, more or less.
        """
        return self.lattice.steps <= per_op * self.deepest

    def adopt(self, other: AStar) -> None:
        """Take over the best plan of another search of the same problem, and what was proved beside it."""
        self.best, self.plan, self.proved = other.best, other.plan, other.proved

    def spare_bytes(self, label: _Label | None = None) -> int:
        """What a group after a label must not move again beyond touching everything once, or the plan is no better.

        Without a label: any group of the plan. Then the bound is that of the root, which counts no byte moved
        again; the labels of a search that is under way do, and may have counted those of this very group.
        """
        per_byte = self.problem.prices.tariff.per_byte
        if self.best is None or not per_byte:
            return NEVER_BYTES
        bound = self.root if label is None else label.bound
        return max(0, self.best - bound) // self.scale // per_byte + 1

    def run(self, effort: int, questions: int | None = None) -> Iterator[Proposal]:
        """Settle ideals until the whole network is one of them, or the effort or the questions are spent."""
        last = None if questions is None else self.problem.evaluations + questions
        shown = self.lattice.steps
        while self.open and self.lattice.steps < effort and (last is None or self.problem.evaluations < last):
            label = heapq.heappop(self.open)
            if label.ideal in self.settled or not self._verify(label):
                continue
            self.settled[label.ideal] = Settled(label.reached, label.group, label.parent)
            self.deepest = max(self.deepest, -label.depth)
            if label.ideal == self.problem.graph.everything:
                self.best, self.plan, self.done, self.open = label.reached, self.groups(), True, []
                yield Proposal(Partition(self.problem.graph, self.plan), self.bound())
                return
            if not self._expand(label, effort + _ONE_EXPANSION):
                break
            if self.lattice.steps >= shown + _STEPS_PER_PROPOSAL:
                shown = self.lattice.steps
                yield Proposal(None, self.bound())
        self.done = not self.open
        yield Proposal(None, self.bound())

    def bound(self) -> int:
        """No plan scores less: the most promising label, the best plan if none is left, what was proved elsewhere."""
        bounds = [self.open[0].bound] if self.open else []
        bounds += [self.best] if self.best is not None else []
        return max(self.proved, self.problem.prices.score(min(bounds) // self.scale)) if bounds else NO_PLAN

    def groups(self) -> list[Group]:
        """The best plan, once the whole network is settled."""
        return path_to(self.settled, self.problem.graph.everything)

    def _expand(self, label: _Label, effort: int) -> bool:
        """Whether all groups after a label were met within the effort; if not, the label waits for another time."""
        behind = -label.ideal
        for step in self.lattice.groups_from(label.ideal, label.rest_bytes, self.spare_bytes(label)):
            if self.lattice.steps > effort:
                del self.settled[label.ideal]
                heapq.heappush(self.open, label._replace(verified=True))
                return False
            spent, left = self.ranking.step(label.ideal, step)
            reached = label.reached + spent * self.scale + 1
            bound = reached + left * self.scale
            if self.best is not None and bound >= self.best:
                continue
            ideal = label.ideal | step.group
            if ideal not in self.settled:
                ideal = self._met.setdefault(ideal, ideal)
                new = _Label(bound, -ideal.bit_count(), ideal, behind, reached, step.rest_bytes, False)
                heapq.heappush(self.open, new)
        return True

    def _verify(self, label: _Label) -> bool:
        """Ask the cost model, once a label is the most promising; a dearer group goes back to the queue.

        It is asked for the price of a group that is not much dearer than thought; else it may say only that it is,
        which saves it work, and is asked again when the label comes up again.
        """
        if label.verified:
            return True
        before = self.settled[label.parent].reached
        limit = label.reached - before + label.bound // _A_LITTLE
        if self.best is not None:
            limit = min(limit, self.best - before - (label.bound - label.reached))
        price = self._price(label.group, limit)
        if price is None:
            return False
        reached = before + price
        if reached > label.reached:
            bound = reached + label.bound - label.reached
            if self.best is None or bound < self.best:
                heapq.heappush(self.open, label._replace(bound=bound, reached=reached, verified=price <= limit))
            return False
        return True

    def _price(self, group: Group, limit: int | None = None) -> int | None:
        """What a group adds to the score of a label; where that is above ``limit``, perhaps a bound above it."""
        if self.price is not None or limit is None:
            rank = (self.price or self.problem.rank)(group)
        else:
            rank = self.problem.rank_within(group, limit // self.scale)
        return None if rank is None else rank * self.scale + 1


def narrowed(problem: Problem, search: AStar) -> AStar:
    """A search among groups that a plan better than the best known one can pay for.

    What no such plan can hold together is cut in all of them, which raises the bound and lowers what a
    group can pay; repeated while that helps.
    """
    spare = search.spare_bytes()
    while True:
        narrow = AStar(problem, search.reach.narrowed(problem, spare))
        narrow.adopt(search)
        less = narrow.spare_bytes()
        if less >= spare - spare // 50:
            return narrow
        search, spare = narrow, less
