"""What a step of the lattice, and all that comes after it, costs at least: from shapes alone."""

from __future__ import annotations

from typing import NamedTuple

from fusecut.cost import Planned
from fusecut.ir import Group, bits
from fusecut.problem import Problem
from fusecut.search._cuts import ForcedCuts, Reach
from fusecut.search._lattice import Step


class Ranking:
    """Lower bounds of ranks (:class:`fusecut.objective.Prices`); what ops pay in every plan is left out.

    Bytes are worth ``per_byte`` each. Where time counts, a group takes at least as long as the MACs
    of its ops, and as its touch-once bytes. What comes after takes at least as long as all its MACs,
    as all its bytes, and as :class:`Regions` says. Each of these is admissible and consistent, hence
    so is the largest.
    """

    def __init__(self, problem: Problem, reach: Reach, cuts: ForcedCuts) -> None:
        self.prices = problem.prices
        self.per_byte = self.prices.tariff.per_byte
        self.per_cycle = self.prices.tariff.per_cycle
        self._macs = self.prices.macs_of(problem.graph.everything)
        self._done = {0: 0}
        self._regions = Regions(problem, reach, cuts) if self.per_cycle else None

    def whole(self, nbytes: int) -> int:
        """The rank of every plan, at least, if every plan moves so many bytes."""
        left = nbytes * self.per_byte
        if self._regions is None:
            return left
        return left + max(self.prices.tariff.cycles(self._macs, nbytes), self._regions.whole) * self.per_cycle

    def step(self, ideal: Group, step: Step) -> tuple[int, int]:
        """(rank of the group, rank of everything after it), both at least, for a step from ``ideal``."""
        moved = step.dram_bytes + step.again_bytes
        spent, left = moved * self.per_byte, step.rest_bytes * self.per_byte
        if self._regions is None:
            return spent, left
        cycles, macs = self.prices.tariff.cycles, self.prices.macs_of(step.group)
        done = self._done[ideal | step.group] = self._done[ideal] + macs
        after = max(cycles(self._macs - done, step.rest_bytes), self._regions.after(ideal, step.group))
        return spent + cycles(macs, moved) * self.per_cycle, left + after * self.per_cycle


class _Left(NamedTuple):
    """What is left of a part: MACs, DRAM bytes, and the cycles they take, at least."""

    macs: int
    nbytes: int
    cycles: int


class Regions:
    """Parts of the network that no group crosses, each with a bound of the time it takes.

    A group is connected by tensors made and read inside it, and maker and reader of each can share a
    group. So a group lies within one connected part of the graph that has these tensors only, and
    what a part takes is at least the longer of all its MACs and all its bytes: its weights, tensors
    from outside the part, or made already, that it still reads, tensors that it still makes and that
    are read outside the part or by an op that can never share a group with the maker, and its share
    of the windows. What a part takes depends on what is done of it alone. The sum over parts sees
    what the network as a whole hides: compute-bound parts beside transfer-bound ones.
    """

    def __init__(self, problem: Problem, reach: Reach, cuts: ForcedCuts) -> None:
        self.problem, self.graph, self.reach = problem, problem.graph, reach
        self.parts = self._parts() if problem.touches_once else []
        self._home = {op: part for part in self.parts for op in bits(part)}
        self._own = {op: self._own_bytes(op, part) + cuts.windows[op] for op, part in self._home.items()}
        self._known = {part: self._measured(part) for part in self.parts}
        self.whole = sum(left.cycles for left in self._known.values())
        self._left = {0: self.whole}

    def after(self, ideal: Group, group: Group) -> int:
        """What is left after a group that follows an ideal takes at least. O(tensors that the group touches)."""
        left = self._left[ideal]
        if self.parts:
            before = self._home[(group & -group).bit_length() - 1] & ~ideal
            after = before & ~group
            known = self._known.get(after)
            if known is None:
                known = self._known[after] = self._without(before, group)
            left += known.cycles - self._known[before].cycles
        self._left[ideal | group] = left
        return left

    def _parts(self) -> list[Group]:
        """The parts; an op belongs to exactly one."""
        parts: list[Group] = []
        for op in range(len(self.graph)):
            near = sum(1 << p for p in bits(self.graph.preds[op]) if self.reach.mates(p) >> op & 1)
            joined = 1 << op
            for part in [p for p in parts if p & near]:
                parts.remove(part)
                joined |= part
            parts.append(joined)
        return parts

    def _own_bytes(self, op: int, part: Group) -> int:
        """Weights of an op, and what it makes that every plan writes."""
        graph, this = self.graph, self.graph.ops[op]
        apart = ~self.reach.mates(op)
        written = [t for t in this.outputs if graph.leaves(t, part) or graph.consumer_mask[t] & apart]
        return this.weight_bytes + sum(graph.tensors[t].nbytes for t in written)

    def _measured(self, part: Group) -> _Left:
        """A whole part; an op that is a part of its own takes what the model says."""
        macs = self.problem.prices.macs_of(part)
        nbytes = sum(self._own[op] for op in bits(part)) + self._read_bytes(part, part)
        if not part & (part - 1):
            planned = self.problem.plan(part)
            if isinstance(planned, Planned):
                macs, nbytes = macs + planned.cost.recomputed_macs, planned.cost.dram_bytes
        return _Left(macs, nbytes, self.problem.prices.tariff.cycles(macs, nbytes))

    def _without(self, before: Group, group: Group) -> _Left:
        """What is left of a part without a group of it; nothing after its last one."""
        after = before & ~group
        if not after:
            return _Left(0, 0, 0)
        known = self._known[before]
        macs = known.macs - self.problem.prices.macs_of(group)
        nbytes = known.nbytes - sum(self._own[op] for op in bits(group))
        nbytes += self._read_bytes(group, after) - self._read_bytes(group, before)
        return _Left(macs, nbytes, self.problem.prices.tariff.cycles(macs, nbytes))

    def _read_bytes(self, group: Group, left: Group) -> int:
        """Of the tensors that a group touches: those that what is left of its part must read from DRAM."""
        graph = self.graph
        touched = {t for op in bits(group) for t in (*graph.ops[op].inputs, *graph.ops[op].outputs)}
        return sum(graph.tensors[t].nbytes for t in touched if self._enters(t, left))

    def _enters(self, tensor: int, left: Group) -> bool:
        """Whether some op that is left reads the tensor from DRAM in every plan."""
        maker, readers = self.graph.producer[tensor], self.graph.consumer_mask[tensor] & left
        if maker < 0 or not left >> maker & 1:
            return bool(readers)
        return bool(readers & ~self.reach.mates(maker))
