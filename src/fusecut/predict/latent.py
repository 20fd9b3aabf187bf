"""Pseudo-labels by latent sampling: AIO-P's way to label bodies for a task with a shared head.

Detection, segmentation and pose heads read a feature pyramid. In place of fine-tuning every body, the
paper samples subnets of a supernet, keeps for each depth of a body the mean and deviation of the
features it makes there, trains one head on ``mean + zeta * deviation`` with zeta drawn anew, swaps
one subnet of the sample at every step, and labels bodies by that head.

This is that mechanism on feature arrays that the caller brings. What it was fed with in the paper,
supernet weights and the COCO, LSP and MPII images, is not to be had here, so no published pseudo-label
is reproduced; docs/predict.md says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fusecut.errors import FusecutError

Floats = NDArray[np.float64]

Pyramid: TypeAlias = Mapping[int, Floats]
"""Features of one subnet by depth (a level of the pyramid): arrays of the same shape for every subnet."""


@dataclass(frozen=True)
class LatentSampler:
    """A window of subnets, and the statistics of their features for each depth.

    Raises:
        FusecutError: no subnets, or subnets whose levels or shapes differ.
    """

    subnets: tuple[Pyramid, ...]

    def __post_init__(self) -> None:
        if not self.subnets:
            raise FusecutError("latent sampling needs the features of at least one subnet")
        first = {depth: a.shape for depth, a in self.subnets[0].items()}
        if any({depth: a.shape for depth, a in s.items()} != first for s in self.subnets):
            raise FusecutError("the subnets of a latent sample must have the same depths and shapes")

    def statistics(self) -> dict[int, tuple[Floats, Floats]]:
        """Mean and deviation of every feature over the window, by depth. O(subnets * features)."""
        depths = sorted(self.subnets[0])
        stacks = {depth: np.stack([s[depth] for s in self.subnets]) for depth in depths}
        return {depth: (stack.mean(axis=0), stack.std(axis=0)) for depth, stack in stacks.items()}

    def draw(self, rng: Generator) -> dict[int, Floats]:
        """``mean + zeta * deviation`` with one standard normal zeta for each feature."""
        return {d: mean + rng.standard_normal(mean.shape) * spread for d, (mean, spread) in self.statistics().items()}

    def swapped(self, subnet: Pyramid, rng: Generator) -> LatentSampler:
        """The window with one subnet, drawn evenly, replaced."""
        place = int(rng.integers(len(self.subnets)))
        return LatentSampler((*self.subnets[:place], subnet, *self.subnets[place + 1 :]))
