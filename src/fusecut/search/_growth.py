"""Groups that grow by one op at a time, in any direction: what they move, need and touch."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from fusecut.ir import Group, bits
from fusecut.problem import Problem
from fusecut.search._cuts import Reach


class Grown(NamedTuple):
    """A connected, convex group: its floor, its touch-once bytes, and all ops before and after its ops."""

    group: Group
    mark: int
    dram_bytes: int
    before: Group
    after: Group


class Growth:
    """Convex groups of one problem, pruned by the floor."""

    def __init__(self, problem: Problem, reach: Reach) -> None:
        graph = self.graph = problem.graph
        self.reach, self.floor, self.capacity = reach, reach.floor, problem.capacity_bytes
        self.neighbours = tuple(p | s for p, s in zip(graph.preds, graph.succs, strict=True))
        self.shares = tuple(getattr(self.floor, "shares", [0] * len(graph)))
        self._size = [t.nbytes for t in graph.tensors]
        self._stays = [t in graph.output_set or not graph.consumer_mask[t] for t in range(len(graph.tensors))]
        self._in = [tuple(dict.fromkeys(op.inputs)) for op in graph.ops]

    def single(self, op: int) -> Grown:
        """One op, whether or not it fits."""
        graph = self.graph
        mark = self.floor.extend(0, self.floor.start, op)
        return Grown(1 << op, mark, self.added_bytes(0, op), graph.ancestors[op], graph.descendants[op])

    def fits(self, mark: int) -> bool:
        """Whether the floor allows a group of this mark."""
        return not self.floor.again_bytes(mark, self.capacity)

    def closure(self, grown: Grown, op: int) -> Group:
        """What joins a group together with an op, so that it stays convex; the op included."""
        between = self.graph.ancestors[op] & grown.after | self.graph.descendants[op] & grown.before
        return (between | 1 << op) & ~grown.group

    def with_op(self, grown: Grown, op: int) -> Grown | None:
        """The convex group with one more op and what lies between; None where the floor forbids it."""
        group, mark, dram, before, after = grown
        for new in bits(self.closure(grown, op)):
            mark = self.floor.extend(group, mark, new)
            if not self.fits(mark):
                return None
            dram += self.added_bytes(group, new)
            group |= 1 << new
            before |= self.graph.ancestors[new]
            after |= self.graph.descendants[new]
        return Grown(group, mark, dram, before, after)

    def fits_with(self, grown: Grown, op: int) -> bool:
        """Whether the floor allows the convex group with one more op and what lies between."""
        group, mark = grown.group, grown.mark
        for new in bits(self.closure(grown, op)):
            mark = self.floor.extend(group, mark, new)
            if not self.fits(mark):
                return False
            group |= 1 << new
        return True

    def added_bytes(self, group: Group, op: int) -> int:
        """How many touch-once bytes more a group moves when an op joins it. O(tensors of the op)."""
        graph, size = self.graph, self._size
        after = group | 1 << op
        added = graph.ops[op].weight_bytes
        for t in self._in[op]:
            readers, maker = graph.consumer_mask[t], graph.producer[t]
            if maker >= 0 and group >> maker & 1:
                if not readers & ~after and not self._stays[t]:
                    added -= size[t]
            elif not readers & group:
                added += size[t]
        for t in graph.ops[op].outputs:
            readers = graph.consumer_mask[t]
            if readers & group:
                added -= size[t]
            if self._stays[t] or readers & ~after:
                added += size[t]
        return added

    def stays(self, tensor: int) -> bool:
        """Whether a tensor is written in every plan."""
        return self._stays[tensor]

    def within_reach(self, first: int) -> Group:
        """Ops from ``first`` on that some group with it as its first op may hold.

        Such a group holds a path of ops to each of them, and the shares of a path's ops add up to no
        more than the floor of the group. O(E log V) within the capacity.
        """
        allowed = ~((1 << first) - 1) & ~(self.graph.descendants[first] & ~self.reach.mates(first))
        nearest, queue, seen = {first: self.shares[first]}, [(self.shares[first], first)], 0
        while queue:
            used, op = heappop(queue)
            if seen >> op & 1:
                continue
            seen |= 1 << op
            for near in bits(self.neighbours[op] & ~seen & allowed):
                there = used + self.shares[near]
                if there <= self.capacity and there < nearest.get(near, there + 1):
                    nearest[near] = there
                    heappush(queue, (there, near))
        return seen

    def connected(self, allowed: Group, group: Group) -> Group:
        """The part of ``allowed`` that hangs together with a group."""
        seen = frontier = group
        while frontier:
            near = 0
            for op in bits(frontier):
                near |= self.neighbours[op]
            frontier = near & allowed & ~seen
            seen |= frontier
        return seen
