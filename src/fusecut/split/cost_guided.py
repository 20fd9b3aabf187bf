"""Splitting by cost alone: the competitor that needs no explanation of why a group does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from numpy.random import Generator

from fusecut.bonds import Bond, bonds
from fusecut.ir import Group
from fusecut.problem import Problem


@dataclass(frozen=True)
class CostGuided:
    """Tries the directed bonds of a group in order of the bytes they must move; first fit wins.

    A bond (A, B) must move touch-once(A) + touch-once(B) bytes, known from shapes without asking
    the model. In that order (ties: the bond found first) both halves are priced until

    * both fit: that bond is the answer, and for a model that moves nothing twice it is the best
      split in two;
    * or ``most_bonds`` bonds were met: the cheapest bond of which one half fits is kept and its
      other half split again, or, if no half ever fits, both halves of the cheapest bond.

    The recursion is that of Algorithm 1 of arXiv 2501.00636, with every cut as a candidate in place
    of those an explainer proposes, and the cheapest in place of the largest fitting part. Exact for
    two parts, not for three (then two dear cuts can beat one cheap and one dear). None where an
    op does not fit alone. Deterministic; at most 2 ``most_bonds`` evaluations for each cut made.
    """

    most_bonds: int = 256

    name = "cost_guided"

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
        """The bond to cut: both halves fit, or one does, or the cheapest; earlier means cheaper."""
        touched = problem.graph.touch_once_bytes
        candidates = sorted(
            islice(bonds(problem.graph, group), self.most_bonds), key=lambda bond: touched(bond[0]) + touched(bond[1])
        )
        half = None
        for bond in candidates:
            fitting = sum(problem.fits(part) for part in bond)
            if fitting == 2:
                return bond
            if fitting == 1 and half is None:
                half = bond
        return half or candidates[0]
