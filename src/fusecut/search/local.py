"""Local search: a small population improved by one edit at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from numpy.random import Generator

from fusecut.errors import FusecutError
from fusecut.problem import Problem
from fusecut.search.encoding import mutated, random_plan, root_bound, score
from fusecut.search.protocol import Proposal


@dataclass(frozen=True)
class LocalSearch:
    """The LS of arXiv 2501.00636: ``population`` random plans, then one-edit mutations.

    Each step a member drawn uniformly is mutated and repaired. The child takes the place of the
    worst member (the oldest on a tie) unless it is worse than that one or in the population
    already; the paper leaves this rule open. Never ends by itself. O(V + E + groups^2) for each plan,
    and only groups never met before are priced.

    Raises:
        FusecutError: an empty population.
    """

    population: int = 10

    name = "local"
    endless = True

    def __post_init__(self) -> None:
        if self.population < 1:
            raise FusecutError(f"population is {self.population}: it must be at least 1")

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """The first population, then a mutant at a time, for ever."""
        yield Proposal(None, root_bound(problem))
        members = []
        for _ in range(self.population):
            plan = problem.repaired(random_plan(problem.graph, rng), rng)
            members.append((score(problem, plan), plan))
            yield Proposal(plan)
        while True:
            parent = members[int(rng.integers(len(members)))][1]
            plan = problem.repaired(mutated(problem.graph, parent, rng), rng)
            child = score(problem, plan)
            worst = max(range(len(members)), key=lambda k: (members[k][0], -k))
            if child <= members[worst][0] and all(plan.groups != member.groups for _, member in members):
                del members[worst]
                members.append((child, plan))
            yield Proposal(plan)
