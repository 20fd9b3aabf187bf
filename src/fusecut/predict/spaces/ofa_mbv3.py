"""Once-for-all MobileNetV3 (Cai et al., ICLR 2020): JSON of depth, kernel and expansion, resolution.

``{"d": five depths of 2 to 4, "ks": twenty kernels of 3, 5 or 7, "e": twenty expansions of 3, 4 or 6,
"r": image rows}``. Block i of stage s has kernel ``ks[4 s + i]``; those beyond the stage's depth are
ignored. Width 1.0: stem 16, a block of 16, stages of 24, 40, 80, 112 and 160, then 960, global pool,
1280, and 1000 classes.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.builder import Net
from fusecut.errors import ModelError
from fusecut.ir import Graph

NAME: Final = "ofa_mbv3"
DEPTHS: Final = (2, 3, 4)
KERNELS: Final = (3, 5, 7)
EXPANSIONS: Final = (3, 4, 6)
RESOLUTIONS: Final = (16, 512)
LONGEST: Final = 4
CLASSES: Final = 1000


class Stage(NamedTuple):
    """Channels, stride of the first block, and whether its blocks squeeze and excite."""

    channels: int
    stride: int
    squeezes: bool


STAGES: Final = (
    Stage(24, 2, False),
    Stage(40, 2, True),
    Stage(80, 2, False),
    Stage(112, 1, True),
    Stage(160, 2, True),
)


class Arch(NamedTuple):
    """The blocks (stage, place in the stage, kernel, expansion), and the image rows."""

    blocks: tuple[tuple[int, int, int, int], ...]
    resolution: int


def parse(arch: str) -> Arch:
    """The blocks that are there.

    Raises:
        ModelError: not a network of the space.
    """
    try:
        data = json.loads(arch)
    except (ValueError, RecursionError):
        data = None
    count = len(STAGES) * LONGEST
    good = isinstance(data, dict) and all(
        _all_in(data.get(key), known, size)
        for key, known, size in (("d", DEPTHS, len(STAGES)), ("ks", KERNELS, count), ("e", EXPANSIONS, count))
    )
    if not good or not _fits(data.get("r")):
        raise ModelError(
            f'{arch[:60]!r} is no OFA-MobileNetV3: expected JSON {{"d": 5 of {DEPTHS}, "ks": {count} of {KERNELS}, '
            f'"e": {count} of {EXPANSIONS}, "r": rows of {RESOLUTIONS[0]} to {RESOLUTIONS[1]}}}'
        )
    places = [(stage, i) for stage, depth in enumerate(data["d"]) for i in range(depth)]
    return Arch(tuple((s, i, data["ks"][LONGEST * s + i], data["e"][LONGEST * s + i]) for s, i in places), data["r"])


def _all_in(values: Any, known: tuple[int, ...], size: int) -> bool:
    return isinstance(values, list) and len(values) == size and all(type(v) is int and v in known for v in values)


def _fits(rows: Any) -> bool:
    return type(rows) is int and RESOLUTIONS[0] <= rows <= RESOLUTIONS[1]


def choices(arch: str) -> NDArray[np.float64]:
    """362 values: for each place, kernel and expansion 0/1; the same times (r/224)^2; r/224 and its square."""
    read = parse(arch)
    found = np.zeros((len(STAGES) * LONGEST, len(KERNELS), len(EXPANSIONS)))
    for stage, place, kernel, expansion in read.blocks:
        found[LONGEST * stage + place, KERNELS.index(kernel), EXPANSIONS.index(expansion)] = 1.0
    ratio = read.resolution / 224
    return np.concatenate([found.ravel(), found.ravel() * ratio**2, [ratio, ratio**2]])


def sample(rng: np.random.Generator) -> str:
    """A network drawn evenly, its resolution from 128 to 224 in steps of 4."""
    count = len(STAGES) * LONGEST
    drawn = {
        "d": rng.choice(DEPTHS, len(STAGES)).tolist(),
        "e": rng.choice(EXPANSIONS, count).tolist(),
        "ks": rng.choice(KERNELS, count).tolist(),
        "r": int(rng.integers(32, 57)) * 4,
    }
    return json.dumps(drawn)


def graph(arch: str) -> Graph:
    """The whole network.

    Raises:
        ModelError: not a network of the space.
    """
    read = parse(arch)
    net = Net(f"{NAME}:{arch.strip()}")
    x = net.conv(net.input(3, read.resolution, read.resolution), 16, stride=2, biases=True)
    x = net.add(x, _block(net, x, Stage(16, 1, False), 3, 1))
    for number, place, kernel, expansion in read.blocks:
        stage = STAGES[number]
        if place:
            x = net.add(x, _block(net, x, stage._replace(stride=1), kernel, expansion))
        else:
            x = _block(net, x, stage, kernel, expansion)
    x = net.global_pool(net.conv(x, 960, kernel=1, biases=True))
    net.linear(net.conv(x, 1280, kernel=1), CLASSES)
    return net.graph()


def _block(net: Net, x: int, stage: Stage, kernel: int, expansion: int) -> int:
    """Expand, depthwise, squeeze and excite where the stage does, project."""
    wide = rounded(net.tensors[x].channels * expansion)
    if expansion > 1:
        x = net.conv(x, wide, kernel=1, biases=True)
    x = net.conv(x, wide, kernel, stage.stride, groups=wide, biases=True)
    if stage.squeezes:
        x = net.squeeze_excite(x, rounded(wide // 4))
    return net.conv(x, stage.channels, kernel=1, biases=True)


def rounded(channels: int, multiple: int = 8) -> int:
    """The nearest multiple, one more where that loses over a tenth (the MobileNet rule).

    >>> rounded(100), rounded(11)
    (104, 16)
    """
    near = max(multiple, (channels + multiple // 2) // multiple * multiple)
    return near + multiple if near * 10 < channels * 9 else near
