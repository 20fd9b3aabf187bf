"""Shortest paths from ideal to ideal, by what groups are thought to cost, or known to.

The best plan by estimates is a shortest path; the cost model is asked for the groups of this plan
only. A group that turns out dearer makes all that hold it dearer by as much. Again, until the best
plan known is near the best plan hoped for, or the questions are used up.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

from fusecut.cost import NEVER_BYTES, Planned
from fusecut.ir import Group, bits
from fusecut.problem import Problem
from fusecut.search._stretches import Stretch, Stretches
from fusecut.search.protocol import Proposal

TOLERANCE = 4
"""Thousandths that the best plan known may be above the best one hoped for."""

QUESTIONS = 3.0
"""Groups asked for, for each op of the network; the round in which they run out is finished."""


_Numbered: TypeAlias = tuple[int, tuple[int, ...]]
"""A stretch by numbers: the ideal where it ends, and its groups."""


def near_optimal(
    problem: Problem, tolerance: int = TOLERANCE, questions: float = QUESTIONS
) -> Generator[Proposal, None, list[Group] | None]:
    """The best plan of those groups that the model was asked for; None where no plan is feasible.

    An empty proposal after each ideal and each question. O(rounds * stretches), and a question for each group of a
    round's plan.
    """
    stretches = Stretches(problem)
    for _ in stretches.grow():
        yield Proposal(None)
    paths = _Paths(problem, stretches)
    most, best = questions * len(problem.graph), NEVER_BYTES
    while True:
        plan, hoped = paths.shortest(paths.estimates)
        unknown = [number for number in plan if not paths.told[number]]
        for number in unknown:
            paths.ask(number)
            yield Proposal(None)
        best = min(best, paths.price(plan))
        if not unknown or best * 1000 <= hoped * (1000 + tolerance) or paths.asked >= most:
            break
    plan, price = paths.shortest(paths.known)
    return [paths.groups[number] for number in plan] if price < NEVER_BYTES else None


class _Paths:
    """Ideals, stretches between them, and two prices of each group: thought and known.

    Ideals and groups go by numbers; a group's price is :data:`NEVER_BYTES` where it is not known.
    """

    def __init__(self, problem: Problem, stretches: Stretches) -> None:
        self.problem = problem
        every = stretches.from_each()
        self.number = {group: k for k, group in enumerate(_groups(every))}
        self.groups = list(self.number)
        self._ways = self._numbered(stretches.ideals, every)
        self.per_byte = problem.prices.tariff.per_byte
        self._holders = self._holding()
        weights = [op.weight_bytes for op in problem.graph.ops]
        self.weights = [sum(weights[i] for i in bits(group)) for group in self.groups]
        self.least = [problem.least_rank(group) for group in self.groups]
        self.known = [NEVER_BYTES] * len(self.groups)
        self.told = [False] * len(self.groups)
        again = (self.per_byte * stretches.again[group] for group in self.groups)
        self.estimates = list(map(int.__add__, self.least, again))
        self.asked = 0
        for op in range(len(problem.graph)):
            self.ask(self.number[1 << op])
        self.asked = 0

    def _numbered(self, ideals: list[Group], every: dict[Group, list[Stretch]]) -> list[list[_Numbered]]:
        """Stretches from each ideal, by size of the ideals; nothing from those that no stretch leads to."""
        place = {ideal: k for k, ideal in enumerate(ideals)}
        return [
            [(place[s.end], tuple(self.number[group] for group in s.groups)) for s in every.get(ideal, ())]
            for ideal in ideals
        ]

    def _holding(self) -> list[list[int]]:
        """For each op the groups that hold it."""
        holders: list[list[int]] = [[] for _ in range(len(self.problem.graph))]
        for k, group in enumerate(self.groups):
            for i in bits(group):
                holders[i].append(k)
        return holders

    def ask(self, number: int) -> None:
        """Ask the model; what is dearer than thought makes everything that holds it dearer as well.

        By as much, and where more weights pass, by more: who streams them all so and so often does not
        stream more of them less often.
        """
        self.asked += 1
        group = self.groups[number]
        rank = self.problem.rank(group)
        price = NEVER_BYTES if rank is None else rank
        thought = self.estimates[number]
        self.known[number] = self.estimates[number] = price
        self.told[number] = True
        if price <= thought or not group & (group - 1):
            return
        again, once = self._again_bytes(group, number), max(1, self.weights[number])
        for other in min((self._holders[i] for i in bits(group)), key=len):
            if not group & ~self.groups[other] and not self.told[other]:
                more = again * max(once, self.weights[other] - self.problem.capacity_bytes) // once
                self.estimates[other] = max(self.estimates[other], self.least[other] + more * self.per_byte)

    def _again_bytes(self, group: Group, number: int) -> int:
        planned = self.problem.plan(group)
        return planned.cost.weight_bytes - self.weights[number] if isinstance(planned, Planned) else 0

    def price(self, plan: list[int]) -> int:
        """What a plan is known to cost."""
        return sum(self.known[number] for number in plan)

    def shortest(self, prices: list[int]) -> tuple[list[int], int]:
        """The cheapest plan of groups that have a price, and what it costs; of equal ones the first met."""
        best = [-1] * len(self._ways)
        came: list[tuple[int, tuple[int, ...]]] = [(0, ())] * len(self._ways)
        best[0] = 0
        for ideal, ways in enumerate(self._ways):
            reached = best[ideal]
            if reached >= 0:
                for end, groups in ways:
                    total = reached
                    for number in groups:
                        total += prices[number]
                    if total < best[end] or best[end] < 0:
                        best[end], came[end] = total, (ideal, groups)
        plan: list[int] = []
        at = len(best) - 1
        while at:
            at, groups = came[at]
            plan.extend(groups)
        return plan[::-1], best[-1]


def _groups(stretches: dict[Group, list[Stretch]]) -> dict[Group, None]:
    """All groups of some stretches, each once, in order."""
    return dict.fromkeys(group for each in stretches.values() for stretch in each for group in stretch.groups)
