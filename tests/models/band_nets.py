"""Random networks whose weights matter, for the tests of groups that run in bands. No test lives here."""

from __future__ import annotations

from collections.abc import Iterator

from numpy.random import Generator

from fusecut.ir import Graph, Group, bits
from fusecut.testing import Net

EVERYDAY = ("conv", "conv", "conv", "depthwise", "pool", "add", "concat", "se", "up", "gap")
ODD = (*EVERYDAY, "grouped", "transposed", "linear", "matmul", "softmax", "crop", "stack", "split", "twice", "opaque")
COMPUTED = (*EVERYDAY, "grouped", "dilated", "transposed")
CAPACITIES = (400, 800, 1500, 2500, 4000, 8000)


def wide_net(rng: Generator, most_ops: int = 9, most_batch: int = 3) -> Graph:
    """Ops of everyday networks with up to 24 channels, biases, and up to three images."""
    return _drawn(rng, EVERYDAY, most_ops, most_batch)


def strange_net(rng: Generator, most_ops: int = 9) -> Graph:
    """The same with every kind of op that has a habit of its own; counted, not computed."""
    return _drawn(rng, ODD, most_ops, 2)


def computed_net(rng: Generator, most_ops: int = 9) -> Graph:
    """Every kind of op that passes slices on or sums them up and that can be computed; up to three images."""
    return _drawn(rng, COMPUTED, most_ops, 3)


def grown_groups(graph: Graph, rng: Generator, count: int) -> Iterator[Group]:
    """Connected, convex groups of two ops or more around random ops, and the whole network if it is one."""
    found = [graph.everything] if graph.is_connected(graph.everything) and len(graph) > 1 else []
    for _ in range(count):
        group = 1 << int(rng.integers(len(graph)))
        for _ in range(int(rng.integers(1, 7))):
            near = 0
            for i in bits(group):
                near |= graph.preds[i] | graph.succs[i]
            if near & ~group:
                group |= 1 << int(rng.choice(list(bits(near & ~group))))
        if group & (group - 1) and graph.is_convex(group):
            found.append(group)
    yield from dict.fromkeys(found)


def _drawn(rng: Generator, kinds: tuple[str, ...], most_ops: int, most_batch: int) -> Graph:
    net = Net("wide", batch=int(rng.integers(1, most_batch + 1)))
    made = [net.input(int(rng.integers(2, 17)), int(rng.integers(5, 14)), int(rng.integers(4, 9)))]
    for _ in range(int(rng.integers(3, most_ops))):
        x = made[int(rng.integers(max(0, len(made) - 3), len(made)))]
        made += _op(net, rng, str(rng.choice(kinds)), x, made)
    if not net.ops:
        net.conv(0, 4)
    return net.graph()


def _op(net: Net, rng: Generator, kind: str, x: int, made: list[int]) -> list[int]:
    """What one more op makes; nothing where it does not fit."""
    if kind in ("conv", "depthwise", "grouped", "dilated", "transposed"):
        return [_convolution(net, rng, kind, x)]
    if kind in ("add", "concat", "stack", "twice", "matmul"):
        return _joined(net, rng, kind, x, made)
    if kind in ("linear", "softmax", "crop", "split", "opaque"):
        return _rearranged(net, rng, kind, x)
    source = net.tensors[x]
    if kind == "pool" and min(source.rows, source.cols) >= 2:
        return [net.pool(x)]
    if kind == "se" and source.rows > 1:
        return [net.squeeze_excite(x, 2)]
    if kind == "up" and source.rows < 10:
        return [net.upsample(x)]
    return [net.global_pool(x)] if kind == "gap" and source.rows > 1 and rng.random() < 0.4 else []


def _convolution(net: Net, rng: Generator, kind: str, x: int) -> int:
    source = net.tensors[x]
    kernel = int(rng.choice([1, 3]))
    stride = int(rng.choice([1, 1, 2]))
    if min(source.rows, source.cols) < kernel:
        kernel = 1
    if kind == "depthwise":
        return net.depthwise(x, kernel)
    if kind == "dilated":
        return net.conv(x, int(rng.integers(1, 17)), kernel, dilation=2, biases=True)
    if kind == "transposed":
        channels = int(rng.integers(2, 13))
        shape = (channels, (source.rows - 1) * stride + kernel, (source.cols - 1) * stride + kernel)
        weights = channels * source.channels * kernel * kernel
        macs = weights * source.rows * source.cols * net.batch
        return net.op(
            "conv_transpose",
            [x],
            shape,
            weights=weights,
            biases=channels,
            macs=macs,
            kernel=(kernel, kernel),
            strides=(stride, stride),
            dilations=(1, 1),
            pads=(0, 0, 0, 0),
        )
    groups = next(g for g in (4, 3, 2, 1) if source.channels % g == 0) if kind == "grouped" else 1
    channels = groups * int(rng.integers(1, 25 // groups))
    return net.conv(x, channels, kernel, stride, groups=groups, biases=bool(rng.integers(2)))


def _joined(net: Net, rng: Generator, kind: str, x: int, made: list[int]) -> list[int]:
    source = net.tensors[x]
    if kind == "twice":
        return [net.add(x, x)]
    same = [t for t in made if t != x and net.tensors[t].shape[2:] == source.shape[2:]]
    if kind == "stack":
        same = [t for t in made if t != x and net.tensors[t].channels == source.channels]
        same = [t for t in same if net.tensors[t].cols == source.cols]
    elif kind != "concat":
        same = [t for t in same if net.tensors[t].shape == source.shape]
    if not same:
        return []
    mate = int(rng.choice(same))
    if kind == "stack":
        offsets = (0, source.rows)
        shape = (source.channels, source.rows + net.tensors[mate].rows, source.cols)
        return [net.op("concat", [x, mate], shape, axis=0, offsets=offsets)] if shape[1] < 30 else []
    if kind == "matmul":
        return [net.op("matmul", [x, mate], source.shape[1:], macs=source.elements * source.cols, row_operand=0)]
    return [(net.add if kind == "add" else net.concat)(x, mate)]


def _rearranged(net: Net, rng: Generator, kind: str, x: int) -> list[int]:
    source = net.tensors[x]
    if kind == "linear":
        made = int(rng.integers(2, 17))
        weights = made * source.channels
        macs = weights * source.rows * source.cols * net.batch
        shape = (made, source.rows, source.cols)
        return [
            net.op(
                "linear",
                [x],
                shape,
                weights=weights,
                biases=made,
                macs=macs,
                in_features=source.channels,
                flatten=False,
            )
        ]
    if kind == "crop" and source.rows > 3:
        shape = (source.channels, source.rows - 2, source.cols)
        return [net.op("slice", [x], shape, starts=(1, 0), steps=(1, 1))]
    if kind == "split" and source.channels > 1:
        return list(net.split(x, source.channels // 2, source.channels - source.channels // 2))
    return [net.op(kind, [x], source.shape[1:])] if kind in ("softmax", "opaque") and rng.random() < 0.5 else []
