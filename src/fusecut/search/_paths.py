"""Shortest paths from ideal to ideal, by what groups are thought to cost, or known to.

The best plan by estimates is a shortest path; the cost model is asked for the groups of this plan
only. A group that turns out dearer makes all that hold it dearer by as much. Again, until the best
plan known is near the best plan hoped for, or the questions are used up.
"""

from __future__ import annotations

from collections.abc import Generator

from fusecut.cost import NEVER_BYTES, Planned
from fusecut.ir import Group, bits
from fusecut.problem import Problem
from fusecut.search._stretches import Stretch, Stretches
from fusecut.search.protocol import Proposal

TOLERANCE = 4
"""Thousandths that the best plan known may be above the best one hoped for."""

QUESTIONS = 3.0
"""Groups asked for, for each op of the network; the round in which they run out is finished."""


def near_optimal(
    problem: Problem, tolerance: int = TOLERANCE, questions: float = QUESTIONS
) -> Generator[Proposal, None, list[Group] | None]:
    """The best plan of those groups that the model was asked for; None where no plan is feasible.

    An empty proposal after each question. O(rounds * stretches), and a question for each group of a round's plan.
    """
    paths = _Paths(problem)
    most, best = questions * len(problem.graph), NEVER_BYTES
    while True:
        plan, hoped = paths.shortest(paths.estimates)
        unknown = [group for group in plan if group not in paths.known]
        for group in unknown:
            paths.ask(group)
            yield Proposal(None)
        best = min(best, paths.price(plan))
        if not unknown or best * 1000 <= hoped * (1000 + tolerance) or paths.asked >= most:
            break
    plan, price = paths.shortest(paths.known)
    return plan if price < NEVER_BYTES else None


class _Paths:
    """Ideals, stretches between them, and two prices of each group: thought and known."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        stretches = Stretches(problem)
        self.ideals, self.stretches = stretches.ideals, stretches.from_each()
        groups = {group for each in self.stretches.values() for stretch in each for group in stretch.groups}
        self.per_byte = problem.prices.tariff.per_byte
        weights = [op.weight_bytes for op in problem.graph.ops]
        self.weights = {group: sum(weights[i] for i in bits(group)) for group in groups}
        self.least = {group: problem.least_rank(group) for group in groups}
        self.known: dict[Group, int] = {}
        self.estimates = {group: self.least[group] + self.per_byte * stretches.again[group] for group in groups}
        self.asked = 0
        for op in range(len(problem.graph)):
            self.ask(1 << op)
        self.asked = 0

    def ask(self, group: Group) -> None:
        """Ask the model; what is dearer than thought makes everything that holds it dearer as well.

        By as much, and where more weights pass, by more: who streams them all so and so often does not
        stream more of them less often.
        """
        self.asked += 1
        rank = self.problem.rank(group)
        price = NEVER_BYTES if rank is None else rank
        thought = self.estimates.get(group, price)
        self.known[group] = self.estimates[group] = price
        if price <= thought or not group & (group - 1):
            return
        again, once = self._again_bytes(group), max(1, self.weights[group])
        for other, least in self.least.items():
            if not group & ~other and other not in self.known:
                more = again * max(once, self.weights[other] - self.problem.capacity_bytes) // once
                self.estimates[other] = max(self.estimates[other], least + more * self.per_byte)

    def _again_bytes(self, group: Group) -> int:
        planned = self.problem.plan(group)
        return planned.cost.weight_bytes - self.weights[group] if isinstance(planned, Planned) else 0

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
