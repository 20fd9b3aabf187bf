"""From sorted nodes to a graph: infer shapes, drop what is constant, lower the rest one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fusecut.frontend.inputs import Inputs
from fusecut.frontend.layout import canonical
from fusecut.frontend.lower_data import DATA_RULES
from fusecut.frontend.lower_einsum import EINSUM_RULES
from fusecut.frontend.lower_math import MATH_RULES
from fusecut.frontend.lower_recurrent import RECURRENT_RULES
from fusecut.frontend.lower_window import WINDOW_RULES
from fusecut.frontend.shapes import Shapes
from fusecut.frontend.source import Source
from fusecut.frontend.values import MAX_ELEMENTS, Dims, Node, Value
from fusecut.frontend.view import Draft, Rule, View, opaque
from fusecut.ir import AttrValue, Graph, Op, Tensor

LOWERING: Final[dict[str, Rule]] = {
    **WINDOW_RULES,
    **DATA_RULES,
    **MATH_RULES,
    **EINSUM_RULES,
    **RECURRENT_RULES,
}
"""Every ONNX op type that is understood; all others become ``opaque``."""

MAX_ROWS: Final = 65_536

_MISFITS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a rule runs into when a damaged file has, say, three strides for two axes."""


class Lowering:
    """Makes the graph of one file. Use once: ``Lowering(source, inputs).graph()``.

    ``values`` and ``node_of`` then say what every name of the file is, and which node an op came from.
    """

    def __init__(self, source: Source, inputs: Inputs) -> None:
        self.source = source
        self.inputs = inputs
        self.shapes = Shapes(source, inputs.reshaped)
        self.values: dict[str, Value] = dict(source.constants) | inputs.values
        self.tensors: list[Tensor] = []
        self.index: dict[str, int] = {}
        self.ops: list[Op] = []
        self.names: set[str] = set()
        self.node_of: dict[str, Node] = {}

    def graph(self) -> Graph:
        """The graph with one op per node that computes.

        Raises:
            ModelError: shapes that cannot be known or do not fit; nothing that computes.
        """
        for value in self.inputs.values.values():
            if not value.constant:
                self._tensor(value)
        for node in self.source.nodes:
            self._node(node)
        outputs = [self.index[name] for name in self.source.outputs if name in self.index]
        if not self.ops or not outputs:
            raise self.source.fail("no output depends on an input through any op; export the network again")
        return self._compact(outputs)

    def _node(self, node: Node) -> None:
        operands = [self.values[name] if name else None for name in node.inputs]
        made = self.shapes.outputs(node, operands)
        results = [v for v in made if v.name]
        self.values.update((v.name, v) for v in results)
        if all(v.constant for v in results):
            return
        view = View(self.source.path, node, operands, results, self.source.opsets.get("", 1))
        rule = LOWERING.get(node.op_type, opaque) if not node.domain else opaque
        for draft in self._drafts(view, rule):
            self._op(node, draft)

    def _drafts(self, view: View, rule: Rule) -> list[Draft]:
        try:
            return rule(view)
        except _MISFITS as error:
            reason = f"{type(error).__name__}: {error}"[:120]
            raise view.fail(f"has attributes that do not fit its operands ({reason}); export it again") from None

    def _op(self, node: Node, draft: Draft) -> None:
        outputs = []
        for name in draft.outputs:
            made = self.values[name]
            self.values[name] = replace(made, roles=draft.roles, lost=draft.lost or self._still_lost(draft, made))
            outputs.append(self._tensor(self.values[name]))
        name = self._unique(draft.name or node.name)
        self.node_of[name] = node
        self.ops.append(
            Op(
                name=name,
                kind=draft.kind,
                inputs=tuple(self.index[n] for n in draft.inputs),
                outputs=tuple(outputs),
                attrs={**self._attrs(draft), "op_type": node.op_type},
                weight_elements=draft.weights,
                bias_elements=draft.biases,
                macs=self._times_images(draft.macs, node.name),
            )
        )

    def _still_lost(self, draft: Draft, made: Value) -> tuple[Dims, str] | None:
        source = self.values[draft.inputs[0]]
        return source.lost if len(draft.inputs) == 1 and source.dims == made.dims else None

    def _attrs(self, draft: Draft) -> dict[str, AttrValue]:
        """Attributes; the one that speaks of dimensions for all images."""
        if "dims" not in draft.attrs:
            return draft.attrs
        return {**draft.attrs, "dims": self._dims(self.values[draft.inputs[0]])}

    def _times_images(self, count: int, where: str) -> int:
        total = count * self.inputs.images
        if total.denominator > 1:
            raise self.source.fail(
                f"{where!r} does not keep the batch apart, so the batch of the file cannot be divided by "
                f"{1 / self.inputs.images}; load the file with its own batch or a multiple of it"
            )
        return total.numerator

    def _dims(self, value: Value) -> Dims:
        """Dimensions for all images: the batch axis grows, or the first axis of a tensor without one."""
        if self.inputs.images == 1 or not value.rank:
            return value.dims
        axis = max(value.roles.find("N"), 0)
        grown = self._times_images(value.dims[axis], value.name)
        return (*value.dims[:axis], grown, *value.dims[axis + 1 :])

    def _unique(self, name: str) -> str:
        base, count = name, 1
        while name in self.names:
            count += 1
            name = f"{base}#{count}"
        self.names.add(name)
        return name

    def _tensor(self, value: Value) -> int:
        n, c, h, w = canonical(value.dims, value.roles)
        dims = value.dims
        if value.rank > 1 or value.name not in self.inputs.values:
            n, dims = self._times_images(n, value.name), self._dims(value)
        if h > MAX_ROWS:
            raise self.source.fail(
                f"tensor {value.name!r} with shape {value.dims} has {h:,} rows; at most {MAX_ROWS:,} are "
                "supported; use a smaller input"
            )
        if n * c * h * w > MAX_ELEMENTS:
            raise self.source.fail(f"tensor {value.name!r} would have more than 2**40 elements; use a smaller batch")
        self.index[value.name] = len(self.tensors)
        self.tensors.append(Tensor(value.name, (n, c, h, w), dims=dims, row_axis=value.row_axis))
        return self.index[value.name]

    def _compact(self, outputs: Sequence[int]) -> Graph:
        """The graph without inputs that nobody reads."""
        read = {t for op in self.ops for t in op.inputs} | set(outputs)
        entries = [self.index[v.name] for v in self.inputs.values.values() if not v.constant]
        unread = [self.tensors[t].name for t in entries if t not in read]
        notes = [f"input {name!r} is read by no op and left out" for name in unread]
        if self.inputs.parameters:
            notes.append(f"{len(self.inputs.parameters)} inputs are read only as weights and counted as weights")
        graph = renumbered(
            self.source.path.stem, self.tensors, self.ops, [t for t in entries if t in read], outputs, tuple(notes)
        )
        return replace(graph, notes=(*graph.notes, *op_notes(graph.ops)))


