"""Read a PyTorch module as a graph: what :func:`fusecut.load` makes of its ONNX file, without the file.

The module goes through ``torch.export`` and PyTorch's ONNX exporter. Matrices and filters of more than
1,024 elements are replaced by stand-ins that have a shape and no memory, before the exporter's
optimizer sees them: it folds batch norms into convolutions, which would otherwise make a second copy
of every weight. Vectors and small constants are kept, because the optimizer looks at their values (a
bias of zeros is dropped, equal constants become one).

``torch`` is imported when a module is read, and nowhere else in the package.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fusecut.errors import FusecutError, ModelError, first_line
from fusecut.frontend.onnx import Granularity, check_granularity, graph_of
from fusecut.frontend.values import Array, Dims
from fusecut.ir import Graph

if TYPE_CHECKING:
    import onnx
    import torch

_SMALL: Final = 1024
"""Elements. Also the most that the exporter's optimizer folds or compares."""

_ELSEWHERE: Final = "weights"
_NEEDED: Final = ("torch", "onnxscript")


class _StandIn(np.ndarray[Any, Any]):
    """An array of one zero, seen as many; what is computed from it is another one."""

    @classmethod
    def of(cls, shape: Dims, dtype: Any) -> Array:
        return np.broadcast_to(np.zeros((), dtype), shape).view(cls)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **_: Any) -> Array:
        dtype = np.result_type(*(np.asarray(x).dtype for x in inputs))
        return self.of(np.broadcast_shapes(*(np.shape(x) for x in inputs)), dtype)


def from_torch(
    module: torch.nn.Module,
    example_inputs: torch.Tensor | tuple[torch.Tensor, ...],
    *,
    granularity: Granularity = "folded",
) -> Graph:
    """The network of a PyTorch module, for inputs of the shapes of the example.

    The graph is the one that ``fusecut.load`` reads from the file that ``torch.onnx.export(module,
    example_inputs, path, dynamo=True)`` writes, named after the class of the module. The module is
    exported in evaluation mode and left in the modes it was in. Modules on the ``meta`` device, whose
    weights do not exist at all, are read as well, as if they had been trained.

    Time and memory are those of ``torch.export``; weights are not copied.

    Args:
        module: any module that ``torch.export`` can trace.
        example_inputs: a tensor, or the positional arguments of ``forward``; only shapes and types matter.
        granularity: as in :func:`fusecut.load`.

    Raises:
        FusecutError: torch or onnxscript is not installed.
        ModelError: the module cannot be exported, or not be read as a network.
        UnknownNameError: no such granularity.
    """
    check_granularity(granularity)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise FusecutError(f"from_torch needs {' and '.join(missing)}: pip install 'fusecut[torch]'")
    from fusecut.frontend.source import source_of

    name = Path(type(module).__name__)
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    return graph_of(source_of(name, _exported(name, module, inputs)), granularity=granularity)


def _exported(name: Path, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    """The module as an ONNX model whose large weights are references to nowhere."""
    import onnx_ir
    import torch

    if any(weight.is_meta for weight in (*module.parameters(), *module.buffers())):
        inputs = tuple(x.to("meta") for x in inputs)
    try:
        with _evaluating(module), _quiet(), torch.no_grad():
            program = torch.onnx.export(module, inputs, dynamo=True, optimize=False, verbose=False)
            _lighten(program.model.graph.initializers.values())
            program.optimize()
    except Exception as error:
        raise ModelError(
            f"{name}: torch cannot export it ({first_line(_innermost(error))}); "
            "make torch.onnx.export(module, example_inputs, dynamo=True) work first"
        ) from error
    for value in program.model.graph.initializers.values():
        tensor = value.const_value
        if tensor.size > _SMALL:
            value.const_value = onnx_ir.ExternalTensor(
                _ELSEWHERE, 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name
            )
    model: onnx.ModelProto = onnx_ir.to_proto(program.model)
    return model


def _lighten(values: Iterable[Any]) -> None:
    """Large weights become shapes; small ones that have no values get some, all different, so that none is special."""
    import onnx_ir

    rng = np.random.default_rng(0)
    for value in values:
        tensor = value.const_value
        shape, dtype = tuple(tensor.shape.numpy()), tensor.dtype.numpy()
        absent = bool(getattr(getattr(tensor, "raw", None), "is_meta", False))
        if tensor.size > _SMALL and len(shape) > 1 and (absent or tensor.dtype.is_floating_point()):
            value.const_value = onnx_ir.Tensor(_StandIn.of(shape, dtype), dtype=tensor.dtype, name=value.name)
        elif absent:
            drawn = rng.uniform(1, 100, shape).astype(dtype)
            value.const_value = onnx_ir.Tensor(drawn, dtype=tensor.dtype, name=value.name)


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards every part in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs, warns and prints what is not installed and what it failed at; the error says enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _innermost(error: BaseException) -> BaseException:
    """Where it began: the exporter wraps what it catches."""
    return error if error.__cause__ is None else _innermost(error.__cause__)
