"""The published off-line search of Optimus, and the linear one of its baselines, as they were published.

Both take a graph and a price for an ordered group, and nothing else: no buffer, no model. They are
yardsticks, kept with their faults; :class:`fusecut.search.Exact` is what fusecut itself uses.

Sources: Cai, Wang, Zhang, "Optimus: Towards Optimal Layer-Fusion on Deep Learning Processors", LCTES
2021 (off-line search); Zheng et al., "Efficient Scheduling of Irregular Network Structures on CNN
Accelerators", IEEE TCAD 2020 (linear order).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from fusecut.ir import Graph, Group, bits

Ordered: TypeAlias = tuple[int, ...]
"""A group of ops in the order in which the search took them; the group may be disconnected."""

Price: TypeAlias = Callable[[Ordered], int | None]
"""Cost of an ordered group; None when it cannot run."""


@dataclass(frozen=True)
class Found:
    """Groups in the order they run, what they cost together, and how many states were solved."""

    groups: tuple[Ordered, ...]
    cost: int
    states: int


class _State(NamedTuple):
    """A group being grown, and the ops left over at the last cut that may still join it."""

    group: Group
    pending: Group


class _Best(NamedTuple):
    """Cheapest way on from a state: the group to close, the state after it, and the cost of it all."""

    cost: int
    closed: Ordered
    after: _State | None


_Step: TypeAlias = Generator[tuple[_State, Ordered], None, _Best | None]


def offline(graph: Graph, price: Price) -> Found | None:
    """The published dynamic program over (group, frontier), ties and pruning as published.

    From a state the group either takes one *ready* op (one that no other candidate leads to), in
    alphabetical order, or is cut. Growing is preferred to cutting at equal cost, and of equal ops
    the first. A group that cannot run is never grown further: optimal only where every superset of
    an infeasible group is infeasible too. States forget the order in which their ops were taken:
    where the price depends on it, the order met first decides. Groups may be disconnected.

    Time and memory O(states); a chain of n ops with groups of up to g has O(n g) of them, a fork of
    w branches multiplies them by up to 2^w.

    Returns:
        None when no plan was found.
    """
    search = _Offline(graph, price)
    sources = sum(1 << i for i, mask in enumerate(graph.preds) if not mask)
    start = search.cut(sources)
    best = search.solved(start)
    if best is None:
        return None
    groups = []
    at: _Best | None = best
    while at is not None:
        groups.append(at.closed)
        at = search.memo[at.after] if at.after is not None else None
    return Found(tuple(groups), best.cost, len(search.memo))


class _Offline:
    """The recursion, on a stack of its own: a network may be deeper than Python's."""

    def __init__(self, graph: Graph, price: Price) -> None:
        self.graph, self.price = graph, price
        self.memo: dict[_State, _Best | None] = {}
        by_name = sorted(range(len(graph)), key=lambda i: graph.ops[i].name)
        self.rank = {op: rank for rank, op in enumerate(by_name)}

    def solved(self, start: tuple[_State, Ordered]) -> _Best | None:
        """The best way on from a state, with every state it depends on solved first."""
        stack = [(start[0], self._step(*start))]
        while stack:
            state, step = stack[-1]
            try:
                needed = next(step)
            except StopIteration as done:
                self.memo[state] = done.value
                stack.pop()
            else:
                if needed[0] not in self.memo:
                    stack.append((needed[0], self._step(*needed)))
        return self.memo[start[0]]

    def cut(self, candidates: Group) -> tuple[_State, Ordered]:
        """The state after a cut: a lone candidate starts the next group, several become its frontier."""
        if candidates & (candidates - 1):
            return _State(0, candidates), ()
        return _State(candidates, 0), tuple(bits(candidates))

    def _step(self, state: _State, ops: Ordered) -> _Step:
        """One state. Every state it yields is in the memo when it goes on."""
        cost = self.price(ops) if ops else None
        if ops and cost is None:
            return None
        candidates = self._candidates(state)
        if not candidates:
            return _Best(cost or 0, ops, None)
        best: _Best | None = None
        for op in self._ready(candidates):
            grown = _State(state.group | 1 << op, state.pending)
            yield grown, (*ops, op)
            way = self.memo[grown]
            if way is not None and (best is None or way.cost < best.cost):
                best = way
        if cost is not None:
            after, rest = self.cut(candidates)
            yield after, rest
            way = self.memo[after]
            if way is not None and (best is None or cost + way.cost < best.cost):
                best = _Best(cost + way.cost, ops, after)
        return best

    def _candidates(self, state: _State) -> Group:
        candidates = state.pending
        for op in bits(state.group):
            candidates |= self.graph.succs[op]
        return candidates & ~state.group

    def _ready(self, candidates: Group) -> list[int]:
        ready = [i for i in bits(candidates) if not self.graph.ancestors[i] & candidates]
        return sorted(ready, key=self.rank.__getitem__)


def linear_order(graph: Graph) -> Ordered:
    """The baselines' order: a queue from the sources, an op following its last predecessor;
    readers enter in reverse order of declaration."""
    waiting = [mask.bit_count() for mask in graph.preds]
    queue = deque(i for i, count in enumerate(waiting) if not count)
    order = []
    while queue:
        op = queue.popleft()
        order.append(op)
        for reader in reversed(list(bits(graph.succs[op]))):
            waiting[reader] -= 1
            if not waiting[reader]:
                queue.append(reader)
    return tuple(order)


def linear(graph: Graph, price: Price) -> Found | None:
    """The cheapest cut of the linear order into contiguous groups; of equal plans the longest last group.

    All n (n + 1) / 2 segments are priced. Optimal for that order only.
    """
    order = linear_order(graph)
    costs: list[int | None] = [0]
    starts = [0]
    for end in range(1, len(order) + 1):
        cost, start = _best_segment(order, costs, end, price)
        costs.append(cost)
        starts.append(start)
    total = costs[-1]
    if total is None:
        return None
    groups, end = [], len(order)
    while end:
        groups.append(order[starts[end] : end])
        end = starts[end]
    return Found(tuple(reversed(groups)), total, len(order) * (len(order) + 1) // 2)


def _best_segment(order: Ordered, costs: list[int | None], end: int, price: Price) -> tuple[int | None, int]:
    """The cheapest cost of the ops before ``end``, and where the last group of that plan starts."""
    best: int | None = None
    at = 0
    for start in range(end):
        before, cost = costs[start], price(order[start:end])
        if before is not None and cost is not None and (best is None or before + cost < best):
            best, at = before + cost, start
    return best, at
