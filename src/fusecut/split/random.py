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

    A group is cut anew each time it is met, so a search that merges two groups too many gets
    another border between them each time. With ``redraws`` off the first cuts of a group are kept
    for good, as arXiv 2501.00636 keeps those of explanations: then a local search misses plans that
    only another border leads to, and ends further from the optimum (docs/choosing.md).
    """

    redraws: bool = True

    name = "random"

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        return random_parts(problem.graph, group, problem.fits, rng)
