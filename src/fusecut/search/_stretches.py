"""A small part of the lattice of ideals: what a few orders of the ops lead to, and the groups between.

An ideal is here the first ops of one of five orders in which the network may run, or what two such
beginnings of about the same size have in common, or have together. In a chain of ops all orders are
one; branches are taken one after the other, first to last and last to first, or side by side.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from fusecut.cost import NEVER_BYTES, Planned
from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem
from fusecut.search._cuts import Reach

_IDEALS_PER_OP: Final = 6
"""Ideals, at most: where the joins make more, fewer beginnings are joined."""


_AT_A_TIME: Final = 200
"""Stretches from one ideal found between two signs of life."""


class Stretch(NamedTuple):
    """From one ideal to another: the groups in between, which do not depend on each other."""

    end: Group
    groups: tuple[Group, ...]


class _Part(NamedTuple):
    """A connected part of a stretch, its mark, and what its ops would move again if each ran alone."""

    group: Group
    mark: int
    alone_bytes: int


def orders(graph: Graph) -> list[tuple[int, ...]]:
    """The graph's own order, depth first both ways, as early and as late as may be; equal ones once."""
    early, late = [0] * len(graph), [0] * len(graph)
    for i in range(len(graph)):
        early[i] = max((early[p] + 1 for p in bits(graph.preds[i])), default=0)
    for i in reversed(range(len(graph))):
        late[i] = min((late[s] - 1 for s in bits(graph.succs[i])), default=0)
    keys: tuple[Callable[[int, int], int], ...] = (
        lambda op, step: op,
        lambda op, step: -step * len(graph) + op,
        lambda op, step: -step * len(graph) - op,
        lambda op, step: early[op],
        lambda op, step: late[op],
    )
    return list(dict.fromkeys(_order(graph, key) for key in keys))


def _order(graph: Graph, key: Callable[[int, int], int]) -> tuple[int, ...]:
    """Of the ops that are ready the one of the least key goes next; the key may look at when it became ready."""
    waits = [p.bit_count() for p in graph.preds]
    ready = [(key(i, 0), i) for i in range(len(graph)) if not waits[i]]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        op = heapq.heappop(ready)[1]
        order.append(op)
        for s in bits(graph.succs[op]):
            waits[s] -= 1
            if not waits[s]:
                heapq.heappush(ready, (key(s, len(order)), s))
    return tuple(order)


def ideals(graph: Graph, along: list[tuple[int, ...]]) -> list[Group]:
    """Beginnings of the orders, and the meets and joins of those that differ by 2 ops in size at most; by size."""
    beginnings = [_beginnings(order) for order in along]
    for apart in (2, 1, 0):
        found = {ideal for begun in beginnings for ideal in begun}
        for k, first in enumerate(beginnings):
            for second in beginnings[k + 1 :]:
                for ideal, other in _neighbours(first, second, apart):
                    found.update((ideal | other, ideal & other))
        if len(found) <= _IDEALS_PER_OP * len(graph):
            break
    else:
        found = {ideal for begun in beginnings for ideal in begun}
    return sorted(found, key=lambda ideal: (ideal.bit_count(), ideal))


def _beginnings(order: tuple[int, ...]) -> list[Group]:
    begun = [0]
    for op in order:
        begun.append(begun[-1] | 1 << op)
    return begun


def _neighbours(first: list[Group], second: list[Group], apart: int) -> Iterator[tuple[Group, Group]]:
    for size, ideal in enumerate(first):
        if ideal != second[size]:
            for other in second[max(0, size - apart) : size + apart + 1]:
                yield ideal, other


