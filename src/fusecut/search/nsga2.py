"""NSGA-II: DRAM bytes against the largest buffer, with plans as individuals; survival by pymoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from fusecut.errors import FusecutError, UnknownNameError
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search.encoding import Score, crossed, mutated, random_plan, root_bound, score
from fusecut.search.protocol import Proposal

Objective = Literal["dram", "buffer", "groups"]

OBJECTIVES: Final[dict[str, Callable[[Score, Partition], int]]] = {
    "dram": lambda score, plan: score[1],
    "buffer": lambda score, plan: score[2],
    "groups": lambda score, plan: len(plan),
}


class _Member(NamedTuple):
    plan: Partition
    score: Score
    rank: int = 0
    crowding: float = 0.0


@dataclass(frozen=True)
class NSGA2:
    """The NSGA-II of arXiv 2501.00636 (Deb et al., IEEE TEC 2002), population 10.

    ``objectives`` are minimised together: ``dram``, the score of the plan (DRAM bytes, unless the
    problem has another objective), its largest buffer, its number of groups. Plans with groups that
    cannot run rank last, by their number. Parents win a tournament of two by (rank, crowding
    distance). A child is a prefix of one parent's groups with the rest cut as in the other
    (:func:`fusecut.search.encoding.crossed`) with probability ``crossover``, else a copy of one,
    and then gets one edit, always; both keep plans valid, infeasible groups are split, and a child
    that is in the population or among its siblings already gets another edit, a few times. Parents
    and children compete for the next population. Never ends by itself. O(V + E + groups^2) for each
    plan, O(population^2) for each generation.

    Raises:
        UnknownNameError: an objective that is not known.
        FusecutError: a population of less than two, no objective, or a ``crossover`` that is no
            probability; when it runs, if pymoo is not installed.
    """

    population: int = 10
    objectives: tuple[Objective, ...] = ("dram", "buffer")
    crossover: float = 0.5

    name = "nsga2"
    endless = True

    def __post_init__(self) -> None:
        if self.population < 2 or not self.objectives:
            raise FusecutError("a population of at least 2 and one objective or more are needed")
        if not 0 <= self.crossover <= 1:
            raise FusecutError(f"crossover is {self.crossover}: it must be at least 0 and at most 1")
        for objective in self.objectives:
            if objective not in OBJECTIVES:
                raise UnknownNameError("objective", objective, OBJECTIVES)

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """The first population, then a generation at a time, for ever."""
        survive = _survival(self.population, len(self.objectives))
        yield Proposal(None, root_bound(problem))
        members: list[_Member] = []
        while True:
            children: list[_Member] = []
            for _ in range(self.population):
                plan = self._child(problem, members, children, rng) if members else _fresh(problem, rng)
                children.append(_Member(plan, score(problem, plan)))
                yield Proposal(plan)
            pool = members + children
            values = [[OBJECTIVES[o](m.score, m.plan) for o in self.objectives] for m in pool]
            ranked = survive(values, [m.score[0] for m in pool], rng)
            members = [pool[k]._replace(rank=rank, crowding=crowding) for k, rank, crowding in ranked]

    def _child(self, problem: Problem, members: list[_Member], siblings: list[_Member], rng: Generator) -> Partition:
        plan = _winner(members, rng)
        if rng.random() < self.crossover:
            plan = crossed(problem.graph, plan, _winner(members, rng), rng)
        taken = {member.plan.groups for member in (*members, *siblings)}
        for _ in range(_TRIES):
            plan = problem.repaired(mutated(problem.graph, plan, rng), rng)
            if plan.groups not in taken:
                break
        return plan


_TRIES: Final = 4

_Survival = Callable[[list[list[int]], list[int], Generator], list[tuple[int, int, float]]]


def _fresh(problem: Problem, rng: Generator) -> Partition:
    return problem.repaired(random_plan(problem.graph, rng), rng)


def _winner(members: list[_Member], rng: Generator) -> Partition:
    """The better of two members drawn uniformly; the first on a tie."""
    pair = [members[k] for k in rng.integers(len(members), size=2)]
    winner: _Member = min(pair, key=lambda m: (m.score[0], m.rank, -m.crowding))
    return winner.plan


def _survival(population: int, objectives: int) -> _Survival:
    """(objective values, violations) -> (index, rank, crowding distance) of those that stay."""
    try:
        from pymoo.algorithms.moo.nsga2 import RankAndCrowding
        from pymoo.core.population import Population
        from pymoo.core.problem import Problem as Space
    except ImportError:
        raise FusecutError("search 'nsga2' needs pymoo: pip install 'fusecut[search]'") from None
    space: Any = Space(n_var=1, n_obj=objectives, n_ieq_constr=1)
    operator: Any = RankAndCrowding()

    def survive(values: list[list[int]], unfit: list[int], rng: Generator) -> list[tuple[int, int, float]]:
        numbers = np.arange(len(values))[:, None]
        everyone: Any = Population.new(X=numbers, F=np.array(values, float), G=np.array(unfit, float)[:, None])
        kept = operator.do(space, everyone, n_survive=population, random_state=rng)
        return [(int(m.X[0]), int(m.get("rank") or 0), float(m.get("crowding") or 0)) for m in kept]

    return survive
