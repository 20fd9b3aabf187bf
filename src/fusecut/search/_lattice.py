"""The lattice of ideals: how plans grow, and what the rest of a plan must still cost.

An *ideal* is a set of ops that holds every predecessor of its members: what has been executed so
far. A plan is a path of ideals from nothing to everything; each step executes one connected group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fusecut.cost import NEVER_BYTES
from fusecut.ir import Group, bits
from fusecut.problem import Problem
from fusecut.search._cuts import ForcedCuts, Reach


class Step(NamedTuple):
    """A group that may come next.

    ``dram_bytes`` touching everything once moves, ``again_bytes`` it moves beyond that at least,
    ``rest_bytes`` everything after it must still move at least. ``mark`` belongs to the floor.
    """

    group: Group
    dram_bytes: int
    mark: int
    rest_bytes: int
    again_bytes: int = 0


class Lattice:
    """Steps between ideals of one problem, pruned by the monotone floor only.

    ``rest_bytes`` of an ideal bounds what the ops outside it must still move: their weights, every
    tensor that crosses the ideal once, network inputs not yet read, network outputs not yet made,
    and forced cuts (:mod:`fusecut.search._cuts`). The bound is admissible and consistent.

    ``steps`` counts every group ever proposed: the effort of a search, the same on any machine.
    """

    def __init__(self, problem: Problem, reach: Reach, cuts: ForcedCuts) -> None:
        graph = self.graph = problem.graph
        self.capacity = problem.capacity_bytes
        self.floor = reach.floor
        self.reach = reach
        self.steps = 0
        sound = problem.touches_once
        self._size = [t.nbytes if sound else 0 for t in graph.tensors]
        self._weight = [
            op.weight_bytes + extra if sound else 0 for op, extra in zip(graph.ops, cuts.extra, strict=True)
        ]
        self._forced = cuts.settled
        self._apart = cuts.apart
        self._in = [tuple(dict.fromkeys(op.inputs)) for op in graph.ops]
        self._stays = [t in graph.output_set or not graph.consumer_mask[t] for t in range(len(graph.tensors))]
        self.whole = cuts.total_bytes

    def groups_from(self, ideal: Group, rest_bytes: int, spare_bytes: int = NEVER_BYTES) -> Iterator[Step]:
        """Groups that may follow an ideal, each once: all that a best plan needs.

        A connected group that starts at a ready op grows by one successor at a time, together with
        that successor's missing ancestors: every connected down-set is reached that way, and every
        set on the way is connected. A branch decides on one successor: taken, or never taken.
        Groups that move ``spare_bytes`` or more again are left out, and so is whatever would hold them.
        A single op is proposed whatever its floor: another scheme may run it.
        """
        start = Step(0, 0, self.floor.start, rest_bytes)
        banned = 0
        for seed in self.reach.seeds(ideal):
            first = self._add(start, ideal, seed)
            yield from self._grow(ideal, first, banned, self.graph.succs[seed], spare_bytes)
            banned |= 1 << seed

    def _grow(self, ideal: Group, start: Step, banned: Group, frontier: Group, spare_bytes: int) -> Iterator[Step]:
        graph, capacity = self.graph, self.capacity
        self.steps += 1
        yield start
        stack = [(start, banned, frontier)]
        while stack:
            step, banned, frontier = stack.pop()
            if not frontier:
                continue
            low = frontier & -frontier
            stack.append((step, banned | low, frontier ^ low))
            closure = (graph.ancestors[low.bit_length() - 1] | low) & ~ideal & ~step.group
            if closure & banned:
                continue
            for op in bits(closure):
                step = self._add(step, ideal, op)
                frontier |= graph.succs[op]
            again = self.floor.again_bytes(step.mark, capacity)
            if again < spare_bytes:
                self.steps += 1
                yield step._replace(again_bytes=again) if again else step
                stack.append((step, banned, frontier & ~step.group & ~banned))

    def likely_from(self, ideal: Group, rest_bytes: int, width: int) -> Iterator[Step]:
        """Of the groups of each size that may follow an ideal, ``width`` that are likely part of a good plan.

        Those of least bytes, what is left after them included, of all that are one op, with its missing
        ancestors, larger than some group kept. For lattices too large to be listed: O(ops of the
        largest group * width * successors).
        """
        start = Step(0, 0, self.floor.start, rest_bytes)
        sizes: dict[int, dict[Group, tuple[Step, Group]]] = {}
        for seed in self.reach.seeds(ideal):
            sizes.setdefault(1, {})[1 << seed] = self._add(start, ideal, seed), self.graph.succs[seed]
        while sizes:
            met = sizes.pop(min(sizes)).values()
            kept = sorted(met, key=lambda each: (each[0].dram_bytes + each[0].rest_bytes, each[0].group))[:width]
            for step, frontier in kept:
                self.steps += 1
                yield step
                for op in bits(frontier & ~step.group):
                    joining = (self.graph.ancestors[op] | 1 << op) & ~ideal & ~step.group
                    same = sizes.setdefault((step.group | joining).bit_count(), {})
                    if step.group | joining not in same:
                        self._join(ideal, step, frontier, joining, same)

    def _join(
        self, ideal: Group, step: Step, frontier: Group, joining: Group, same: dict[Group, tuple[Step, Group]]
    ) -> None:
        """Note the group that is a step with more ops, where the floor allows it."""
        self.steps += 1
        for op in bits(joining):
            step = self._add(step, ideal, op)
            frontier |= self.graph.succs[op]
        if not self.floor.again_bytes(step.mark, self.capacity):
            same[step.group] = step, frontier

    def _add(self, step: Step, ideal: Group, op: int) -> Step:
        """The step with one more op, all of whose predecessors are done or in the group."""
        graph, group, size = self.graph, step.group, self._size
        after = group | 1 << op
        left = ~(ideal | after)
        dram = step.dram_bytes + self._weight[op]
        rest = step.rest_bytes - self._weight[op] - self._forced[op]
        for t in self._in[op]:
            readers, maker = graph.consumer_mask[t], graph.producer[t]
            if maker >= 0 and group >> maker & 1:
                if not readers & ~after and not self._stays[t]:
                    dram -= size[t]
            elif not readers & group:
                dram += size[t]
            if not readers & left:
                rest -= size[t]
            apart = self._apart[t]
            if apart >> op & 1 and apart & left:
                rest -= size[t]
        for t in graph.ops[op].outputs:
            dram += size[t]
            if self._stays[t]:
                rest -= size[t]
            if graph.consumer_mask[t]:
                rest += size[t]
        return Step(after, dram, self.floor.extend(group, step.mark, op), rest)
