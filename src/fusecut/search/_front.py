"""All plans of one problem that no other plan beats in both DRAM bytes and repeated MACs.

Labels go through the lattice of ideals as in the exact search, ordered by the bound of the bytes of
the plans through them. Bytes of labels of one ideal therefore only grow from the first settled to
the last, so a label is worth settling only if it repeats fewer MACs than every label settled there
before: one comparison. That is BOA* (Hernandez Ulloa, Yeoh, Baier, Zhang, Suazo & Koenig, "A simple
and fast bi-objective search algorithm", ICAPS 2020), with groups priced when they are most promising.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fusecut.cost import NEVER_BYTES
from fusecut.ir import Group
from fusecut.problem import Problem
from fusecut.search._cuts import ForcedCuts, Reach
from fusecut.search._lattice import Lattice
from fusecut.search._ranking import Ranking


class Way(NamedTuple):
    """One way to run a group: bytes moved, MACs repeated, and its place in the group's menu."""

    dram_bytes: int
    recomputed_macs: int
    choice: int


class Step(NamedTuple):
    """A group of a plan, and which way of its menu it runs."""

    group: Group
    choice: int


class Found(NamedTuple):
    """A plan that no plan beats."""

    dram_bytes: int
    recomputed_macs: int
    steps: tuple[Step, ...]


class _Label(NamedTuple):
    """One way to an ideal: ordered by bytes at least, MACs repeated, groups; deeper ideals first."""

    bound: int
    again: int
    groups: int
    depth: int
    ideal: Group
    step: Step
    reached: int
    parent: int
    rest_bytes: int


_UNPRICED = -1
"""The choice of a label whose group nobody has asked for yet."""


class Front:
    """The search. ``menu`` lists the ways of a group, none where it cannot run.

    ``known`` are plans of the front found before, by bytes: nothing they beat, or equal, is looked for.
    ``most_bytes`` are those of a plan without repeated MACs: what moves more is beaten by it.
    ``ran_out`` says whether the effort (steps of the lattice, and labels) was spent before the end.
    """

    def __init__(
        self,
        problem: Problem,
        menu: Callable[[Group], Sequence[Way]],
        known: Sequence[tuple[int, int]] = (),
        most_bytes: int = NEVER_BYTES,
        effort: int = 900_000,
    ) -> None:
        self.problem, self.menu, self.most = problem, menu, most_bytes
        self.effort = effort
        self.ran_out = False
        self._front = [(-1, NEVER_BYTES), *sorted(known)]
        reach = self._reach()
        cuts = ForcedCuts(problem, reach)
        self.lattice, self.ranking = Lattice(problem, reach, cuts), Ranking(problem, reach, cuts)
        self._least: dict[Group, int] = {}
        self._settled: list[_Label] = []

    def _reach(self) -> Reach:
        """Which ops a plan of at most ``most_bytes`` can hold together; narrowed while that helps.

        What such a plan moves again comes on top of what every plan moves that cuts what cannot be held
        together: the bound of the root, which counts no byte moved again.
        """
        reach, spare = Reach(self.problem), NEVER_BYTES
        while self.most < NEVER_BYTES:
            less = max(0, self.most - ForcedCuts(self.problem, reach).total_bytes) + 1
            if less >= spare - spare // 50:
                break
            reach, spare = reach.narrowed(self.problem, less), less
        return reach

    def run(self) -> Iterator[Found | None]:
        """Plans by bytes, fewest first, each with fewer repeated MACs than the one before; None now and then.

        Complete once it ends, unless ``ran_out``. O(labels * log labels + steps of the lattice).
        """
        everything = self.problem.graph.everything
        root = self.lattice.whole
        queue = [_Label(root, 0, 0, 0, 0, Step(0, 0), 0, -1, root)]
        while queue:
            label = heapq.heappop(queue)
            if self._beaten(label):
                continue
            if label.step.choice == _UNPRICED:
                self._price(label, queue)
                continue
            self._least[label.ideal] = label.again
            self._settled.append(label)
            if label.ideal == everything:
                self._take(label)
                yield Found(label.reached, label.again, self._steps(label))
                continue
            if self.lattice.steps + len(self._settled) > self.effort:
                self.ran_out = True
                return
            self._expand(label, queue)
            yield None

    def _beaten(self, label: _Label) -> bool:
        """Whether a label of the same ideal, or a plan of the front, is as good in both."""
        least = self._least.get(label.ideal)
        if label.bound > self.most or (least is not None and label.again >= least):
            return True
        return label.again >= self._front[bisect_right(self._front, (label.bound, NEVER_BYTES)) - 1][1]

    def _take(self, label: _Label) -> None:
        """A plan of the front, and without those known before that it beats."""
        new = label.reached, label.again
        kept = [point for point in self._front if point[0] < new[0] or point[1] < new[1]]
        self._front = sorted([*kept, new])

    def _price(self, label: _Label, queue: list[_Label]) -> None:
        """A label for each way of its group. What a label counts for a group is never more than any way moves."""
        parent = self._settled[label.parent]
        hoped = label.reached - parent.reached
        for dram, repeated, choice in self.menu(label.step.group):
            new = label._replace(
                bound=label.bound + dram - hoped,
                again=label.again + repeated,
                step=Step(label.step.group, choice),
                reached=parent.reached + dram,
            )
            if not self._beaten(new):
                heapq.heappush(queue, new)

    def _expand(self, label: _Label, queue: list[_Label]) -> None:
        place = len(self._settled) - 1
        spare = NEVER_BYTES if self.most >= NEVER_BYTES else self.most - label.bound + 1
        for step in self.lattice.groups_from(label.ideal, label.rest_bytes, spare):
            spent, left = self.ranking.step(label.ideal, step)
            ideal, reached = label.ideal | step.group, label.reached + spent
            new = _Label(
                reached + left,
                label.again,
                label.groups + 1,
                -ideal.bit_count(),
                ideal,
                Step(step.group, _UNPRICED),
                reached,
                place,
                step.rest_bytes,
            )
            if not self._beaten(new):
                heapq.heappush(queue, new)

    def _steps(self, label: _Label) -> tuple[Step, ...]:
        steps = []
        while label.parent >= 0:
            steps.append(label.step)
            label = self._settled[label.parent]
        return tuple(steps[::-1])
