"""The network as a DAG: tensors, ops, and a frozen, topologically indexed graph.

Groups of ops are integer bit masks: bit ``i`` is op ``i``. Op indices are topological, so a
mask's lowest bit is always a source of the group it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Final, TypeAlias

from fusecut.errors import GraphError
from fusecut.text import Column, html_table

Group: TypeAlias = int
"""A set of ops as a bit mask over op indices."""

AttrValue: TypeAlias = int | float | str | bool | tuple[int, ...]
Attrs: TypeAlias = Mapping[str, AttrValue]


_Traffic: TypeAlias = tuple[int, tuple[tuple[int, int, int], ...], tuple[tuple[int, int], ...]]
"""Bytes of weights; (tensor, mask of its maker, bytes) read; (mask of readers, bytes) made."""

_KIND_COLUMNS = (Column("kind", "left"), Column("ops"), Column("MACs"), Column("weights B"))


def _no_attrs() -> Attrs:
    return MappingProxyType({})


def bits(mask: int) -> Iterator[int]:
    """The set bits of a mask, lowest first.

    >>> list(bits(0b10110))
    [1, 2, 4]
    """
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def mask_of(indices: Iterable[int]) -> int:
    """The mask with these bits set.

    >>> mask_of([1, 2, 4])
    22
    """
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


_LIKE_SHAPE: Final = (-1,)


@dataclass(frozen=True)
class Tensor:
    """What flows on an edge.

    ``shape`` is the canonical (N, C, H, W) view that every cost model reads: H are the rows a
    line buffer streams, C*W the elements of one row. ``dims`` are the dimensions as in the
    file (by default those of ``shape``), and ``row_axis`` the one of them that is H (None: the tensor is a
    single row).
    """

    name: str
    shape: tuple[int, int, int, int]
    bits: int = 8
    dims: tuple[int, ...] = _LIKE_SHAPE
    row_axis: int | None = 2

    def __post_init__(self) -> None:
        if self.dims == _LIKE_SHAPE:
            object.__setattr__(self, "dims", self.shape)
        if any(d < 1 for d in self.shape):
            raise GraphError(f"tensor {self.name!r} has shape {self.shape}: every dimension must be at least 1")

    @property
    def batch(self) -> int:
        return self.shape[0]

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def rows(self) -> int:
        return self.shape[2]

    @property
    def cols(self) -> int:
        return self.shape[3]

    @property
    def elements(self) -> int:
        n, c, h, w = self.shape
        return n * c * h * w

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row of one image, C*W elements, rounded up to whole bytes."""
        return -(-self.channels * self.cols * self.bits // 8)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the whole tensor: N * H * row_bytes."""
        return self.batch * self.rows * self.row_bytes


@dataclass(frozen=True)
class Op:
    """A node: one operator of the network, with what it costs on chip besides its tensors.

    ``inputs`` and ``outputs`` are tensor indices; constants are not tensors, they are counted in
    ``weight_elements`` and ``bias_elements``. ``members`` are the names of the file's nodes that
    this op stands for (several, after folding). ``macs`` are for the whole batch.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: Attrs = field(default_factory=_no_attrs, hash=False)
    weight_elements: int = 0
    bias_elements: int = 0
    macs: int = 0
    weight_bits: int = 8
    bias_bits: int = 32
    members: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.members:
            object.__setattr__(self, "members", (self.name,))

    @cached_property
    def weight_bytes(self) -> int:
        """Weights and biases, each rounded up to whole bytes."""
        return -(-self.weight_elements * self.weight_bits // 8) + self.bias_bytes

    @cached_property
    def bias_bytes(self) -> int:
        return -(-self.bias_elements * self.bias_bits // 8)


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: ops in topological order, the tensors between them, its inputs and outputs.

    Compared and hashed by identity, so that a graph of thousands of ops is a cheap cache key.

    Raises:
        GraphError: an op reads a tensor that no earlier op made and that is no input, two ops
            make one tensor, names repeat, or there is no op at all.
    """

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.ops:
            raise GraphError(f"network {self.name!r} has no operators that compute anything")
        _check_unique(self.name, "op", [op.name for op in self.ops])
        _check_unique(self.name, "tensor", [t.name for t in self.tensors])
        made = set(self.inputs)
        for op in self.ops:
            if not op.inputs or not op.outputs:
                raise GraphError(f"op {op.name!r} must read and make at least one tensor")
            for t in op.inputs:
                if t not in made:
                    raise GraphError(f"op {op.name!r} reads {self.tensors[t].name!r} before anything makes it")
            for t in op.outputs:
                if t in made:
                    raise GraphError(f"op {op.name!r} makes {self.tensors[t].name!r}, which exists already")
                made.add(t)
            if len({self.tensors[t].rows for t in op.outputs}) > 1:
                raise GraphError(f"the outputs of op {op.name!r} differ in rows: split it into one op for each")
        for t in self.outputs:
            if t not in made:
                raise GraphError(f"output {self.tensors[t].name!r} of network {self.name!r} is made by no op")

    def __len__(self) -> int:
        return len(self.ops)

    @cached_property
    def everything(self) -> Group:
        """The group of all ops."""
        return (1 << len(self.ops)) - 1

    @cached_property
    def producer(self) -> tuple[int, ...]:
        """Op that makes each tensor; -1 for a network input."""
        made = [-1] * len(self.tensors)
        for index, op in enumerate(self.ops):
            for t in op.outputs:
                made[t] = index
        return tuple(made)

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """Ops that read each tensor, ascending, each once."""
        readers: list[list[int]] = [[] for _ in self.tensors]
        for index, op in enumerate(self.ops):
            for t in dict.fromkeys(op.inputs):
                readers[t].append(index)
        return tuple(tuple(r) for r in readers)

    @cached_property
    def consumer_mask(self) -> tuple[int, ...]:
        """Ops that read each tensor, as a mask."""
        return tuple(mask_of(r) for r in self.consumers)

    @cached_property
    def preds(self) -> tuple[int, ...]:
        """Mask of the direct predecessors of each op."""
        return tuple(mask_of(self.producer[t] for t in op.inputs if self.producer[t] >= 0) for op in self.ops)

    @cached_property
    def succs(self) -> tuple[int, ...]:
        """Mask of the direct successors of each op."""
        masks = []
        for op in self.ops:
            mask = 0
            for t in op.outputs:
                mask |= self.consumer_mask[t]
            masks.append(mask)
        return tuple(masks)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """Mask of all ops each op depends on, itself not included. O(V E / wordsize)."""
        masks: list[int] = []
        for pred in self.preds:
            mask = pred
            for p in bits(pred):
                mask |= masks[p]
            masks.append(mask)
        return tuple(masks)

    @cached_property
    def descendants(self) -> tuple[int, ...]:
        """Mask of all ops that depend on each op, itself not included."""
        masks = [0] * len(self.ops)
        for index in range(len(self.ops) - 1, -1, -1):
            mask = self.succs[index]
            for s in bits(self.succs[index]):
                mask |= masks[s]
            masks[index] = mask
        return tuple(masks)

    @cached_property
    def output_set(self) -> frozenset[int]:
        return frozenset(self.outputs)

    @cached_property
    def op_index(self) -> Mapping[str, int]:
        """Op by name; the name of any folded member finds the op it was folded into."""
        table = {member: i for i, op in enumerate(self.ops) for member in op.members}
        return table | {op.name: i for i, op in enumerate(self.ops)}

    def reads(self, group: Group) -> tuple[int, ...]:
        """Tensors made outside the group and read inside it, each once, ascending."""
        inside = {t for i in bits(group) for t in self.ops[i].inputs}
        return tuple(sorted(t for t in inside if not self._made_inside(t, group)))

    def writes(self, group: Group) -> tuple[int, ...]:
        """Tensors made inside the group that leave it: read outside, network output, or read by nobody."""
        return tuple(sorted(t for i in bits(group) for t in self.ops[i].outputs if self.leaves(t, group)))

    def touch_once_bytes(self, group: Group) -> int:
        """Every tensor that enters or leaves the group, and every weight of it, once."""
        moved, outside, read = 0, ~group, set[int]()
        for i in bits(group):
            nbytes, inputs, outputs = self._traffic[i]
            moved += nbytes
            for t, makers, nbytes in inputs:
                if makers & outside and t not in read:
                    read.add(t)
                    moved += nbytes
            for readers, nbytes in outputs:
                if readers & outside:
                    moved += nbytes
        return moved

    @cached_property
    def _traffic(self) -> tuple[_Traffic, ...]:
        """For each op its weights; tensors it reads with who makes them; whoever reads what it makes; and their bytes.

        The world outside is an op after all others: it makes network inputs, and reads what nobody else does.
        """
        world = 1 << len(self.ops)
        sizes = [t.nbytes for t in self.tensors]
        makers = [world if op < 0 else 1 << op for op in self.producer]
        readers = [
            mask | world if t in self.output_set or not mask else mask for t, mask in enumerate(self.consumer_mask)
        ]
        return tuple(
            (
                op.weight_bytes,
                tuple((t, makers[t], sizes[t]) for t in dict.fromkeys(op.inputs)),
                tuple((readers[t], sizes[t]) for t in op.outputs),
            )
            for op in self.ops
        )

    def leaves(self, tensor: int, group: Group) -> bool:
        """Whether a tensor made inside the group must be written to DRAM."""
        readers = self.consumer_mask[tensor]
        return bool(readers & ~group) or not readers or tensor in self.output_set

    def _made_inside(self, tensor: int, group: Group) -> bool:
        maker = self.producer[tensor]
        return maker >= 0 and bool(group >> maker & 1)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}: {len(self.ops)} ops, {len(self.tensors)} tensors)"

    def _repr_html_(self) -> str:
        """For notebooks: what the network is made of, by kind of op."""
        totals: dict[str, list[int]] = {}
        for op in self.ops:
            row = totals.setdefault(op.kind, [0, 0, 0])
            for i, n in enumerate((1, op.macs, op.weight_bytes)):
                row[i] += n
        rows = [[kind, *(f"{n:,}" for n in row)] for kind, row in totals.items()]
        rows.append(["all", *(f"{sum(column):,}" for column in zip(*totals.values(), strict=True))])
        tensors = self.tensors
        ends = [", ".join(f"{tensors[t].name} {list(tensors[t].dims)}" for t in e) for e in (self.inputs, self.outputs)]
        return html_table(_KIND_COLUMNS, rows, f"{self.name}: {' to '.join(ends)}")

    def is_connected(self, group: Group) -> bool:
        """Whether the group is weakly connected through tensors made and read inside it."""
        if not group:
            return False
        seen = frontier = group & -group
        while frontier:
            near = 0
            for i in bits(frontier):
                near |= self.preds[i] | self.succs[i]
            frontier = near & group & ~seen
            seen |= frontier
        return seen == group

    def is_convex(self, group: Group) -> bool:
        """Whether no path leaves the group and comes back."""
        after = before = 0
        for i in bits(group):
            after |= self.descendants[i]
            before |= self.ancestors[i]
        return not (after & before & ~group)

    def with_bits(self, activation_bits: int, weight_bits: int, accumulator_bits: int) -> Graph:
        """The same network with other widths; the graph itself when nothing changes."""
        tensors = tuple(t if t.bits == activation_bits else replace(t, bits=activation_bits) for t in self.tensors)
        ops = tuple(
            op
            if (op.weight_bits, op.bias_bits) == (weight_bits, accumulator_bits)
            else replace(op, weight_bits=weight_bits, bias_bits=accumulator_bits)
            for op in self.ops
        )
        if tensors == self.tensors and ops == self.ops:
            return self
        return replace(self, tensors=tensors, ops=ops)


def _check_unique(network: str, what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise GraphError(f"network {network!r} has two {what}s named {name!r}")
        seen.add(name)
