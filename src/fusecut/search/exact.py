"""The exact search: a shortest path over the ideals of the network, proved by A*.

A plan's cost is a sum over its groups and a group's cost depends on the group alone, so the best
plan is a shortest path in the lattice of ideals (Jangda & Bondhugula, PPoPP 2018, and Optimus,
LCTES 2021, use the same view). :mod:`fusecut.search._astar` walks it; here is what is tried, in which order.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator as Random

from fusecut.cost import FitFloor
from fusecut.ir import Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._astar import AStar, narrowed
from fusecut.search._beams import BEAMS, beam_plan
from fusecut.search._cuts import Reach
from fusecut.search._paths import near_optimal
from fusecut.search._solver import solver_is_here
from fusecut.search._walks import Walks
from fusecut.search.greedy import climb, first_fit
from fusecut.search.protocol import Proposal

_OPS_PER_PROPOSAL: Final = 50
_TALL_ROWS: Final = 200_000
_TALL_MAP: Final = 1_000
"""With so many rows to schedule, and so many in each map, an answer of the model may take a second: a greedy plan comes
first. In long networks of low maps it would take minutes, and answers take no time."""

_OPS_AT_A_TIME: Final = 1_000
"""Where groups are priced, effort and questions are for so many ops."""

_WITHOUT_PLAN: Final = 2
"""So many times the first questions are asked before there is a plan: one takes questions, too."""

_MANY_OPS: Final = 400
"""Where groups are priced, networks of so many ops get a plan before all else, if they are wide."""

_QUICK: Final = 2
"""So many of the beams are over quickly."""


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
    ``first_questions`` do not settle the proof, as many go into merges of its groups (of those of one pass
    over the ops, if there is none); the best plan of a buffer an eighth smaller follows, or, where
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
        known = (yield from self._plan_at_once(problem)) if len(problem.graph) >= _MANY_OPS else None
        if known is not None:
            known, least = yield from self._at_first(problem, known, least)
        search = yield from _explored(problem, Reach(problem))
        search.prove(least)
        yield Proposal(None, search.bound())
        if not isinstance(problem.buffer_floor, FitFloor):
            yield from search.take(known)
            yield from self._priced(problem, search)
            return
        yield from search.take(self._started(problem))
        if _rows(problem) > max(_TALL_ROWS, _TALL_MAP * len(problem.graph)):
            yield from search.take((yield from first_fit(problem)))
        yield from search.run(self.first_effort)
        while not search.done and search.advances(self.effort_per_op):
            yield from search.run(search.lattice.steps + self.first_effort)
        tried = yield from self._plans(problem, search)
        if not search.done and not search.far:
            yield from search.run(self.effort)
        if not search.done and not tried and _worth_columns(problem):
            yield from self._columns(problem, search)

    def _at_first(
        self, problem: Problem, plan: list[Group], bound: int
    ) -> Generator[Proposal, None, tuple[list[Group], int]]:
        """Of a wide network a better plan of groups that fit as they are, and a bound: no lattice is needed."""
        if not _worth_windows(problem) or not all(problem.fits(group) for group in plan):
            return plan, bound
        from fusecut.search._windows import Fitting, bounds_in_windows

        fitting = Fitting(problem, plan)
        plans = fitting.plans(self.column_effort)
        while not fitting.wide and (proposal := next(plans, None)) is not None:
            yield proposal
        for nbytes in bounds_in_windows(problem):
            bound = max(bound, nbytes)
            yield Proposal(None, bound)
        yield from plans
        return fitting.plan, bound

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
            yield from self._climbed(problem, search, self.first_questions)
            plan, near = yield from self._from_below(problem)
            yield from search.take(plan)
        if not search.done and not near:
            search = narrowed(problem, search)
            yield from search.run(self.first_effort, self.first_questions)
            if not search.done:
                yield from search.take((yield from near_optimal(problem)))
        if not search.done:
            search = narrowed(problem, search)
            long = 1 + len(problem.graph) // _OPS_AT_A_TIME
            yield from search.run(long * self.effort, long * self.questions)
        if not search.done:
            yield from self._climbed(problem, search, self.first_questions)

    def _begun(self, problem: Problem, search: AStar) -> Generator[Proposal, None, AStar]:
        """A proof without a plan, where that goes quickly; else a first plan and the first questions."""
        started, questions = self._started(problem), _WITHOUT_PLAN * self.first_questions
        if started is None and len(problem.graph) < questions:
            yield from search.run(self.first_effort // 10, questions)
        if not search.done:
            yield from self._easy_plan(problem, search) if started is None else search.take(started)
        if not search.done:
            search = narrowed(problem, search)
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

    def _climbed(self, problem: Problem, search: AStar, questions: int | None = None) -> Iterator[Proposal]:
        """The best plan so far, or that of one pass, with its groups merged as long as that saves anything.

        Cheap beside any proof, and far ahead of it where the lattice is wide.
        """
        last = None if questions is None else problem.evaluations + questions
        plan = search.plan or (yield from first_fit(problem, last))
        if all(problem.rank(group) is not None for group in plan):
            yield from search.take((yield from climb(problem, plan, last)))

    def _easy_plan(self, problem: Problem, search: AStar) -> Iterator[Proposal]:
        """The best plan of groups that fit as they are, where the floor knows them."""
        easy = yield from self._easy(problem)
        if easy is not None:
            yield from search.take(easy.groups() if problem.graph.everything in easy.settled else None)

    def _easy(self, problem: Problem) -> Generator[Proposal, None, AStar | None]:
        """A search among groups that fit as they are, where the floor knows them."""
        fits = getattr(problem.buffer_floor, "fits", None)
        if fits is None:
            return None
        easy = yield from _explored(problem, Reach(problem, fits))
        for proposal in easy.run(self.first_effort):
            yield Proposal(proposal.partition)
        return easy

    def _plan_at_once(self, problem: Problem) -> Generator[Proposal, None, list[Group] | None]:
        """A plan of groups that fit as they are: in wide networks it takes minutes to see what else there is."""
        easy = yield from self._easy(problem)
        if easy is None or easy.done or easy.advances(self.effort_per_op):
            return None
        end = easy.lattice.steps + self.beam_effort
        for beam in BEAMS[:_QUICK]:
            plan = yield from beam_plan(problem, easy.lattice, easy.ranking, beam, end)
            for proposal in easy.take(plan):
                yield Proposal(proposal.partition)
        return easy.plan or None

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
            if not search.done:
                yield from self._climbed(problem, search)
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


def _worth_windows(problem: Problem) -> bool:
    """Whether windows bound this problem. Their libraries are loaded now, not before."""
    if not solver_is_here():
        return False
    from fusecut.search._windows import worth_windows

    return worth_windows(problem)


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
