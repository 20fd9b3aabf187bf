"""A near-optimal plan at once: for a network that arrives at run time.

Optimus (Cai, Wang & Zhang, LCTES 2021 and ACM TECS 22(1) 2022) has an on-line variant of which one
sentence is published: it "filters low-efficiency fused operator-groups to find near-optimal fusion".
What follows that idea here:

* Only groups that lie between two of a few ideals are looked at (:mod:`fusecut.search._stretches`),
  and of these only the efficient ones: a group is grown while what it moves again, at least, is less
  than what a cut inside it would move.
* Each is estimated from shapes, and the cost model is asked for the groups of the best plan by estimates
  only, again and again (:mod:`fusecut.search._paths`), until the best plan known is within ``tolerance``
  of the best plan hoped for, or the questions are used up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from numpy.random import Generator

from fusecut.errors import FusecutError
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._paths import QUESTIONS, TOLERANCE, near_optimal
from fusecut.search.protocol import Proposal


@dataclass(frozen=True)
class Online:
    """A plan within about 1 % of the best one, in a small part of the exact search's time; no proof.

    ``tolerance`` is how far, in thousandths, the best plan known may be above the best one hoped for at
    the end. At most ``questions`` groups for each op of the network are asked for, and the round in which
    they run out is finished. How near and how fast: docs/online.md.

    Raises:
        FusecutError: a tolerance or number of questions below 0.
    """

    tolerance: int = TOLERANCE
    questions: float = QUESTIONS

    name = "online"

    def __post_init__(self) -> None:
        if not (self.tolerance >= 0 and self.questions >= 0):
            raise FusecutError(
                f"tolerance {self.tolerance} and questions {self.questions} must both be at least 0 for on-line search"
            )

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """No fusion; then a plan near the best. An empty proposal after each question."""
        yield Proposal(Partition.singletons(problem.graph))
        plan = yield from near_optimal(problem, self.tolerance, self.questions)
        if plan is not None:
            yield Proposal(Partition(problem.graph, plan))
