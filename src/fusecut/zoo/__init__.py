"""Networks to try things on: ONNX files without weights, shipped with the package.

From torchvision (BSD-3) and timm (Apache-2.0) by the torch exporter, batch 1; ``fsrcnn``, ``unet``,
``mobilenet_v1`` and the ``deeplabv3plus`` head are our own. Weights are references to a file that
is not there, so they load here and cannot be run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fusecut.errors import UnknownNameError
from fusecut.frontend.onnx import Granularity
from fusecut.frontend.onnx import load as load_file
from fusecut.ir import Graph

_HERE: Final = Path(__file__).parent
INDEX: Final = _HERE / "index.json"


@dataclass(frozen=True)
class ZooEntry:
    """What a network costs: bytes are int8 with 32-bit biases, ops are counted after folding."""

    name: str
    ops: int
    weight_bytes: int
    activation_bytes: int
    macs: int
    input_shape: tuple[int, ...]


@cache
def names() -> tuple[str, ...]:
    """All names, sorted."""
    return tuple(sorted(file.stem for file in _HERE.glob("*.onnx")))


def path(name: str) -> Path:
    """The file of a network.

    Raises:
        UnknownNameError: there is none of that name; lists those there are.
    """
    if name not in names():
        raise UnknownNameError("zoo network", name, names())
    return _HERE / f"{name}.onnx"


def load(
    name: str,
    *,
    batch: int | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    granularity: Granularity = "folded",
) -> Graph:
    """The network of that name; arguments as in :func:`fusecut.frontend.onnx.load`.

    Raises:
        UnknownNameError: there is none of that name.
        ModelError: the asked shapes do not fit the network.
    """
    return load_file(path(name), batch=batch, input_shapes=input_shapes, granularity=granularity)


def index() -> list[ZooEntry]:
    """All networks with their sizes, by name, without loading any."""
    rows = json.loads(INDEX.read_text(encoding="utf-8"))
    return [ZooEntry(**{**row, "input_shape": tuple(row["input_shape"])}) for row in rows]


def measured(name: str) -> ZooEntry:
    """The index entry of a network, computed from its file. Activations are all tensors, network inputs included."""
    graph = load(name)
    return ZooEntry(
        name=name,
        ops=len(graph),
        weight_bytes=sum(op.weight_bytes for op in graph.ops),
        activation_bytes=sum(t.nbytes for t in graph.tensors),
        macs=sum(op.macs for op in graph.ops),
        input_shape=graph.tensors[graph.inputs[0]].dims,
    )


def write_index() -> None:
    """Write ``index.json`` anew from the files; run it after adding a network."""
    rows = ",\n".join(f" {json.dumps(asdict(measured(name)))}" for name in names())
    INDEX.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
