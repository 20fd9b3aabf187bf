"""How good predictions are: error, rank correlation, and whether the best are found."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOP: Final = 10


class Metrics(NamedTuple):
    """Of one set of predictions; smaller values of what is predicted are better.

    ``mae`` is the mean absolute error as a share of the range of the truth, ``mape`` the mean of
    errors relative to the truth, ``top`` the share of the true best :data:`TOP` among the predicted
    best, ``best`` whether the true best is among them. Correlations of a constant are 0.
    """

    mae: float
    mape: float
    srcc: float
    kendall: float
    top: float
    best: float


def metrics(truth: Floats, predicted: Floats) -> Metrics:
    """Compare predictions with the truth, both [n]. O(n log n).

    >>> metrics(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])).srcc
    1.0
    """
    from scipy.stats import kendalltau, spearmanr

    error = np.abs(predicted - truth)
    spread = float(np.ptp(truth))
    flat = spread == 0 or float(np.ptp(predicted)) == 0
    chosen = set(np.argsort(predicted, kind="stable")[:TOP].tolist())
    truly = np.argsort(truth, kind="stable")[:TOP].tolist()
    return Metrics(
        float(error.mean()) / spread if spread else 0.0,
        float((error / np.maximum(np.abs(truth), 1e-30)).mean()),
        0.0 if flat else float(spearmanr(truth, predicted).statistic),
        0.0 if flat else float(kendalltau(truth, predicted).statistic),
        len(chosen.intersection(truly)) / len(truly),
        float(truly[0] in chosen),
    )
