"""A near-optimal plan at once: for a network that arrives at run time.

Optimus (Cai, Wang & Zhang, LCTES 2021 and ACM TECS 22(1) 2022) has an on-line variant of which one
sentence is published: it "filters low-efficiency fused operator-groups to find near-optimal fusion".
What follows that idea here:

* Only groups that lie between two of a few ideals are looked at (:mod:`fusecut.search._stretches`),
  and of these only the efficient ones: a group is grown while what it moves again, at least, is less
  than what a cut inside it would move.
* Each is estimated from shapes. The best plan by estimates is a shortest path; the cost model is asked
  for the groups of this plan only. A group that turns out dearer makes all that hold it dearer by as
  much. Again, until the best plan known is within ``tolerance`` of the best plan hoped for, or the
  questions are used up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from numpy.random import Generator

from fusecut.cost import NEVER_BYTES, Infeasible
from fusecut.errors import FusecutError
from fusecut.ir import Group, bits
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._stretches import Stretch, Stretches
from fusecut.search.protocol import Proposal


@dataclass(frozen=True)
class Online:
    """A plan within about 1 % of the best one, in a small part of the exact search's time; no proof.

    ``tolerance`` is how far, in thousandths, the best plan known may be above the best one hoped for at
    the end. At most ``questions`` groups are asked for each op of the network, and the round in which
    they run out is finished. How near and how fast: docs/online.md.

    Raises:
        FusecutError: a tolerance or number of questions below 0.
    """

    tolerance: int = 4
    questions: float = 1.0

    name = "online"

    def __post_init__(self) -> None:
        if not (self.tolerance >= 0 and self.questions >= 0):
            raise FusecutError(
                f"tolerance {self.tolerance} and questions {self.questions} must both be at least 0 for on-line search"
            )

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """No fusion; then ever better plans. An empty proposal after each question."""
        yield Proposal(Partition.singletons(problem.graph))
        paths = _Paths(problem)
        yield from self._rounds(paths, paths.estimates)
        plan, price = paths.shortest(paths.known)
        if price < NEVER_BYTES:
            yield Proposal(Partition(problem.graph, plan))

    def _rounds(self, paths: _Paths, prices: dict[Group, int]) -> Iterator[Proposal]:
        most, best = self.questions * len(paths.problem.graph), NEVER_BYTES
        while True:
            plan, hoped = paths.shortest(prices)
            unknown = [group for group in plan if group not in paths.known]
            for group in unknown:
                paths.ask(group)
                yield Proposal(None)
            best = min(best, paths.price(plan))
            if not unknown or best * 1000 <= hoped * (1000 + self.tolerance) or paths.asked >= most:
                return


class _Paths:
    """Shortest paths from ideal to ideal, by what groups are thought to cost, or known to."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        stretches = Stretches(problem)
        self.ideals, self.stretches = stretches.ideals, stretches.from_each()
        groups = {group for each in self.stretches.values() for stretch in each for group in stretch.groups}
        per_byte = problem.prices.tariff.per_byte
        self.least = {group: problem.least_rank(group) for group in groups}
        self.known: dict[Group, int] = {}
        self.estimates = {group: self.least[group] + per_byte * stretches.again[group] for group in groups}
        self.asked = 0
        for op in range(len(problem.graph)):
            self.ask(1 << op)
        self.asked = 0

    def ask(self, group: Group) -> None:
        """Ask the model; what is dearer than thought makes everything that holds it dearer by as much."""
        self.asked += 1
        rank = self.problem.rank(group)
        price = NEVER_BYTES if rank is None else rank
        thought = self.estimates.get(group, price)
        self.known[group] = self.estimates[group] = price
        if price > thought and group & (group - 1):
            extra = self._again(group)
            for other, least in self.least.items():
                if not group & ~other and least + extra > self.estimates[other] and other not in self.known:
                    self.estimates[other] = least + extra

    def _again(self, group: Group) -> int:
        planned = self.problem.plan(group)
        if isinstance(planned, Infeasible):
            return 0
        once = sum(self.problem.graph.ops[i].weight_bytes for i in bits(group))
        return (planned.cost.weight_bytes - once) * self.problem.prices.tariff.per_byte

    def price(self, plan: list[Group]) -> int:
        """What a plan is known to cost."""
        return sum(self.known.get(group, NEVER_BYTES) for group in plan)

    def shortest(self, prices: dict[Group, int]) -> tuple[list[Group], int]:
        """The cheapest plan of groups that have a price, and what it costs; of equal ones the first met."""
        best: dict[Group, tuple[int, Group, tuple[Group, ...]]] = {0: (0, 0, ())}
        for ideal in self.ideals:
            if ideal in best:
                reached = best[ideal][0]
                for stretch in self.stretches.get(ideal, ()):
                    total = reached + _total(stretch, prices)
                    if stretch.end not in best or total < best[stretch.end][0]:
                        best[stretch.end] = total, ideal, stretch.groups
        plan: list[Group] = []
        at = self.problem.graph.everything
        price = best[at][0]
        while at:
            _, at, groups = best[at]
            plan.extend(groups)
        return plan[::-1], price


def _total(stretch: Stretch, prices: dict[Group, int]) -> int:
    return sum(prices.get(group, NEVER_BYTES) for group in stretch.groups)
