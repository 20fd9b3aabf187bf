"""Random search: a fresh random plan each step, infeasible groups split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from numpy.random import Generator

from fusecut.problem import Problem
from fusecut.search.encoding import random_plan, root_bound
from fusecut.search.protocol import Proposal


@dataclass(frozen=True)
class RandomSearch:
    """The baseline RS of arXiv 2501.00636; plans are drawn as :mod:`fusecut.search.encoding` says.

    Never ends by itself. O(V log V + groups^2) for each plan.
    """

    name = "random"
    endless = True

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """Independent plans, for ever."""
        yield Proposal(None, root_bound(problem))
        while True:
            yield Proposal(problem.repaired(random_plan(problem.graph, rng), rng))
