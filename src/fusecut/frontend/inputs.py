"""Network inputs: which of them are activations, what shape they have, how they are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import index
from typing import Final

import onnx

from fusecut.frontend.layout import natural
from fusecut.frontend.source import Source
from fusecut.frontend.values import MAX_ELEMENTS, Dims, Node, Value

_PARAMETERS: Final[Mapping[str, tuple[int, ...]]] = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "DequantizeLinear": (1, 2),
    "Gemm": (1, 2),
    "GRU": (1, 2, 3),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
    "QuantizeLinear": (1, 2),
    "RNN": (1, 2, 3),
}
"""Operand positions that hold parameters: an input read only there is a weight without a value."""

_NEUTRAL: Final = frozenset(
    {
        *("Add", "Cast", "Clip", "Concat", "DequantizeLinear", "Div", "Identity", "Mul", "Pad", "QuantizeLinear"),
        *("Relu", "Slice", "Split", "Sub"),
    }
)
"""Ops that say nothing about which axis is which."""

_CHANNELS_FIRST: Final = frozenset(
    {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "InstanceNormalization", "MaxPool"}
)
"""Ops whose channels are always axis 1."""

_LAYERS: Final = ("GRU", "LSTM", "RNN")
"""Recurrent layers."""

_RECURRENT: Final[Mapping[int, str]] = {0: "HNC", 5: "CNC", 6: "CNC"}
"""Operands of a recurrent layer whose first axis is steps (``layout`` 0), and their roles: steps are rows."""

_LOOKED_AT: Final = 64  # names looked at to learn how an input is laid out


@dataclass(frozen=True)
class Asked:
    """What the caller wants instead of the file's shapes."""

    batch: int | None
    shapes: Mapping[str, Dims]


@dataclass(frozen=True)
class Inputs:
    """All inputs as values with the file's batch.

    ``images``: how often the network of the file runs, side by side, to make the asked batch.
    ``reshaped``: the values have other shapes than the file's.
    """

    values: dict[str, Value]
    images: Fraction
    reshaped: bool
    parameters: tuple[str, ...]


def resolve(source: Source, asked: Asked) -> Inputs:
    """Give every input its dimensions and roles.

    Another batch does not change what is inferred: the network is inferred for the batch of the
    file (1 where it is open), as exporters write that batch into reshapes; ``images`` copies of it
    are then the asked batch. Only inputs asked in different multiples are inferred as they are.

    Raises:
        ModelError: no input, an unknown override, or a dimension that is unknown, empty or too large.
    """
    readers = _readers(source)
    parameters = tuple(v.name for v in source.inputs if _is_parameter(readers.get(v.name, ())))
    activations = [v for v in source.inputs if v.name not in parameters]
    _check_asked(source, asked, [v.name for v in activations])
    if not activations:
        raise source.fail("the graph has no inputs besides weights; export the network with its input")
    values, copies, reshaped = {}, set(), False
    for proto in source.inputs:
        constant = proto.name in parameters
        written = _written(source, proto)
        roles = "" if constant else _roles(proto.name, len(written), readers)
        batch = max(0, roles.find("N"))
        dims = _dims(source, proto.name, written, batch, Asked(None, {}) if constant else asked)
        values[proto.name] = Value(proto.name, proto.type.tensor_type.elem_type, dims, roles, constant=constant)
        if not constant and len(dims) > 1:
            copies.add(Fraction(dims[batch], _file_batch(written[batch])))
            reshaped = reshaped or any(d != w for a, (d, w) in enumerate(zip(dims, written, strict=True)) if a != batch)
    if len(copies) > 1:
        return Inputs(values, Fraction(1), True, parameters)
    images = copies.pop() if copies else Fraction(1)
    single = {name: value if value.constant else _one(value, images) for name, value in values.items()}
    return Inputs(single, images, reshaped, parameters)


def _file_batch(written: int | str) -> int:
    return written if isinstance(written, int) and written > 0 else 1


def _one(value: Value, images: Fraction) -> Value:
    """The input with the batch of the file."""
    if value.rank < 2:
        return value
    batch = max(0, value.roles.find("N"))
    return replace(value, dims=tuple(int(d / images) if a == batch else d for a, d in enumerate(value.dims)))


def _readers(source: Source) -> dict[str, list[tuple[Node, int]]]:
    names = {v.name for v in source.inputs}
    readers: dict[str, list[tuple[Node, int]]] = {}
    for node in source.nodes:
        for position, name in enumerate(node.inputs):
            if (
                name in names
                or node.op_type in _NEUTRAL
                or node.op_type in ("Transpose", *_LAYERS)
                or node.op_type in _CHANNELS_FIRST
            ):
                readers.setdefault(name, []).append((node, position))
    return readers


def _is_parameter(readers: Sequence[tuple[Node, int]]) -> bool:
    return bool(readers) and all(position in _PARAMETERS.get(node.op_type, ()) for node, position in readers)


