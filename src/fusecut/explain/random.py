"""The placebo: blames edges at random, so that what an explanation adds can be measured."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from fusecut.explain.protocol import Scores, edges
from fusecut.ir import Group
from fusecut.problem import Problem


@dataclass(frozen=True)
class RandomEdges:
    """Independent uniform scores. O(edges)."""

    name = "random_edges"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        found = edges(problem.graph, group)
        return dict(zip(found, rng.random(len(found)).tolist(), strict=True))
