"""What it takes to compute a network, as plain data: its nodes, how its tensors lie, and its constants.

A graph holds shapes only. Executing it on real arrays needs the nodes behind each op and the values
of its weights. Values that are in the file, or beside it as external data, are used as they are;
those that are missing are drawn from a seed, one stream of random numbers for each name, scaled so
that activations neither vanish nor explode.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fusecut.errors import ModelError, first_line
from fusecut.frontend.values import Array, Dims, Value
from fusecut.ir import Attrs

if TYPE_CHECKING:
    import onnx

MAX_ELEMENTS: Final = 1 << 28
"""Largest constant that is drawn or loaded: 1 GiB of float32."""


@dataclass(frozen=True)
class Layout:
    """Dimensions of one image of a tensor, and which axes are rows, images (None: there is none) and columns."""

    dims: Dims
    row_axis: int | None = None
    batch_axis: int | None = None
    col_axes: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return 1 if self.row_axis is None else self.dims[self.row_axis]

    @property
    def row_shape(self) -> Dims:
        """Shape of one row: the dimensions without the row axis."""
        return tuple(d for a, d in enumerate(self.dims) if a != self.row_axis)

    @property
    def pixel_shape(self) -> Dims:
        """Shape of one column of one row: the dimensions without row axis and column axes."""
        return tuple(d for a, d in enumerate(self.dims) if a != self.row_axis and a not in self.col_axes)


@dataclass(frozen=True)
class Step:
    """One node of the file and what it was lowered to. Absent operands are named ''.

    ``op_type`` has the domain before it, and a point, where that is not ONNX's own.

    ``kind`` and ``facts`` are the op's kind and attributes (:mod:`fusecut.ops`), '' for a node all
    of whose operands are constants; ``attrs`` those of the file.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    opset: int
    kind: str = ""
    facts: Attrs = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """Everything needed to compute.

    ``steps`` is by the name of the unfolded op, in file order; ``copies`` are those that only pass a
    tensor on, by the name they give it; ``constant_steps`` is by the name they make.
    """

    steps: Mapping[str, Step]
    layouts: Mapping[str, Layout]
    copies: Mapping[str, Step]
    constant_steps: Mapping[str, Step]
    constants: Constants

    def root(self, name: str) -> str:
        """The tensor that a name is a copy of."""
        while name in self.copies:
            name = self.copied(self.copies[name])
        return name

    def copied(self, step: Step) -> str:
        """What a copying step reads: its only operand that is no constant."""
        return next(n for n in step.inputs if n and n not in self.constants and n not in self.constant_steps)


def computed(step: Step, operands: Sequence[Array | None]) -> Sequence[Array]:
    """The results of a node whose operands are all known, by ONNX's reference implementation.

    Raises:
        ModelError: it has none, or refuses these operands.
    """
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    attrs = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in step.attrs.items()}
    node = helper.make_node(step.op_type, step.inputs, step.outputs, **attrs)
    given = {n: np.asarray(v) for n, v in zip(step.inputs, operands, strict=True) if n and v is not None}
    entries = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in given.items()
    ]
    made = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in step.outputs if n]
    model = helper.make_model(
        helper.make_graph([node], "constant", entries, made), opset_imports=[helper.make_opsetid("", step.opset)]
    )
    try:
        return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, given)]
    except Exception as error:  # whatever an implementation runs into
        raise ModelError(f"{step.op_type} cannot be computed: {error}") from None


@dataclass(frozen=True)
class Missing:
    """A constant without a value: how large it is and who reads it first, at which operand."""

    dims: Dims
    whole: bool
    reader: str = ""
    operand: int = 0


