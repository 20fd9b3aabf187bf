"""Ways to cut one group in two so that the plan around it stays runnable.

A *directed bond* of a connected group S is a pair (A, B): A a down-set of S (it holds every
predecessor in S of its members), B the rest, both connected and not empty. Replacing S by A and B
keeps the graph of groups acyclic exactly when one of the two is a down-set: were there edges both
ways, A and B would wait for each other; and a new cycle through A or B only, contracted back to S,
is a closed walk in a graph without cycles, so it stays within S. Convexity follows: a path that
leaves a group and comes back would be a cycle of groups.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from numpy.random import Generator

from fusecut.ir import Graph, Group, bits

Bond = tuple[Group, Group]


def component(graph: Graph, group: Group) -> Group:
    """The weakly connected part of a group that holds its first op. O(ops of the part)."""
    preds, succs = graph.preds, graph.succs
    seen = frontier = group & -group
    while frontier:
        near = 0
        while frontier:  # bits() without the generator: this is where the splitters spend their time
            low = frontier & -frontier
            i = low.bit_length() - 1
            near |= preds[i] | succs[i]
            frontier ^= low
        frontier = near & group & ~seen
        seen |= frontier
    return seen


def components(graph: Graph, group: Group) -> list[Group]:
    """The weakly connected parts of a set of ops, by first op; none for the empty set."""
    parts = []
    while group:
        parts.append(component(graph, group))
        group ^= parts[-1]
    return parts


def random_order(graph: Graph, group: Group, rng: Generator) -> list[int]:
    """A random order in which the ops of a group may run: every op draws a priority, and of the ops
    that are ready the one with the least goes next. Every order has positive probability; orders
    are not equally likely. O(V log V)."""
    ops = list(bits(group))
    priority = dict(zip(ops, rng.random(len(ops)).tolist(), strict=True))
    waits = {i: (graph.preds[i] & group).bit_count() for i in ops}
    ready = [(priority[i], i) for i in ops if not waits[i]]
    heapq.heapify(ready)
    order = []
    while ready:
        i = heapq.heappop(ready)[1]
        order.append(i)
        for s in bits(graph.succs[i] & group):
            waits[s] -= 1
            if not waits[s]:
                heapq.heappush(ready, (priority[s], s))
    return order


def random_bond(graph: Graph, group: Group, rng: Generator) -> Bond:
    """A random directed bond of a connected group of two ops or more; each has positive probability.

    A prefix of a random order, its length uniform, is a down-set; one of its parts at random, and
    one at random of the parts that are left without it, make the bond: what is left hangs on the
    first part, so everything but the second part is connected, too. O(V log V).
    """
    order = random_order(graph, group, rng)
    down = sum(1 << i for i in order[: int(rng.integers(1, len(order)))])
    first = _any_of(components(graph, down), rng)
    second = _any_of(components(graph, group ^ first), rng)
    return group ^ second, second


def _any_of(parts: list[Group], rng: Generator) -> Group:
    return parts[0] if len(parts) == 1 else parts[int(rng.integers(len(parts)))]


def random_parts(graph: Graph, group: Group, fits: Callable[[Group], bool], rng: Generator) -> tuple[Group, ...] | None:
    """Cut a connected group at random bonds until every part fits; None if some op does not fit alone.

    The parts are in an order in which they may run. ``fits`` is asked once for each part met, at
    most 2 V times.
    """
    todo, parts = [group], []
    while todo:
        part = todo.pop()
        if fits(part):
            parts.append(part)
        elif part & (part - 1):
            todo.extend(reversed(random_bond(graph, part, rng)))
        else:
            return None
    return tuple(parts)


def bonds(graph: Graph, group: Group, through: tuple[int, int] | None = None) -> Iterator[Bond]:
    """Every directed bond of a connected group, each once, in a fixed order; small first parts first.

    ``through`` is an edge i -> j of the group: then those bonds alone that cut it, i in A and j in B.

    From the bond (A, B) go on: a successor of A with its missing ancestors joins A, one of the parts
    that are left becomes the new second part, the others join A. Every bond (A*, B*) is reached:
    start at a source in A*, always take a successor in A* and the part that holds B*; A then grows
    within A* until it is A*. Groups of n ops in a chain have n - 1 bonds, others up to 2^n: stop
    asking. For an edge the only start is i with its ancestors (they are connected, and in every A),
    and the second part is always that of j; the argument is the same. O(V) set operations for each
    new bond.
    """
    seen: set[Group] = set()
    queue: list[tuple[int, Group, Group]] = []
    starts = [1 << i for i in bits(group) if not graph.preds[i] & group]
    behind = group
    if through is not None:
        starts, behind = [(graph.ancestors[through[0]] & group) | 1 << through[0]], 1 << through[1]

    def found(down: Group, before: Group, near: Group) -> None:
        for part in components(graph, group & ~down):
            first = group ^ part
            if part & behind and first not in seen:
                seen.add(first)
                reached = near
                for i in bits(first & ~before):
                    reached |= graph.succs[i]
                heapq.heappush(queue, (first.bit_count(), first, reached))

    for start in starts:
        found(start, 0, 0)
    while queue:
        _, first, near = heapq.heappop(queue)
        yield first, group ^ first
        for i in bits(near & group & ~first):
            found(first | (graph.ancestors[i] & group) | 1 << i, first, near)
