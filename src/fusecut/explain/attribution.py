"""The exact explanation: what really fills the buffer, as the cost model accounts for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from fusecut.cost import Holdings
from fusecut.errors import UnknownNameError
from fusecut.explain.protocol import Edge, Scores, edges
from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem


@dataclass(frozen=True)
class Attribution:
    """Scores an edge by the bytes of buffer that hang on it.

    With ``endpoints`` (default) an edge (i, j) is to blame for what is held of the tensors that j
    reads from i, and for what i and j hold themselves (weights, partial results):

        score(i, j) = sum of bytes(t), t from i to j  +  bytes(i) + bytes(j)

    With ``of="tensors"`` the tensors alone count. The bytes are those of the cost model
    (:class:`fusecut.cost.Itemised`), measured on the whole group, fitting or not. About a black box
    nothing is known but shapes: then a tensor holds one row, an op its weights.

    Deterministic. One measurement of the group, then O(edges).

    Raises:
        UnknownNameError: ``of`` is neither of the two.
    """

    of: Literal["endpoints", "tensors"] = "endpoints"

    name = "attribution"

    def __post_init__(self) -> None:
        if self.of not in ("endpoints", "tensors"):
            raise UnknownNameError("attribution of", self.of, ("endpoints", "tensors"))

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        graph = problem.graph
        held = problem.holdings(group) or _from_shapes(graph, group)
        return {edge: float(self._blame(graph, held, edge)) for edge in edges(graph, group)}

    def _blame(self, graph: Graph, held: Holdings, edge: Edge) -> int:
        i, j = edge
        rows = sum(held.tensors.get(t, 0) for t in set(graph.ops[i].outputs) & set(graph.ops[j].inputs))
        return rows if self.of == "tensors" else rows + held.ops.get(i, 0) + held.ops.get(j, 0)


def _from_shapes(graph: Graph, group: Group) -> Holdings:
    touched = {t for i in bits(group) for t in (*graph.ops[i].inputs, *graph.ops[i].outputs)}
    return Holdings(
        {t: graph.tensors[t].row_bytes for t in sorted(touched)}, {i: graph.ops[i].weight_bytes for i in bits(group)}
    )