class Constants:
    """Values by name: of the file where it has them, else drawn when first asked for."""

    def __init__(
        self,
        known: Mapping[str, Array],
        here: Mapping[str, Callable[[], Array]],
        missing: Mapping[str, Missing],
        seed: int,
    ) -> None:
        self._known, self._here, self._missing, self._seed = known, here, missing, seed

    def __contains__(self, name: str) -> bool:
        return name in self._known or name in self._here or name in self._missing

    def __getitem__(self, name: str) -> Array:
        """The value; nothing is kept of large ones.

        Raises:
            ModelError: it is too large, or its external data cannot be read.
        """
        if name in self._known:
            return self._known[name]
        if name in self._here:
            return self._here[name]()
        return self._drawn(name, self._missing[name])

    def _drawn(self, name: str, gap: Missing) -> Array:
        if math.prod(gap.dims) > MAX_ELEMENTS:
            raise ModelError(f"constant {name!r} of shape {gap.dims} is too large to draw; compute a smaller network")
        rng = np.random.default_rng((self._seed, zlib.crc32(name.encode())))
        if gap.whole:
            return rng.integers(-3, 4, gap.dims)
        return _draw(rng, gap).astype(np.float32)


def _draw(rng: np.random.Generator, gap: Missing) -> Array:
    """Values by what reads them: weights keep the variance of what they multiply, scales are near one."""
    noise = rng.standard_normal(gap.dims)
    if gap.reader in _PRODUCTS and gap.operand == 1:
        return noise * math.sqrt(_GAIN / max(1, _fan_in(gap)))
    if gap.reader in _SCALED and gap.operand in _SCALED[gap.reader]:
        return 1 + 0.1 * np.abs(noise)
    return 0.1 * noise if gap.operand else 0.5 + 0.1 * noise


_GAIN: Final = 1.5
_PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
_SCALED: Final[Mapping[str, tuple[int, ...]]] = {
    "BatchNormalization": (1, 4),
    "DequantizeLinear": (1,),
    "Div": (0, 1),
    "GroupNormalization": (1,),
    "InstanceNormalization": (1,),
    "LayerNormalization": (1,),
    "Pow": (0, 1),
    "QuantizeLinear": (1,),
    "RMSNormalization": (1,),
}


def _fan_in(gap: Missing) -> int:
    """How many products are summed."""
    if gap.reader == "Conv":
        return math.prod(gap.dims[1:])
    if gap.reader == "ConvTranspose":
        return gap.dims[0]
    return max(gap.dims[-2:]) if gap.reader == "Gemm" else gap.dims[-2] if len(gap.dims) > 1 else gap.dims[0]


def network(path: str | Path, input_shapes: Mapping[str, Dims] | None = None, seed: int = 0) -> Network:
    """The computable network of a file, for inputs of these shapes (the file's by default).

    Raises:
        ModelError: as :func:`fusecut.frontend.onnx.load`.
    """
    from fusecut.frontend.branches import settled
    from fusecut.frontend.inputs import Asked
    from fusecut.frontend.lower import Lowering
    from fusecut.frontend.source import read

    source, inputs = settled(read(path), Asked(None, dict(input_shapes or {})))
    lowering = Lowering(source, inputs)
    lowering.graph()
    opset = source.opsets.get("", 1)
    steps = {}
    for op in lowering.ops:
        made = tuple(lowering.tensors[t].name for t in op.outputs)
        node = lowering.node_of[op.name]
        steps[op.name] = replace(_step(node, opset), kind=op.kind, facts=op.attrs, outputs=_made(node, made))
    copies = {s.outputs[0]: s for s in steps.values() if s.kind == "identity"}
    elsewhere = _constants_elsewhere(source.nodes)
    constant = {
        o: _step(n, opset)
        for n in source.nodes
        for o in n.outputs
        if o in lowering.values and lowering.values[o].constant and o not in elsewhere
    }
    layouts = {name: _layout(value) for name, value in lowering.values.items()}
    here = _values_in(source.path, elsewhere)
    return Network(steps, layouts, copies, constant, _constants(here, source.nodes, lowering.values, constant, seed))


def _constants_elsewhere(nodes: Sequence[Any]) -> dict[str, onnx.TensorProto]:
    """Constant nodes whose values are in another file, by what they make: the same as initializers."""
    values = {node.outputs[0]: node.attrs.get("value") for node in nodes if node.op_type == "Constant"}
    return {name: tensor for name, tensor in values.items() if tensor is not None and _is_external(tensor)}


def _is_external(tensor: onnx.TensorProto) -> bool:
    import onnx

    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _made(node: Any, made: tuple[str, ...]) -> tuple[str, ...]:
    """Outputs in the order of the node; '' where this op does not make them."""
    return tuple(o if o in made else "" for o in node.outputs)


