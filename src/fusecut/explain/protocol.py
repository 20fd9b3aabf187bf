"""What an explainer is: it says how much each edge of an infeasible group is to blame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from numpy.random import Generator

from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem

Edge = tuple[int, int]
"""(op, op that reads it), both in the group."""

Scores = Mapping[Edge, float]
"""How much each edge is to blame: higher is more; only the order counts."""


@runtime_checkable
class Explainer(Protocol):
    """Scores the edges of a connected group that does not fit the buffer of the problem's machine.

    ``scores`` has exactly the edges of :func:`edges`, as finite numbers whose order alone counts;
    learned explainers give logits, since probabilities saturate. All randomness comes from ``rng``.
    """

    @property
    def name(self) -> str: ...

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores: ...


def edges(graph: Graph, group: Group) -> list[Edge]:
    """The edges inside a group, sorted. O(edges)."""
    return [(i, j) for i in bits(group) for j in bits(graph.succs[i] & group)]