def renumbered(
    name: str,
    tensors: Sequence[Tensor],
    ops: Sequence[Op],
    inputs: Sequence[int],
    outputs: Sequence[int],
    notes: tuple[str, ...],
) -> Graph:
    """A graph of exactly the tensors these ops use, in their order.

    Raises:
        GraphError: what is left is no graph.
    """
    used = sorted({t for op in ops for t in (*op.inputs, *op.outputs)} | set(inputs) | set(outputs))
    place = {t: i for i, t in enumerate(used)}
    moved = [
        replace(op, inputs=tuple(place[t] for t in op.inputs), outputs=tuple(place[t] for t in op.outputs))
        for op in ops
    ]
    return Graph(
        name,
        tuple(tensors[t] for t in used),
        tuple(moved),
        tuple(place[t] for t in inputs),
        tuple(dict.fromkeys(place[t] for t in outputs)),
        notes,
    )


def op_notes(ops: Sequence[Op]) -> tuple[str, ...]:
    """One line per opaque op type, one per op that cannot be streamed."""
    unknown = [op for op in ops if op.kind == "opaque" and not {"barrier", "looked_up"} & set(op.attrs)]
    opaques = Counter(str(op.attrs.get("op_type")) for op in unknown)
    named = {name: f"{name} with these operands" if name in LOWERING else name for name in opaques}
    notes = [f"{named[n]} is not understood: {count} opaque, needs its whole input" for n, count in opaques.items()]
    for op in ops:
        if op.attrs.get("barrier"):
            notes.append(
                f"{op.name} ({op.attrs.get('op_type')}) needs all rows of its input before its first output row"
            )
    return tuple(notes)
