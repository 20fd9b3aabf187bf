"""The control on the other side: an explanation turned upside down should do worse than chance."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from fusecut.explain.protocol import Explainer, Scores
from fusecut.ir import Group
from fusecut.problem import Problem


@dataclass(frozen=True)
class Negated:
    """The scores of another explainer with their sign changed: the edges it holds innocent come first."""

    explainer: Explainer

    @property
    def name(self) -> str:
        return f"not_{self.explainer.name}"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        return {edge: -score for edge, score in self.explainer.scores(problem, group, rng).items()}
