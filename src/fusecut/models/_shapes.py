"""Groups that look the same have one schedule and one cost: found once, and moved from one to the other.

Networks repeat their blocks, so searches ask for the same few groups over and over, with other names.
Two groups are *alike* when the k-th op of one (in the order of the graph) is the k-th of the other:
same kind, attributes, sizes, weights, same wiring, the same tensors enter and leave, and their tensors
are numbered in the same order. Every choice of a model is a function of these, ties included, so what
it says about one is true of the other with the indices exchanged.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fusecut.ir import Graph, Group, Op, Tensor, bits, mask_of
from fusecut.schedule import Bands, Place, Schedule

_OF_TENSOR = frozenset({"halo", "tile"})
_OF_STAGE = frozenset({"slice"})


@dataclass(frozen=True, eq=False)
class Shape:
    """``key`` is equal for groups that are alike; ``ops`` and ``tensors`` are then those that correspond."""

    key: tuple[int, ...]
    ops: tuple[int, ...]
    tensors: tuple[int, ...]


class Shapes:
    """Shapes of the groups of one graph.

    ``facts`` says for each op what a model's answer depends on beyond the op, its tensors and the
    group, such as rows that the rest of the network demands; ``tensor_facts`` likewise.
    """

    def __init__(self, graph: Graph, facts: Sequence[Hashable] = (), tensor_facts: Sequence[Hashable] = ()) -> None:
        self.graph = graph
        sizes: dict[Hashable, int] = {}
        kinds: dict[Hashable, int] = {}
        tensor_facts = tensor_facts or (None,) * len(graph.tensors)
        facts = facts or (None,) * len(graph)
        self._size = [_numbered(sizes, (_look(t), fact)) for t, fact in zip(graph.tensors, tensor_facts, strict=True)]
        made = [tuple(self._size[t] for t in op.outputs) for op in graph.ops]
        looks = zip(graph.ops, made, facts, strict=True)
        self._kind = [_numbered(kinds, (_op_look(op), outs, fact)) for op, outs, fact in looks]
        self._inputs = [op.inputs for op in graph.ops]
        self._outputs = [op.outputs for op in graph.ops]
        self._readers = [
            len(readers) + (t in graph.output_set or not readers) for t, readers in enumerate(graph.consumers)
        ]

    def of(self, group: Group) -> Shape:
        """The shape of a group. O(tensors of the group, log of them)."""
        ops = tuple(bits(group))
        made = [t for i in ops for t in self._outputs[i]]
        place = {t: k for k, t in enumerate(made)}
        waiting = [self._readers[t] for t in made]
        reads: set[int] = set()
        for i in ops:
            for t in set(self._inputs[i]):
                k = place.get(t)
                if k is None:
                    reads.add(t)
                else:
                    waiting[k] -= 1
        tensors = (*made, *sorted(reads))
        key = [len(ops), len(reads)]
        for k, t in enumerate(tensors[len(made) :], len(made)):
            place[t] = k
            key.append(self._size[t])
        for i in ops:
            key.append(self._kind[i])
            key += [place[t] for t in self._inputs[i]]
        key += [left > 0 for left in waiting]
        key += sorted(range(len(tensors)), key=tensors.__getitem__)
        return Shape(tuple(key), ops, tensors)


def _numbered(known: dict[Hashable, int], look: Hashable) -> int:
    return known.setdefault(look, len(known))


def _look(tensor: Tensor) -> Hashable:
    return tensor.shape, tensor.bits, tensor.dims, tensor.row_axis


def _op_look(op: Op) -> Hashable:
    """Everything about an op but its names and the tensors it reads."""
    attrs = tuple(sorted((name, type(value).__name__, value) for name, value in op.attrs.items()))
    sizes = op.weight_elements, op.bias_elements, op.macs, op.weight_bits, op.bias_bits
    return op.kind, attrs, sizes, len(op.inputs)


def moved(schedule: Schedule, here: Shape, there: Shape) -> Schedule:
    """The schedule of one group for another one that is alike."""
    ops = dict(zip(here.ops, there.ops, strict=True))
    tensors = dict(zip(here.tensors, there.tensors, strict=True))
    return replace(
        schedule,
        group=_moved(here.ops, ops),
        order=tuple(ops[i] for i in schedule.order),
        holds=tuple(
            replace(hold, tensor=tensors[hold.tensor], over=tuple(tensors[t] for t in hold.over))
            for hold in schedule.holds
        ),
        bands=None if schedule.bands is None else _moved_bands(schedule.bands, ops, tensors),
        runs=tuple(_moved(bits(run), ops) for run in schedule.runs),
    )


def _moved(group: Iterable[int], ops: Mapping[int, int]) -> Group:
    return mask_of(ops[i] for i in group)


def _moved_bands(bands: Bands, ops: Mapping[int, int], tensors: Mapping[int, int]) -> Bands:
    def place(old: Place) -> Place:
        if old.what in _OF_STAGE:
            return old
        return replace(old, index=(tensors if old.what in _OF_TENSOR else ops)[old.index])

    return replace(
        bands,
        clock=ops[bands.clock],
        stages=tuple(_moved(bits(stage), ops) for stage in bands.stages),
        part=tuple(tensors[t] for t in bands.part),
        again=tuple(tensors[t] for t in bands.again),
        resident=tuple(ops[i] for i in bands.resident),
        places=tuple(place(old) for old in bands.places),
    )