def _step(node: Any, opset: int) -> Step:
    attrs = {k: _plain(v) for k, v in node.attrs.items()}
    op_type = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return Step(op_type, node.inputs, node.outputs, attrs, opset)


def _plain(value: Any) -> Any:
    """Tensors in attributes as arrays; None for one whose values are in another file."""
    import onnx
    from onnx import numpy_helper

    if not isinstance(value, onnx.TensorProto):
        return value
    return None if _is_external(value) else numpy_helper.to_array(value)


def _layout(value: Value) -> Layout:
    """One image: the batch axes are 1."""
    if not value.roles:
        return Layout(value.dims)
    dims = tuple(1 if r == "N" else d for d, r in zip(value.dims, value.roles, strict=True))
    batch = value.roles.find("N")
    columns = tuple(a for a, role in enumerate(value.roles) if role == "W")
    return Layout(dims, value.row_axis, None if batch < 0 else batch, columns)


def _constants(
    here: Mapping[str, Callable[[], Array]],
    nodes: Sequence[Any],
    values: Mapping[str, Value],
    made: Mapping[str, Step],
    seed: int,
) -> Constants:
    readers: dict[str, tuple[str, int]] = {}
    for node in nodes:
        for operand, name in enumerate(node.inputs if node.op_type not in _BLIND else ()):
            readers.setdefault(name, (node.op_type, operand))
    known: dict[str, Array] = {}
    missing: dict[str, Missing] = {}
    for name, value in values.items():
        if not value.constant or (value.data is None and name in made):
            continue
        if value.data is not None:
            known[name] = value.data
        elif name not in here:
            missing[name] = Missing(value.dims, value.dtype not in _FLOATS, *readers.get(name, ("", 0)))
    return Constants(known, here, missing, seed)


_BLIND: Final = frozenset({"CastLike", "Shape", "Size"})
"""Readers that do not look at values, which say nothing of what the values should be."""

_FLOATS: Final = frozenset({1, 10, 11, 16})
"""TensorProto data types float, float16, double, bfloat16."""


def _values_in(file: Path, elsewhere: Mapping[str, onnx.TensorProto]) -> dict[str, Callable[[], Array]]:
    """Initializers, and constants in other files, whose values are at hand, as something that reads them."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    tensors = {t.name: t for t in graph.initializer} | dict(elsewhere)
    found: dict[str, Callable[[], Array]] = {
        name: partial(_loaded, file, name, t) for name, t in tensors.items() if _is_here(file, name, t)
    }
    return found | {s.values.name: partial(_dense, file, s) for s in graph.sparse_initializer}


def _is_here(file: Path, name: str, tensor: onnx.TensorProto) -> bool:
    if not _is_external(tensor):
        return True
    where = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
    if not where:
        return False
    home = file.parent.resolve()
    try:
        target: Path = (home / where).resolve()
        if target.is_relative_to(home):
            return target.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise ModelError(
            f"{file}: the file that {name!r} points to cannot be looked up ({first_line(error)})"
        ) from None
    raise ModelError(f"{file}: {name!r} points to {where!r}, outside the file's own folder: not read")


def _loaded(file: Path, name: str, tensor: onnx.TensorProto) -> Array:
    from onnx import checker, numpy_helper

    try:
        return numpy_helper.to_array(tensor, str(file.parent))
    except (*_UNREADABLE, checker.ValidationError) as error:
        raise ModelError(f"{file}: the values of {name!r} cannot be read ({first_line(error)})") from None


_UNREADABLE: Final = (ValueError, TypeError, LookupError, OSError, RuntimeError, OverflowError, MemoryError)
"""What damaged values run into."""


def _dense(file: Path, sparse: onnx.SparseTensorProto) -> Array:
    """A sparse constant in full; its indices are flat or one per axis."""
    name = sparse.values.name
    values, indices = (_loaded(file, name, part) for part in (sparse.values, sparse.indices))
    try:
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except _UNREADABLE as error:
        raise ModelError(f"{file}: the values of {name!r} cannot be read ({first_line(error)})") from None
    return dense
