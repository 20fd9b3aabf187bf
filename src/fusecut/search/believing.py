"""Search among what is believed, asking the cost model only about the best plan of it, and learning from its answers.

Where the cuts of a network can be listed, :class:`fusecut.search.LazyExact` asks for the groups of the best plan that
might still run. Where they cannot, this does the same with a local search in place of the shortest path, so it proves
nothing; and what refuses a plan teaches it which groups to hope for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from fusecut.cost import NEVER_BYTES, Planned
from fusecut.errors import FusecutError
from fusecut.ir import Group, bits
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._answers import SURE, Answers
from fusecut.search._promises import Doubt, Prune, StaticFloor, check_prune, floor_of
from fusecut.search.encoding import mutated, random_plan
from fusecut.search.protocol import Proposal

_NO_RANK: Final = 1 << 300


@dataclass(frozen=True)
class Believing:
    """Good plans for a cost model that takes seconds, on networks whose cuts cannot be listed.

    A group not asked yet is believed to run at its touch-once bytes unless its logit is above a margin. Local search
    goes on under that belief, which costs no question. The groups of its best plan are asked for, the most doubtful
    first, until one is refused; with ``learns`` a logistic regression on kinds and numbers of ops is then fitted to all
    answers (:mod:`fusecut.search._answers`). A plan whose groups were all asked for and run is proposed. After
    ``stale`` rounds of ``steps`` plans each without a question the next of the ``trust`` margins counts: more is
    hoped for.

    What is believed before any answer is ``doubt``, a surrogate, or without one the share of the buffer that
    weights and a row of every tensor would take: above 1 is doubtful. Groups that ``prune`` rules out, as in
    :class:`fusecut.search.LazyExact`, are never asked for. Nothing is proved and every plan was asked
    for in full, so a wrong belief costs questions and bytes, never validity.

    Ends after the last margin. All randomness from the generator. O(steps (V + E)) between two questions, a tenth of
    a second: for models that take less, other searches are better (docs/choosing.md). With a quarter of
    the ``steps`` it needs up to nine times the questions for the same plan.

    Raises:
        UnknownNameError: ``prune`` is none of its four words.
        FusecutError: no margin at all, or one of the three numbers is below 1.
    """

    doubt: Doubt | None = None
    prune: Prune = "model"
    learns: bool = True
    trust: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
    population: int = 10
    steps: int = 240
    stale: int = 8

    name = "believing"
    anytime = True

    def __post_init__(self) -> None:
        check_prune(self.prune)
        if not self.trust:
            raise FusecutError("trust is empty: it must have at least one margin")
        for what in ("population", "steps", "stale"):
            if getattr(self, what) < 1:
                raise FusecutError(f"{what} is {getattr(self, what)}: it must be at least 1")

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """The plan of single ops, then every plan whose groups were all asked for and run."""
        yield Proposal(Partition.singletons(problem.graph))
        for op in range(len(problem.graph)):
            problem.fits(1 << op)
        answers = Answers(problem.graph, self._prior(problem))
        beliefs = _Beliefs(problem, answers)
        plans = [random_plan(problem.graph, rng) for _ in range(self.population)]
        for beliefs.margin in self.trust:
            stale = 0
            while stale < self.stale:
                plans = _searched(beliefs, plans, self.steps, rng)
                unknown = [group for group in plans[0].groups if problem.known(group) is None]
                stale = 0 if unknown else stale + 1
                for group in sorted(unknown, key=lambda g: (-answers.logit(g), g & -g)):
                    runs = problem.fits(group)
                    answers.note(group, refused=not runs)
                    yield Proposal(None)
                    if not runs:
                        break
                if unknown and self.learns:
                    answers.learn()
                if all(isinstance(problem.known(group), Planned) for group in plans[0].groups):
                    yield Proposal(plans[0])

    def _prior(self, problem: Problem) -> Callable[[Group], float]:
        floor, shares = floor_of(problem, self.prune), StaticFloor(problem.graph, rows=True)
        capacity = problem.capacity_bytes

        def logit(group: Group) -> float:
            ruled, mark, done = floor.start, 0, 0
            for op in bits(group):
                ruled, mark = floor.extend(done, ruled, op), shares.extend(done, mark, op)
                done |= 1 << op
            if floor.again_bytes(ruled, capacity) >= NEVER_BYTES:
                return SURE
            return mark / capacity - 1 if self.doubt is None else self.doubt(problem, group)

        return logit


class _Beliefs(Problem):
    """A problem whose groups that were not asked for are what they are believed to be. Asks nothing."""

    def __init__(self, outer: Problem, answers: Answers) -> None:
        super().__init__(outer.graph, outer.machine, outer.model, objective=outer.prices.objective)
        self.outer, self.answers, self.margin = outer, answers, 0.0

    def fits(self, group: Group) -> bool:
        known = self.outer.known(group)
        return self.answers.logit(group) <= self.margin if known is None else isinstance(known, Planned)

    def rank(self, group: Group) -> int | None:
        if self.outer.known(group) is not None:
            return self.outer.rank(group)
        return self.outer.least_rank(group) if self.fits(group) else None


def _searched(beliefs: _Beliefs, plans: list[Partition], steps: int, rng: Generator) -> list[Partition]:
    """Some steps of local search under the belief of now, the best plan first."""
    members = [(_rank(beliefs, plan), plan) for plan in (beliefs.repaired(plan, rng) for plan in plans)]
    for _ in range(steps):
        parent = members[int(rng.integers(len(members)))][1]
        plan = beliefs.repaired(mutated(beliefs.graph, parent, rng), rng)
        rank = _rank(beliefs, plan)
        worst = max(range(len(members)), key=lambda k: (members[k][0], -k))
        if rank <= members[worst][0] and all(plan.groups != member.groups for _, member in members):
            members[worst] = rank, plan
    members.sort(key=lambda member: member[0])
    return [plan for _, plan in members]


def _rank(beliefs: _Beliefs, plan: Partition) -> int:
    rank = beliefs.rank_of_plan(plan)
    return _NO_RANK if rank is None else rank
