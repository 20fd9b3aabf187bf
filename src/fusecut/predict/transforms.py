"""What a network learns in place of the label, and back: AIO-P's transforms and the residual.

Every transform is fitted to the samples of the task at hand, and to them alone: with no sample of a
target task it is the source task's. Training and validation labels pass the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["plain", "flops", "residual"]

KINDS: Final[tuple[Kind, ...]] = ("plain", "flops", "residual")


def flops_divisor(macs: Floats) -> Floats:
    """``log10(GFLOPs + 1) + 1`` with two FLOPs a MAC, as AIO-P divides labels by.

    >>> flops_divisor(np.array([4.5e9])).tolist()
    [2.0]
    """
    found: Floats = np.log10(2e-9 * macs + 1) + 1
    return found


@dataclass(frozen=True)
class Transform:
    """``(f(label) - mean) / spread``, with f the label, the label over :func:`flops_divisor`
    of the network's MACs, or ``log(label) - analytic`` where ``analytic`` predicts the logarithm."""

    kind: Kind
    mean: float
    spread: float

    @classmethod
    def fitted(cls, kind: Kind, labels: Floats, macs: Floats, analytic: Floats) -> Transform:
        """Mean and deviation from these samples."""
        raw = _forward(kind, labels, macs, analytic)
        return cls(kind, float(raw.mean()), max(float(raw.std()), 1e-9))

    def forward(self, labels: Floats, macs: Floats, analytic: Floats) -> Floats:
        """Labels as the network learns them."""
        return (_forward(self.kind, labels, macs, analytic) - self.mean) / self.spread

    def backward(self, learnt: Floats, macs: Floats, analytic: Floats) -> Floats:
        """The inverse of :meth:`forward`."""
        raw = learnt * self.spread + self.mean
        if self.kind == "residual":
            return np.asarray(np.exp(np.clip(raw + analytic, -700, 700)))
        return raw * flops_divisor(macs) if self.kind == "flops" else raw


def _forward(kind: Kind, labels: Floats, macs: Floats, analytic: Floats) -> Floats:
    if kind == "residual":
        return np.asarray(np.log(labels) - analytic)
    return labels / flops_divisor(macs) if kind == "flops" else labels
