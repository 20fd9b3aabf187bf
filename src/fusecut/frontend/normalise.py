"""Lossless folding: fewer ops, and no fusion plan of them gets worse.

Five passes, each near linear in the size of the graph; passes 2 to 5 are exact:

1. Identities vanish: their output is another name of their input. No machine executes them, so this
   pass alone may cost a plan something on paper: two ops fused only through the copy they both
   read are no longer connected.
2. Pointwise regions become one ``activation``: x * sigmoid(x), x * clip(x + 3) / 6, GELU written
   out. A region has one entry tensor x and one exit, all its tensors have one shape, and those
   inside are read only inside.
3. A flatten read only by a fully connected op becomes part of it (``flatten=True``).
4. A map that is reshaped, normalised over everything and reshaped back (how exporters write group norms) is one
   op that normalises.
5. A unary op v joins the producer u of its operand.

**Why pass 5 costs nothing.** Let v be the only reader of u's only output t, t no network output, and
t' the output of v, as large as t. Take any plan. If u and v share a group, that group is also a
group of the folded graph: contracting an edge inside it keeps it connected and convex, and it
moves the same tensors. So let u be in A and v in B. Move v to A. A wrote t, now it writes t'; B
read t, now it reads t' if another of its ops does, and every other group reads t' as before; only a
write of t' by B may vanish. DRAM traffic does not grow. A with v is connected through t, and
convex: a path from v back into A would have made A and B wait for each other already. What is
left of B must still be a valid group (or empty), and this is where the readers of t' count. If they
are totally ordered by ancestry, those inside B lie on one path after another, and B is convex, so
that path is inside B: the readers stay connected to each other without v, and whatever hung on v
hung on a reader. If they are not ordered (a squeeze layer's relu read by two expand convolutions),
B may be {v, left, right}, which falls apart without v and must then read t' twice. So v joins u
only when the readers of t' are totally ordered. A network output needs no extra condition: it is
written once by whichever group makes it.

One thing may grow: constants of v (a scale per channel after a pool) are then resident in u's
group. They are merged into u's own where arithmetic allows: a batch-norm after a convolution
scales its weights, so the weights stay and there is one bias per output channel.

**Pass 2** moves a whole region to the group B of its exit. Some tensor inside crossed from one
group to another whenever the region was spread over several; now x, of the same size, crosses
instead, and at most once per group that had region ops before. A group that loses region ops loses
only ops that hang on it through x. B stays convex, since a path from B through the maker of x into
the region would have left B and come back before.

**Pass 3** moves the flatten u to the group of its only reader: the map is read instead of the flat
tensor, both have the same bytes, and u was a leaf of its old group.

**Pass 4** moves the first reshape like a flatten, and the second one like a unary op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final, cast

from fusecut.frontend.lower import op_notes, renumbered
from fusecut.ir import AttrValue, Graph, Op, Tensor
from fusecut.ops import POINTWISE_KINDS, UNARY_KINDS

_SEARCH_LIMIT: Final = 4096  # ops looked at per ancestry question; beyond it the answer is a safe no
_REGION_LIMIT: Final = 64
_ABSORBING: Final = frozenset({"conv", "conv_transpose", "linear", "affine"})
"""Kinds whose own constants can take in a following scale and shift per channel."""


def fold(graph: Graph) -> Graph:
    """The same network with identities, epilogues, activations and flattens folded; see the module.

    Op names stay those of the op that remains; ``members`` lists all nodes it stands for, in file
    order; ``attrs["fused"]`` the functions that joined it, comma-separated.
    """
    work = _Folding(graph)
    work.drop_identities()
    work.merge_regions()
    work.join_flattens()
    work.join_reshaped_norms()
    work.join_unaries()
    return work.result()


class _Folding:
    """A graph being folded: ops by their old index (None once gone), readers and makers of tensors."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: list[Tensor] = list(graph.tensors)
        self.ops: list[Op | None] = list(graph.ops)
        self.outputs = list(graph.outputs)
        self.place = {m: i for i, m in enumerate(m for op in graph.ops for m in op.members)}
        self.maker = list(graph.producer)
        self.readers: list[Sequence[int]] = list(graph.consumers)
        self.pure: set[int] = set()  # ops that so far took in scales and shifts only

    def op(self, index: int) -> Op:
        """An op that is still there."""
        return cast(Op, self.ops[index])

    def result(self) -> Graph:
        ops = [op for op in self.ops if op is not None]
        own = op_notes(self.graph.ops)
        notes = tuple(n for n in self.graph.notes if n not in own) + op_notes(ops)
        return renumbered(self.graph.name, self.tensors, ops, self.graph.inputs, self.outputs, notes)

    def merged(self, keeper: Op, *others: Op) -> tuple[str, ...]:
        """Members of all of them, in file order."""
        names = {m for op in (keeper, *others) for m in op.members}
        return tuple(sorted(names, key=self.place.__getitem__))

    # Pass 1 ------------------------------------------------------------------------------------

    def drop_identities(self) -> None:
        """Rename tensors through identities. One that copies an input or an output to an output stays."""
        alias: dict[int, int] = {}
        waiting: dict[int, tuple[Op, ...]] = {}  # identities of network inputs, named by the first reader
        for index, old in enumerate(self.graph.ops):
            op = replace(old, inputs=tuple(alias.get(t, t) for t in old.inputs))
            source = op.inputs[0]
            if op.kind == "identity" and self._can_alias(source, op):
                self._alias(alias, source, op)
                self.ops[index] = None
                if self.maker[source] >= 0:
                    maker = self.op(self.maker[source])
                    self.ops[self.maker[source]] = replace(maker, members=self.merged(maker, op))
                else:
                    waiting[source] = (*waiting.get(source, ()), op)
                continue
            passed = [w for t in dict.fromkeys(op.inputs) for w in waiting.pop(t, ())]
            self.ops[index] = replace(op, members=self.merged(op, *passed))
        self._reindex()

    def _can_alias(self, source: int, op: Op) -> bool:
        made = op.outputs[0]
        same = self.tensors[made].shape == self.tensors[source].shape and len(op.outputs) == 1
        return same and not (made in self.outputs and (self.maker[source] < 0 or source in self.outputs))

    def _alias(self, alias: dict[int, int], source: int, op: Op) -> None:
        made = op.outputs[0]
        alias[made] = source
        if made in self.outputs:
            self.outputs[self.outputs.index(made)] = source
            self.tensors[source] = replace(self.tensors[source], name=self.tensors[made].name)

    def _reindex(self) -> None:
        readers: list[list[int]] = [[] for _ in self.tensors]
        for index, op in enumerate(self.ops):
            for t in dict.fromkeys(op.inputs if op is not None else ()):
                readers[t].append(index)
        self.readers = list(readers)

    # Pass 2 ------------------------------------------------------------------------------------

    def merge_regions(self) -> None:
        """Collapse every pointwise region, inner ones first."""
        for index, op in enumerate(self.ops):
            if op is not None and op.kind == "elementwise":
                region = self._region(index, op)
                if region is not None:
                    self._collapse(index, *region)

    def _region(self, index: int, op: Op) -> tuple[int, list[int]] | None:
        """(entry tensor, ops) of the smallest region that ends in this op.

        The entry comes before all tensors inside, so the latest made open tensor is always inside:
        it is taken in until one tensor is left, or until one cannot be.
        """
        shape = self.tensors[op.outputs[0]].shape
        open_tensors, region = set(op.inputs), [index]
        if len(op.outputs) > 1 or op.attrs.get("barrier"):
            return None
        while len(open_tensors) > 1 and len(region) < _REGION_LIMIT:
            latest = max(open_tensors, key=lambda t: self.maker[t])
            maker = self.maker[latest]
            if maker < 0 or not self._inner(latest, set(region)):
                return None
            open_tensors.remove(latest)
            open_tensors.update(self.op(maker).inputs)
            region.append(maker)
        entry = next(iter(open_tensors))
        fits = len(open_tensors) == 1 and all(
            self.tensors[t].shape == shape for t in (entry, *(self.op(i).outputs[0] for i in region))
        )
        return (entry, region) if fits else None

    def _inner(self, tensor: int, region: set[int]) -> bool:
        op = self.op(self.maker[tensor])
        plain = op.kind in POINTWISE_KINDS and len(op.outputs) == 1 and not op.attrs.get("barrier")
        return plain and tensor not in self.outputs and region.issuperset(self.readers[tensor])

    def _collapse(self, index: int, entry: int, region: list[int]) -> None:
        ops = [self.op(i) for i in sorted(region)]
        exit_op = self.op(index)
        functions = ",".join(str(op.attrs.get("function", op.kind)) for op in ops)
        for i in region:
            self.ops[i] = None
        self.ops[index] = replace(
            exit_op,
            kind="activation",
            inputs=(entry,),
            attrs={"function": functions, "op_type": exit_op.attrs.get("op_type", "")},
            weight_elements=sum(op.weight_elements for op in ops),
            bias_elements=sum(op.bias_elements for op in ops),
            members=self.merged(exit_op, *ops),
        )
        gone = set(region) - {index}
        self.readers[entry] = sorted({*(r for r in self.readers[entry] if r not in gone), index})

    # Pass 3 ------------------------------------------------------------------------------------

    def join_flattens(self) -> None:
        """Let fully connected ops read the map that was flattened for them."""
        for index, op in enumerate(self.ops):
            if op is None or op.kind != "linear" or op.attrs.get("barrier") or len(op.inputs) != 1:
                continue
            flat = op.inputs[0]
            maker = self.maker[flat]
            if maker < 0 or not self._is_flatten(self.op(maker)) or not self._only_reader(flat, index):
                continue
            flatten = self.op(maker)
            attrs = {**op.attrs, "flatten": True}
            members = self.merged(op, flatten)
            self.ops[index] = replace(op, inputs=flatten.inputs, attrs=attrs, members=members)
            self.ops[maker] = None
            source = flatten.inputs[0]
            self.readers[source] = sorted({*(r for r in self.readers[source] if r != maker), index})

    def _is_flatten(self, op: Op) -> bool:
        source, made = self.tensors[op.inputs[0]], self.tensors[op.outputs[0]]
        return op.kind == "reshape" and len(made.dims) == 2 and made.rows == 1 and source.batch == made.batch

    # Pass 4 ------------------------------------------------------------------------------------

    def join_reshaped_norms(self) -> None:
        """Reshape, normalisation that waits for all rows, reshape back: one op."""
        for index, op in enumerate(self.ops):
            if op is None or op.kind != "normalise" or not op.attrs.get("barrier"):
                continue
            maker, made = self.maker[op.inputs[0]], op.outputs[0]
            back = self.readers[made][0] if len(self.readers[made]) == 1 else -1
            if maker < 0 or back < 0 or not self._only_reader(op.inputs[0], index) or made in self.outputs:
                continue
            before, after = self.op(maker), self.op(back)
            if before.kind == after.kind == "reshape" and self._is_back(before, after):
                self._enclose(index, maker, back)

    def _is_back(self, before: Op, after: Op) -> bool:
        source, made = self.tensors[before.inputs[0]], self.tensors[after.outputs[0]]
        same = (source.dims, source.shape, source.row_axis) == (made.dims, made.shape, made.row_axis)
        return same and self._ordered(self.readers[after.outputs[0]])

    def _enclose(self, index: int, maker: int, back: int) -> None:
        op, before, after = self.op(index), self.op(maker), self.op(back)
        members = self.merged(op, before, after)
        self.ops[index] = replace(op, inputs=before.inputs, outputs=after.outputs, members=members)
        self.ops[maker] = self.ops[back] = None
        self.maker[after.outputs[0]] = index
        source = before.inputs[0]
        self.readers[source] = sorted({*(r for r in self.readers[source] if r != maker), index})

    def _only_reader(self, tensor: int, index: int) -> bool:
        return list(self.readers[tensor]) == [index] and tensor not in self.outputs

    # Pass 5 ------------------------------------------------------------------------------------

    def join_unaries(self) -> None:
        """Fold unary ops upwards, in topological order, so that chains fold one by one."""
        for index, op in enumerate(self.ops):
            if op is None or not self._is_unary(op):
                continue
            maker = self.maker[op.inputs[0]]
            if maker < 0 or len(self.op(maker).outputs) > 1 or not self._only_reader(op.inputs[0], index):
                continue
            if not self._ordered(self.readers[op.outputs[0]]):
                continue
            self.ops[maker] = self._joined(maker, self.op(maker), op)
            self.ops[index] = None
            self.maker[op.outputs[0]] = maker

    def _is_unary(self, op: Op) -> bool:
        plain = op.kind in UNARY_KINDS and len(op.inputs) == len(op.outputs) == 1
        return plain and self.tensors[op.inputs[0]].shape == self.tensors[op.outputs[0]].shape

    def _joined(self, index: int, keeper: Op, op: Op) -> Op:
        weights = keeper.weight_elements + op.weight_elements
        biases = keeper.bias_elements + op.bias_elements
        own = self._own_channels(keeper)
        if own and self._takes(index, keeper, own, op):
            self.pure.add(index)
            weights = max(keeper.weight_elements, op.weight_elements)
            biases = max(keeper.bias_elements, own[1]) if keeper.bias_elements else op.bias_elements
        else:
            self.pure.discard(index)
        attrs: dict[str, AttrValue] = dict(keeper.attrs)
        functions = str(op.attrs.get("function", op.attrs.get("op_type", op.kind)))
        fused = ",".join(filter(None, (str(attrs.get("fused", "")), functions, str(op.attrs.get("fused", "")))))
        return replace(
            keeper,
            outputs=op.outputs,
            attrs={**attrs, "fused": fused},
            weight_elements=weights,
            bias_elements=biases,
            members=self.merged(keeper, op),
        )

    def _own_channels(self, keeper: Op) -> tuple[int, int] | None:
        """Which channels differ in the constants of an op, as (stride, count); None where no other can join them."""
        if keeper.kind not in _ABSORBING:
            return None
        if keeper.kind in ("conv", "conv_transpose"):
            return 1, self.tensors[keeper.outputs[0]].channels
        return cast("tuple[int, int] | None", keeper.attrs.get("channels"))

    def _takes(self, index: int, keeper: Op, own: tuple[int, int], op: Op) -> bool:
        """Whether the constants of ``op`` can be worked into those of the keeper.

        There was nothing but scales and shifts since the keeper's own arithmetic, which is linear, and two channels
        that share a constant of the keeper share one of ``op``.
        """
        if op.kind != "affine" or "channels" not in op.attrs or ("fused" in keeper.attrs and index not in self.pure):
            return False
        stride, count = cast("tuple[int, int]", op.attrs["channels"])
        return stride % own[0] == 0 and own[1] % (stride // own[0] * count) == 0

    def _ordered(self, readers: Sequence[int]) -> bool:
        """Whether each reader is an ancestor of the next."""
        return all(self._reaches(a, b) for a, b in pairwise(readers))

    def _reaches(self, ancestor: int, op: int) -> bool:
        """Walk back from ``op``; ops before ``ancestor`` cannot lead to it."""
        seen, stack = {op}, [op]
        while stack and len(seen) <= _SEARCH_LIMIT:
            for t in self.op(stack.pop()).inputs:
                maker = self.maker[t]
                if maker == ancestor:
                    return True
                if maker > ancestor and maker not in seen:
                    seen.add(maker)
                    stack.append(maker)
        return False
