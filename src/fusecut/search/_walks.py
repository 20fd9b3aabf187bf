"""Bytes that every plan moves because some ops never share a group: walks between them, packed into tensors.

Let b depend on a, and no group hold both. In every plan some ideal, a union of groups, holds a and not b. A *walk*
from a to b goes on from an op to a reader of what it makes, or to another reader of a network input
that it reads, or back to an op whose result it reads. It leaves the ideal somewhere, never by going
back: so of the tensors that it goes on through one is *cut*, read by ops of different groups or by
another group than its maker's. A cut tensor moves ``extra(t)`` bytes beyond touching everything once: out and in
again, or just in again if it is a network input or output.

Weigh the walks so that those through a tensor weigh no more than its ``extra``: then all of them
together weigh no more than what the cut tensors move. The heaviest weights are a linear program, the
dual of least lengths of tensors for which no walk is shorter than 1 (a fractional multicut: Garg,
Vazirani & Yannakakis, SIAM J. Comput. 1996). Walks are added as long as the lengths leave one too short.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem
from fusecut.search._cuts import ForcedCuts, Reach
from fusecut.search._solver import Program

_ROUNDS: Final = 40
"""Of adding walks; the bound of any round holds."""

_SHORT: Final = 1 - 1e-4

Walk = tuple[int, ...]
"""The tensors that a walk goes on through, each once, in order of index."""


class Walks:
    """The bound for one problem. ``bound`` is in DRAM bytes, 0 where the model may move less than touch-once bytes."""

    def __init__(self, problem: Problem, reach: Reach, cuts: ForcedCuts) -> None:
        self.graph, self.reach = problem.graph, reach
        self.extra = [_extra_bytes(problem.graph, t) for t in range(len(problem.graph.tensors))]
        self._ahead = self._steps()
        self._back = [list(bits(preds)) for preds in problem.graph.preds]
        self.walks: dict[Walk, None] = {}
        self.bound = 0
        if problem.touches_once:
            self.bound = problem.graph.touch_once_bytes(problem.graph.everything) + sum(cuts.extra)
            self.bound += self._apart(cuts) + self._packed()

    def _apart(self, cuts: ForcedCuts) -> int:
        """Reads of tensors by readers that never meet; a network input counts here or as cut, not in both ways."""
        total = 0
        for t, apart in enumerate(cuts.apart):
            if apart:
                total += (apart.bit_count() - 1) * self.graph.tensors[t].nbytes
                if self.graph.producer[t] < 0:
                    self.extra[t] = 0
        return total

    def _steps(self) -> list[list[tuple[int, int]]]:
        """For each op the ops that a walk may go on to, each with the tensor."""
        graph = self.graph
        ahead: list[list[tuple[int, int]]] = [[] for _ in range(len(graph))]
        for t, readers in enumerate(graph.consumers):
            makers = [graph.producer[t]] if graph.producer[t] >= 0 else readers
            for maker in makers:
                ahead[maker] += [(reader, t) for reader in readers if reader != maker]
        return ahead

    def _packed(self) -> int:
        """The most that walks weigh, as far as the rounds go."""
        lengths, best = [0.0] * len(self.extra), 0
        for _ in range(_ROUNDS):
            known = len(self.walks)
            for op in range(len(self.graph)):
                apart = self.graph.descendants[op] & ~self.reach.mates(op)
                short = self._shortest(op, apart, lengths) if apart else None
                if short is not None:
                    self.walks[short] = None
            if len(self.walks) == known:
                break
            lengths, weights = _balanced(self.extra, list(self.walks))
            best = max(best, packed(self.extra, list(self.walks), weights))
        return best

    def _shortest(self, start: int, ends: Group, lengths: Sequence[float]) -> Walk | None:
        """The shortest walk from an op to one of the ends, fewest steps first; None if it is long enough."""
        queue = [(0.0, 0, start, -1, -1)]
        before: dict[int, tuple[int, int]] = {}
        while queue:
            length, steps, op, previous, through = heapq.heappop(queue)
            if op in before:
                continue
            if length >= _SHORT:
                return None
            before[op] = previous, through
            if ends >> op & 1:
                return _tensors(before, op)
            for near, t in self._ahead[op]:
                if near not in before:
                    heapq.heappush(queue, (length + lengths[t], steps + 1, near, op, t))
            for near in self._back[op]:
                if near not in before:
                    heapq.heappush(queue, (length, steps + 1, near, op, -1))
        return None


def packed(extra: Sequence[int], walks: Sequence[Walk], weights: Sequence[float]) -> int:
    """What walks weigh in whole bytes, the weights given being a suggestion only. O(walks * tensors of a walk).

    One walk after the other gets the weight suggested, or what its tensors still hold; then what is left.
    """
    left, total = list(extra), 0
    for most in (weights, [float(max(extra, default=0))] * len(walks)):
        for walk, weight in zip(walks, most, strict=True):
            room = min(max(0, round(weight)), *(left[t] for t in walk)) if walk else 0
            total += room
            for t in walk:
                left[t] -= room
    return total


def _extra_bytes(graph: Graph, tensor: int) -> int:
    """What a cut tensor moves beyond touching everything once."""
    nbytes = graph.tensors[tensor].nbytes
    return nbytes if graph.producer[tensor] < 0 or tensor in graph.output_set else 2 * nbytes


def _tensors(before: dict[int, tuple[int, int]], end: int) -> Walk:
    through, op = set(), end
    while op >= 0:
        op, t = before[op]
        through.add(t)
    return tuple(sorted(through - {-1}))


def _balanced(extra: Sequence[int], walks: Sequence[Walk]) -> tuple[list[float], list[float]]:
    """Least lengths of tensors for which all walks are long enough, and the weights of the walks."""
    program = Program()
    program.add_rows([()] * len(walks), 1, None)
    through: list[list[tuple[int, float]]] = [[] for _ in extra]
    for k, walk in enumerate(walks):
        for t in walk:
            through[t].append((k, 1.0))
    program.add_columns(extra, through)
    found = program.solve()
    return found.columns.tolist(), found.rows
