"""Explanation-guided splitting: Algorithm 1 of Mills et al., arXiv 2501.00636.

An explainer says which edges of an infeasible group are to blame; the group is cut there, greedily and
recursively. docs/get.md says what the paper leaves open and what was chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from numpy.random import Generator

from fusecut.bonds import Bond, bonds, component
from fusecut.errors import FusecutError
from fusecut.explain import Edge, Explainer, Scores, edges
from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem

DEEPEST: Final = 100
"""Nested category 3 splits; a group that needs more is given up on."""

Parts = tuple[Group, ...]


class _Step(NamedTuple):
    """What one round of the algorithm says of a group: its parts, or the bond of which one half stays."""

    parts: Parts | None = None
    bond: Bond | None = None


@dataclass
class _Memo:
    parts: dict[Group, Parts | None] = field(default_factory=dict)
    explained: int = 0


@dataclass(frozen=True)
class Explained:
    """Cuts a group where an explainer says that it does not fit.

    *Solutions* of a group: the ``share`` of its edges with the highest scores (rounded up; ties in an
    order drawn from the generator), each completed to cuts. The cuts of an edge (i, j) are the
    directed bonds (A, B) with i in A and j in B, small A first, at most ``bonds_per_edge`` of them;
    each bond counts once. The paper's Algorithm 1 then looks at how many halves fit:

    * Category 1, both fit: of these the solution of least DRAM(A) + DRAM(B), nothing else is looked at.
    * Category 2, one fits: the solution whose fitting half has the most ops (of equals the one that
      moves the fewest touch-once bytes) keeps that half; the other half is split again.
    * Category 3, none fits: both halves of every solution are split again; the cheapest result counts.
      They are tried in order of touch-once(A) + touch-once(B), which no result can undercut where the
      model touches once, so the rest is dropped once this is no less than the best. At most
      ``most_third`` are tried, by default the first alone; None: all, as in the paper, which takes
      minutes where a group is most of a network (docs/get.md has what it gains).

    That a later category costs more is the paper's belief, not a fact: docs/get.md has the exception.

    With ``literal`` an edge is cut as the paper's text has it: with the edges that enclose it in the
    order of the ops. If that leaves not exactly two connected parts, or edges both ways between
    them, the edge is no solution.

    None where no solution leads to parts that fit; :class:`fusecut.problem.Problem` counts that,
    and splits at random. Splits of groups met on the way are remembered for each problem. The explainer
    is asked once for each group that has to be split. At most 2 ``bonds_per_edge`` evaluations for each
    edge of the share, for each group.

    Raises:
        FusecutError: ``share`` is not above 0 and at most 1, or a limit is below 1.
    """

    explainer: Explainer
    share: float = 0.30
    literal: bool = False
    bonds_per_edge: int = 16
    most_third: int | None = 1
    _memos: WeakKeyDictionary[Problem, _Memo] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise FusecutError(f"share is {self.share}: it must be above 0 and at most 1")
        for what, limit in (("bonds_per_edge", self.bonds_per_edge), ("most_third", self.most_third)):
            if limit is not None and limit < 1:
                raise FusecutError(f"{what} is {limit}: it must be at least 1")

    @property
    def name(self) -> str:
        return f"{self.explainer.name}_literal" if self.literal else self.explainer.name

    def explanations(self, problem: Problem) -> int:
        """How many groups of a problem the explainer was asked about."""
        return self._memo(problem).explained

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        return self._parts(problem, group, rng, 0)

    def _memo(self, problem: Problem) -> _Memo:
        return self._memos.setdefault(problem, _Memo())

    def _parts(self, problem: Problem, group: Group, rng: Generator, depth: int) -> Parts | None:
        """The parts of an infeasible group, halves that fit (category 2) cut off one by one."""
        memo = self._memo(problem).parts
        trail: list[tuple[Group, int, int]] = []
        before: list[Group] = []
        after: list[Group] = []
        parts: Parts | None = None
        while True:
            if group in memo:
                parts = memo[group]
                break
            trail.append((group, len(before), len(after)))
            step = self._step(problem, group, rng, depth)
            if step.bond is None:
                parts = step.parts
                break
            first_fits = problem.fits(step.bond[0])
            (before if first_fits else after).append(step.bond[not first_fits])
            group = step.bond[first_fits]
        for met, early, late in trail:
            memo[met] = None if parts is None else (*before[early:], *parts, *reversed(after[late:]))
        return memo[trail[0][0]] if trail else parts

    def _step(self, problem: Problem, group: Group, rng: Generator, depth: int) -> _Step:
        if not group & (group - 1) or depth > DEEPEST:
            return _Step()
        one_fits: list[Bond] = []
        none_fits: list[Bond] = []
        best: tuple[int, Parts] | None = None
        for bond in self._solutions(problem, group, rng):
            ranks = [rank for half in bond if (rank := problem.rank(half)) is not None]
            if len(ranks) == 2 and (best is None or sum(ranks) < best[0]):
                best = sum(ranks), bond
            if len(ranks) < 2:
                (one_fits if ranks else none_fits).append(bond)
        if best is not None:
            return _Step(best[1])
        if one_fits:
            return _Step(bond=min(one_fits, key=lambda bond: _second(problem, bond)))
        return _Step(self._cheapest(problem, none_fits, rng, depth))

    def _cheapest(self, problem: Problem, solutions: list[Bond], rng: Generator, depth: int) -> Parts | None:
        """Category 3: the least of what the solutions lead to."""
        best: tuple[int, Parts] | None = None
        for bond in sorted(solutions, key=lambda bond: _least(problem, bond))[: self.most_third]:
            if best is not None and _least(problem, bond) >= best[0]:
                break
            parts = self._both(problem, bond, rng, depth + 1)
            rank = None if parts is None else _rank(problem, parts)
            if parts is not None and rank is not None and (best is None or rank < best[0]):
                best = rank, parts
        return None if best is None else best[1]

    def _both(self, problem: Problem, bond: Bond, rng: Generator, depth: int) -> Parts | None:
        first = self._parts(problem, bond[0], rng, depth)
        second = None if first is None else self._parts(problem, bond[1], rng, depth)
        return None if first is None or second is None else (*first, *second)

    def _solutions(self, problem: Problem, group: Group, rng: Generator) -> list[Bond]:
        self._memo(problem).explained += 1
        scores = self.explainer.scores(problem, group, rng)
        blamed = top(edges(problem.graph, group), scores, self.share, rng)
        return list(dict.fromkeys(bond for edge in blamed for bond in self._cuts(problem.graph, group, edge)))

    def _cuts(self, graph: Graph, group: Group, edge: Edge) -> Iterable[Bond]:
        return (
            literal_cut(graph, group, edge) if self.literal else islice(bonds(graph, group, edge), self.bonds_per_edge)
        )


def top(found: Sequence[Edge], scores: Scores, share: float, rng: Generator) -> list[Edge]:
    """The share of the edges with the highest scores, highest first; ties in an order from the generator.

    Rounded up: of any edges at least one.
    """
    shuffled = [found[k] for k in rng.permutation(len(found))]
    shuffled.sort(key=lambda edge: -scores[edge])
    return shuffled[: ceil(round(share * len(found), 9))]


def literal_cut(graph: Graph, group: Group, edge: Edge) -> Iterator[Bond]:
    """The cut of an edge (i, j) and of every edge (u, v) with u <= i and j <= v, if that is a directed bond."""
    i, j = edge
    low = group & ((1 << i + 1) - 1)
    high = group & ~((1 << j) - 1)
    first = _without(graph, group, low, high)
    second = group ^ first
    if not first >> j & 1 and second and component(graph, second) == second and _down(graph, group, first):
        yield first, second


def _without(graph: Graph, group: Group, low: Group, high: Group) -> Group:
    """What hangs together with the last op of ``low`` when the edges from ``low`` to ``high`` are gone."""
    seen = frontier = 1 << low.bit_length() - 1
    while frontier:
        near = 0
        for i in bits(frontier):
            succs, preds = graph.succs[i], graph.preds[i]
            near |= (succs & ~high if low >> i & 1 else succs) | (preds & ~low if high >> i & 1 else preds)
        frontier = near & group & ~seen
        seen |= frontier
    return seen


def _down(graph: Graph, group: Group, first: Group) -> bool:
    return all(not graph.preds[i] & group & ~first for i in bits(first))


def _second(problem: Problem, bond: Bond) -> tuple[int, int]:
    """Category 2: most ops in the half that fits, then the fewest bytes."""
    fitting = bond[0] if problem.fits(bond[0]) else bond[1]
    return -fitting.bit_count(), _least(problem, bond)


def _least(problem: Problem, bond: Bond) -> int:
    return problem.least_rank(bond[0]) + problem.least_rank(bond[1])


def _rank(problem: Problem, parts: Parts) -> int | None:
    ranks = [problem.rank(part) for part in parts]
    return None if None in ranks else sum(rank for rank in ranks if rank is not None)
