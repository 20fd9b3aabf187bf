"""Shapes and small values of every tensor, one node at a time, in file order.

ONNX's own shape functions do the work, fed with the values that shape operands have here; so a
file needs no recorded shapes, and recorded ones are only believed for ops ONNX does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import onnx
from onnx import helper, shape_inference

from fusecut.errors import ModelError
from fusecut.frontend import constants
from fusecut.frontend.source import Source
from fusecut.frontend.values import MAX_CONSTANT, MAX_ELEMENTS, Node, Value

_REFUSALS: Final = (
    shape_inference.InferenceError,
    onnx.checker.ValidationError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
)
_NOTHING: Final = Value("", 0, (0,), constant=True)
_SHAPE_READERS: Final = frozenset({"Shape", "Size"})  # constant whatever they read: every shape is static


class Shapes:
    """Infers outputs of nodes. ``reshaped``: the inputs have other shapes than the file's."""

    def __init__(self, source: Source, reshaped: bool) -> None:
        self.source = source
        self.reshaped = reshaped
        self._read = {name for node in source.nodes for name in node.inputs} | set(source.outputs)
        self._schemas: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}
        self._opsets = [helper.make_opsetid(d, v) for d, v in source.opsets.items()]

    def expect(self, names: Iterable[str]) -> None:
        """Take these names for read as well."""
        self._read.update(names)

    def outputs(self, node: Node, operands: Sequence[Value | None]) -> list[Value]:
        """One value per output name of the node; a nameless one for later outputs that nobody reads.

        Raises:
            ModelError: shapes that contradict each other, cannot be known, are empty or too large.
        """
        constant = _is_constant(node, operands)
        if node.op_type in _SHAPE_READERS and not node.domain and operands and operands[0] is not None:
            try:
                return [_shape_of(node, operands[0])]
            except (TypeError, IndexError) as misfit:  # a start that is no number, no output
                raise self._contradiction(node, operands, misfit) from None
        types = self._inferred(node, operands)
        wanted = [name if i == 0 or name in self._read else "" for i, name in enumerate(node.outputs)]
        values = [self._value(node, name, types.get(name), constant) for name in wanted]
        moved = operands[0] if operands and node.op_type in _SAME_ELEMENTS else None
        if moved is not None and values[0].elements != moved.elements:
            error = ValueError(f"{moved.elements} elements cannot become {values[0].dims}")
            raise self._contradiction(node, operands, error)
        if constant and values and values[0].elements <= MAX_CONSTANT:
            known = [None if v is None else v.data for v in operands]
            data = constants.evaluate(constants.Call(node, known, values[0].dims))
            if data is not None and data.shape == values[0].dims:
                values[0] = replace(values[0], data=data)
        return values

    def _schema(self, node: Node) -> onnx.defs.OpSchema | None:
        key = (node.domain, node.op_type)
        if key not in self._schemas:
            try:
                version = self.source.opsets.get(node.domain, 1)
                self._schemas[key] = onnx.defs.get_schema(node.op_type, version, node.domain)
            except onnx.defs.SchemaError:
                self._schemas[key] = None
        return self._schemas[key]

    def _inferred(self, node: Node, operands: Sequence[Value | None]) -> Mapping[str, onnx.TypeProto]:
        schema = self._schema(node)
        if schema is None:
            return self._recorded(node)
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for name, value in zip(node.inputs, operands, strict=True):
            if value is None:
                continue
            types[name] = helper.make_tensor_type_proto(value.dtype, value.dims)
            steering = constants.proto_of(value.data, name)
            if steering is not None:
                data[name] = steering
        try:
            return shape_inference.infer_node_outputs(schema, node.proto, types, data, opset_imports=self._opsets)
        except _REFUSALS as error:
            raise self._contradiction(node, operands, error) from None

    def _recorded(self, node: Node) -> Mapping[str, onnx.TypeProto]:
        """For an op ONNX does not know: what the file says, unless the user asked for other shapes."""
        if self.reshaped:
            raise self.source.fail(
                f"op {node.name!r} is {node.domain}.{node.op_type}, which ONNX does not define, so its shape for "
                "another input is not known; load the file with its own input shape"
            )
        return {name: self.source.recorded[name] for name in node.outputs if name in self.source.recorded}

    def _contradiction(self, node: Node, operands: Sequence[Value | None], error: Exception) -> ModelError:
        shapes = ", ".join("none" if v is None else f"{v.name} {v.dims}" for v in operands)
        reason = " ".join(str(error).split())[:160]
        return self.source.fail(
            f"op {node.name!r} ({node.op_type}) cannot take operands of these shapes: {shapes} ({reason}); "
            "check the input shape, or export the network again"
        )

    def _value(self, node: Node, name: str, kind: onnx.TypeProto | None, constant: bool) -> Value:
        if not name:
            return _NOTHING
        tensor = kind.tensor_type if kind is not None and kind.HasField("tensor_type") else None
        if tensor is None or not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
            raise self.source.fail(
                f"op {node.name!r} ({node.op_type}): the shape of its output {name!r} depends on data or is not "
                "recorded; export the network with static shapes, or run onnx.shape_inference on it"
            )
        dims = tuple(int(d.dim_value) for d in tensor.shape.dim)
        value = Value(name, tensor.elem_type, dims, constant=constant)
        if not constant and any(d < 1 for d in dims):
            raise self.source.fail(
                f"op {node.name!r} ({node.op_type}) would make {name!r} with shape {dims}: every dimension must be "
                "at least 1; use a larger input (--input-shape NAME=1x3x224x224)"
            )
        if value.elements > MAX_ELEMENTS:
            raise self.source.fail(
                f"op {node.name!r} ({node.op_type}) makes {name!r} with shape {dims}: more than 2**40 elements; "
                "use a smaller input or batch"
            )
        return value


_SAME_ELEMENTS: Final = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})
"""Ops that only move data: their output has as many elements as their first operand."""


def _is_constant(node: Node, operands: Sequence[Value | None]) -> bool:
    if node.op_type == "CastLike" and operands and operands[0] is not None:
        return operands[0].constant
    return node.op_type in _SHAPE_READERS or all(v is None or v.constant for v in operands)


def _shape_of(node: Node, operand: Value) -> Value:
    """Shape and Size, which need no data."""
    dims = operand.dims[node.attrs.get("start", 0) : node.attrs.get("end", operand.rank)]
    data = np.array(dims if node.op_type == "Shape" else operand.elements, np.int64)
    return Value(node.outputs[0], onnx.TensorProto.INT64, data.shape, data=data, constant=True)
