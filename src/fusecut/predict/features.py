"""Analytic features: what can be read off a network without searching it.

All are sums and counts over the ops, at the widths of the graph (int8 unless it says otherwise),
as logarithms ``log(1 + x)`` where they are sizes. Four groups:

* totals: unfused DRAM bytes (every op reads its operands and weights and writes its result once),
  the floor (inputs, outputs and weights once), weights, activations, MACs, depth, ops, image size;
* for each family of ops its number, its MACs and the bytes it moves;
* where a buffer is given, how the sizes stand to it: shares of the bytes in tensors, and in the
  weights of ops, that are larger than the buffer and than half and a quarter of it.

A model whose prediction is a look-up table over layers is linear in counts, not in logarithms:
:func:`linear` has the same quantities as they are, in millions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import MachineError
from fusecut.ir import Graph, bits
from fusecut.predict.compute_graph import label

Floats = NDArray[np.float64]

FAMILIES: Final[dict[str, str]] = {
    "conv": "conv",
    "conv_transpose": "conv",
    "conv_grouped": "conv_grouped",
    "conv_pointwise": "conv_pointwise",
    "conv_depthwise": "conv_depthwise",
    "pool": "pool",
    "reduce": "pool",
    "elementwise": "elementwise",
    "activation": "elementwise",
    "affine": "elementwise",
    "concat": "data",
    "split": "data",
    "slice": "data",
    "pad": "data",
    "resize": "data",
    "reshape": "data",
    "transpose": "data",
    "linear": "linear",
    "matmul": "matmul",
}
"""Families of op labels; what is not here is ``other``."""

FAMILY_NAMES: Final = (*dict.fromkeys(FAMILIES.values()), "other")
TOTALS: Final = ("unfused", "floor", "weights", "activations", "largest", "macs", "depth", "ops", "pixels")
NAMES: Final = (*TOTALS, *(f"{what}:{f}" for f in FAMILY_NAMES for what in ("count", "macs", "bytes")))
"""What the entries of :func:`quantities` are."""

_PARTS: Final = (1, 2, 4)
BUFFER_NAMES: Final = (
    "buffer",
    "floor/buffer",
    "unfused/buffer",
    *(f"{what}>buffer/{part}" for what in ("tensors", "weights") for part in _PARTS),
    *(f"window>buffer/{part}" for part in _PARTS),
)
"""What the entries of :func:`against_buffer` are."""


def quantities(graph: Graph) -> Floats:
    """The raw quantities of :data:`NAMES`, in bytes, MACs and counts. O(ops + edges).

    >>> from fusecut.builder import Net
    >>> net = Net()
    >>> _ = net.conv(net.input(3, 8, 8), 16, kernel=1)
    >>> dict(zip(NAMES, quantities(net.graph()).tolist()))["unfused"]
    1264.0
    """
    sums = dict.fromkeys(NAMES, 0.0)
    for index, op in enumerate(graph.ops):
        family = FAMILIES.get(label(graph, op), "other")
        moved = float(graph.touch_once_bytes(1 << index))
        sums[f"count:{family}"] += 1
        sums[f"macs:{family}"] += op.macs
        sums[f"bytes:{family}"] += moved
        sums["unfused"] += moved
        sums["weights"] += op.weight_bytes
        sums["macs"] += op.macs
    sizes = [t.nbytes for t in graph.tensors]
    sums |= {"activations": float(sum(sizes)), "largest": float(max(sizes)), "ops": float(len(graph))}
    first = graph.tensors[graph.inputs[0]] if graph.inputs else graph.tensors[0]
    sums["pixels"] = float(first.rows * first.cols)
    sums["floor"] = float(graph.touch_once_bytes(graph.everything))
    sums["depth"] = float(_depth(graph))
    return np.array([sums[name] for name in NAMES])


def _depth(graph: Graph) -> int:
    """Ops on the longest path."""
    depths: list[int] = []
    for before in graph.preds:
        depths.append(1 + max((depths[p] for p in bits(before)), default=0))
    return max(depths)


def logarithmic(raw: Floats) -> Floats:
    """``log(1 + x)`` of raw quantities."""
    found: Floats = np.log1p(raw)
    return found


def linear(raw: Floats) -> Floats:
    """Raw quantities in millions, counts as they are."""
    scale = [1.0 if n in ("depth", "ops") or n.startswith("count") else 1e-6 for n in NAMES]
    found: Floats = raw * np.array(scale)
    return found


def against_buffer(graph: Graph, buffer_bytes: int) -> Floats:
    """How the network stands to a buffer: the entries of :data:`BUFFER_NAMES`. O(ops).

    Raises:
        MachineError: a buffer that holds nothing.
    """
    if buffer_bytes < 1:
        raise MachineError(f"a buffer of {buffer_bytes} bytes holds nothing: give at least 1 byte, e.g. 256KiB")
    tensors = np.array([t.nbytes for t in graph.tensors], dtype=np.float64)
    weights = np.array([op.weight_bytes for op in graph.ops], dtype=np.float64)
    windows = np.array([_window_bytes(graph, i) for i in range(len(graph))], dtype=np.float64)
    unfused = sum(graph.touch_once_bytes(1 << i) for i in range(len(graph)))
    floor = graph.touch_once_bytes(graph.everything)
    shares = [_share(sizes, buffer_bytes / part) for sizes in (tensors, weights) for part in _PARTS]
    counts = [float(np.mean(windows > buffer_bytes / part)) for part in _PARTS]
    ratios = [np.log(buffer_bytes), np.log(floor / buffer_bytes), np.log(unfused / buffer_bytes)]
    return np.array([*ratios, *shares, *counts])


def _share(sizes: Floats, limit: float) -> float:
    """Share of the bytes that lie in pieces larger than the limit."""
    return float(sizes[sizes > limit].sum() / max(1.0, sizes.sum()))


def _window_bytes(graph: Graph, index: int) -> float:
    """Rows that one row of the op's result needs, the result's row, and the op's weights."""
    op = graph.ops[index]
    kernel = op.attrs.get("kernel")
    rows = kernel[0] if isinstance(kernel, tuple) else 1
    read = sum(min(rows, graph.tensors[t].rows) * graph.tensors[t].row_bytes for t in op.inputs)
    return float(read + sum(graph.tensors[t].row_bytes for t in op.outputs) + op.weight_bytes)
