"""The network as the published Optimus model sees it: convolutions, and nodes that are free.

Sizes are elements of 16 bits. A layer's input is *not* the tensor it reads but
C * H * W * stride_h * stride_w, from the size of its output; the model is published like that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from fusecut.errors import GraphError
from fusecut.ir import Graph, Op, Tensor, bits
from fusecut.ops import COLS, POINTWISE_KINDS, ROWS, pair

IMAGE: Final = -1
"""Stands for the network input among the predecessors of a layer."""

UNROLLED: Final = 32
"""The PE array unrolls output columns and output channels by 32 each ("X|K")."""


@dataclass(frozen=True)
class Layer:
    """Output K x H x W of ``batch`` images, made from C channels by an R x S window.

    A ``local`` layer (pool, sum, concatenation, depthwise convolution) has neither weights nor MACs.
    """

    name: str
    in_channels: int
    out_channels: int
    rows: int
    cols: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    batch: int = 1
    local: bool = False

    @cached_property
    def window(self) -> int:
        """R * S."""
        return self.kernel[ROWS] * self.kernel[COLS]

    @cached_property
    def sigma(self) -> int:
        """Input positions per output position: the product of the strides."""
        return self.strides[ROWS] * self.strides[COLS]

    @cached_property
    def full_row(self) -> int:
        """Elements of one row with all output channels."""
        return self.out_channels * self.cols

    @cached_property
    def part_row(self) -> int:
        """Elements of one row with as many output channels as the array has columns for."""
        return min(self.out_channels, UNROLLED) * self.cols

    @cached_property
    def positions(self) -> int:
        """N * H * W."""
        return self.batch * self.rows * self.cols

    @cached_property
    def input_elements(self) -> int:
        """IF = C * H * W * sigma * N, the published stand-in for the real input."""
        return self.in_channels * self.sigma * self.positions

    @cached_property
    def output_elements(self) -> int:
        """OF = K * H * W * N."""
        return self.out_channels * self.positions

    @cached_property
    def weight_elements(self) -> int:
        """R * S * C * K; 0 for a local layer."""
        return 0 if self.local else self.window * self.in_channels * self.out_channels

    @cached_property
    def macs(self) -> int:
        """OF * R * S * C; 0 for a local layer."""
        return self.positions * self.weight_elements


@dataclass(frozen=True, eq=False)
class Network:
    """Layers in topological order; who feeds whom, in the order the network declares it.

    ``preds`` holds :data:`IMAGE` for the network input, ``image`` its shape (N, C, H, W).
    """

    name: str
    layers: tuple[Layer, ...]
    preds: tuple[tuple[int, ...], ...]
    succs: tuple[tuple[int, ...], ...]
    pred_masks: tuple[int, ...]
    succ_masks: tuple[int, ...]
    image: tuple[int, int, int, int]

    @property
    def batch(self) -> int:
        return self.image[0]

    def made_elements(self, maker: int) -> int:
        """The whole tensor a layer makes, or the image."""
        if maker != IMAGE:
            return self.layers[maker].output_elements
        n, c, h, w = self.image
        return n * c * h * w

    def made_shape(self, maker: int) -> tuple[int, int]:
        """Channels and rows of what a layer makes, or of the image."""
        if maker == IMAGE:
            return self.image[1], self.image[2]
        return self.layers[maker].out_channels, self.layers[maker].rows


def network_of(graph: Graph, batch: int | None = None) -> Network:
    """A graph in the published vocabulary, for ``batch`` images (None: as many as the graph has).

    Raises:
        GraphError: several inputs, or an op the model has no word for: grouped, dilated or
            transposed convolutions, attention, broadcasts (squeeze-excite), reshapes.
    """
    if len(graph.inputs) != 1:
        raise GraphError(f"{graph.name!r} has {len(graph.inputs)} inputs: the published Optimus model has one image")
    n, c, h, w = graph.tensors[graph.inputs[0]].shape
    images = n if batch is None else batch
    if images < 1:
        raise GraphError(f"a batch of {images} images is none: give at least 1")
    layers = tuple(_layer(graph, op, images) for op in graph.ops)
    preds = tuple(tuple(dict.fromkeys(graph.producer[t] for t in op.inputs)) for op in graph.ops)
    succs = tuple(tuple(bits(mask)) for mask in graph.succs)
    return Network(graph.name, layers, preds, succs, graph.preds, graph.succs, (images, c, h, w))


def _layer(graph: Graph, op: Op, batch: int) -> Layer:
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    kernel, strides, local = _geometry(graph, op, source, made)
    return Layer(op.name, source.channels, made.channels, made.rows, made.cols, kernel, strides, batch, local)


def _geometry(graph: Graph, op: Op, source: Tensor, made: Tensor) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """Window, strides, and whether the op is a local layer."""
    whole = (source.rows, source.cols)
    if op.kind in ("conv", "pool") and _axes(op, "dilations") == (1, 1):
        groups = op.attrs.get("groups", 1) if op.kind == "conv" else source.channels
        if op.kind == "pool" or groups in (1, source.channels):
            return _axes(op, "kernel"), _axes(op, "strides"), op.kind == "pool" or groups != 1
    if op.kind == "linear":
        return (whole, whole, False) if op.attrs.get("flatten") else ((1, 1), (1, 1), False)
    if op.kind == "reduce" and (made.rows, made.cols, made.channels) == (1, 1, source.channels):
        return whole, whole, True
    joins = op.kind in POINTWISE_KINDS or (op.kind == "concat" and op.attrs.get("axis") == -1)
    if joins and all(graph.tensors[t].shape[2:] == made.shape[2:] for t in op.inputs):
        return (1, 1), (1, 1), True
    raise GraphError(
        f"op {op.name!r} ({op.kind}) of {graph.name!r} does not exist in the published Optimus model, which knows "
        "plain and depthwise convolutions, fully connected layers, pools, sums and concatenations over channels; "
        "use fusecut's own schemes for this network"
    )


def _axes(op: Op, key: str) -> tuple[int, int]:
    return pair(op, key, ROWS, 1), pair(op, key, COLS, 1)
