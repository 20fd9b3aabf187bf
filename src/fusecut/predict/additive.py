"""Costs that add up: a prediction for networks of another space than the labels came from.

``value = c_0 + sum_j c_j q_j`` over the ops, MACs, unfused bytes and weights of a network, in all and for
each family of ops, with no coefficient below 0 (Lawson & Hanson, *Solving Least Squares Problems*, 1974).
What a device takes for a layer is never negative; so constrained, a fit to one space keeps its sense on
another, where a ridge on the same quantities does not (docs/aiop-results.md). Errors are relative.
Coefficients of single families cost :data:`FAMILY_PENALTY` / :data:`TOTAL_PENALTY` times as much as those of totals,
so that what the labels cannot tell apart is told by the totals.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.predict.features import NAMES

Floats = NDArray[np.float64]

TOTALS: Final = ("ops", "macs", "unfused", "weights")
TOTAL_PENALTY: Final = 1e-3
FAMILY_PENALTY: Final = 1e-1
_USED: Final = tuple(i for i, name in enumerate(NAMES) if name in TOTALS or ":" in name)
_PENALTIES: Final = np.array([TOTAL_PENALTY if NAMES[i] in TOTALS else FAMILY_PENALTY for i in _USED] + [TOTAL_PENALTY])


def fit_additive(raw: Floats, values: Floats) -> Floats:
    """Coefficients of all quantities [q] and the constant [1], for positive values [n]. O(n q^2) and a few rounds."""
    from scipy.optimize import nnls

    used = raw[:, _USED]
    scale = np.append(np.where(used.mean(axis=0) > 0, used.mean(axis=0), 1.0), 1.0)
    wide = np.concatenate([used, np.ones((len(used), 1))], axis=1) / scale / values[:, None]
    held = np.diag(np.sqrt(_PENALTIES * len(values)) / values.mean())
    found, _ = nnls(np.concatenate([wide, held]), np.concatenate([np.ones(len(values)), np.zeros(len(held))]))
    coefficients = np.zeros(len(NAMES) + 1)
    coefficients[[*_USED, len(NAMES)]] = found / scale
    return coefficients


def fit_by_buffer(raw: Floats, values: Floats, log_buffers: Floats) -> Floats:
    """A row for each buffer there is: its logarithm, coefficients of all quantities, and the constant."""
    table = []
    for size in np.unique(log_buffers):
        of_size = log_buffers == size
        table.append(np.append(size, fit_additive(raw[of_size], values[of_size])))
    return np.array(table)


def by_buffer(table: Floats, raw: Floats, log_buffers: Floats) -> Floats:
    """What the coefficients say [n]; between two buffers they are interpolated, beyond the last they are its own."""
    share = np.array([np.interp(log_buffers, table[:, 0], one) for one in np.eye(len(table))])
    coefficients = share.T @ table[:, 1:]
    found: Floats = (raw * coefficients[:, :-1]).sum(axis=1) + coefficients[:, -1]
    return found


def additive(coefficients: Floats, raw: Floats) -> Floats:
    """What the coefficients say of networks with quantities ``raw`` [n, q]."""
    found: Floats = raw @ coefficients[:-1] + coefficients[-1]
    return found
