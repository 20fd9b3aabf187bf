"""The line-buffer model beside other people's line buffers, and row maps beside published numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from fusecut.cost import Planned
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models.lbdf import LineBuffer
from fusecut.ops import row_maps
from fusecut.rowmap import RowMap
from fusecut.testing import Net

# Other people's line buffers ---------------------------------------------------------------------


class Window(NamedTuple):
    """One op of a chain: kernel, stride, pad, and the bytes of a row at its input."""

    kernel: int
    stride: int
    pad: int
    row_bytes: int


VGG = [
    Window(3, 1, 1, 3 * 224),
    Window(3, 1, 1, 64 * 224),
    Window(2, 2, 0, 64 * 224),
    Window(3, 1, 1, 64 * 112),
    Window(3, 1, 1, 128 * 112),
    Window(2, 2, 0, 128 * 112),
]
"""VGG conv1_1 to pool2."""


def vgg_head() -> Graph:
    net = Net()
    y = net.input(3, 224, 224)
    for channels in (64, 128):
        y = net.pool(net.conv(net.conv(y, channels), channels))
    return net.graph()


def defines_rows() -> list[int]:
    """DeFiNES' step model for a tile of one final row: rho*T + A - (s*A' - p), walking up the chain."""
    rows, lag, rate = [], 0, 1
    for op in reversed(VGG):
        needed = op.stride * lag - op.pad
        lag, rate = op.stride * lag + op.kernel - 1 - op.pad - (op.stride - 1), rate * op.stride
        rows.append(rate + lag - needed)
    return rows[::-1]


def vela_rows() -> list[int]:
    """Vela's rolling buffers with the smallest stripes: an op makes as many rows as its reader strides over."""
    rows = []
    for i, op in enumerate(VGG):
        mine = VGG[i + 1].stride if i + 1 < len(VGG) else 1
        made = op.stride if i else 1
        window = (mine - 1) * op.stride + op.kernel
        rows.append(-(-(made + window) // window) * window)
    return rows


def pyramid_rows() -> list[int]:
    """The rows that one final row needs, composed backwards."""
    rows, tile = [], 1
    for op in reversed(VGG):
        tile = (tile - 1) * op.stride + op.kernel
        rows.append(tile)
    return rows[::-1]


def lbdf_rows() -> list[int]:
    graph = vgg_head()
    return [hold.rows for hold in LineBuffer().demand(graph, graph.everything).holds][: len(VGG)]


@pytest.mark.parametrize(
    ("baseline", "rows", "nbytes"),
    [
        (lbdf_rows, [3, 3, 2, 3, 3, 2], 166_880),
        (defines_rows, [6, 6, 4, 4, 4, 2], 262_080),
        (vela_rows, [6, 8, 4, 6, 8, 4], 391_104),
        (pyramid_rows, [16, 14, 12, 6, 4, 2], 512_512),
    ],
)
def test_rows_at_the_inputs_of_the_vgg_head(baseline: Callable[[], list[int]], rows: list[int], nbytes: int) -> None:
    found = baseline()
    assert (found, sum(n * op.row_bytes for n, op in zip(found, VGG, strict=True))) == (rows, nbytes)


# Published numbers that row maps must give -------------------------------------------------------


def mobilenet_patch_stage() -> Graph:
    """MobileNetV2 at 224: the first convolution and blocks 1 to 4, up to the 28x28 map."""
    net = Net()
    y = net.conv(net.input(3, 224, 224), 32, stride=2)
    y = net.conv(net.depthwise(y), 16, 1)
    for channels, stride, skip in ((24, 2, False), (24, 1, True), (32, 2, False)):
        x = y
        y = net.conv(net.depthwise(net.conv(x, 6 * net.tensors[x].channels, 1), stride=stride), channels, 1)
        y = net.add(y, x) if skip else y
    return net.graph()


def span(table: RowMap, first: int, last: int) -> tuple[int, int]:
    return table.lo[first], table.hi[last]


def patch_spans(graph: Graph, first: int, last: int) -> dict[int, tuple[int, int]]:
    """Rows of every tensor that rows first..last of the output need."""
    spans = {graph.outputs[0]: (first, last)}
    for index in reversed(range(len(graph))):
        op = graph.ops[index]
        mine = spans[op.outputs[0]]
        for t, table in zip(op.inputs, row_maps(graph)[index], strict=True):
            low, high = span(table, *mine)
            before = spans.get(t, (low, high))
            spans[t] = min(low, before[0]), max(high, before[1])
    return spans


def test_an_inner_patch_of_mcunet_reads_75_by_75_pixels() -> None:
    """Rows and columns are alike, so rows tell both; the 2nd of 4 patches of 7 rows is not clipped."""
    graph = mobilenet_patch_stage()
    low, high = patch_spans(graph, 7, 13)[graph.inputs[0]]
    assert high - low + 1 == 75


def test_patches_of_mcunet_compute_42_percent_more() -> None:
    """16 patches of the size of an inner one; the MACs of an op go with the area that it makes."""
    graph = mobilenet_patch_stage()
    tall = {t: last - first + 1 for t, (first, last) in patch_spans(graph, 7, 13).items()}
    shares = [4 * tall[op.outputs[0]] / graph.tensors[op.outputs[0]].rows for op in graph.ops]
    once = sum(op.macs for op in graph.ops)
    patched = sum(op.macs * share**2 for op, share in zip(graph.ops, shares, strict=True))
    assert round(100 * (patched / once - 1)) == 42


def test_the_peak_of_mcunet_layer_by_layer_is_1372_kb() -> None:
    """The expansion of block 2, in and out; its output at 112x112 is the largest map."""
    graph = mobilenet_patch_stage()
    peak = max(
        sum(graph.tensors[t].nbytes for t in (*op.inputs, *op.outputs))
        for op in graph.ops
        if op.attrs.get("groups") == 1
    )
    assert peak == (16 + 96) * 112 * 112 == 1372 * 1024


def test_fused_layer_cnn_moves_3_6_megabytes_at_its_borders() -> None:
    """VGG-E up to the fifth convolution in 32-bit floats: input and output maps, no weights."""
    net = Net()
    y = net.input(3, 224, 224)
    for channels in (64, 128):
        y = net.pool(net.conv(net.conv(y, channels), channels))
    net.conv(y, 256)
    graph = net.graph()
    planned = LineBuffer().plan(graph.with_bits(32, 32, 32), graph.everything, Machine(2**40))
    assert isinstance(planned, Planned)
    cost = planned.cost
    assert round((cost.dram_bytes - cost.weight_bytes) / 2**20, 3) == 3.637
