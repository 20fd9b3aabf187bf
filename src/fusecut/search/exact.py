"""The exact search: a shortest path over the ideals of the network, proved by A*.

A plan's cost is a sum over its groups and a group's cost depends on the group alone, so the best
plan is a shortest path in the lattice of ideals (Jangda & Bondhugula, PPoPP 2018, and Optimus,
LCTES 2021, use the same view). Edges are priced optimistically from shapes; the cost model is
asked for a group only when its edge is the most promising of all (lazy A*), so few groups are ever
scheduled. What makes the proof: the buffer floor that prunes is monotone, the bound on the rest of
a plan is consistent, and an edge settles its ideal only with its true cost.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from numpy.random import Generator as Random

from fusecut.cost import NEVER_BYTES, FitFloor
from fusecut.ir import Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._beams import BEAMS, Settled, beam_plan, path_to
from fusecut.search._cuts import ForcedCuts, Reach
from fusecut.search._lattice import Lattice
from fusecut.search._paths import near_optimal
from fusecut.search._ranking import Ranking
from fusecut.search._solver import solver_is_here
from fusecut.search._walks import Walks
from fusecut.search.greedy import first_fit
from fusecut.search.protocol import NO_PLAN, Proposal

_STEPS_PER_PROPOSAL: Final = 500
_OPS_PER_PROPOSAL: Final = 50
_ONE_EXPANSION: Final = 30_000
"""So many steps beyond the effort may be spent on finishing what begins within it."""

_TALL_ROWS: Final = 200_000
"""With so many rows to schedule an answer of the model may take a second, and a greedy plan comes first."""

_OPS_AT_A_TIME: Final = 1_000
"""Where groups are priced, effort and questions are for so many ops."""

_A_LITTLE: Final = 64
"""A group is priced to the byte only where it makes plans dearer by no more than this share of what they cost."""

_WITHOUT_PLAN: Final = 2
"""So many times the first questions are asked before there is a plan: one takes questions, too."""

_QUICK: Final = 2
"""So many of the beams are over quickly."""


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


@dataclass(frozen=True)
class Exact:
    """Best plan and proof; anytime.

    Plans are compared as (rank, number of groups), rank being DRAM bytes unless the problem has another
    objective: of equally good plans the one with the fewest groups wins, then the one met first in a
    fixed order, so the answer is reproducible.

    ``effort`` bounds the lattice steps of the proof: past it the search ends with the best plan
    found and the bound proved so far. It begins with ``first_effort``, and goes on as long as it
    advances through the network by one op in ``effort_per_op`` steps, which settles long networks of
    any size. Networks that it does not settle get a plan from ever more thorough beams, within
    ``beam_effort`` (:mod:`fusecut.search._beams`). With the extra ``lp``, walks between ops that share no
    group (:mod:`fusecut.search._walks`) give them a bound. Where it is still more than 2 % below the
    plan, or no proof comes otherwise, column generation (:mod:`fusecut.search._columns`) grows groups for
    ``column_effort`` steps, for a better bound and a better plan.
    Memory is O(steps) labels, and a set of ops for each ideal met.

    Where the model's floor prices groups instead of forbidding them (``brr``, ``mixed``), questions to
    the model are what takes time. A few hundred settle many a network before any plan is known: what a group costs is
    asked for bit by bit, as far as it may still be part of the best plan. Where they do not, the
    first plan is the best of groups that fit as they are; if
    ``first_questions`` do not settle the proof, the best plan of a buffer an eighth smaller follows, or, where
    as many questions do not settle that either, the plan of on-line search, and ``questions`` for the proof, twice as
    many and twice the effort from 1,000 ops on, and so on.

    ``start`` is a plan known beforehand, such as the best one of a slightly larger buffer; one that does
    not run is left aside. It decides nothing but how soon the others are ruled out, and ties.
    """

    effort: int = 900_000
    first_effort: int = 60_000
    effort_per_op: int = 100
    beam_effort: int = 700_000
    column_effort: int = 150_000_000
    first_questions: int = 400
    questions: int = 3_000
    start: tuple[Group, ...] = ()

    name = "exact"
    anytime = True

    def propose(self, problem: Problem, rng: Random) -> Iterator[Proposal]:
        """Plans and bounds; the last one proposed is optimal unless the effort ran out."""
        least = problem.prices.score(problem.least_rank(problem.graph.everything))
        yield Proposal(Partition.singletons(problem.graph), least)
        search = yield from _explored(problem, Reach(problem))
        yield Proposal(None, search.bound())
        if not isinstance(problem.buffer_floor, FitFloor):
            yield from self._priced(problem, search)
            return
        yield from search.take(self._started(problem))
        if _rows(problem) > _TALL_ROWS:
            yield from search.take((yield from first_fit(problem)))
        yield from search.run(self.first_effort)
        while not search.done and search.advances(self.effort_per_op):
            yield from search.run(search.lattice.steps + self.first_effort)
        tried = yield from self._plans(problem, search)
        if not search.done and not search.far:
            yield from search.run(self.effort)
        if not search.done and not tried and _worth_columns(problem):
            yield from self._columns(problem, search)

    def _columns(self, problem: Problem, search: AStar) -> Iterator[Proposal]:
        """Prices of ops bound all plans, and groups worth their prices make good ones."""
        from fusecut.search._columns import Columns

        columns = Columns(problem, search.plan, search.bound())
        for proposal in columns.run(self.column_effort):
            yield proposal
            if proposal.partition is not None:
                yield from search.take(list(proposal.partition.groups))
        search.prove(columns.bound)
        yield Proposal(None, search.bound())

    def _walks(self, problem: Problem, search: AStar) -> Iterator[Proposal]:
        """A bound at once, which wide networks hardly raise by steps of their lattice."""
        if solver_is_here():
            nbytes = Walks(problem, search.reach, search.cuts).bound
            search.prove(problem.prices.score(problem.prices.rank(problem.graph.everything, nbytes)))
            yield Proposal(None, search.bound())

    def _priced(self, problem: Problem, search: AStar) -> Iterator[Proposal]:
        """Where any group can run at a price. A plan that is the best one of a smaller buffer saves on-line search."""
        search = yield from self._begun(problem, search)
        near = False
        if not search.done:
            plan, near = yield from self._from_below(problem)
            yield from search.take(plan)
        if not search.done and not near:
            search = _narrowed(problem, search)
            yield from search.run(self.first_effort, self.first_questions)
            if not search.done:
                yield from search.take((yield from near_optimal(problem)))
        if not search.done:
            search = _narrowed(problem, search)
            long = 1 + len(problem.graph) // _OPS_AT_A_TIME
            yield from search.run(long * self.effort, long * self.questions)

    def _begun(self, problem: Problem, search: AStar) -> Generator[Proposal, None, AStar]:
        """A proof without a plan, where that goes quickly; else a first plan and the first questions."""
        started, questions = self._started(problem), _WITHOUT_PLAN * self.first_questions
        if started is None and len(problem.graph) < questions:
            yield from search.run(self.first_effort // 10, questions)
        if not search.done:
            yield from self._easy_plan(problem, search) if started is None else search.take(started)
        if not search.done:
            search = _narrowed(problem, search)
            yield from search.run(self.first_effort, self.first_questions)
        return search

    def _from_below(self, problem: Problem) -> Generator[Proposal, None, tuple[list[Group] | None, bool]]:
        """A plan of a smaller buffer, if any, and whether it is the best one there.

        Groups of a smaller buffer are shorter, so its plan takes less to find, and it runs in a larger one, too.
        """
        smaller, asked = problem.in_buffer(max(1, problem.capacity_bytes * 7 // 8)), 0
        begun = self._begun(smaller, (yield from _explored(smaller, Reach(smaller))))
        while True:
            try:
                next(begun)
            except StopIteration as end:
                return end.value.plan or None, end.value.done
            finally:
                problem.evaluations += smaller.evaluations - asked
                asked = smaller.evaluations
            yield Proposal(None)

    def _started(self, problem: Problem) -> list[Group] | None:
        """The plan to start from, if there is one and it runs."""
        runs = self.start and all(problem.fits(group) for group in self.start)
        return list(self.start) if runs else None

    def _easy_plan(self, problem: Problem, search: AStar) -> Iterator[Proposal]:
        """The best plan of groups that fit as they are, where the floor knows them."""
        fits = getattr(problem.buffer_floor, "fits", None)
        if fits is not None:
            easy = yield from _explored(problem, Reach(problem, fits))
            for proposal in easy.run(self.first_effort):
                yield Proposal(proposal.partition)
            yield from search.take(easy.groups() if problem.graph.everything in easy.settled else None)

    def _plans(self, problem: Problem, search: AStar) -> Generator[Proposal, None, bool]:
        """Beams, and column generation as soon as the bound is far: where it finds a better plan no beam is wanted.

        Whether it came to that.
        """
        end = search.lattice.steps + self.beam_effort
        tried = False
        for beams in (BEAMS[:_QUICK], BEAMS[_QUICK:]):
            for beam in beams:
                if not search.done and search.lattice.steps < end:
                    plan = yield from beam_plan(problem, search.lattice, search.ranking, beam, end)
                    yield from search.take(plan)
            if not search.done and not tried:
                yield from self._walks(problem, search)
            if not search.done and not tried and search.far and _worth_columns(problem):
                tried, before = True, search.best
                yield from self._columns(problem, search)
                if search.best != before:
                    break
        return tried


def _worth_columns(problem: Problem) -> bool:
    """Whether column generation can be had, and bounds this problem. Its libraries are loaded now, not before."""
    if not solver_is_here():
        return False
    from fusecut.search._columns import worth_trying

    return worth_trying(problem)


def _rows(problem: Problem) -> int:
    """Rows that all ops make together."""
    graph = problem.graph
    return sum(graph.tensors[t].rows for op in graph.ops for t in op.outputs[:1])


def _explored(problem: Problem, reach: Reach) -> Generator[Proposal, None, AStar]:
    """A search, with empty proposals while it is found out which ops can share a group: long in long networks."""
    for op in range(len(problem.graph)):
        reach.mates(op)
        if not op % _OPS_PER_PROPOSAL:
            yield Proposal(None)
    return AStar(problem, reach)


def _narrowed(problem: Problem, search: AStar) -> AStar:
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
        """Take over the best plan of another search of the same problem."""
        self.best, self.plan = other.best, other.plan

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
