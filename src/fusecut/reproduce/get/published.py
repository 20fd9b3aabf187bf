"""The published figures of arXiv 2501.00636. Its cost function is not public: compare reductions, not bytes."""

from __future__ import annotations

from itertools import product
from typing import Final

NETWORKS: Final = {
    "efficientnet_b3": "EfficientNet-B3",
    "resnet152": "ResNet-152",
    "deeplabv3plus_mobilenet_v3_large": "DeepLabV3+ MobileNetV3",
    "mobilenet_v2": "MobileNetV2",
    "vgg16": "VGG16",
    "resnet50": "ResNet-50",
    "resnet18": "ResNet-18",
    "squeezenet1_0": "SqueezeNet",
}
"""Ours, and what the paper calls them. It does not say which SqueezeNet it means."""

GROUPS: Final = {
    "vgg16": 715,
    "squeezenet1_0": 795,
    "mobilenet_v2": 1100,
    "mobilenet_v3_small": 203,
    "mobilenet_v3_large": 251,
    "resnet18": 715,
    "resnet101": 3476,
    "efficientnet_b0": 1364,
    "efficientnet_b3": 2247,
}
"""Table I: groups met by a random search, each labelled in five buffers."""

SPLITTERS: Final = ("random", "gnne", "pg", "rg")
LARGE: Final = ("efficientnet_b3", "resnet152", "deeplabv3plus_mobilenet_v3_large")
SMALL: Final = ("mobilenet_v2", "vgg16", "resnet50", "resnet18", "squeezenet1_0")

_LBDF_256: Final = {
    "local": """
        90.500 78.007 73.569 78.433   80.733 74.461 76.421 75.245   116.644 114.440 114.180 113.942""",
    "nsga2": """
        77.334 61.265 61.792 61.535   77.205 68.581 67.013 66.621   114.351 113.602 113.840 113.602""",
    "random": """
        172.802 169.928 164.086 162.774   113.661 96.021 96.413 94.453   148.153 143.925 142.548 147.022""",
}
_BRR_128: Final = {
    "local": """
        15.101 13.401 14.609 13.790   27.606 27.415 26.975 27.174   83.685 83.344 83.493 83.317
        27.127 27.127 26.975 27.127   8.202 6.232 6.790 7.714""",
    "random": """
        16.195 12.593 13.307 12.838   29.274 28.593 28.124 28.847   91.866 91.669 91.763 92.376
        28.525 27.919 27.599 28.081   10.249 8.258 7.817 7.601""",
}
_LBDF_128: Final = {
    "local": """
        9.803 8.823 9.068 8.823   5.973 5.973 5.973 5.973   25.764 24.588 24.588 24.196
        5.974 5.974 5.974 5.974   3.839 3.585 3.585 3.585""",
    "random": """
        13.209 11.432 13.049 12.890   6.856 6.268 6.562 6.464   39.092 35.564 32.820 32.036
        6.856 6.464 6.562 6.464   10.080 7.948 7.751 7.333""",
}

Cell = tuple[str, str, str, str, str]
"""Scheme, buffer, network, searcher, splitter."""


def _cells(scheme: str, buffer: str, networks: tuple[str, ...], figures: dict[str, str]) -> dict[Cell, float]:
    return {
        (scheme, buffer, network, searcher, splitter): float(figure)
        for searcher, row in figures.items()
        for (network, splitter), figure in zip(product(networks, SPLITTERS), row.split(), strict=True)
    }


DRAM_MB: Final = {
    **_cells("lbdf", "256KiB", LARGE, _LBDF_256),
    **_cells("brr", "128KiB", SMALL, _BRR_128),
    **_cells("lbdf", "128KiB", SMALL, _LBDF_128),
}
"""Tables II (LBDF, 5,000 plans), III (BRR) and IV (LBDF; 2,000 plans). For VGG16 and ResNet-18 the LBDF
figures nearly coincide, which two different networks should not."""

RECTIFIED: Final = {
    ("local", "gnne"): (0.831, 168),
    ("local", "pg"): (0.591, 72),
    ("local", "rg"): (0.940, 99),
    ("random", "gnne"): (0.721, 106),
    ("random", "pg"): (0.507, 32),
    ("random", "rg"): (0.914, 42),
}
"""Table V, MobileNetV2 under LBDF: share of infeasible groups that the explanation splits, and seconds."""
