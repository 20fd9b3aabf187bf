"""Random members of well-known families, to label with our own solver.

A family stands for how networks of a kind are built, not for one published search space: inverted
residuals (MobileNetV2), with squeeze and excite (MobileNetV3), with wider kernels, more depth and
squeeze and excite throughout (EfficientNet), residual blocks (ResNet), and four kinds with another head
than a classifier's: an inverted-residual body with an upsampling head (``segment``), an encoder-decoder with
skips (``unet``), an inverted-residual body with a feature pyramid and a class and a box map for each level
(``detect``, as in FPN and SSDLite), and residual blocks with upsampled heat maps (``pose``, as in Simple
Baselines). Members differ in resolution, width, depth, kernels and expansions.

``mobilenet_v2:SEED`` and so on are their names: the same seed is the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.random import Generator

from fusecut.builder import Net
from fusecut.errors import ModelError, UnknownNameError
from fusecut.ir import Graph
from fusecut.predict.spaces.ofa_mbv3 import rounded

CLASSES: Final = (10, 100, 1000)
_BODY: Final = ((16, 1), (24, 2), (40, 2), (80, 2), (112, 1), (192, 2))
_SIZES: Final = (96, 112, 128, 144, 160, 192, 224)
_PYRAMID: Final = (2, 4, 5)
"""Stages of a body whose ends are 8, 16 and 32 times smaller than the image."""

_LARGEST_SEED: Final = 10**9


def member(family: str, seed: int) -> Graph:
    """The network of a family that a seed stands for.

    Raises:
        UnknownNameError: no such family.
        ModelError: a seed out of range.
    """
    if family not in FAMILIES:
        raise UnknownNameError("family", family, FAMILIES)
    if not 0 <= seed < _LARGEST_SEED:
        raise ModelError(f"seed {seed} of family {family!r}: expected 0 to {_LARGEST_SEED - 1}")
    rng = np.random.default_rng([seed, *family.encode()])
    net = Net(f"{family}:{seed}")
    FAMILIES[family](net, rng)
    return net.graph()


def _pick(rng: Generator, values: Sequence[int]) -> int:
    return int(values[int(rng.integers(len(values)))])


def _image(net: Net, rng: Generator, sizes: Sequence[int]) -> int:
    size = _pick(rng, sizes)
    return net.input(3, size, size)


def _classifier(net: Net, rng: Generator, x: int, features: int) -> None:
    net.linear(net.global_pool(net.conv(x, features, kernel=1, biases=True)), _pick(rng, CLASSES))


def _inverted(net: Net, x: int, channels: int, kernel: int, stride: int, expansion: int, squeeze: bool) -> int:
    """An inverted residual block."""
    source = net.tensors[x].channels
    y = net.conv(x, source * expansion, kernel=1, biases=True) if expansion > 1 else x
    y = net.conv(y, source * expansion, kernel, stride, groups=source * expansion, biases=True)
    if squeeze:
        y = net.squeeze_excite(y, rounded(max(8, source // 4)))
    y = net.conv(y, channels, kernel=1, biases=True)
    return net.add(x, y) if stride == 1 and channels == source else y


def _body(
    net: Net,
    rng: Generator,
    kernels: Sequence[int],
    squeezes: Callable[[], bool],
    deepest: int,
    sizes: Sequence[int] = _SIZES,
) -> list[int]:
    """Stem and stages of inverted residuals; the last tensor of each stage."""
    width = float(rng.uniform(0.35, 1.2))
    x = _image(net, rng, sizes)
    x = net.conv(x, rounded(round(32 * width)), stride=2, biases=True)
    ends: list[int] = []
    for channels, stride in _BODY:
        squeeze, kernel = squeezes(), _pick(rng, kernels)
        for i in range(int(rng.integers(1, deepest + 1))):
            expansion = _pick(rng, (3, 4, 6)) if ends else 1
            x = _inverted(net, x, rounded(round(channels * width)), kernel, stride if not i else 1, expansion, squeeze)
        ends.append(x)
    return ends


def _mobilenet_v2(net: Net, rng: Generator) -> None:
    _classifier(net, rng, _body(net, rng, (3,), lambda: False, 4)[-1], _pick(rng, (640, 1280)))


def _mobilenet_v3(net: Net, rng: Generator) -> None:
    _classifier(net, rng, _body(net, rng, (3, 5, 7), lambda: bool(rng.random() < 0.5), 4)[-1], _pick(rng, (480, 960)))


def _efficientnet(net: Net, rng: Generator) -> None:
    _classifier(net, rng, _body(net, rng, (3, 5), lambda: True, 5)[-1], _pick(rng, (960, 1280)))


def _segment(net: Net, rng: Generator) -> None:
    """A body, and a head that joins its end, upsampled, with an early map."""
    ends = _body(net, rng, (3, 5), lambda: False, 3)
    classes, middle = _pick(rng, (2, 19, 21)), _pick(rng, (32, 48, 64))
    low, high = ends[2], net.conv(ends[-1], middle, kernel=1, biases=True)
    factor = net.tensors[low].rows // net.tensors[high].rows
    even = net.tensors[high].rows * factor == net.tensors[low].rows
    x = net.concat(low, net.upsample(high, factor)) if even else high
    for _ in range(int(rng.integers(1, 3))):
        x = net.conv(net.depthwise(x), middle, kernel=1, biases=True)
    net.upsample(net.conv(x, classes, kernel=1, biases=True), 4)


def _detect(net: Net, rng: Generator) -> None:
    """A body, a feature pyramid on three of its maps, and a class and a box map for each level."""
    ends = _body(net, rng, (3, 5), lambda: False, 3, (128, 160, 192, 224, 256))
    width, classes, anchors = _pick(rng, (32, 48, 64)), _pick(rng, (2, 21, 81)), _pick(rng, (3, 6))
    shared = int(rng.integers(0, 3))
    above: int | None = None
    for end in reversed([ends[i] for i in _PYRAMID]):
        x = net.conv(end, width, kernel=1, biases=True)
        above = x if above is None else net.add(x, net.upsample(above))
        y = above
        for _ in range(shared):
            y = net.conv(net.depthwise(y), width, kernel=1, biases=True)
        for channels in (classes * anchors, 4 * anchors):
            net.conv(net.depthwise(y), channels, kernel=1, biases=True)


def _residual(net: Net, x: int, channels: int, stride: int, bottleneck: bool) -> int:
    """A basic or a bottleneck block."""
    if bottleneck:
        y = net.conv(net.conv(x, channels // 4, kernel=1, biases=True), channels // 4, stride=stride, biases=True)
        y = net.conv(y, channels, kernel=1, biases=True)
    else:
        y = net.conv(net.conv(x, channels, stride=stride, biases=True), channels, biases=True)
    same = stride == 1 and net.tensors[x].channels == channels
    return net.add(y, x if same else net.conv(x, channels, kernel=1, stride=stride, pad=0, biases=True))


def _stages(net: Net, rng: Generator, widths: Sequence[int], sizes: Sequence[int]) -> int:
    """Stem and stages of residual blocks, to a map 32 times smaller than the image, or 16 without a pool."""
    width, bottleneck = _pick(rng, widths), bool(rng.random() < 0.4)
    x = _image(net, rng, sizes)
    x = net.conv(x, width, _pick(rng, (3, 7)), stride=2, biases=True)
    if rng.random() < 0.6:
        x = net.pool(x, 3, 2, 1)
    for stage in range(4):
        for i in range(int(rng.integers(1, 4))):
            x = _residual(net, x, width * 2**stage, 2 if stage and not i else 1, bottleneck)
    return x


def _resnet(net: Net, rng: Generator) -> None:
    x = _stages(net, rng, (16, 24, 32, 48, 64), (96, 128, 160, 192, 224))
    net.linear(net.global_pool(x), _pick(rng, CLASSES))


def _pose(net: Net, rng: Generator) -> None:
    """Residual blocks, then three times upsampled and convolved, and a heat map for each joint."""
    x = _stages(net, rng, (16, 24, 32), (128, 160, 192, 256))
    width, joints = _pick(rng, (32, 64, 96)), _pick(rng, (14, 16, 17))
    for _ in range(3):
        x = net.conv(net.upsample(x), width, biases=True)
    net.conv(x, joints, kernel=1, biases=True)


def _unet(net: Net, rng: Generator) -> None:
    width, levels = _pick(rng, (8, 16, 24, 32)), int(rng.integers(2, 5))
    x = _image(net, rng, (96, 128, 160, 192))
    kept = []
    for level in range(levels):
        x = net.conv(net.conv(x, width * 2**level, biases=True), width * 2**level, biases=True)
        kept.append(x)
        x = net.pool(x)
    x = net.conv(x, width * 2**levels, biases=True)
    for level in reversed(range(levels)):
        x = net.concat(kept[level], net.conv(net.upsample(x), width * 2**level, kernel=1, biases=True))
        x = net.conv(x, width * 2**level, biases=True)
    net.conv(x, _pick(rng, (2, 21)), kernel=1, biases=True)


FAMILIES: Final[dict[str, Callable[[Net, Generator], None]]] = {
    "detect": _detect,
    "efficientnet": _efficientnet,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3": _mobilenet_v3,
    "pose": _pose,
    "resnet": _resnet,
    "segment": _segment,
    "unet": _unet,
}
"""The families by name."""
