"""Searching among what a learner believes, and asking the cost model only about the best plan of it.

For graphs whose cuts cannot be listed this is what :class:`fusecut.search.LazyExact` is where they can: local search
goes on under the belief, which costs no question; the groups of its best plan are asked for, the most doubtful first,
until one is refused; what was answered is known from then on, and the learner may learn from it.

Three learners: :class:`Optimist` knows a static bound and hopes for the rest (no learning; the plain method of the same
shape), :class:`Taught` is the bundled network as it is, :class:`Active` starts from the network (or from the static
bound) and fits a logistic regression on the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fusecut.cost import Planned
from fusecut.explain.trained import bundled
from fusecut.ir import Group, bits, mask_of
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Proposal
from fusecut.search.encoding import mutated, random_plan

Vector = NDArray[np.float64]

SURE: Final = 30.0
POPULATION: Final = 10
STEPS: Final = 60
"""Plans looked at between two rounds of questions."""

STALE: Final = 8
"""Rounds without a question after which less is believed."""

DOUBTS: Final = (0.0, 2.0, 4.0, 8.0)
"""How likely to be refused, in logits, a group may be believed to be and still be hoped for, one after the other."""


class Learner(Protocol):
    """Guesses whether a group that was not asked for fits: above 0 it does not. ``learn`` gets all answers so far."""

    def logit(self, group: Group) -> float: ...

    def learn(self, groups: list[Group], refused: list[bool]) -> None: ...


class Static:
    """The weights of a group and a row of every tensor that it touches, over the buffer."""

    def __init__(self, problem: Problem) -> None:
        graph = self.graph = problem.graph
        self.capacity = problem.capacity_bytes
        self._touched = [mask_of([*readers]) for readers in graph.consumers]
        for index, op in enumerate(graph.ops):
            for t in op.outputs:
                self._touched[t] |= 1 << index

    def share(self, group: Group) -> float:
        """Above 1 the group cannot fit."""
        rows = sum(t.row_bytes for t, near in zip(self.graph.tensors, self._touched, strict=True) if near & group)
        return (rows + sum(self.graph.ops[i].weight_bytes for i in bits(group))) / self.capacity


class Optimist:
    """What the static bound does not rule out is hoped for. Learns nothing."""

    def __init__(self, problem: Problem) -> None:
        self._static = Static(problem)
        self._said: dict[Group, float] = {}

    def logit(self, group: Group) -> float:
        if group not in self._said:
            share = self._static.share(group)
            self._said[group] = SURE if share > 1 else share - 1
        return self._said[group]

    def learn(self, groups: list[Group], refused: list[bool]) -> None:
        pass


class Taught:
    """The bundled network, never corrected; where the static bound says no, it is not asked."""

    def __init__(self, problem: Problem) -> None:
        self._static, self._problem, self._model = Static(problem), problem, bundled("lbdf")
        self._said: dict[Group, float] = {}

    def logit(self, group: Group) -> float:
        if group not in self._said:
            self._said[group] = self._judged(group)
        return self._said[group]

    def _judged(self, group: Group) -> float:
        if self._static.share(group) > 1:
            return SURE
        problem = self._problem
        return float(self._model.infeasible_logits(problem.graph, problem.capacity_bytes, [group])[0])

    def learn(self, groups: list[Group], refused: list[bool]) -> None:
        pass


class Active:
    """Logistic regression on the answers, drawn towards what was believed before there were any.

    Features: the prior's logit cut off at 6, log2 of the number of ops, how many ops of each kind (up to 4), and which
    pairs of kinds meet. The most likely weights under a normal prior: 1 on the prior's logit, 0 on all others, standard
    deviations 0.5 and 1; Newton's method from the last weights.
    """

    def __init__(self, problem: Problem, prior: Learner) -> None:
        self._graph, self._prior = problem.graph, prior
        self._kinds = sorted({op.kind for op in problem.graph.ops})
        pairs = len(self._kinds) * (len(self._kinds) + 1) // 2
        self._start = np.zeros(3 + len(self._kinds) + pairs)
        self._start[0] = 1.0
        self._precision = np.full(len(self._start), 1.0)
        self._precision[0] = 4.0
        self._weights = self._start
        self._known: dict[Group, Vector] = {}

    def logit(self, group: Group) -> float:
        features = self._features(group)
        return SURE if features[0] >= SURE else float(features @ self._weights)

    def learn(self, groups: list[Group], refused: list[bool]) -> None:
        x, y = np.array([self._features(group) for group in groups]), np.array(refused, float)
        for _ in range(6):
            p = 1 / (1 + np.exp(-np.clip(x @ self._weights, -SURE, SURE)))
            slope = x.T @ (p - y) + self._precision * (self._weights - self._start)
            bend = (x.T * (p * (1 - p))) @ x + np.diag(self._precision)
            self._weights = self._weights - np.linalg.solve(bend, slope)

    def _features(self, group: Group) -> Vector:
        known = self._known.get(group)
        if known is None:
            known = self._known[group] = self._made(group)
        return known

    def _made(self, group: Group) -> Vector:
        before = self._prior.logit(group)
        counts = Counter(self._graph.ops[i].kind for i in bits(group))
        many = [min(counts[kind], 4) / 2 for kind in self._kinds]
        twice = [float(counts[kind] > 1) for kind in self._kinds]
        meet = [float(counts[a] > 0 and counts[b] > 0) for a, b in combinations(self._kinds, 2)]
        sure = before if before >= SURE else float(np.clip(before, -6, 6))
        return np.array([sure, 1.0, np.log2(group.bit_count()), *many, *twice, *meet])


class _Beliefs(Problem):
    """A problem whose unasked groups are what a learner believes them to be. Asks nothing."""

    def __init__(self, outer: Problem, learner: Learner) -> None:
        super().__init__(outer.graph, outer.machine, outer.model)
        self.outer, self.learner, self.hope = outer, learner, 0.0

    def fits(self, group: Group) -> bool:
        known = self.outer.known(group)
        return self.learner.logit(group) <= self.hope if known is None else isinstance(known, Planned)

    def rank(self, group: Group) -> int | None:
        if self.outer.known(group) is not None:
            return self.outer.rank(group)
        return self.outer.least_rank(group) if self.fits(group) else None


@dataclass(frozen=True)
class Believing:
    """Local search under a belief, asking about its best plan only; ends when the last doubt brings nothing new."""

    learner: Callable[[Problem], Learner]

    name = "believing"
    anytime = True

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """The plan of single ops, then every plan whose groups were all asked for and fit."""
        yield Proposal(Partition.singletons(problem.graph))
        learner = self.learner(problem)
        beliefs = _Beliefs(problem, learner)
        asked, refused = list[Group](), list[bool]()
        plans = [random_plan(problem.graph, rng) for _ in range(POPULATION)]
        for beliefs.hope in DOUBTS:
            stale = 0
            while stale < STALE:
                plans = _searched(beliefs, plans, rng)
                best = plans[0]
                unknown = [group for group in best.groups if problem.known(group) is None]
                stale = 0 if unknown else stale + 1
                for group in sorted(unknown, key=lambda g: (-learner.logit(g), g & -g)):
                    asked.append(group)
                    refused.append(not problem.fits(group))
                    yield Proposal(None)
                    if refused[-1]:
                        break
                if unknown:
                    learner.learn(asked, refused)
                if all(problem.known(group) is not None for group in best.groups) and _real(problem, best):
                    yield Proposal(best)


def _real(problem: Problem, plan: Partition) -> bool:
    return all(isinstance(problem.known(group), Planned) for group in plan.groups)


def _searched(beliefs: _Beliefs, plans: list[Partition], rng: Generator) -> list[Partition]:
    """Some steps of local search under the belief of now, the best plan first."""
    members = []
    for plan in plans:
        repaired = beliefs.repaired(plan, rng)
        members.append((_rank(beliefs, repaired), repaired))
    for _ in range(STEPS):
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
    return 2**62 if rank is None else rank