class Stretches:
    """All stretches worth a look; the filter is here.

    From an ideal, ops are added one at a time, from ideal to ideal. What the groups of a stretch move again,
    at least, beyond what their ops move again alone, is its excess. A stretch is grown only while its excess
    is not more than that of the two stretches it would be cut into at any ideal on the way, and the bytes that
    would cross there. Asks the model for every op alone. O(pairs of ideals within reach).
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.graph = problem, problem.graph
        self.ideals = ideals(self.graph, orders(self.graph))
        self.again: dict[Group, int] = {}
        self._alone = [self._alone_bytes(1 << op) for op in range(len(self.graph))]
        self._excess: dict[Group, dict[Group, int]] = {}
        self._every: dict[Group, list[Stretch]] = {}
        known, reach = set(self.ideals), Reach(problem)
        self._next = {ideal: [i for i in reach.ready(ideal) if ideal | 1 << i in known] for ideal in self.ideals}
        self._crossing: dict[Group, int] = {}
        for ideal in self.ideals:
            if ideal not in self._crossing:
                self._crossing[ideal] = self._crossing_bytes(ideal)
            nbytes = self._crossing[ideal]
            for op in self._next[ideal]:
                self._crossing.setdefault(ideal | 1 << op, nbytes + self._more_crossing(ideal, op))

    def grow(self) -> Iterator[None]:
        """Find the stretches from each ideal, the last one's first: minutes in wide networks, so one step at a time."""
        for ideal in reversed(self.ideals):
            if ideal not in self._every:
                found = list[Stretch]()
                for stretch in self._from(ideal):
                    found.append(stretch)
                    if len(found) % _AT_A_TIME == 0:
                        yield
                self._every[ideal] = found
                yield

    def from_each(self) -> dict[Group, list[Stretch]]:
        """Stretches by the ideal where they start, for ideals that some stretch leads to."""
        for _ in self.grow():
            pass
        every, reached = self._every, {0}
        for ideal in self.ideals:
            if ideal in reached:
                reached.update(stretch.end for stretch in every[ideal])
        return {ideal: every[ideal] for ideal in self.ideals if ideal in reached}

    def _from(self, start: Group) -> Iterator[Stretch]:
        found = self._excess[start] = {}
        seen = {start}
        stack: list[tuple[Group, list[_Part], tuple[Group, ...]]] = [(start, [], ())]
        while stack:
            at, parts, inside = stack.pop()
            for op in self._next[at]:
                end = at | 1 << op
                if end not in seen:
                    seen.add(end)
                    grown = self._with(parts, op)
                    excess = sum(max(0, self.again[part.group] - part.alone_bytes) for part in grown)
                    if excess < NEVER_BYTES // 2 and excess <= self._cut(start, inside, end):
                        found[end] = excess
                        yield Stretch(end, tuple(part.group for part in grown))
                        stack.append((end, grown, (*inside, end)))

    def _cut(self, start: Group, inside: tuple[Group, ...], end: Group) -> int:
        """The excess of the best two stretches that this one would be cut into, and what crosses between them."""
        cuts = (
            self._excess[start][ideal] + self._crossing[ideal] + self._excess[ideal].get(end, NEVER_BYTES)
            for ideal in inside
        )
        return min(cuts, default=NEVER_BYTES)

    def _with(self, parts: list[_Part], op: int) -> list[_Part]:
        """The parts with one more op, which may connect some of them; the part that holds it comes last."""
        floor, preds = self.problem.buffer_floor, self.graph.preds[op]
        joined = [part for part in parts if part.group & preds]
        group, mark, alone = joined[-1] if joined else _Part(0, floor.start, 0)
        alone += self._alone[op] + sum(other.alone_bytes for other in joined[:-1])
        for other in joined[:-1]:
            for i in bits(other.group):
                mark, group = floor.extend(group, mark, i), group | 1 << i
        mark, group = floor.extend(group, mark, op), group | 1 << op
        if group not in self.again:
            self.again[group] = floor.again_bytes(mark, self.problem.capacity_bytes) if group & (group - 1) else 0
        return [*(part for part in parts if part not in joined), _Part(group, mark, alone)]

    def _alone_bytes(self, group: Group) -> int:
        """What an op alone moves beyond touching everything once."""
        planned = self.problem.plan(group)
        return planned.cost.dram_bytes - self.graph.touch_once_bytes(group) if isinstance(planned, Planned) else 0

    def _crossing_bytes(self, ideal: Group) -> int:
        """Bytes written and read again where everything is cut between an ideal and the rest."""
        graph = self.graph
        return sum(
            self._cut_bytes(t)
            for i in bits(ideal)
            if graph.succs[i] & ~ideal
            for t in graph.ops[i].outputs
            if graph.consumer_mask[t] & ~ideal
        )

    def _more_crossing(self, ideal: Group, op: int) -> int:
        """What crosses more with one op more: what it makes, but no longer what it was the last to read."""
        graph, rest = self.graph, ~(ideal | 1 << op)
        made = sum(self._cut_bytes(t) for t in graph.ops[op].outputs if graph.consumer_mask[t])
        read = (t for t in dict.fromkeys(graph.ops[op].inputs) if graph.producer[t] >= 0)
        return made - sum(self._cut_bytes(t) for t in read if not graph.consumer_mask[t] & rest)

    def _cut_bytes(self, tensor: int) -> int:
        return self.graph.tensors[tensor].nbytes * (1 if tensor in self.graph.output_set else 2)
