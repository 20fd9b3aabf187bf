"""PyTorch modules with the shapes that make reading hard: branches, squeeze and excite, concatenation."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class MobileBlock(nn.Module):
    """Inverted residual with ReLU6, batch norms that have been trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 24, 3, stride=2)
        self.expand = _conv(24, 96, 1)
        self.depthwise = _conv(96, 96, 3, groups=96)
        self.project = _conv(96, 24, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.stem(x))
        y = functional.relu6(self.expand(x))
        y = functional.relu6(self.depthwise(y))
        return x + self.project(y)


class ResNetBlock(nn.Module):
    """Two basic blocks, one with a projection, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 32, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.a = nn.Sequential(_conv(32, 32, 3), nn.ReLU(), _conv(32, 32, 3))
        self.b = nn.Sequential(_conv(32, 64, 3, stride=2), nn.ReLU(), _conv(64, 64, 3))
        self.short = _conv(32, 64, 1, stride=2)
        self.head = nn.Linear(64, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.a(x) + x)
        x = torch.relu(self.b(x) + self.short(x))
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class SqueezeExcite(nn.Module):
    """A convolution gated by what is in all of its rows; untrained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 3, padding=1)
        self.norm = nn.BatchNorm2d(48)
        self.down, self.up = nn.Conv2d(48, 12, 1), nn.Conv2d(12, 48, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.norm(self.conv(x)))
        gate = torch.relu(self.down(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.up(gate))


class Concat(nn.Module):
    """An inception module of two equal branches and a resize."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(16, 40, 3, padding=1), nn.Conv2d(16, 40, 3, padding=1)
        nn.init.zeros_(self.left.weight)
        nn.init.zeros_(self.right.weight)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y = functional.interpolate(y, scale_factor=2.0, mode="nearest")
        return torch.cat([self.left(x), self.right(x), y], dim=1)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    norm = nn.BatchNorm2d(outputs)
    for values in (norm.running_mean, norm.bias, norm.weight):
        assert values is not None
        nn.init.uniform_(values, 0.5, 1.5)
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm)
