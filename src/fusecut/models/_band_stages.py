"""What ops that run in bands have on chip at the same time, at least: whatever is part, and in whatever order.

For each op of a group, what its stage holds; sizes are arrays, so one look is good for many heights of bands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from itertools import product
from math import prod
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Graph, Group, bits
from fusecut.models._slices import Habits, weight_slice

Sizes: TypeAlias = NDArray[np.int64]
"""Bytes or rows: one for each range of band counts, or for each height of bands."""

_FAR: Final = 1 << 60
_MOST_WAYS: Final = 8


class Traits:
    """What ops do with slices of channels, and the least slice of each one's weights.

    ``slices`` are those of an op that has all of its operand, ``summed`` those of one that sums up slices of it, and
    ``biases`` what such an op begins its sums with.
    """

    def __init__(self, graph: Graph, habits: list[Habits]) -> None:
        self.graph, self.habits = graph, habits
        weighted = [op.weight_bytes > 0 for op in graph.ops]
        self.slices = [
            weight_slice(graph, op, 1, False) if has else 0 for op, has in zip(graph.ops, weighted, strict=True)
        ]
        self.summed = [
            weight_slice(graph, op, 1, True) if has else 0 for op, has in zip(graph.ops, weighted, strict=True)
        ]
        self.biases = [op.bias_bytes if has else 0 for op, has in zip(graph.ops, weighted, strict=True)]
        self.channel_row_bytes = [-(-t.cols * t.bits // 8) for t in graph.tensors]


class _Way(NamedTuple):
    """A way to make slices of a tensor: what is ``full`` meanwhile, what passes in ``slices``, and who ``makes`` them.

    Where slices are ``joined``, those of one maker come after those of another.
    """

    full: frozenset[int]
    slices: frozenset[int]
    makers: frozenset[int] = frozenset()
    joined: bool = False

    def beside(self, other: _Way) -> _Way:
        """Both at the same time."""
        return _Way(
            self.full | other.full, self.slices | other.slices, self.makers | other.makers, self.joined or other.joined
        )


class Stages:
    """Some ops of a graph, and what is there in the stage of each: a lower bound whatever the choice of part tensors.

    ``rows`` are those of a tensor that lie on chip while somebody waits for them, if all its channels do, ``made``
    those that an op makes in its largest band.
    """

    def __init__(
        self, traits: Traits, ops: Group, rows: Callable[[int], Sizes], made: Mapping[int, Sizes], images: Sizes
    ) -> None:
        self.traits, self.graph, self.ops = traits, traits.graph, ops
        self.rows, self.made, self.images = rows, made, images
        self.habits, self.zero = traits.habits, np.zeros_like(images)
        self._full: dict[int, Sizes] = {}
        self._held_rows: dict[int, Sizes] = {}
        self._down: dict[int, Sizes] = {}
        self._must: dict[int, bool] = {}
        self._sums: dict[int, Sizes] = {}
        self._ways: dict[int, list[_Way]] = {}
        self._firsts: dict[tuple[int, int], Sizes] = {}
        tensors = dict.fromkeys(t for i in bits(ops) for t in self.graph.ops[i].inputs)
        self._forked = [t for t in tensors if self.readers(t) & (self.readers(t) - 1)]
        self._held = [t for t in tensors if t in self._forked or self._has_siblings(t)]

    def most(self) -> Sizes:
        """The most over all stages."""
        most = self.zero
        for i in bits(self.ops):
            most = np.maximum(most, self._during(i))
        for t in self._forked:
            most = np.maximum(most, self._split_up(t))
        return most

    def most_with(self, first: int) -> Sizes:
        """The most over stages that may hold more because of the first op; others are those of shorter stretches."""
        graph, most = self.graph, self.zero
        near = 1 << first | self._divided(graph.succs[first] & self.ops)
        for t in graph.ops[first].inputs:
            if t in self._held:
                near |= sum(1 << i for i in bits(self.ops) if self.readers(t) & ~graph.ancestors[i])
        near, seen = self._touched(near, first)
        for i in bits(near):
            most = np.maximum(most, self._during(i))
        for t in self._forked:
            if t in seen or self.readers(t) & near:
                most = np.maximum(most, self._split_up(t))
        return most

    def _divided(self, branches: Group) -> Group:
        """Ops until several branches have come together, the op where they do included."""
        graph, found = self.graph, 0
        if not branches & (branches - 1):
            return 0
        for i in bits(self.ops):
            if branches & ~graph.ancestors[i] or any(
                branches & ~(graph.ancestors[p] | 1 << p) for p in bits(graph.preds[i] & self.ops)
            ):
                found |= 1 << i
        return found

    def _touched(self, near: Group, first: int) -> tuple[Group, set[int]]:
        """Ops that have to do with tensors of the first op, also through ops that hand slices on; and these tensors."""
        graph = self.graph
        tensors = list(graph.ops[first].inputs + graph.ops[first].outputs)
        seen, done = set(tensors), 0
        while tensors:
            t = tensors.pop()
            maker = graph.producer[t]
            touching = self.readers(t) | (1 << maker & self.ops if maker >= 0 else 0)
            for i in bits(touching & ~done):
                done |= 1 << i
                if self.habits[i].takes == "local":
                    new = [t for t in graph.ops[i].inputs + graph.ops[i].outputs if t not in seen]
                    seen.update(new)
                    tensors += new
        return near | done, seen

    def readers(self, tensor: int) -> Group:
        return self.graph.consumer_mask[tensor] & self.ops

    def _has_siblings(self, tensor: int) -> bool:
        maker = self.graph.producer[tensor]
        return maker >= 0 and len(self.graph.ops[maker].outputs) > 1

    def full(self, tensor: int) -> Sizes:
        """Bytes of all channels of a tensor's rows."""
        if tensor not in self._full:
            self._full[tensor] = self.held_rows(tensor) * self.graph.tensors[tensor].row_bytes
        return self._full[tensor]

    def held_rows(self, tensor: int) -> Sizes:
        """Rows of a tensor in all images."""
        if tensor not in self._held_rows:
            self._held_rows[tensor] = self.rows(tensor) * self.images
        return self._held_rows[tensor]

    def must_be_full(self, tensor: int) -> bool:
        """Whether no plan passes the tensor in slices."""
        if tensor not in self._must:
            self._must[tensor] = self._is_full(tensor)
        return self._must[tensor]

    def _is_full(self, tensor: int) -> bool:
        graph, habits = self.graph, self.habits
        maker = graph.producer[tensor]
        if maker >= 0 and self.ops >> maker & 1 and not habits[maker].makes:
            return True
        readers = self.readers(tensor)
        if any(habits[i].takes == "no" for i in bits(readers)):
            return True
        for a in bits(readers):
            for b in bits(readers & graph.descendants[a]):
                between = (graph.descendants[a] | 1 << a) & graph.ancestors[b]
                if any(habits[i].takes != "local" for i in bits(between)):
                    return True
        return False

    def sums(self, index: int) -> Sizes:
        """Bytes that an op sums up, and, where somebody reads it, the result that they become."""
        summed, made = self._partial(index), self.graph.ops[index].outputs[0]
        return summed + self.full(made) if self.readers(made) else summed

    def _during(self, index: int) -> Sizes:
        """What is there in the stage of one op."""
        takes = self.habits[index].takes
        if takes == "local":
            return self._making(index, self._operands(index))
        inputs = list(dict.fromkeys(self.graph.ops[index].inputs))
        waiting = self._waiting(index)
        own = self._making(index, self._all(inputs) + waiting + self.traits.slices[index])
        if takes == "sum" and not self.must_be_full(inputs[0]):
            own = np.minimum(own, self._summing(index, inputs[0], waiting))
        return own

    def _making(self, index: int, beside: Sizes) -> Sizes:
        """What is there in the stage of an op that makes its result beside so much: in full, or in slices."""
        made, results = self.graph.ops[index].outputs[0], self._results(index)
        if self.must_be_full(made) or not self.readers(made) or np.array_equal(results, self.full(made)):
            return beside + results
        passing = [self._summed_up(i, made) for i in bits(self.readers(made)) if self.habits[i].takes == "sum"]
        in_slices: Sizes = np.maximum.reduce([beside + results, *passing])
        in_full: Sizes = beside + self.full(made)
        return np.minimum(in_full, in_slices)

    def _summed_up(self, index: int, operand: int) -> Sizes:
        """What is there while slices of an operand are made and summed up, however they are made."""
        if (index, operand) not in self._firsts:
            ways = [self._first(index, operand, way) for way in self.ways(operand)]
            self._firsts[index, operand] = np.minimum.reduce(ways)
        return self._firsts[index, operand]

    def _summing(self, index: int, operand: int, waiting: Sizes) -> Sizes:
        """What is there if an op sums up slices of its operand, as all that sum it up do; first those, then results."""
        first = self._summed_up(index, operand)
        summing = (i for i in bits(self.readers(operand)) if self.habits[i].takes == "sum")
        then = np.maximum(sum((self.sums(i) for i in summing), self.zero), self.sums(index) + waiting)
        most: Sizes = np.maximum(first, then)
        return most

    def _first(self, index: int, operand: int, way: _Way) -> Sizes:
        """What is there while slices of the operand are made and summed up."""
        traits, slices = self.traits, self.zero
        for t in way.slices:
            slices = slices + self.held_rows(t) * traits.channel_row_bytes[t]
        passing = [traits.summed[index], *(traits.slices[i] for i in way.makers)]
        weights = max(traits.biases[index], max(passing) if way.joined else sum(passing))
        others = self._waiting(index, way.full | way.slices)
        sums: Sizes = np.maximum(self._downwards(operand), self._partial(index) + others)
        return sums + self._all(way.full) + slices + weights

    def ways(self, tensor: int) -> list[_Way]:
        """How slices of a tensor come about. Of many ways only what they have in common."""
        if tensor not in self._ways:
            self._ways[tensor] = self._made_in_slices(tensor)
        return self._ways[tensor]

    def _made_in_slices(self, tensor: int) -> list[_Way]:
        maker, this = self.graph.producer[tensor], frozenset({tensor})
        if maker < 0 or not self.ops >> maker & 1:
            return [_Way(frozenset(), this)]
        inputs, own = dict.fromkeys(self.graph.ops[maker].inputs), frozenset({maker})
        joined = self.graph.ops[maker].kind == "concat"
        must = frozenset(t for t in inputs if self.must_be_full(t))
        if self.habits[maker].takes != "local" or (joined and must):
            return [_Way(frozenset(inputs), this, own)]
        free = [[_Way(frozenset({t}), frozenset()), *self.ways(t)] for t in inputs if t not in must]
        start = _Way(must, this, own, joined)
        if prod(map(len, free)) > _MOST_WAYS:
            return [start]
        return [reduce(_Way.beside, choice, start) for choice in product(*free)]

    def _all(self, tensors: Iterable[int]) -> Sizes:
        """All channels of each tensor."""
        total = self.zero
        for t in tensors:
            total = total + self.full(t)
        return total

    def _operands(self, index: int) -> Sizes:
        """What has to be there of the operands of an op that works channel by channel."""
        inputs = list(dict.fromkeys(self.graph.ops[index].inputs))
        must = [t for t in inputs if self.must_be_full(t)]
        if self.graph.ops[index].kind == "concat":
            every = self._all(inputs)
            return every if must else np.minimum(every, self._joined(index))
        held = least = self._all(must)
        for t in inputs:
            if t not in must:
                least = np.maximum(least, np.minimum(held + self.full(t), self._upwards(t)))
        return least

    def _partial(self, index: int) -> Sizes:
        if index not in self._sums:
            op = self.graph.ops[index]
            facts = self.graph.tensors[op.outputs[0]]
            row_bits = facts.channels * facts.cols * op.bias_bits
            self._sums[index] = -(-self.made[index] * self.images * row_bits // 8)
        return self._sums[index]

    def _results(self, index: int) -> Sizes:
        """What an op makes, beside its operands in full: results in full, or what follows from passing them on."""
        total = self.zero
        for t in self.graph.ops[index].outputs:
            if self.readers(t):
                full = self.full(t)
                total = total + (full if self.must_be_full(t) else np.minimum(full, self._downwards(t)))
        return total

    def _downwards(self, tensor: int) -> Sizes:
        """What the stage of a part tensor holds because of those who read it."""
        if tensor not in self._down:
            self._down[tensor] = self._read_in_slices(tensor)
        return self._down[tensor]

    def _read_in_slices(self, tensor: int) -> Sizes:
        total, local = self.zero, self.zero
        for i in bits(self.readers(tensor)):
            takes = self.habits[i].takes
            if takes == "sum":
                total = total + self._partial(i)
            elif takes == "local":
                local = np.maximum(local, self._results(i))
            else:
                return total + _FAR
        return total + local

    def _upwards(self, tensor: int) -> Sizes:
        """What the stage of a part tensor holds because of how it is made."""
        maker = self.graph.producer[tensor]
        if maker < 0 or not self.ops >> maker & 1:
            return self.zero
        if self.habits[maker].takes == "local":
            return self._operands(maker)
        return self._all(dict.fromkeys(self.graph.ops[maker].inputs))

    def _waiting(self, index: int, counted: frozenset[int] = frozenset()) -> Sizes:
        """What waits beside an op: what was there before it, or was made of that, and is needed after it.

        Nothing of what is ``counted``, or used by the op, is counted again.
        Where somebody reads a tensor after the op, it waits itself. Where its other readers are neither before
        nor after, it waits for one of them, or they have run: then something on the way from each waits.
        """
        graph, total = self.graph, self.zero
        before, after = graph.ancestors[index], graph.descendants[index]
        used = set(counted).union(graph.ops[index].inputs)
        for t in self._held:
            readers, maker = self.readers(t), graph.producer[t]
            if t in used or not (readers & before or (maker >= 0 and (before & self.ops) >> maker & 1)):
                continue
            beside = readers & ~before & ~after & ~(1 << index)
            if readers & after:
                total = total + self.full(t)
            elif beside:
                ways = self.zero
                for b in bits(beside):
                    ways = ways + self._narrowest(b, after, used)
                total = total + np.minimum(self.full(t), ways)
            used.add(t)
        return total

    def _joined(self, index: int) -> Sizes:
        """What the stage of a concatenation of part operands holds: what their makers read in full, once each."""
        whole: dict[int, None] = {}
        least = self.zero
        for t in self.graph.ops[index].inputs:
            maker = self.graph.producer[t]
            if maker >= 0 and self.ops >> maker & 1:
                if self.habits[maker].takes != "local":
                    whole.update(dict.fromkeys(self.graph.ops[maker].inputs))
                else:
                    least = np.maximum(least, self._upwards(t))
        return np.maximum(least, self._all(whole))

    def _split_up(self, tensor: int) -> Sizes:
        """What is there when the last reader of a tensor works, whichever it is."""
        graph, ops = self.graph, self.ops
        readers = self.readers(tensor)
        meet = ops
        for c in bits(readers):
            meet &= graph.descendants[c] | 1 << c
        if not meet or all(self._in_line(c, readers) for c in bits(readers)):
            return self.zero
        join = (meet & -meet).bit_length() - 1
        held, used = self.full(tensor), {tensor}
        for c in bits(readers & ~(1 << join)):
            held = held + self._narrowest(c, 1 << join, used)
        inputs = graph.ops[join].inputs
        if graph.ops[join].kind == "concat" and self.habits[join].takes == "local":
            if not any(self.must_be_full(t) for t in inputs):
                held = np.minimum(held, self._joined(join))
        elif not all(self.must_be_full(t) for t in inputs):
            held = np.minimum(held, self._operands(join) if self.habits[join].takes == "local" else self.zero)
        if not self.must_be_full(tensor):
            held = np.minimum(held, self._downwards(tensor))
        return held

    def _in_line(self, index: int, ops: Group) -> bool:
        """Whether each of some ops comes before or after one of them."""
        return not ops & ~(self.graph.ancestors[index] | self.graph.descendants[index] | 1 << index)

    def _narrowest(self, first: int, ends: Group, used: set[int]) -> Sizes:
        """The least tensor on a way from an op to one of ``ends``, or what its maker sums up.

        The way is used from now on. Nothing where all ways lead through tensors that are used.
        """
        at = first
        way: list[tuple[int, int]] = []
        while not ends >> at & 1:
            step = self._step(at, ends, used)
            if step is None:
                return self.zero
            way.append((step[0], at))
            at = step[1]
        used.update(t for t, _ in way)
        least = self.zero + _FAR
        for t, maker in way:
            least = np.minimum(least, self.full(t))
            if self.habits[maker].takes == "sum":
                least = np.minimum(least, self._partial(maker))
        return least

    def _step(self, at: int, ends: Group, used: set[int]) -> tuple[int, int] | None:
        """(tensor, reader) on a way to ``ends``."""
        graph = self.graph
        for t in graph.ops[at].outputs:
            if t not in used:
                for c in bits(self.readers(t)):
                    if ends >> c & 1 or graph.descendants[c] & ends & self.ops:
                        return t, c
        return None
