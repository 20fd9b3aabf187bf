"""Splitting by cost alone: the competitor that needs no explanation of why a group does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from numpy.random import Generator

from fusecut.bonds import Bond, bonds
from fusecut.errors import FusecutError
from fusecut.ir import Group
from fusecut.problem import Problem
from fusecut.split._touch import saved, touched


@dataclass(frozen=True)
class CostGuided:
    """Tries the directed bonds of a group, cheapest first, and splits on recursively.

    What a bond (A, B) must move, touch-once(A) + touch-once(B) bytes, follows from shapes. The
    first ``most_bonds`` bonds (small A first) are priced in that order, ties by age:

    * The first of which both halves fit is the answer: for a model that moves nothing twice, the
      best split in two among them.
    * Else, of the halves that fit, the one is kept that *saves* most: the touch-once bytes of its
      ops one by one, less those of the half, less what the cut adds to those of the group. The
      other half is split again.
    * If no half fits, both halves of the cheapest bond are split again.

    The recursion is that of Algorithm 1 of arXiv 2501.00636 with every cut as a candidate, in place
    of those an explainer names, and savings in place of the number of ops, which on random plans
    leaves a smaller gap (docs/searchers.md). Not optimal for three parts or more. None where an op
    does not fit alone. Deterministic. At most V - 1 cuts, each O(``most_bonds`` V) and at most
    2 ``most_bonds`` evaluations.

    Raises:
        FusecutError: ``most_bonds`` below 1.
    """

    most_bonds: int = 64

    name = "cost_guided"

    def __post_init__(self) -> None:
        if self.most_bonds < 1:
            raise FusecutError(f"most_bonds is {self.most_bonds}: it must be at least 1")

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        todo, parts = [group], []
        while todo:
            part = todo.pop()
            if problem.fits(part):
                parts.append(part)
            elif part & (part - 1):
                todo.extend(reversed(self._cut(problem, part)))
            else:
                return None
        return tuple(parts)

    def _cut(self, problem: Problem, group: Group) -> Bond:
        graph = problem.graph
        priced = [(touched(graph, bond), bond) for bond in islice(bonds(graph, group), self.most_bonds)]
        priced.sort(key=lambda candidate: candidate[0])
        chosen, most = priced[0][1], None
        for nbytes, bond in priced:
            fitting = [part for part in bond if problem.fits(part)]
            if len(fitting) == 2:
                return bond
            gain = saved(graph, fitting[0]) - nbytes if fitting else None
            if gain is not None and (most is None or gain > most):
                chosen, most = bond, gain
        return chosen
