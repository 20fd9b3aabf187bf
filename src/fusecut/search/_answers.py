"""Learning from answers which groups do not fit: a logistic regression that begins as a prior belief."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Graph, Group, bits

Vector = NDArray[np.float64]

SURE: Final = 30.0
"""The logit of what cannot be."""

_FURTHEST: Final = 6.0
"""How sure the prior may be of anything else."""

_NEWTON_STEPS: Final = 6
_MANY: Final = 4
"""Ops of a kind are counted up to here."""


class Answers:
    """P(refused) = 1 / (1 + exp(-w . f)), w the most likely weights under a normal prior.

    Features f of a group: the prior's logit cut off at 6, 1, log2 of the number of ops, how many ops of each kind
    (up to 4, halved), which kinds are there twice, and which pairs of kinds meet. Mean of the weights before any
    answer: 1 on the prior's logit, 0 on all others; standard deviations 0.5 and 1. Newton's method from the last
    weights: O(answers features^2 + features^3) to learn, O(features) for a group met before.

    A group whose prior is :data:`SURE` stays what it is.
    """

    def __init__(self, graph: Graph, prior: Callable[[Group], float]) -> None:
        self._graph, self._prior = graph, prior
        self._kinds = sorted({op.kind for op in graph.ops})
        count = 3 + 2 * len(self._kinds) + len(self._kinds) * (len(self._kinds) - 1) // 2
        self._start = np.eye(1, count)[0]
        self._precision = 1.0 + 3.0 * self._start
        self._weights = self._start
        self._features: dict[Group, Vector] = {}
        self._said: dict[Group, float] = {}
        self._asked: list[Vector] = []
        self._refused: list[float] = []

    def logit(self, group: Group) -> float:
        """Above 0 the group is believed to be refused."""
        said = self._said.get(group)
        if said is None:
            f = self._of(group)
            said = self._said[group] = SURE if f[0] >= SURE else float(f @ self._weights)
        return said

    def note(self, group: Group, refused: bool) -> None:
        """One more answer; it counts from the next :meth:`learn`."""
        self._asked.append(self._of(group))
        self._refused.append(float(refused))

    def learn(self) -> None:
        """Fit the weights to all answers so far."""
        x, y = np.array(self._asked), np.array(self._refused)
        for _ in range(_NEWTON_STEPS):
            p = 1 / (1 + np.exp(-np.clip(x @ self._weights, -SURE, SURE)))
            slope = x.T @ (p - y) + self._precision * (self._weights - self._start)
            bend = (x.T * (p * (1 - p))) @ x + np.diag(self._precision)
            self._weights = self._weights - np.linalg.solve(bend, slope)
        self._said.clear()

    def _of(self, group: Group) -> Vector:
        known = self._features.get(group)
        if known is None:
            known = self._features[group] = self._made(group)
        return known

    def _made(self, group: Group) -> Vector:
        prior = self._prior(group)
        counts = Counter(self._graph.ops[i].kind for i in bits(group))
        many = [min(counts[kind], _MANY) / 2 for kind in self._kinds]
        twice = [float(counts[kind] > 1) for kind in self._kinds]
        meet = [float(counts[a] > 0 and counts[b] > 0) for a, b in combinations(self._kinds, 2)]
        believed = prior if prior >= SURE else float(np.clip(prior, -_FURTHEST, _FURTHEST))
        return np.array([believed, 1.0, np.log2(group.bit_count()), *many, *twice, *meet])
