"""Shapes and small values of every tensor, one node at a time, in file order.

ONNX's own shape functions do the work, fed with the values that shape operands have here; so a
file needs no recorded shapes, and recorded ones are only believed for ops ONNX does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import onnx
from onnx import helper, shape_inference

from fusecut.errors import ModelError
from fusecut.frontend import constants
from fusecut.frontend.source import Source
from fusecut.frontend.values import MAX_CONSTANT, Array, Dims, Node, Value

MAX_ELEMENTS: Final = 2**40

_SHAPE_OPERANDS: Final = 64  # operands up to this size may steer a shape; larger ones never do
_SHAPE_READERS: Final = frozenset({"Shape", "Size"})  # constant whatever they read: every shape is static
_ALIKE: Final = frozenset({"CastLike", "Expand", "Reshape", "ConstantOfShape"})  # only the first operand is data


class Shapes:
    """Infers outputs of nodes. ``file_batch`` and ``batch`` differ when the user asked for another batch."""

    def __init__(self, source: Source, file_batch: int | None, batch: int | None) -> None:
        self.source = source
        self.file_batch = file_batch
        self.batch = batch
        self._schemas: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}
        self._opsets = [helper.make_opsetid(d, v) for d, v in source.opsets.items()]

    def outputs(self, node: Node, operands: Sequence[Value | None]) -> list[Value]:
        """One value per output name of the node ('' for outputs that are left out).

        Raises:
            ModelError: shapes that contradict each other, cannot be known, are empty or too large.
        """
        constant = _is_constant(node, operands)
        if node.op_type in _SHAPE_READERS and not node.domain and operands and operands[0] is not None:
            return [_shape_of(node, operands[0])]
        adjusted = self._rebatched(node, operands)
        types = self._inferred(node, adjusted)
        values = [self._value(node, name, types.get(name), constant) for name in node.outputs]
        if constant and values and values[0].elements <= MAX_CONSTANT:
            data = constants.evaluate(node, [None if v is None else v.data for v in adjusted], values[0].dims)
            if data is not None and data.shape == values[0].dims:
                values[0] = replace(values[0], data=data, literal=node.op_type == "Constant")
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
            if value.data is not None and value.elements <= _SHAPE_OPERANDS:
                data[name] = constants.proto_of(value.data, name)
        try:
            return shape_inference.infer_node_outputs(schema, node.proto, types, data, opset_imports=self._opsets)
        except (shape_inference.InferenceError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise self._contradiction(node, operands, error) from None

    def _recorded(self, node: Node) -> Mapping[str, onnx.TypeProto]:
        """For an op ONNX does not know: what the file says, unless the user asked for other shapes."""
        if self.file_batch != self.batch:
            raise self.source.fail(
                f"op {node.name!r} is {node.domain}.{node.op_type}, which ONNX does not define, so its shape for "
                "another batch is not known; load the file with its own batch"
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
            return Value("", 0, (0,), constant=True)
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

    def _rebatched(self, node: Node, operands: Sequence[Value | None]) -> list[Value | None]:
        """Operands with the file's batch, where an exporter wrote it down, replaced by the asked one."""
        values = list(operands)
        if self.file_batch is None or self.batch is None or self.file_batch == self.batch or not values:
            return values
        first = values[0]
        if node.op_type == "Reshape" and first is not None and not first.constant:
            values[1] = self._leading_batch(values[1], first.dims)
        elif node.op_type == "Concat" and node.attrs.get("axis", 1) != 0:
            batched = any(v is not None and not v.constant and v.dims[:1] == (self.batch,) for v in values)
            values = [self._stretched(v) if batched else v for v in values]
        return values

    def _leading_batch(self, target: Value | None, dims: Dims) -> Value | None:
        if target is None or not target.literal or target.data is None or dims[:1] != (self.batch,):
            return target
        shape: Array = np.array(target.data)
        if shape.ndim == 1 and shape.size and shape[0] == self.file_batch:
            shape[0] = self.batch
        return replace(target, data=shape)

    def _stretched(self, value: Value | None) -> Value | None:
        if value is None or not value.constant or self.batch is None or value.dims[:1] != (self.file_batch,):
            return value
        return replace(value, dims=(self.batch, *value.dims[1:]), data=None)


def _is_constant(node: Node, operands: Sequence[Value | None]) -> bool:
    if node.op_type in _SHAPE_READERS:
        return True
    if node.op_type in _ALIKE and operands and operands[0] is not None:
        return operands[0].constant and all(v is None or v.constant or node.op_type == "CastLike" for v in operands)
    return all(v is None or v.constant for v in operands)


def _shape_of(node: Node, operand: Value) -> Value:
    """Shape and Size, which need no data."""
    dims = operand.dims[node.attrs.get("start", 0) : node.attrs.get("end", operand.rank)]
    data = np.array(dims if node.op_type == "Shape" else operand.elements, np.int64)
    return Value(node.outputs[0], onnx.TensorProto.INT64, data.shape, data=data, constant=True)
