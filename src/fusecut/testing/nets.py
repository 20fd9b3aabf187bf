"""Small networks, random networks and brute force, for our tests and for yours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from numpy.random import Generator

from fusecut.cost import Infeasible
from fusecut.errors import PartitionError
from fusecut.ir import AttrValue, Graph, Group, Op, Tensor
from fusecut.partition import Partition
from fusecut.problem import Problem


class Net:
    """A network written by hand: every method adds an op and returns the tensor it makes.

    >>> net = Net()
    >>> x = net.input(16, 32, 32)
    >>> y = net.add(net.conv(net.conv(x, 16), 16), x)
    >>> len(net.graph())
    3
    """

    def __init__(self, name: str = "net", batch: int = 1) -> None:
        self.name, self.batch = name, batch
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.inputs: list[int] = []

    def input(self, channels: int, rows: int, cols: int) -> int:
        """A network input."""
        self.inputs.append(self._tensor(channels, rows, cols))
        return self.inputs[-1]

    def _tensor(self, channels: int, rows: int, cols: int) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", (self.batch, channels, rows, cols)))
        return len(self.tensors) - 1

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: tuple[int, int, int],
        *,
        weights: int = 0,
        biases: int = 0,
        macs: int = 0,
        name: str = "",
        **attrs: AttrValue,
    ) -> int:
        """Any op, its output shape given as (channels, rows, cols)."""
        made = self._tensor(*shape)
        label = name or f"{kind}{len(self.ops)}"
        self.ops.append(
            Op(label, kind, tuple(inputs), (made,), attrs, weight_elements=weights, bias_elements=biases, macs=macs)
        )
        return made

    def conv(
        self,
        x: int,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        pad: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        biases: bool = False,
        name: str = "",
    ) -> int:
        """A square convolution; ``pad=None`` keeps the size at stride 1."""
        source = self.tensors[x]
        reach = dilation * (kernel - 1)
        pad = reach // 2 if pad is None else pad
        rows, cols = ((size + 2 * pad - reach - 1) // stride + 1 for size in (source.rows, source.cols))
        weights = channels * source.channels // groups * kernel * kernel
        return self.op(
            "conv",
            [x],
            (channels, rows, cols),
            weights=weights,
            biases=channels if biases else 0,
            macs=weights * rows * cols * self.batch,
            name=name,
            kernel=(kernel, kernel),
            strides=(stride, stride),
            dilations=(dilation, dilation),
            pads=(pad, pad, pad, pad),
            groups=groups,
        )

    def depthwise(self, x: int, kernel: int = 3, stride: int = 1, name: str = "") -> int:
        """A depthwise convolution."""
        channels = self.tensors[x].channels
        return self.conv(x, channels, kernel, stride, groups=channels, name=name)

    def pool(self, x: int, kernel: int = 2, stride: int = 2, pad: int = 0, name: str = "") -> int:
        """A max pool."""
        source = self.tensors[x]
        rows, cols = ((size + 2 * pad - kernel) // stride + 1 for size in (source.rows, source.cols))
        return self.op(
            "pool",
            [x],
            (source.channels, rows, cols),
            name=name,
            mode="max",
            kernel=(kernel, kernel),
            strides=(stride, stride),
            pads=(pad, pad, pad, pad),
        )

    def add(self, *parts: int, name: str = "") -> int:
        """An elementwise sum; a one-row part is broadcast."""
        widest = self.tensors[max(parts, key=lambda t: self.tensors[t].elements)]
        return self.op("elementwise", parts, widest.shape[1:], name=name, function="Add")

    def concat(self, *parts: int, name: str = "") -> int:
        """A concatenation over channels."""
        first = self.tensors[parts[0]]
        channels = sum(self.tensors[t].channels for t in parts)
        return self.op("concat", parts, (channels, first.rows, first.cols), name=name, axis=-1)

    def upsample(self, x: int, factor: int = 2) -> int:
        """Nearest upsampling."""
        source = self.tensors[x]
        shape = (source.channels, source.rows * factor, source.cols * factor)
        return self.op("resize", [x], shape, mode="nearest", coordinates="asymmetric", nearest="floor")

    def global_pool(self, x: int) -> int:
        """A global average pool: a streaming reduction."""
        return self.op("reduce", [x], (self.tensors[x].channels, 1, 1), mode="mean")

    def squeeze_excite(self, x: int, squeezed: int) -> int:
        """Global pool, two fully connected layers, and the scaling that rejoins the map."""
        channels = self.tensors[x].channels
        vector = self.conv(self.conv(self.global_pool(x), squeezed, kernel=1), channels, kernel=1)
        return self.op("elementwise", [x, vector], self.tensors[x].shape[1:], function="Mul")

    def barrier(self, x: int) -> int:
        """An op nobody knows."""
        return self.op("opaque", [x], self.tensors[x].shape[1:])

    def graph(self, *outputs: int) -> Graph:
        """The finished network; by default every tensor nobody reads is an output."""
        read = {t for op in self.ops for t in op.inputs}
        ends = outputs or tuple(t for op in self.ops for t in op.outputs if t not in read)
        return Graph(self.name, tuple(self.tensors), tuple(self.ops), tuple(self.inputs), ends)


def random_graph(rng: Generator, ops: int, rows: int = 12, inputs: int = 1, kinds: Sequence[str] = ()) -> Graph:
    """A random DAG of convolutions, pools, joins, upsampling, reductions, barriers and extra outputs.

    Same generator state, same graph. ``kinds`` restricts the ops drawn.
    """
    net = Net("random")
    made = [net.input(int(rng.integers(1, 5)), rows, int(rng.integers(3, 9))) for _ in range(inputs)]
    while len(net.ops) < ops:
        choice = str(rng.choice(list(kinds or _KINDS)))
        tensor = _random_op(net, rng, choice, made[int(rng.integers(max(0, len(made) - 4), len(made)))], made)
        if tensor is not None:
            made.append(tensor)
    read = {t for op in net.ops for t in op.inputs}
    extra = {t for op in net.ops for t in op.outputs if t in read and rng.random() < 0.1}
    ends = sorted(extra | {t for op in net.ops for t in op.outputs if t not in read})
    return net.graph(*ends)


_KINDS = ("conv", "conv", "conv", "depthwise", "pool", "add", "add", "concat", "upsample", "se", "gap", "barrier")


def _random_op(net: Net, rng: Generator, kind: str, x: int, made: list[int]) -> int | None:
    source = net.tensors[x]
    if kind in ("conv", "depthwise"):
        kernel, stride, dilation = int(rng.choice([1, 3, 5])), int(rng.choice([1, 1, 2])), int(rng.choice([1, 1, 2]))
        if min(source.rows, source.cols) < dilation * (kernel - 1) + 1:
            kernel, dilation = 1, 1
        channels = int(rng.integers(1, 6))
        groups = source.channels if kind == "depthwise" else 1
        channels = source.channels if kind == "depthwise" else channels
        return net.conv(x, channels, kernel, stride, None, dilation, groups)
    if kind == "pool" and min(source.rows, source.cols) >= 2:
        return net.pool(x)
    if kind in ("add", "concat"):
        mates = [t for t in made if net.tensors[t].shape[2:] == source.shape[2:] and t != x]
        if kind == "add":
            mates = [t for t in mates if net.tensors[t].shape == source.shape]
        return (net.add if kind == "add" else net.concat)(x, int(rng.choice(mates))) if mates else None
    if kind == "upsample" and source.rows * 2 <= 24:
        return net.upsample(x)
    if kind == "se" and source.rows > 1:
        return net.squeeze_excite(x, 2)
    if kind == "gap" and source.rows > 1 and rng.random() < 0.3:
        return net.global_pool(x)
    return net.barrier(x) if kind == "barrier" and rng.random() < 0.3 else None


def all_partitions(graph: Graph) -> Iterator[Partition]:
    """Every valid partition, by trying every set partition of the ops: for graphs of at most about ten."""
    for groups in _set_partitions(len(graph)):
        try:
            yield Partition(graph, groups)
        except PartitionError:
            continue


def _set_partitions(count: int) -> Iterator[list[Group]]:
    if not count:
        yield []
        return
    for groups in _set_partitions(count - 1):
        bit = 1 << (count - 1)
        yield [*groups, bit]
        for i in range(len(groups)):
            yield [*groups[:i], groups[i] | bit, *groups[i + 1 :]]


def brute_force(problem: Problem) -> int | None:
    """The fewest DRAM bytes of any valid partition, by trying them all; None if none is feasible."""
    best: int | None = None
    for partition in all_partitions(problem.graph):
        cost = problem.cost(partition)
        if not isinstance(cost, Infeasible) and (best is None or cost.dram_bytes < best):
            best = cost.dram_bytes
    return best
