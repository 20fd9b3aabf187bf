"""FBNet (Wu et al., CVPR 2019) as HW-NAS-Bench (Li et al., ICLR 2021) measured it on CIFAR-100.

22 blocks with spaces between, each ``k<kernel>_e<expansion>``, with ``_g2`` where its 1x1
convolutions have two groups, or ``skip``. Images of 3x32x32; 3x3 stem to 16 channels; stages of
1, 4, 4, 4, 4, 4, 1 blocks; 1x1 convolution to 1504 channels; global pool; 100 classes. A ``skip``
that changes shape is a 1x1 convolution of the stride.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.builder import Net
from fusecut.errors import ModelError
from fusecut.ir import Graph

NAME: Final = "fbnet"
OPS: Final = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
STEM: Final = 16
HEAD: Final = 1504
CLASSES: Final = 100
_BLOCK: Final = re.compile(r"k(\d)_e(\d)(?:_g(\d))?")


class Place(NamedTuple):
    """Where a block stands: channels it makes, its stride, and the row of the look-up table it shares."""

    channels: int
    stride: int
    row: int


def _places() -> tuple[Place, ...]:
    places: list[Place] = []
    stages = ((16, 1, 1), (24, 4, 1), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
    row = 0
    for channels, blocks, stride in stages:
        places.append(Place(channels, stride, row))
        places.extend([Place(channels, 1, row + 1)] * (blocks - 1))
        row += 1 if blocks == 1 else 2
    return tuple(places)


PLACES: Final = _places()
ROWS: Final = PLACES[-1].row + 1


def parse(arch: str) -> tuple[str, ...]:
    """The 22 blocks.

    Raises:
        ModelError: not a network of the space.
    """
    ops = tuple(arch.split())
    if len(ops) != len(PLACES) or any(op not in OPS for op in ops):
        raise ModelError(f"{arch[:60]!r} is no FBNet: expected {len(PLACES)} blocks, each one of {', '.join(OPS)}")
    return ops


def choices(arch: str) -> NDArray[np.float64]:
    """108 counts: how often each op stands at each of the 12 places that differ in shape."""
    found = np.zeros((ROWS, len(OPS)))
    for place, op in zip(PLACES, parse(arch), strict=True):
        found[place.row, OPS.index(op)] += 1.0
    return found.ravel()


def sample(rng: np.random.Generator) -> str:
    """A network drawn evenly."""
    return " ".join(str(op) for op in rng.choice(OPS, len(PLACES)))


def graph(arch: str) -> Graph:
    """The whole network.

    Raises:
        ModelError: not a network of the space.
    """
    net = Net(f"{NAME}:{arch.strip()}")
    x = net.conv(net.input(3, 32, 32), STEM, biases=True)
    for place, op in zip(PLACES, parse(arch), strict=True):
        x = _block(net, x, place, op)
    x = net.conv(x, HEAD, kernel=1, biases=True)
    net.linear(net.global_pool(x), CLASSES)
    return net.graph()


def _block(net: Net, x: int, place: Place, op: str) -> int:
    channels = net.tensors[x].channels
    same = channels == place.channels and place.stride == 1
    read = _BLOCK.fullmatch(op)
    if read is None:
        return x if same else net.conv(x, place.channels, kernel=1, stride=place.stride, biases=True)
    kernel, expansion, groups = int(read[1]), int(read[2]), int(read[3] or 1)
    y = net.conv(x, channels * expansion, kernel=1, groups=groups, biases=True)
    y = net.conv(y, channels * expansion, kernel, place.stride, groups=channels * expansion, biases=True)
    y = net.conv(y, place.channels, kernel=1, groups=groups, biases=True)
    return net.add(x, y) if same else y