def _check_asked(source: Source, asked: Asked, names: Sequence[str]) -> None:
    if asked.batch is not None and (not _is_whole(asked.batch) or asked.batch < 1):
        raise source.fail(f"a batch of {asked.batch!r} was asked for; it must be a whole number of at least 1")
    for name, shape in asked.shapes.items():
        if isinstance(shape, str) or not all(map(_is_whole, shape)):
            raise source.fail(
                f"the shape of input {name!r} was given as {shape!r}; give whole numbers: (1, 3, 224, 224)"
            )
        if name not in names:
            raise source.fail(f"there is no input {name!r} to give a shape; the inputs are {', '.join(names)}")


def _is_whole(number: object) -> bool:
    return hasattr(number, "__index__") and not isinstance(number, bool)


def _written(source: Source, proto: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """The dimensions in the file; open ones by their name, '?' if they have none."""
    kind = proto.type.tensor_type
    if not proto.type.HasField("tensor_type"):
        raise source.fail(f"input {proto.name!r} is not a tensor; export the network with tensor inputs only")
    if not kind.HasField("shape"):
        raise source.fail(
            f"input {proto.name!r} has no shape in the file; give it: --input-shape {proto.name}=1x3x224x224"
        )
    return tuple(int(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim)


def _dims(source: Source, name: str, written: tuple[int | str, ...], batch: int, asked: Asked) -> Dims:
    wanted: tuple[int | str, ...] = written
    if name in asked.shapes:
        wanted = tuple(map(index, asked.shapes[name]))
        if len(wanted) != len(written):
            raise source.fail(f"input {name!r} has {len(written)} dimensions {written}, {len(wanted)} were given")
        if asked.batch is not None and len(wanted) > 1:
            if wanted[batch] not in (1, asked.batch):
                raise source.fail(
                    f"a batch of {asked.batch} was asked for, and {_text(wanted)} for input {name!r}; give one of them"
                )
            wanted = (*wanted[:batch], index(asked.batch), *wanted[batch + 1 :])
    elif len(written) > 1:
        first = index(asked.batch) if asked.batch is not None else written[batch]
        wanted = (*written[:batch], 1 if isinstance(first, str) else first, *written[batch + 1 :])
    dims = []
    for axis, size in enumerate(wanted):
        if isinstance(size, str):
            raise source.fail(
                f"dimension {axis} of input {name!r} is open ({size}) in {_text(written)}; give it: "
                f"--input-shape {name}=1x3x224x224"
            )
        dims.append(size)
    return _checked(source, name, tuple(dims))


def _text(written: tuple[int | str, ...]) -> str:
    return "x".join(str(d) for d in written)


def _checked(source: Source, name: str, dims: Dims) -> Dims:
    if any(d < 1 for d in dims):
        raise source.fail(
            f"input {name!r} has shape {_text(dims)}: every dimension must be at least 1; give another: "
            f"--input-shape {name}=1x3x224x224"
        )
    if Value(name, 0, dims).elements > MAX_ELEMENTS:
        raise source.fail(f"input {name!r} has shape {_text(dims)}: more than 2**40 elements; give a smaller one")
    return dims


def _is_read_channels_first(name: str, readers: Mapping[str, Sequence[tuple[Node, int]]]) -> bool:
    stack, seen = [name], {name}
    while stack and len(seen) <= _LOOKED_AT:
        for node, position in readers.get(stack.pop(), ()):
            if node.op_type in _CHANNELS_FIRST and not position:
                return True
            ahead = {o for o in node.outputs if node.op_type in _NEUTRAL} - seen
            seen |= ahead
            stack += sorted(ahead)
    return False


def _roles(name: str, rank: int, readers: Mapping[str, Sequence[tuple[Node, int]]]) -> str:
    """Natural roles, unless the network itself turns the input around first.

    NHWC if the only reader, past ops that say nothing of axes, is Transpose(0, 3, 1, 2); (N, C, rows) if a
    one-dimensional convolution or pool is among the readers, past such ops; (rows, N, C) if the only reader, past
    such ops, is a recurrent layer whose steps come first.
    """
    if rank == 3 and _is_read_channels_first(name, readers):
        return "NCH"
    while True:
        found = [reader for reader in readers.get(name, ()) if reader[0].op_type not in ("Shape", "Size")]
        node, position = found[0] if len(found) == 1 else (None, 0)
        if node is None:
            return natural(rank)
        if node.op_type == "Transpose":
            return "NHWC" if list(node.attrs.get("perm", ())) == [0, 3, 1, 2] else natural(rank)
        if node.op_type in _LAYERS and rank == 3 and not node.attrs.get("layout", 0):
            return _RECURRENT.get(position, natural(rank))
        if node.op_type not in _NEUTRAL:
            return natural(rank)
        name = node.outputs[0]
