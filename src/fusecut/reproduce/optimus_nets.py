"""The networks of the Optimus implementation, shaped by hand as they are there.

They are close to the networks of the same name, and not the same: SqueezeNet and AlexNet read 227 x
227 pixels, AlexNet is two towers and, like VGG16 and ResNet-18, ends before its fully connected
layers, stage 2 of ResNet-18 has a projection it does not need, GoogLeNet's pool branch has no pool.
Neither activations nor biases nor batch norm exist. Of ResNet-50 and -152, GoogLeNet and MobileNet
only the shapes are documented; names, and with them the order of equal plans, are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fusecut.builder import Net
from fusecut.errors import UnknownNameError
from fusecut.ir import Graph

WIDTH_BITS: Final = 16
"""Of activations and weights alike."""


def squeezenet(net: Net) -> None:
    """SqueezeNet 1.0."""
    x = net.conv(net.input(3, 227, 227), 96, 7, 2, pad=0, name="conv1")
    x = net.pool(x, 3, 2, name="pool1")
    for fire, squeezed, expanded in (
        (2, 16, 64), (3, 16, 64), (4, 32, 128), (5, 32, 128), (6, 48, 192), (7, 48, 192), (8, 64, 256), (9, 64, 256),
    ):  # fmt: skip
        x = _fire(net, x, f"fire{fire}", squeezed, expanded)
        if fire in (4, 8):
            x = net.pool(x, 3, 2, name=f"pool{fire}")
    net.pool(net.conv(x, 1000, 1, name="conv10"), 13, 13, name="pool10")


def _fire(net: Net, x: int, name: str, squeezed: int, expanded: int) -> int:
    x = net.conv(x, squeezed, 1, name=f"{name}_squeeze1x1")
    parts = [net.conv(x, expanded, k, name=f"{name}_expand{k}x{k}") for k in (1, 3)]
    return net.concat(*parts, name=f"{name}_concat")


def alexnet(net: Net) -> None:
    """AlexNet as two towers that meet once."""
    image = net.input(3, 227, 227)
    halves = []
    for tower in "ab":
        x = net.conv(image, 48, 11, 4, pad=0, name=f"conv1_{tower}")
        x = net.conv(net.pool(x, 3, 2, name=f"pool1_{tower}"), 128, 5, name=f"conv2_{tower}")
        halves.append(net.pool(x, 3, 2, name=f"pool2_{tower}"))
    middle = net.concat(*halves, name="conv2_concat")
    for tower in "ab":
        x = net.conv(middle, 192, name=f"conv3_{tower}")
        x = net.conv(x, 192, name=f"conv4_{tower}")
        net.pool(net.conv(x, 128, name=f"conv5_{tower}"), 3, 2, name=f"pool3_{tower}")


def vggnet(net: Net) -> None:
    """VGG16 without its fully connected layers."""
    x = net.input(3, 224, 224)
    made = 0
    for stage, (channels, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for _ in range(convolutions):
            made += 1
            x = net.conv(x, channels, name=f"conv{made}")
        x = net.pool(x, name=f"pool{stage}")


def resnet18(net: Net) -> None:
    """ResNet-18 without its fully connected layer."""
    x = _stem(net, 64)
    for stage, channels in enumerate((64, 128, 256, 512), 2):
        for block in range(2):
            name, stride = f"conv{stage}_{block}", 2 if stage > 2 and block == 0 else 1
            y = net.conv(net.conv(x, channels, 3, stride, name=f"{name}_a"), channels, name=f"{name}_b")
            skip = x if block else net.conv(x, channels, 1, stride, name=f"conv{stage}_br")
            x = net.add(skip, y, name=f"{name}_res")
    net.pool(x, 7, 7, name="pool5")


def _stem(net: Net, channels: int) -> int:
    x = net.conv(net.input(3, 224, 224), channels, 7, 2, name="conv1")
    return net.pool(x, 3, 2, pad=1, name="pool1")


def _bottlenecks(net: Net, blocks: tuple[int, int, int, int]) -> None:
    x = _stem(net, 64)
    for stage, (channels, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), 2):
        for block in range(count):
            name, stride = f"conv{stage}_{block}", 2 if stage > 2 and block == 0 else 1
            y = net.conv(x, channels, 1, stride, name=f"{name}_a")
            y = net.conv(net.conv(y, channels, name=f"{name}_b"), 4 * channels, 1, name=f"{name}_c")
            skip = x if block else net.conv(x, 4 * channels, 1, stride, name=f"conv{stage}_br")
            x = net.add(skip, y, name=f"{name}_res")
    _classifier(net, net.pool(x, 7, 7, name="pool5"))


def _classifier(net: Net, x: int) -> None:
    channels = net.tensors[x].channels
    net.op("linear", [x], (1000, 1, 1), weights=1000 * channels, macs=1000 * channels * net.batch, name="fc")


def resnet50(net: Net) -> None:
    """ResNet-50, strides in the first convolution of a block."""
    _bottlenecks(net, (3, 4, 6, 3))


def resnet152(net: Net) -> None:
    """ResNet-152, strides in the first convolution of a block."""
    _bottlenecks(net, (3, 8, 36, 3))


_INCEPTIONS: Final = (
    ("3a", 64, 96, 128, 16, 32, 32),
    ("3b", 128, 128, 192, 32, 96, 64),
    ("4a", 192, 96, 208, 16, 48, 64),
    ("4b", 160, 112, 224, 24, 64, 64),
    ("4c", 128, 128, 256, 24, 64, 64),
    ("4d", 112, 144, 288, 32, 64, 64),
    ("4e", 256, 160, 320, 32, 128, 128),
    ("5a", 256, 160, 320, 32, 128, 128),
    ("5b", 384, 192, 384, 48, 128, 128),
)
"""Name, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection."""


def googlenet(net: Net) -> None:
    """GoogLeNet, the pool branch of an inception a bare 1x1 convolution."""
    x = net.conv(_stem(net, 64), 64, 1, name="conv2_reduce")
    x = net.pool(net.conv(x, 192, name="conv2"), 3, 2, pad=1, name="pool2")
    for name, *widths in _INCEPTIONS:
        x = _inception(net, x, f"inception_{name}", widths)
        if name in ("3b", "4e"):
            x = net.pool(x, 3, 2, pad=1, name=f"pool{name[0]}")
    _classifier(net, net.pool(x, 7, 7, name="pool5"))


def _inception(net: Net, x: int, name: str, widths: list[int]) -> int:
    one, three_reduce, three, five_reduce, five, projection = widths
    parts = [net.conv(x, one, 1, name=f"{name}_1x1")]
    for kernel, reduced, channels in ((3, three_reduce, three), (5, five_reduce, five)):
        y = net.conv(x, reduced, 1, name=f"{name}_{kernel}x{kernel}_reduce")
        parts.append(net.conv(y, channels, kernel, name=f"{name}_{kernel}x{kernel}"))
    parts.append(net.conv(x, projection, 1, name=f"{name}_pool_proj"))
    return net.concat(*parts, name=f"{name}_output")


def mobilenet(net: Net) -> None:
    """MobileNet v1."""
    x = net.conv(net.input(3, 224, 224), 32, 3, 2, name="conv1")
    steps = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    for index, (channels, stride) in enumerate(steps, 2):
        x = net.conv(net.depthwise(x, 3, stride, name=f"conv{index}_dw"), channels, 1, name=f"conv{index}_pw")
    _classifier(net, net.pool(x, 7, 7, name="pool"))


NETWORKS: Final[dict[str, Callable[[Net], None]]] = {
    "alexnet": alexnet,
    "vggnet": vggnet,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet152": resnet152,
    "googlenet": googlenet,
    "squeezenet": squeezenet,
    "mobilenet": mobilenet,
}


def network(name: str, batch: int = 1) -> Graph:
    """One of the hand-shaped networks, 16 bits wide.

    Raises:
        UnknownNameError: lists the known networks.

    >>> len(network("squeezenet")), network("alexnet", batch=4).tensors[0].shape
    (38, (4, 3, 227, 227))
    """
    if name not in NETWORKS:
        raise UnknownNameError("Optimus network", name, NETWORKS)
    net = Net(name, batch)
    NETWORKS[name](net)
    return net.graph().with_bits(WIDTH_BITS, WIDTH_BITS, 32)
