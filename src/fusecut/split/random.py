"""Splitting at random: what the plain searchers of arXiv 2501.00636 do to an infeasible group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

from fusecut.bonds import random_parts
from fusecut.ir import Group
from fusecut.problem import Problem


@dataclass(frozen=True)
class Random:
    """Cuts at random directed bonds (:func:`fusecut.bonds.random_bond`) until every part fits.

    None where an op does not fit alone. O(V log V) for each cut, at most V - 1 cuts.
    """

    name = "random"

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        return random_parts(problem.graph, group, problem.fits, rng)
