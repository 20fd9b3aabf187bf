"""Small networks, random networks and brute force, for our tests and for yours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from numpy.random import Generator

from fusecut.builder import Net
from fusecut.cost import Infeasible
from fusecut.errors import PartitionError
from fusecut.ir import Graph, Group
from fusecut.partition import Partition
from fusecut.problem import Problem


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
