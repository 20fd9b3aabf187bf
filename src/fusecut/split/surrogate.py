"""Splitting by a learned judge: the legal cuts in the order in which a classifier believes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

from numpy.random import Generator

from fusecut.bonds import Bond, bonds
from fusecut.errors import FusecutError
from fusecut.ir import Graph, Group
from fusecut.problem import Problem
from fusecut.split._touch import saved, touched


class Judge(Protocol):
    """Guesses whether groups fit: the higher the logit, the surer that one does not; 0 is even.

    ``graph`` has the widths of the machine. :class:`fusecut.explain.gnn.ValidityModel` is one. An optional method
    ``bond_logits(graph, buffer_bytes, group, bonds)`` says the same of both halves of bonds of one group, (bonds, 2),
    in less time.
    """

    def infeasible_logits(self, graph: Graph, buffer_bytes: int, groups: Sequence[Group]) -> Any: ...


class _Cut(NamedTuple):
    """A bond, the touch-once bytes of its halves, and the judge's opinion of each."""

    bond: Bond
    nbytes: int
    logits: tuple[float, float]

    @property
    def worst(self) -> float:
        return max(self.logits)


@dataclass(frozen=True)
class Surrogate:
    """Ranks the directed bonds of a group by a classifier's opinion of both halves, and verifies in that order.

    The first ``most_bonds`` bonds (A, B) of the group (small A first) are judged at once. Then:

    * Those of which both halves are believed to fit are asked for in order of touch-once(A) +
      touch-once(B); the first that really fits is the answer.
    * Else, of the halves believed to fit, those are asked for in order of what their fusion saves
      (touch-once of their ops one by one, less that of the half, less that of the bond); the first that
      fits is kept, the other half is split again.
    * Else the half that is the likeliest to fit of any bond is asked for and kept if it does.
    * Else both halves of the cheapest bond are split again.

    An answer is believed to be wrong at most ``most_questions`` times in each of the first two rounds. The
    exact model decides about every part, so a bad judge costs bytes, never validity. None where an op
    does not fit alone. Deterministic. O(``most_bonds`` V) and one batch for each cut.

    Without a ``judge`` the bundled network for the scheme of the problem is taken (extra ``fusecut[gnn]``).

    Raises:
        FusecutError: a limit below 1.
        WeightsError: from ``split``, when there is no network for the scheme.
    """

    judge: Judge | None = None
    most_bonds: int = 64
    most_questions: int = 8

    name = "surrogate"

    def __post_init__(self) -> None:
        for what in ("most_bonds", "most_questions"):
            if getattr(self, what) < 1:
                raise FusecutError(f"{what} is {getattr(self, what)}: it must be at least 1")

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        judge = self.judge if self.judge is not None else _bundled(problem)
        todo, parts = [group], list[Group]()
        while todo:
            part = todo.pop()
            if problem.fits(part):
                parts.append(part)
            elif part & (part - 1):
                todo.extend(reversed(self._cut(problem, judge, part)))
            else:
                return None
        return tuple(parts)

    def _cut(self, problem: Problem, judge: Judge, group: Group) -> Bond:
        cuts = self._judged(problem, judge, group)
        both = [cut for cut in cuts if cut.worst < 0]
        for cut in sorted(both, key=lambda cut: cut.nbytes)[: self.most_questions]:
            if _sure(problem, cut.bond, cut.logits):
                return cut.bond
        ones = [(cut, half) for cut in cuts for half, logit in zip(cut.bond, cut.logits, strict=True) if logit < 0]
        ones.sort(key=lambda one: one[0].nbytes - saved(problem.graph, one[1]))
        for cut, half in ones[: self.most_questions]:
            if problem.fits(half):
                return cut.bond
        likeliest = min(cuts, key=lambda cut: min(cut.logits))
        if problem.fits(likeliest.bond[likeliest.logits[1] < likeliest.logits[0]]):
            return likeliest.bond
        return min(cuts, key=lambda cut: cut.nbytes).bond

    def _judged(self, problem: Problem, judge: Judge, group: Group) -> list[_Cut]:
        graph = problem.graph
        found = list(islice(bonds(graph, group), self.most_bonds))
        pairs = _logits_of_halves(judge, problem, group, found)
        return [_Cut(bond, touched(graph, bond), pair) for bond, pair in zip(found, pairs, strict=True)]


def _logits_of_halves(judge: Judge, problem: Problem, group: Group, found: list[Bond]) -> list[tuple[float, float]]:
    at_once = getattr(judge, "bond_logits", None)
    if at_once is not None:
        return [(float(a), float(b)) for a, b in at_once(problem.graph, problem.capacity_bytes, group, found)]
    halves = [half for bond in found for half in bond]
    logits = [float(logit) for logit in judge.infeasible_logits(problem.graph, problem.capacity_bytes, halves)]
    return list(zip(logits[::2], logits[1::2], strict=True))


def _sure(problem: Problem, bond: Bond, logits: tuple[float, float]) -> bool:
    """Whether both halves fit; the doubtful one is asked for first."""
    first, second = bond if logits[0] > logits[1] else bond[::-1]
    return problem.fits(first) and problem.fits(second)


def _bundled(problem: Problem) -> Judge:
    from fusecut.explain.trained import model_for

    judge: Judge = model_for(problem)
    return judge
