"""Simulated annealing: the stronger modern baseline with the same one-edit steps."""

from __future__ import annotations

import math
from collections.abc import Generator as Coroutine
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from numpy.random import Generator

from fusecut.errors import FusecutError
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search.encoding import Score, mutated, random_plan, root_bound, score
from fusecut.search.protocol import Proposal

_Walk = Coroutine[Proposal, None, Partition]


@dataclass(frozen=True)
class Annealing:
    """One plan, one edit at a time; a worse plan is accepted with probability exp(-score added / T).

    Kirkpatrick, Gelatt & Vecchi, Science 1983. The scale is the median of the score (bytes, unless the
    problem has another objective) that one edit adds, where it adds any, to the best of ``warm_up``
    random plans. T falls from ``hot`` to
    ``cold`` times the scale, by a constant factor for each plan, over ``cooling_plans`` plans; then
    the search goes on from its best plan, from half way (geometrically) between hot and cold again.
    A plan with fewer groups that cannot run is always accepted, with more of them never. Never ends
    by itself. O(V + E + groups^2) for each plan.

    Raises:
        FusecutError: no warm-up, no cooling, or not 0 < ``cold`` <= ``hot`` < infinity.
    """

    cooling_plans: int = 5_000
    warm_up: int = 20
    hot: float = 0.2
    cold: float = 0.001

    name = "annealing"
    endless = True

    def __post_init__(self) -> None:
        if min(self.warm_up, self.cooling_plans) < 1 or not 0 < self.cold <= self.hot < math.inf:
            raise FusecutError("annealing needs warm_up and cooling_plans of at least 1, and 0 < cold <= hot, finite")

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """The warm-up, then one walk after the other, for ever."""
        yield Proposal(None, root_bound(problem))
        best = yield from self._start(problem, rng)
        scale = yield from self._scale(problem, best, rng)
        hot, plans = self.hot, self.cooling_plans - 2 * self.warm_up
        while True:
            best = yield from self._walk(problem, best, rng, (scale * hot, scale * self.cold), max(1, plans))
            hot, plans = math.sqrt(self.hot * self.cold), self.cooling_plans

    def _start(self, problem: Problem, rng: Generator) -> _Walk:
        plans = []
        for _ in range(self.warm_up):
            plans.append(problem.repaired(random_plan(problem.graph, rng), rng))
            yield Proposal(plans[-1])
        return min(plans, key=lambda plan: score(problem, plan))

    def _scale(self, problem: Problem, plan: Partition, rng: Generator) -> Coroutine[Proposal, None, float]:
        added = []
        for _ in range(self.warm_up):
            near = problem.repaired(mutated(problem.graph, plan, rng), rng)
            added.append(score(problem, near)[1] - score(problem, plan)[1])
            yield Proposal(near)
        return median([more for more in added if more > 0] or [1])

    def _walk(self, problem: Problem, plan: Partition, rng: Generator, heat: tuple[float, float], plans: int) -> _Walk:
        here = least = score(problem, plan)
        best = plan
        for step in range(plans):
            near = problem.repaired(mutated(problem.graph, plan, rng), rng)
            there = score(problem, near)
            if _accepted(here, there, heat[0] * (heat[1] / heat[0]) ** (step / plans), rng):
                plan, here = near, there
            if here < least:
                best, least = plan, here
            yield Proposal(near)
        return best


def _accepted(here: Score, there: Score, temperature: float, rng: Generator) -> bool:
    if there[0] != here[0]:
        return there[0] < here[0]
    return there[1] <= here[1] or bool(rng.random() < math.exp((here[1] - there[1]) / temperature))
