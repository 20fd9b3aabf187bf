"""Small ONNX models for frontend tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fusecut.frontend.onnx import load
from fusecut.ir import Graph

Constants: TypeAlias = Mapping[str, NDArray[Any]]
Build: TypeAlias = Callable[..., Graph]
DATA = Path(__file__).parent.parent / "data"


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str] | None],
    constants: Constants | None = None,
    outputs: Sequence[str] | None = None,
    opset: int = 20,
    **extra: Any,
) -> onnx.ModelProto:
    """A model of float inputs; its outputs default to those of the last node."""
    made = outputs if outputs is not None else [o for o in nodes[-1].output if o]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in made],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **extra)


def weights(*dims: int) -> NDArray[np.float32]:
    """Random weights, the same each time."""
    return np.random.default_rng(0).standard_normal(dims).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def builder(folder: Path) -> Build:
    """Saves a model made by :func:`model_of` there and loads it, one op per node unless asked otherwise."""

    def run(*args: Any, granularity: Any = "op", load_with: Mapping[str, Any] | None = None, **kwargs: Any) -> Graph:
        file = folder / "net.onnx"
        file.write_bytes(model_of(*args, **kwargs).SerializeToString())
        return load(file, granularity=granularity, **(load_with or {}))

    return run
