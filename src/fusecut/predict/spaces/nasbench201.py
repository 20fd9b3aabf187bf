"""NAS-Bench-201 (Dong & Yang, ICLR 2020): a cell of four nodes and six edges, in a CIFAR skeleton.

``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: the ops on the edges into nodes 1, 2, 3, each from the node
after its tilde. Skeleton: 3x3 stem to 16 channels; five cells; a residual block of stride 2; five
cells at 32; another; five cells at 64; global pool; ten classes; images of 3x32x32.

Ops that nothing reads are left out, as a compiler would; a cell whose output depends on nothing is
a multiplication by zero, as published.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.builder import Net
from fusecut.errors import ModelError
from fusecut.ir import Graph

NAME: Final = "nasbench201"
OPS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
STAGES: Final = (16, 32, 64)
CELLS: Final = 5
CLASSES: Final = 10
_KERNELS: Final = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


def parse(arch: str) -> tuple[str, ...]:
    """The ops on the six edges of :data:`EDGES`.

    Raises:
        ModelError: not a cell of the space.

    >>> parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|")[5]
    'avg_pool_3x3'
    """
    parts = [part for node in arch.strip().split("+") for part in node.strip("|").split("|")]
    ops = [part.partition("~") for part in parts]
    if [o[2] for o in ops] != [str(source) for source, _ in EDGES] or any(o[0] not in OPS for o in ops):
        raise ModelError(
            f"{arch[:100]!r} is no NAS-Bench-201 cell: expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| "
            f"with op one of {', '.join(OPS)}"
        )
    return tuple(o[0] for o in ops)


def choices(arch: str) -> NDArray[np.float64]:
    """30 values: for each edge and op, 1 where it is chosen."""
    found = np.zeros((len(EDGES), len(OPS)))
    for edge, op in enumerate(parse(arch)):
        found[edge, OPS.index(op)] = 1.0
    return found.ravel()


def sample(rng: np.random.Generator) -> str:
    """A cell drawn evenly."""
    ops = iter(str(op) for op in rng.choice(OPS, len(EDGES)))
    return "+".join("|" + "|".join(f"{next(ops)}~{s}" for s in range(node)) + "|" for node in (1, 2, 3))


def graph(arch: str) -> Graph:
    """The whole network of a cell.

    Raises:
        ModelError: not a cell of the space.
    """
    ops = parse(arch)
    net = Net(f"{NAME}:{arch.strip()}")
    x = net.conv(net.input(3, 32, 32), STAGES[0], biases=True)
    for stage, channels in enumerate(STAGES):
        if stage:
            x = _reduction(net, x, channels)
        for _ in range(CELLS):
            x = _cell(net, x, ops)
    x = net.global_pool(x)
    net.linear(x, CLASSES)
    return net.graph()


def _reduction(net: Net, x: int, channels: int) -> int:
    """A residual block of stride 2 whose shortcut is a 2x2 average and a 1x1 convolution."""
    body = net.conv(net.conv(x, channels, stride=2, biases=True), channels, biases=True)
    return net.add(body, net.conv(net.pool(x), channels, kernel=1))


def _cell(net: Net, x: int, ops: tuple[str, ...]) -> int:
    live = _live(ops)
    nodes: dict[int, int] = {0: x}
    for node in (1, 2, 3):
        parts = [
            _apply(net, nodes[source], op)
            for (source, target), op in zip(EDGES, ops, strict=True)
            if target == node and (source, target) in live
        ]
        if parts:
            nodes[node] = parts[0] if len(parts) == 1 else net.add(*parts)
    return nodes[3] if 3 in nodes else net.op("affine", [x], net.tensors[x].shape[1:], function="Mul")


def _apply(net: Net, x: int, op: str) -> int:
    if op in _KERNELS:
        return net.conv(x, net.tensors[x].channels, _KERNELS[op], biases=True)
    return net.pool(x, 3, 1, 1) if op == "avg_pool_3x3" else x


def _live(ops: tuple[str, ...]) -> set[tuple[int, int]]:
    """Edges on a path from the cell's input to its output."""
    some = [edge for edge, op in zip(EDGES, ops, strict=True) if op != "none"]
    fed, read = {0}, {3}
    for _ in range(3):
        fed |= {target for source, target in some if source in fed}
        read |= {source for source, target in some if target in read}
    return {(source, target) for source, target in some if source in fed and target in read}
