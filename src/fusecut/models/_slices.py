"""Which tensors of a band pass by a few channels at a time, and which ops must then run together.

A tensor is *full*: all its channels of the band's rows lie on chip, or *part*: ``channels`` of them
are made at a time and used up at once by whoever reads them. An op that sums over the channels of a
part operand (a convolution, a linear layer) adds each slice to partial sums and is done after the
last one, so nothing it makes can be part; an op that works on each channel by itself hands slices on.
Ops joined by part tensors form a *stage*; stages run one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappop, heappush
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TypeAlias

from fusecut.ir import Graph, Group, Op, bits, mask_of
from fusecut.ops import COLS, POINTWISE_KINDS, ROWS

Takes: TypeAlias = Literal["no", "sum", "local"]
"""What an op can do with a part operand."""

PER_CHANNEL: Final = POINTWISE_KINDS | {"pool", "resize", "pad", "reduce"}
"""Kinds that work on each channel by itself where operands and results have equally many."""


@dataclass(frozen=True)
class Habits:
    """``makes``: a slice of the result can be made without the rest of it. ``takes``: see :data:`Takes`."""

    makes: bool
    takes: Takes


def habits(graph: Graph, op: Op) -> Habits:
    """How an op goes with slices of channels."""
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if len(op.outputs) > 1 or op.attrs.get("barrier"):
        return Habits(False, "no")
    if op.kind in ("conv", "conv_transpose") and len(op.inputs) == 1:
        groups = op.attrs.get("groups", 1)
        depthwise = groups == source.channels == made.channels
        return Habits(True, "local" if depthwise else "sum")
    if op.kind == "linear" and len(op.inputs) == 1:
        by_rows = not op.attrs.get("flatten") and op.attrs.get("in_features", source.channels) == source.channels
        return Habits(True, "sum" if by_rows else "no")
    if op.kind == "concat":
        along_channels = op.attrs.get("axis") not in (ROWS, COLS)
        total = sum(graph.tensors[t].channels for t in op.inputs)
        return Habits(True, "local") if along_channels and total == made.channels else Habits(False, "no")
    if op.kind in PER_CHANNEL and source.channels == made.channels:
        return Habits(True, "local")
    return Habits(False, "no")


Segment: TypeAlias = tuple[int, int]
"""(class, channels): a run of channels whose slices come with those of the class."""


class Member(NamedTuple):
    """One op of a group: ``sums`` and ``stops`` say what it does with a part operand, ``channels`` it makes."""

    op: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    makes: bool
    sums: bool
    stops: bool
    joins: bool
    channels: int


class GroupFacts:
    """What all slicings of a group have in common: ``made`` are tensors made inside, ``readers`` those inside.

    Of a segment of a group (:mod:`fusecut.models._segments`), ``enters`` is there from the first step on, and
    ``leaves`` up to the last one; both are full. -1 stands for no tensor.
    """

    def __init__(self, graph: Graph, group: Group, known: list[Habits], enters: int = -1, leaves: int = -1) -> None:
        self.graph, self.group, self.enters, self.leaves = graph, group, enters, leaves
        self.members = tuple(self._member(i, known[i]) for i in bits(group))
        self.made = {t: m.op for m in self.members for t in m.outputs}
        self.readers: dict[int, list[int]] = {t: [] for t in (*graph.reads(group), *self.made)}
        for member in self.members:
            for t in dict.fromkeys(member.inputs):
                self.readers[t].append(member.op)
        self.edges = [(t, maker, reader) for t, maker in self.made.items() for reader in self.readers[t]]
        self.weighted = mask_of(m.op for m in self.members if graph.ops[m.op].weight_bytes)
        self._slices: dict[tuple[int, int, bool], int] = {}

    def slice_bytes(self, op: int, channels: int, summed: bool) -> int:
        """:func:`weight_slice` of an op, remembered."""
        key = op, channels, summed
        nbytes = self._slices.get(key)
        if nbytes is None:
            nbytes = self._slices[key] = weight_slice(self.graph, self.graph.ops[op], channels, summed)
        return nbytes

    def _member(self, index: int, known: Habits) -> Member:
        op = self.graph.ops[index]
        channels = self.graph.tensors[op.outputs[0]].channels
        sums, stops = known.takes == "sum", known.takes == "no"
        return Member(index, op.inputs, op.outputs, known.makes, sums, stops, op.kind == "concat", channels)


class Slicing:
    """A choice of part tensors for one group, checked and put in order.

    ``stages`` are the groups of ops that run together, in order; ``sums`` the ops that add up slices.
    Channels whose slices come at the same time are one class; ``classes`` says which classes an op
    works through, ``lengths`` how many channels each has. ``valid`` is False, and nothing else
    means anything, where the choice cannot run. O(ops + operands).
    """

    def __init__(self, facts: GroupFacts, part: frozenset[int]) -> None:
        self.facts, self.graph, self.group, self.part = facts, facts.graph, facts.group, part
        self.sums = frozenset(m.op for m in facts.members if m.sums and m.inputs[0] in part)
        self.lengths: list[int] = []
        self.classes: dict[int, list[int]] = {}
        self._segments: dict[int, list[Segment]] = {}
        self._root: list[int] = []
        self.stages: list[Group] = []
        self.stage_of: dict[int, int] = {}
        self.valid = self._allowed() and self._sliced() and self._in_turn() and self._ordered()

    def _allowed(self) -> bool:
        for member in self.facts.members:
            if member.stops and not self.part.isdisjoint(member.inputs):
                return False
            if not self.part.isdisjoint(member.outputs) and (not member.makes or member.op in self.sums):
                return False
        return True

    def _sliced(self) -> bool:
        for t in sorted(self.part):
            if t not in self.facts.made:
                self._segments[t] = [self._new_class(self.graph.tensors[t].channels)]
        return all(self._op_slices(member) for member in self.facts.members)

    def _new_class(self, channels: int) -> Segment:
        self._root.append(len(self._root))
        self.lengths.append(channels)
        return len(self._root) - 1, channels

    def root(self, number: int) -> int:
        """The class that stands for all that are in step with it."""
        while self._root[number] != number:
            number = self._root[number]
        return number

    def _op_slices(self, member: Member) -> bool:
        index, part = member.op, self.part
        if part.isdisjoint(member.inputs):
            segments = [self._new_class(member.channels)]
        elif index in self.sums:
            segments = self._segments[member.inputs[0]]
        elif member.joins:
            if not part.issuperset(member.inputs) or len(set(member.inputs)) < len(member.inputs):
                return False
            segments = [s for t in member.inputs for s in self._segments[t]]
        else:
            first, *others = (t for t in member.inputs if t in part)
            segments = self._segments[first]
            if sum(n for _, n in segments) != member.channels:
                return False
            if not all(self._in_step(segments, self._segments[t]) for t in others):
                return False
        self.classes[index] = [c for c, _ in segments]
        for t in member.outputs:
            if t in part:
                self._segments[t] = segments
        return True

    def _in_step(self, one: list[Segment], other: list[Segment]) -> bool:
        if [n for _, n in one] != [n for _, n in other]:
            return False
        for (a, _), (b, _) in zip(one, other, strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self._root[high] = low
        return True

    def _in_turn(self) -> bool:
        """Classes can run one after the other so that operands of every concatenation hand on slices in order."""
        behind: dict[int, set[int]] = {}
        for member in self.facts.members:
            turns = [self.root(c) for c in self.classes[member.op]] if member.joins else []
            for a, b in pairwise(turns):
                behind.setdefault(a, set()).add(b)
        waits = dict.fromkeys(behind, 0)
        for others in behind.values():
            for b in others:
                waits[b] = waits.get(b, 0) + 1
        ready = [c for c, count in waits.items() if not count]
        done = 0
        while ready:
            done += 1
            for b in behind.get(ready.pop(), ()):
                waits[b] -= 1
                if not waits[b]:
                    ready.append(b)
        return done == len(waits)

    def _ordered(self) -> bool:
        """Stages in an order in which each has its full operands; lowest op first where there is a choice."""
        first = self._joined()
        members: dict[int, Group] = {}
        for i, head in first.items():
            members[head] = members.get(head, 0) | 1 << i
        after: dict[int, set[int]] = {head: set() for head in members}
        waits = dict.fromkeys(members, 0)
        for t, maker, reader in self.facts.edges:
            if t not in self.part:
                before, behind = first[maker], first[reader]
                if before == behind:
                    return False
                if behind not in after[before]:
                    after[before].add(behind)
                    waits[behind] += 1
        ready = [head for head, count in waits.items() if not count]
        while ready:
            head = heappop(ready)
            for i in bits(members[head]):
                self.stage_of[i] = len(self.stages)
            self.stages.append(members[head])
            for behind in after[head]:
                waits[behind] -= 1
                if not waits[behind]:
                    heappush(ready, behind)
        return len(self.stages) == len(members)

    def _joined(self) -> dict[int, int]:
        """The lowest op of the stage of each op: makers and readers of part tensors run together."""
        owner = {member.op: member.op for member in self.facts.members}

        def find(i: int) -> int:
            while owner[i] != i:
                i = owner[i]
            return i

        for t in sorted(self.part):
            joined = [self.facts.made[t]] if t in self.facts.made else []
            joined += self.facts.readers[t]
            for i in joined[1:]:
                a, b = sorted((find(joined[0]), find(i)))
                owner[b] = a
        return {i: find(i) for i in owner}

    def width(self, tensor: int, channels: int) -> int:
        """Channels of a part tensor that are there at a time."""
        live: dict[int, int] = {}
        for c, n in self._segments[tensor]:
            live[self.root(c)] = live.get(self.root(c), 0) + min(channels, n)
        return max(live.values())

    def slice_bytes(self, stage: int, channels: int) -> int:
        """Weights on chip at a time: the slice of every op of a stage, or the biases that begin the sums."""
        first = 0
        live: dict[int, int] = {}
        for i in bits(self.stages[stage] & self.facts.weighted):
            summed = i in self.sums
            if summed:
                first += self.graph.ops[i].bias_bytes
            for c in self.classes[i]:
                size = self.facts.slice_bytes(i, min(channels, self.lengths[c]), summed)
                live[self.root(c)] = live.get(self.root(c), 0) + size
        return max([first, *live.values()])


def weight_slice(graph: Graph, op: Op, channels: int, summed: bool) -> int:
    """Bytes of the weights that go with so many channels: of the operand where they are summed, else of the result."""
    of = graph.tensors[op.inputs[0] if summed else op.outputs[0]].channels
    weights = min(op.weight_elements, -(-op.weight_elements // of) * channels)
    biases = 0 if summed else min(op.bias_elements, -(-op.bias_elements // of) * channels)
    return -(-weights * op.weight_bits // 8) + -(-biases * op.bias_bits // 8)


@dataclass
class Slicings:
    """Slicings of one group, built once for each choice."""

    graph: Graph
    group: Group
    known: list[Habits]
    _built: dict[frozenset[int], Slicing] = field(default_factory=dict)

    @cached_property
    def touching(self) -> dict[int, Group]:
        """Ops of the group that read or make each tensor."""
        found: dict[int, Group] = {}
        for i in bits(self.group):
            for t in (*self.graph.ops[i].inputs, *self.graph.ops[i].outputs):
                found[t] = found.get(t, 0) | 1 << i
        return found

    @cached_property
    def facts(self) -> GroupFacts:
        return GroupFacts(self.graph, self.group, self.known)

    def of(self, part: frozenset[int]) -> Slicing:
        if part not in self._built:
            self._built[part] = Slicing(self.facts, part)
        return self._built[part]

    def candidates(self) -> tuple[frozenset[int], list[frozenset[int]]]:
        """(tensors nobody in the group reads that can be part: they are, to begin with; what may change at once).

        Tensors change one by one, and the operands of one op all together: those of a concatenation are all
        part or none, those of an addition save most if they are. With the operand of a convolution that would
        sum it up changes the result that nobody reads: what is summed up is not made in slices.
        """
        ends: set[int] = set()
        others: list[int] = []
        for t in _tensors(self.graph, self.group):
            readers = list(bits(self.graph.consumer_mask[t] & self.group))
            maker = self.graph.producer[t]
            made = maker >= 0 and self.group >> maker & 1
            if made and not self.known[maker].makes:
                continue
            if not readers:
                ends.add(t)
            elif all(self.known[i].takes != "no" for i in readers):
                others.append(t)
        joined = [frozenset(self.graph.ops[i].inputs) for i in bits(self.group) if self.known[i].takes == "local"]
        joined = [operands for operands in joined if len(operands) > 1 and operands <= set(others)]
        alone = [frozenset({t}) for t in others]
        return frozenset(ends), [change | self._sunk(change, ends) for change in (*alone, *joined)]

    def _sunk(self, change: frozenset[int], ends: set[int]) -> frozenset[int]:
        """Results of ops that would sum up one of these tensors, where nobody reads them."""
        summing = [
            i for i in bits(self.group) if self.known[i].takes == "sum" and self.graph.ops[i].inputs[0] in change
        ]
        return frozenset(t for i in summing for t in self.graph.ops[i].outputs if t in ends)


def _tensors(graph: Graph, group: Group) -> Iterable[int]:
    return (*graph.reads(group), *(t for i in bits(group) for t in graph.ops[i].outputs))
