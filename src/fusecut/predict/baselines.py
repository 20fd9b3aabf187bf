"""What a predictor has to beat: FLOPs alone, and boosted trees on graph statistics."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.predict import features
from fusecut.predict.basis import Described

Floats = NDArray[np.float64]

_MACS: Final = features.NAMES.index("macs")
_LEAST_LEAF: Final = 3


def flops(samples: Described, values: Floats, networks: Described) -> Floats:
    """A line through the samples on MACs; with fewer than two, the MACs themselves (their order counts)."""
    macs = networks.raw[:, _MACS]
    if len(samples) < 2:
        return macs
    slope, offset = np.polyfit(samples.raw[:, _MACS], values, 1)
    return macs * float(slope) + float(offset)


def boosted_trees(samples: Described, values: Floats, networks: Described, seed: int = 0) -> Floats:
    """Gradient-boosted trees (Friedman 2001) on the extra and logarithmic features; the extra ``predict`` has them.

    100 trees of depth 3; positive values are learnt as logarithms.
    """
    from sklearn.ensemble import GradientBoostingRegressor

    log = bool((values > 0).all())
    leaf = min(_LEAST_LEAF, max(1, len(values) // 4))
    trees = GradientBoostingRegressor(subsample=0.8, min_samples_leaf=leaf, random_state=seed)
    trees.fit(_statistics(samples), np.log(values) if log else values)
    found = np.asarray(trees.predict(_statistics(networks)))
    return np.asarray(np.exp(found)) if log else found


def _statistics(networks: Described) -> Floats:
    return np.concatenate([networks.extra, features.logarithmic(networks.raw)], axis=1)
