"""What a user may vouch for where the cost model itself promises nothing: static bounds of what fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

from fusecut.cost import BufferFloor, FitFloor, NoFloor
from fusecut.errors import UnknownNameError
from fusecut.ir import Graph, Group, mask_of
from fusecut.problem import Problem

Prune = Literal["model", "rows", "weights", "nothing"]
"""``model`` is the floor that the model itself promises; ``weights`` is for a model that promises none but keeps all
weights of a group on chip, ``rows`` for one that keeps a row of every tensor there as well; ``nothing`` prunes none."""

PRUNES: Final = get_args(Prune)

Doubt = Callable[[Problem, Group], float]
"""A surrogate, such as a trained classifier: above 0 it thinks that the group does not fit, the higher the surer."""


def check_prune(prune: str) -> None:
    """Refuse any other word.

    Raises:
        UnknownNameError: lists the four.
    """
    if prune not in PRUNES:
        raise UnknownNameError("prune", prune, PRUNES)


def floor_of(problem: Problem, prune: Prune) -> BufferFloor:
    """The bound that ``prune`` names."""
    if prune == "model":
        return problem.buffer_floor
    return NoFloor() if prune == "nothing" else StaticFloor(problem.graph, rows=prune == "rows")


class StaticFloor(FitFloor):
    """The weights of a group, and a row of every tensor that it touches, all on chip at once."""

    start = 0

    def __init__(self, graph: Graph, rows: bool) -> None:
        self._graph, self._rows = graph, rows
        self._touching = [mask_of(r) for r in graph.consumers]
        for index, op in enumerate(graph.ops):
            for t in op.outputs:
                self._touching[t] |= 1 << index

    def extend(self, group: Group, mark: int, op: int) -> int:
        graph = self._graph
        this = graph.ops[op]
        new = {t for t in (*this.inputs, *this.outputs) if self._rows and not self._touching[t] & group}
        return mark + this.weight_bytes + sum(graph.tensors[t].row_bytes for t in new)
