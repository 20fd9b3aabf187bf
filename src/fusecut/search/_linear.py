"""A good plan with few questions: groups that are stretches of one order of the ops.

For models in which almost any group can run at a price, and a price takes milliseconds. Ops are taken
in the order of the graph; from each place that a plan can reach, stretches of doubling length are
asked for, until one moves more bytes again than cutting it at its cheapest place would; the longest
good one is found by bisection. Of the shorter ones those are asked for that end where few bytes
cross. The best plan of what was asked is a shortest path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fusecut.ir import Group
from fusecut.problem import Problem

_ENDS: Final = 3
"""Places below the longest stretch at which a group may end as well: those where the fewest bytes cross."""


class LinearPlan:
    """Runs the search; ``groups`` is the plan once :meth:`run` is through."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.graph = problem, problem.graph
        self.count = len(problem.graph)
        self.crossing = self._crossing()
        self.best: list[tuple[int, int] | None] = [None] * (self.count + 1)
        self.best[0] = 0, 0

    def _crossing(self) -> list[int]:
        """Bytes written and read again when all is cut before each op."""
        graph = self.graph
        change = [0] * (self.count + 1)
        for t, readers in enumerate(graph.consumers):
            maker = graph.producer[t]
            if maker >= 0 and readers:
                nbytes = graph.tensors[t].nbytes * (1 if t in graph.output_set else 2)
                change[maker + 1] += nbytes
                change[readers[-1] + 1] -= nbytes
        crossing, total = [], 0
        for delta in change:
            total += delta
            crossing.append(total)
        return crossing

    def run(self) -> Iterator[None]:
        """Yields between two questions. O(n log n) questions at most, as a rule far fewer."""
        for start in range(self.count):
            if self.best[start] is None:
                continue
            for end in self._tried(start):
                self._reach(start, end)
                yield

    def groups(self) -> list[Group] | None:
        """The plan; None where an op cannot run at all."""
        groups: list[Group] = []
        at = self.count
        while at:
            way = self.best[at]
            if way is None:
                return None
            groups.append(self._stretch(way[1], at))
            at = way[1]
        return groups[::-1]

    def _stretch(self, start: int, end: int) -> Group:
        return (1 << end) - (1 << start)

    def _reach(self, start: int, end: int) -> None:
        here = self.best[start]
        rank = self.problem.rank(self._stretch(start, end)) if here is not None else None
        if here is not None and rank is not None:
            way = here[0] + rank, start
            known = self.best[end]
            self.best[end] = way if known is None else min(known, way)

    def _tried(self, start: int) -> list[int]:
        longest = self._longest(start)
        inner = sorted(range(start + 2, longest), key=lambda end: (self.crossing[end], -end))
        ends = [end for end in inner if self.graph.is_connected(self._stretch(start, end))][:_ENDS]
        return sorted({longest, *ends})

    def _longest(self, start: int) -> int:
        """The end of the longest good stretch, as far as doubling and bisection tell."""
        good, step = start + 1, 1
        while good < self.count:
            end = self._connected(start, min(good + step, self.count))
            if end is None or not self._good(start, end):
                break
            good, step = end, 2 * step
        bad = min(good + step, self.count + 1)
        while bad - good > 1:
            middle = self._connected(start, (good + bad) // 2)
            if middle is None or middle >= bad:
                bad = (good + bad) // 2
            elif self._good(start, middle):
                good = middle
            else:
                bad = middle
        return good

    def _connected(self, start: int, end: int) -> int | None:
        """The first end from here on at which the stretch is one group."""
        while end <= self.count and not self.graph.is_connected(self._stretch(start, end)):
            end += 1
        return end if end <= self.count else None

    def _good(self, start: int, end: int) -> bool:
        group = self._stretch(start, end)
        least = min(self.crossing[start + 1 : end], default=0)
        floor, problem = self.problem.buffer_floor, self.problem
        mark, seen = floor.start, 0
        for op in range(start, end):
            mark, seen = floor.extend(seen, mark, op), seen | 1 << op
        if floor.again_bytes(mark, problem.capacity_bytes) > least:
            return False
        rank = problem.rank(group)
        per_byte = max(1, problem.prices.tariff.per_byte)
        return rank is not None and rank - problem.least_rank(group) <= least * per_byte
